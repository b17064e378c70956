//! How is a large 2:4 weight converted as fast as memory allows? Every thread takes a band of rows that
//! fits into its cache, judges it, packs it and writes it where it belongs, so that packed values never
//! go to memory and back.

use crate::{
    Converted, Dtype, Format, Layout, StorageError,
    atomic::failed,
    encode::{self, Encoded},
    layout, nonzero,
    places::pack_pairs,
    stream::Stream,
    top_two,
};
use rayon::prelude::*;
use secateur_mask::{Mask, NOfM, Pattern};
use std::{fs::File, io};

/// Bytes of a band's dense elements, about.
const BAND: usize = 1 << 19;
/// From so many bytes on, a weight is written in bands.
const LARGE: usize = 4 * BAND;

impl Stream<'_> {
    /// Packs and writes a large dense weight band by band, if it is 2:4 or pruned to it; else nothing is
    /// written, and `None` returned. A guess that proves wrong after some bands costs the time that
    /// these took. With it comes the mask of the stored slots.
    pub fn bands(&mut self, name: &str) -> Result<Option<(Mask, Converted)>, StorageError> {
        let (to, entry) = (self.conversion.to, &self.source.entries()[name]);
        let prune = match self.conversion.prune {
            None => false,
            Some(target) if target.pattern() == Pattern::TWO_OF_FOUR => true,
            Some(_) => return Ok(None),
        };
        let &[rows, cols] = &entry.shape[..] else { return Ok(None) };
        let size = entry.dtype.bitsize() / 8;
        let understood = matches!(entry.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        let large = entry.format == Format::Dense && entry.bytes as usize >= LARGE;
        if !understood || !large || cols % 8 != 0 || rows * cols % 64 != 0 {
            return Ok(None);
        }
        let parts = match to {
            Layout::Secateur => encode::n_of_m(name, entry.dtype, NOfM::TWO_OF_FOUR, (rows, cols)),
            Layout::Sparse24Bitmask if layout::unreadable(name).is_none() => {
                encode::two_of_four_bitmask(name, entry.dtype, (rows, cols))
            }
            _ => return Ok(None),
        };
        let dense = self.source.tensor(name)?;
        let data = dense.values().data();
        let encoded = Encoded { parts, entry: None };
        let starts = self.writer.reserve(name, &encoded).map_err(|error| error.at(self.path))?;
        let write_at = |part: usize, offset: usize, bytes: &[u8]| {
            write_all_at(self.file, bytes, starts[part] + offset as u64)
                .map_err(|source| failed("write", self.path, source))
        };
        // So many rows are whole words of the mask.
        let step = 64 >> cols.trailing_zeros().min(6);
        let band = (BAND / (cols * size)).max(1).next_multiple_of(step) * cols;
        let len = rows * cols;
        let mut words = vec![0; len.div_ceil(64)];
        let scratch = || (Vec::new(), Vec::new());
        let bands = words.par_chunks_mut(band / 64).enumerate();
        let holds = bands.map_init(scratch, |(values, indices), (at, words)| {
            let (first, last) = (at * band, len.min((at + 1) * band));
            let data = &data[first * size..last * size];
            let kept = match prune {
                true => top_two::words(entry.dtype, data),
                false => Some(nonzero::words(entry.dtype, data, last - first)?),
            };
            let Some(mut kept) = kept else { return Ok(false) };
            // Where many places of 2:4 are not taken, another format of ours is smaller.
            let taken: usize = kept.iter().map(|word| word.count_ones() as usize).sum();
            if to == Layout::Secateur && taken * 8 < (last - first) * 3 {
                return Ok(false);
            }
            if !pack_pairs(&mut kept, data, size, values, indices) {
                return Ok(false);
            }
            words.copy_from_slice(&kept);
            write_at(0, first / 2 * size, values)?;
            match to {
                Layout::Secateur => write_at(1, first / 8, indices)?,
                _ => write_at(1, first / 8, bytemuck::cast_slice(words))?,
            }
            Ok(true)
        });
        if !bands_agree(holds)? {
            self.writer.give_up(&encoded).map_err(|error| error.at(self.path))?;
            return Ok(None);
        }
        for (part, data) in encoded.parts.iter().enumerate().skip(2) {
            write_at(part, 0, &data.data)?;
        }
        let to_bytes = encoded.parts.iter().map(encode::Part::len).sum();
        let format = Format::TWO_OF_FOUR;
        let (name, from_bytes) = (name.to_owned(), entry.bytes);
        let converted = Converted { name, format, from_bytes, to_bytes, left: None };
        Ok(Some((Mask::from_words(words, &entry.shape)?, converted)))
    }
}

/// Whether all bands are what was guessed; the first error, or the first that is not, ends it.
fn bands_agree(
    bands: impl ParallelIterator<Item = Result<bool, StorageError>>,
) -> Result<bool, StorageError> {
    let wrong = bands.find_any(|band| !matches!(band, Ok(true)));
    wrong.unwrap_or(Ok(true))
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Elsewhere a file has one cursor, and one thread at a time moves it.
#[cfg(not(unix))]
fn write_all_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::{
        io::{Seek, Write},
        sync::Mutex,
    };
    static CURSOR: Mutex<()> = Mutex::new(());
    let _one_at_a_time = CURSOR.lock();
    let before = file.stream_position()?;
    file.seek(io::SeekFrom::Start(offset))?;
    file.write_all(bytes)?;
    file.seek(io::SeekFrom::Start(before)).map(drop)
}
