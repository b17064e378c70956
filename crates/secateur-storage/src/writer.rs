//! How is a checkpoint written that does not fit into memory? Tensor by tensor, the header last.
//!
//! A safetensors header stands before the data and says where everything lies, so its room is kept
//! free and what is left over of it is filled with spaces, as the format allows.

use crate::{
    StorageError,
    atomic::{Pending, failed},
    claims::{Claim, Claims, KEY, VERSION},
    encode::{Encoded, Part},
    header::{Header, Info, METADATA},
    layout::Layout,
};
use std::{
    collections::BTreeMap,
    io::{self, Cursor, Seek, SeekFrom, Write},
    path::Path,
};

/// A safetensors file that is being written, into a temporary file or into memory.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    to: W,
    header: Header,
    claims: Option<Claims>,
    room: usize,
    end: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a file whose header will be at most `room` bytes.
    pub fn new(
        mut to: W,
        layout: Layout,
        metadata: &BTreeMap<String, String>,
        room: usize,
    ) -> io::Result<Self> {
        let mut header = Header::default();
        let claims = layout.has_claims().then(|| Claims {
            version: VERSION,
            metadata: metadata.clone(),
            tensors: BTreeMap::new(),
        });
        if claims.is_none() {
            header.metadata = metadata.clone();
            // That key says that the file is in our own layout.
            header.metadata.remove(KEY);
            // What loaders of other frameworks look for.
            header.metadata.entry("format".into()).or_insert_with(|| "pt".into());
        }
        let room = room.next_multiple_of(8);
        to.seek(SeekFrom::Start(8 + room as u64))?;
        Ok(Self { to, header, claims, room, end: 0 })
    }

    /// Notes where a tensor will lie, and what is claimed of it.
    fn note(&mut self, name: &str, encoded: &Encoded) -> Result<(), StorageError> {
        for part in &encoded.parts {
            let Part { name, dtype, shape, .. } = part;
            let (start, end) = (self.end, self.end.saturating_add(part.len()));
            let info = Info { dtype: *dtype, shape: shape.clone(), start, end };
            // safetensors keeps its own metadata under that name.
            if name == METADATA || self.header.tensors.insert(name.clone(), info).is_some() {
                return Err(StorageError::DuplicateName(name.clone()));
            }
            self.end = end;
        }
        if let (Some(claims), Some(entry)) = (&mut self.claims, &encoded.entry)
            && claims.tensors.insert(name.to_owned(), entry.clone()).is_some()
        {
            return Err(StorageError::DuplicateName(name.to_owned()));
        }
        Ok(())
    }

    /// Writes a tensor behind those before it.
    pub fn push(&mut self, name: &str, encoded: &Encoded) -> Result<(), WriteError> {
        self.note(name, encoded)?;
        for part in &encoded.parts {
            self.to.write_all(&part.data)?;
        }
        Ok(())
    }

    /// Keeps room for a tensor behind those before it; returns where in the file each part begins.
    pub fn reserve(&mut self, name: &str, encoded: &Encoded) -> Result<Vec<u64>, WriteError> {
        let mut at = self.file_end();
        let mut starts = Vec::new();
        for part in &encoded.parts {
            starts.push(at);
            at += part.len();
        }
        self.note(name, encoded)?;
        self.to.seek(SeekFrom::Start(at))?;
        Ok(starts)
    }

    /// Claims something of a tensor whose parts were reserved; in a layout without claims, nothing.
    pub fn claim(&mut self, name: &str, entry: Claim) {
        if let Some(claims) = &mut self.claims {
            claims.tensors.insert(name.to_owned(), entry);
        }
    }

    /// Forgets the tensor that room was kept for last.
    pub fn give_up(&mut self, encoded: &Encoded) -> Result<(), WriteError> {
        for part in &encoded.parts {
            self.header.tensors.remove(&part.name);
            self.end -= part.len();
        }
        self.to.seek(SeekFrom::Start(self.file_end()))?;
        Ok(())
    }

    /// Bytes of the file to be.
    pub fn file_end(&self) -> u64 {
        8 + self.room as u64 + self.end
    }

    /// The names of the file's tensors.
    pub fn parts(&self) -> Vec<String> {
        self.header.tensors.keys().cloned().collect()
    }

    /// Bytes of the tensors so far.
    pub fn written(&self) -> u64 {
        self.end
    }

    fn text(&self) -> Result<String, StorageError> {
        let mut header = Header { tensors: self.header.tensors.clone(), ..Header::default() };
        header.metadata = self.header.metadata.clone();
        if let Some(claims) = &self.claims {
            header.metadata.insert(KEY.to_owned(), serde_json::to_string(claims)?);
        }
        header.text()
    }

    /// Writes the header and hands back what was written to.
    pub fn finish(mut self) -> Result<W, WriteError> {
        let mut text = self.text()?;
        assert!(text.len() <= self.room, "the header's room was reckoned from its worst case");
        text.extend(std::iter::repeat_n(' ', self.room - text.len()));
        self.to.seek(SeekFrom::Start(0))?;
        self.to.write_all(&(self.room as u64).to_le_bytes())?;
        self.to.write_all(text.as_bytes())?;
        Ok(self.to)
    }
}

