//! How do a file's bytes come into memory? Mapped, a window at a time: the pages of a tensor are
//! there while somebody holds them, and gone afterwards, so that no more of a checkpoint is in memory
//! than is being worked on.

use bytes::Bytes;
use memmap2::MmapOptions;
use std::{fs::File, io};

/// The bytes `start..start + len` of a file.
#[allow(unsafe_code)]
pub(crate) fn window(file: &File, start: u64, len: usize) -> io::Result<Bytes> {
    if len == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: a mapped file must not be changed or cut short while it is read, or other bytes appear
    // (which every reader here survives, because it checks lengths once and never trusts contents
    // to index unchecked) or the process gets SIGBUS. Nobody can enforce that: the user upholds it, as
    // for every mapped file, and this crate's own writers never change a file in place, they rename
    // a new one over it. The map is read-only and private to this process.
    let map = unsafe { MmapOptions::new().offset(start).len(len).map(file)? };
    Ok(Bytes::from_owner(map))
}
