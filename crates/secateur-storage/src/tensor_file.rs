//! How is one safetensors file read? Its header at once, its tensors when they are asked for.

use crate::{
    Dtype, StorageError, Values,
    header::{Header, Info},
    map::window,
};
use bytes::Bytes;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// A file whose header was read and checked.
#[derive(Debug)]
pub(crate) struct TensorFile {
    pub header: Header,
    start: u64,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    Memory(Bytes),
    Disk(File, PathBuf),
}

impl TensorFile {
    /// Opens a file; only its header is read.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let failed = |source| StorageError::Io { action: "read", path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let size = metadata.len();
        let mut first = Vec::new();
        file.by_ref().take(8).read_to_end(&mut first).map_err(failed)?;
        let length = Header::length(&first, size)?;
        let mut text = Vec::new();
        file.by_ref().take(length as u64).read_to_end(&mut text).map_err(failed)?;
        let start = 8 + length as u64;
        let header = Header::parse(&text, size - start)?;
        Ok(Self { header, start, backing: Backing::Disk(file, path.to_owned()) })
    }

    /// A file that is in memory; its tensors are views of it.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, StorageError> {
        let length = Header::length(&bytes, bytes.len() as u64)?;
        let start = 8 + length;
        let header = Header::parse(&bytes[8..start], (bytes.len() - start) as u64)?;
        Ok(Self { header, start: start as u64, backing: Backing::Memory(bytes) })
    }

    /// Where it lies, if it lies on a disk.
    pub fn path(&self) -> Option<&Path> {
        match &self.backing {
            Backing::Memory(_) => None,
            Backing::Disk(_, path) => Some(path),
        }
    }

    /// What the header says about `name`.
    pub fn info(&self, name: &str) -> Result<&Info, StorageError> {
        self.header.tensors.get(name).ok_or_else(|| StorageError::Missing(name.to_owned()))
    }

    /// The elements of `name`, of whatever dtype and shape.
    pub fn values(&self, name: &str) -> Result<Values, StorageError> {
        let info = self.info(name)?;
        let len = (info.end - info.start) as usize;
        let bytes = match &self.backing {
            Backing::Memory(bytes) => {
                let start = (self.start + info.start) as usize;
                bytes.slice(start..start + len)
            }
            Backing::Disk(file, path) => window(file, self.start + info.start, len)
                .map_err(|source| StorageError::Io { action: "map", path: path.clone(), source })?,
        };
        Values::new(info.dtype, bytes)
    }

    /// The bytes of `name`, which must have this dtype and shape.
    pub fn part(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Bytes, StorageError> {
        let info = self.info(name)?;
        if info.dtype != dtype {
            let (name, found) = (name.to_owned(), info.dtype);
            return Err(StorageError::Dtype { name, found, expected: dtype });
        }
        Ok(self.shaped(name, shape)?.data().clone())
    }

    /// The elements of `name`, which must have this shape.
    pub fn shaped(&self, name: &str, shape: &[usize]) -> Result<Values, StorageError> {
        if self.info(name)?.shape != shape {
            let name = name.to_owned();
            return Err(StorageError::Entry {
                name,
                reason: "it has another shape than its entry",
            });
        }
        self.values(name)
    }

    /// Bytes of the tensor `name`, 0 if it is not there.
    pub fn bytes(&self, name: &str) -> u64 {
        self.header.tensors.get(name).map_or(0, |info| info.end - info.start)
    }
}