/// What went wrong while writing: with the tensor, or with the disk.
#[derive(Debug)]
pub(crate) enum WriteError {
    Tensor(StorageError),
    Disk(io::Error),
}

impl From<StorageError> for WriteError {
    fn from(error: StorageError) -> Self {
        Self::Tensor(error)
    }
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl WriteError {
    /// Names the file.
    pub fn at(self, path: &Path) -> StorageError {
        match self {
            Self::Tensor(error) => crate::source::in_file(path)(error),
            Self::Disk(source) => failed("write", path, source),
        }
    }
}

/// The bytes of a header for tensors of which only these worst cases are known.
pub(crate) fn header_room<'a>(
    layout: Layout,
    metadata: &BTreeMap<String, String>,
    worst: impl Iterator<Item = (&'a str, Encoded)>,
) -> Result<usize, StorageError> {
    // Each is measured alone: the names of a worst case are not all there together.
    let length = |metadata: &BTreeMap<String, String>, tensor: Option<(&str, &Encoded)>| {
        let nowhere = Cursor::new(vec![]);
        let mut writer = Writer::new(nowhere, layout, metadata, 0)
            .map_err(|source| failed("write", Path::new("memory"), source))?;
        if let Some((name, encoded)) = tensor {
            writer.note(name, encoded)?;
            for info in writer.header.tensors.values_mut() {
                (info.start, info.end) = (MOST_OFFSET, MOST_OFFSET);
            }
        }
        writer.text().map(|text| text.len())
    };
    let (empty, none) = (length(&BTreeMap::new(), None)?, BTreeMap::new());
    let mut room = length(metadata, None)?;
    for (name, encoded) in worst {
        // And the commas: before its parts, and before its claim.
        room += length(&none, Some((name, &encoded)))? - empty + 2;
    }
    Ok(room)
}

/// An offset of as many digits as one in a file can have: ten petabytes.
const MOST_OFFSET: u64 = 10_000_000_000_000_000;

/// A file of these tensors, in memory: in the order in which safetensors wants them, wide elements
/// first, so that everything is aligned.
pub(crate) fn to_bytes(
    layout: Layout,
    metadata: &BTreeMap<String, String>,
    tensors: Vec<(String, Encoded)>,
) -> Result<Vec<u8>, StorageError> {
    let mut parts: Vec<(&str, &Part)> = tensors
        .iter()
        .flat_map(|(name, encoded)| encoded.parts.iter().map(|part| (name.as_str(), part)))
        .collect();
    parts.sort_by_key(|(_, part)| (std::cmp::Reverse(part.dtype.bitsize()), &part.name));
    let mut entries: BTreeMap<&str, Option<Claim>> =
        tensors.iter().map(|(name, encoded)| (name.as_str(), encoded.entry.clone())).collect();
    let one = |(name, part): (&str, &Part), entry: Option<Claim>| {
        (name.to_owned(), Encoded { parts: vec![part.clone()], entry })
    };
    let tensors: Vec<(String, Encoded)> = parts
        .into_iter()
        .map(|part| one(part, entries.get_mut(part.0).and_then(Option::take)))
        .collect();
    let write = || -> Result<Vec<u8>, WriteError> {
        let mut dry = Writer::new(Cursor::new(vec![]), layout, metadata, 0)?;
        for (name, encoded) in &tensors {
            dry.note(name, encoded)?;
        }
        let mut writer = Writer::new(Cursor::new(vec![]), layout, metadata, dry.text()?.len())?;
        for (name, encoded) in &tensors {
            writer.push(name, encoded)?;
        }
        Ok(writer.finish()?.into_inner())
    };
    write().map_err(|error| match error {
        WriteError::Tensor(error) => error,
        WriteError::Disk(source) => failed("write", Path::new("memory"), source),
    })
}

impl Writer<io::BufWriter<std::fs::File>> {
    /// A writer into a temporary file beside `pending`'s place.
    pub fn of_file(
        pending: &Pending,
        layout: Layout,
        metadata: &BTreeMap<String, String>,
        room: usize,
    ) -> Result<Self, StorageError> {
        let begin = || -> io::Result<Self> {
            // Small tensors are gathered, large ones pass by the buffer.
            let to = io::BufWriter::with_capacity(1 << 18, pending.file().try_clone()?);
            Self::new(to, layout, metadata, room)
        };
        begin().map_err(|source| failed("write", pending.path(), source))
    }
}
