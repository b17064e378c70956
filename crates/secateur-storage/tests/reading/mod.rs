//! How is everything in a file read, and what must hold of what was read? Shared by the tests of
//! damaged files and by the fuzz target, so that both look at the same.
#![allow(dead_code, reason = "each of those who share this uses a part of it")]

use secateur_storage::{Checkpoint, Format, Packed, Source, StorageError};

/// Every tensor and mask of a file, each read although another was refused; the first refusal.
pub fn read(bytes: &[u8]) -> Result<Checkpoint, StorageError> {
    everything(&Source::from_bytes(bytes.to_vec())?)
}

/// Every tensor and mask of a source.
pub fn everything(source: &Source) -> Result<Checkpoint, StorageError> {
    let mut found = Checkpoint { metadata: source.metadata().clone(), ..Checkpoint::default() };
    let mut refused = None;
    for (name, entry) in source.entries() {
        let one = match entry.format {
            Format::Mask => source.mask(name).map(|mask| {
                found.masks.insert(name.clone(), mask.expect("a mask alone has a mask"));
            }),
            _ => source.tensor(name).map(|packed| {
                assert_eq!(packed.shape(), entry.shape, "{name}: the entry has another shape");
                assert_eq!(packed.dtype(), entry.dtype, "{name}: the entry has another dtype");
                assert_eq!(packed.format(), entry.format, "{name}: the entry has another format");
                found.tensors.insert(name.clone(), packed);
            }),
        };
        match one {
            Ok(()) => found.patterns.extend(entry.pattern.map(|pattern| (name.clone(), pattern))),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    refused.map_or(Ok(found), Err)
}

/// Larger tensors are read, but not unpacked here: that takes as long as their shape says.
const UNPACKED: usize = 1 << 16;

/// What holds of everything that was read: it can be unpacked, counted and written, and comes back.
pub fn hold(read: &Checkpoint) {
    for (name, packed) in &read.tensors {
        let len = packed.shape().iter().product::<usize>();
        if len > UNPACKED {
            continue;
        }
        let dense = packed.unpack();
        assert_eq!(dense.values().len(), len, "{name}");
        if let Some(mask) = packed.mask() {
            assert_eq!(mask.shape(), packed.shape(), "{name}");
            let again = Packed::pack_as(&dense, &mask, packed.format()).expect("it was in it");
            assert_eq!(again.unpack(), dense, "{name}: what is packed again differs");
        }
    }
    match read.to_bytes() {
        // Parts of one tensor may have the name of another in our layout: the writer says so.
        Err(StorageError::DuplicateName(_)) => {}
        Err(error) => panic!("what was read cannot be written: {error}"),
        Ok(bytes) => {
            let back = Checkpoint::from_bytes(bytes).expect("what we write, we read");
            assert!(&back == read, "what was written comes back changed");
        }
    }
}
