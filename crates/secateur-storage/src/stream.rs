//! How is one file of a checkpoint converted? Tensor by tensor: mapped, judged, packed, written, gone.

use crate::{
    Conversion, Converted, Format, Layout, Packed, Source, StorageError,
    atomic::{Pending, failed},
    choose::{Choice, choose, is_weight},
    claimed,
    claims::Claim,
    conversion::Totals,
    encode::{self, Encoded},
    layout::refusal,
    source::in_file,
    writer::{Writer, header_room},
};
use secateur_mask::{Mask, Pattern};
use std::{fs::File, io, path::Path, sync::mpsc};

/// After so many bytes, what was written is sent to the disk, while more is being packed.
const SYNC: u64 = 1 << 28;

pub(crate) type FileWriter = Writer<io::BufWriter<File>>;

/// Writes the tensors `names` into a file that is to be `path`; returns the names of the file's tensors.
pub(crate) fn write_file(
    source: &Source,
    names: &[&str],
    path: &Path,
    conversion: Conversion,
    totals: &mut Totals,
    done: &mut dyn FnMut(Converted),
) -> Result<(Pending, Vec<String>), StorageError> {
    let worst = names
        .iter()
        .map(|name| (*name, encode::worst_case(conversion.to, name, &source.entries()[*name])));
    let room = header_room(conversion.to, source.metadata(), worst)?;
    let pending = Pending::create(path)?;
    let writer = Writer::of_file(&pending, conversion.to, source.metadata(), room)?;
    let parts = std::thread::scope(|scope| {
        let (sync, syncs) = mpsc::channel::<()>();
        // The system tells of a failed write once, so the last sync would not hear of it again.
        let syncing =
            scope.spawn(|| syncs.into_iter().try_for_each(|()| pending.file().sync_data()));
        let (hash, masks) = mpsc::sync_channel::<(&str, Mask)>(4);
        let claims = scope.spawn(|| masks.into_iter().map(claim_two_of_four).collect::<Vec<_>>());
        let mut stream = Stream { source, conversion, path, file: pending.file(), writer };
        let mut synced = 0;
        for name in names {
            let converted = match stream.bands(name)? {
                None => stream.tensor(name, totals)?,
                Some((mask, converted)) => {
                    totals.count(mask.len(), mask.len() / 2);
                    if conversion.to.has_claims() {
                        let _ = hash.send((*name, mask));
                    }
                    converted
                }
            };
            done(converted);
            let written = stream.writer.written();
            if written - synced >= SYNC {
                synced = written;
                let _ = sync.send(());
            }
        }
        drop((hash, sync));
        let synced = syncing.join().expect("syncing reports errors, it does not panic");
        synced.map_err(|source| failed("sync", path, source))?;
        for claim in claims.join().expect("hashing reports errors, it does not panic") {
            let (name, entry) = claim?;
            stream.writer.claim(name, entry);
        }
        totals.size += stream.writer.written();
        stream.finish()
    })?;
    Ok((pending, parts))
}

/// The claim of a mask that is known to be 2:4: its hash takes a while, and is only needed at the end.
fn claim_two_of_four((name, mask): (&str, Mask)) -> Result<(&str, Claim), StorageError> {
    let pattern = Some(Pattern::TWO_OF_FOUR);
    Ok((name, claimed::claim(name, Format::TWO_OF_FOUR, mask.shape(), pattern, Some(&mask))?))
}

/// A file in the making.
pub(crate) struct Stream<'a> {
    pub source: &'a Source,
    pub conversion: Conversion,
    /// What it is to be called.
    pub path: &'a Path,
    pub file: &'a File,
    pub writer: FileWriter,
}

impl Stream<'_> {
    /// Reads, prunes if asked, packs and writes one tensor.
    fn tensor(&mut self, name: &str, totals: &mut Totals) -> Result<Converted, StorageError> {
        let (to, entry) = (self.conversion.to, &self.source.entries()[name]);
        let converted = |format, to_bytes, left| Converted {
            name: name.to_owned(),
            format,
            from_bytes: entry.bytes,
            to_bytes,
            left,
        };
        if entry.format == Format::Mask {
            let mask = self.source.mask(name)?;
            let mask = mask.filter(|_| to.has_claims()).ok_or_else(|| StorageError::Entry {
                name: name.to_owned(),
                reason: "it is a mask alone, which only secateur and masks can hold",
            })?;
            let bytes = self.push(name, &encode::mask_alone(name, &mask, entry.pattern)?)?;
            return Ok(converted(Format::Mask, bytes, None));
        }
        let read = self.source.tensor(name).map_err(|error| {
            match self.source.files().nth(entry.file).flatten() {
                Some(path) => in_file(path)(error),
                None => error,
            }
        })?;
        let (packed, pattern) = match choose(&read, self.conversion)? {
            Choice::Keep => (read, entry.pattern),
            Choice::Pack { dense, mask, format, pattern } => {
                (Packed::pack_as(&dense, &mask, format)?, pattern)
            }
        };
        let mut left = refusal(to, name, &packed);
        if to == Layout::Secateur && packed.format() == Format::Dense && is_weight(&packed) {
            left = Some("it has too few zeros to become smaller");
        }
        if left.is_some() && to == Layout::Masks {
            return Ok(converted(Format::Dense, 0, left));
        }
        let packed = match left {
            Some(_) => packed.unpack().into(),
            None => packed,
        };
        let module = name.strip_suffix(".weight");
        if packed.format() != Format::Dense {
            let entries = packed.shape().iter().product::<usize>();
            totals.count(entries, entries.saturating_sub(packed.values().len()));
            totals.targets.extend(module.filter(|_| packed.shape().len() != 2).map(str::to_owned));
        } else if let Some(module) = module.filter(|_| packed.shape().len() == 2) {
            totals.ignore.push(module.to_owned());
        }
        let bytes = self.push(name, &encode::encode(to, name, &packed, pattern)?)?;
        let format = match to {
            Layout::Dense => Format::Dense,
            Layout::Masks => Format::Mask,
            Layout::SparseBitmask if left.is_none() => Format::Bitmap,
            _ => packed.format(),
        };
        Ok(converted(format, bytes, left))
    }

    fn push(&mut self, name: &str, encoded: &Encoded) -> Result<u64, StorageError> {
        self.writer.push(name, encoded).map_err(|error| error.at(self.path))?;
        Ok(encoded.parts.iter().map(encode::Part::len).sum())
    }

    fn finish(self) -> Result<Vec<String>, StorageError> {
        let parts = self.writer.parts();
        let end = self.writer.file_end();
        let to = self.writer.finish().map_err(|error| error.at(self.path))?;
        to.into_inner().map_err(|error| failed("write", self.path, error.into_error()))?;
        // Bands of a guess that proved wrong may lie beyond the end.
        self.file.set_len(end).map_err(|source| failed("write", self.path, source))?;
        Ok(parts)
    }
}
