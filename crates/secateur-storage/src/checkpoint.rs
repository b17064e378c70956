//! How does a network become a file and come back? All its tensors in memory, every claim proved.
//!
//! For checkpoints that do not fit into memory, see [`Source`] and [`convert`](crate::convert()).

use crate::{
    Format, Layout, Packed, Source, StorageError, encode, source::in_file, write_atomically, writer,
};
use bytes::Bytes;
use secateur_mask::{Mask, Pattern};
use std::{collections::BTreeMap, path::Path};

/// Tensors and masks by name, what they claim to be, and free-form metadata.
///
/// Saving and loading prove every claim: a mask that does not have the claimed pattern is an error
/// on both sides. Equal checkpoints give equal bytes.
///
/// ```
/// use secateur_storage::{Checkpoint, Dense};
///
/// let mut checkpoint = Checkpoint::default();
/// let bias = Dense::new(vec![0.5, -0.5], &[2])?;
/// checkpoint.tensors.insert("fc1.bias".into(), bias.into());
/// checkpoint.metadata.insert("seed".into(), "7".into());
///
/// let bytes = checkpoint.to_bytes()?;
/// assert_eq!(Checkpoint::from_bytes(bytes)?, checkpoint);
/// # Ok::<(), secateur_storage::StorageError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    /// Weights and biases, by name.
    pub tensors: BTreeMap<String, Packed>,
    /// Masks, by the name of the weight they belong to.
    pub masks: BTreeMap<String, Mask>,
    /// The pattern that a tensor or mask claims to have, by name.
    pub patterns: BTreeMap<String, Pattern>,
    /// Whatever the writer wants to say, such as the recipe and the seed.
    pub metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Writes the file in our own layout, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), StorageError> {
        let bytes = self.to_bytes().map_err(in_file(path))?;
        write_atomically(path, &bytes)
    }

    /// Writes the file as plain safetensors, every zero spelled out, whole or not at all. Masks and
    /// claims are left out.
    pub fn save_dense(&self, path: &Path) -> Result<(), StorageError> {
        let encode = |(name, packed): (&String, &Packed)| {
            Ok((name.clone(), encode::encode(Layout::Dense, name, packed, None)?))
        };
        let bytes = self.tensors.iter().map(encode).collect::<Result<_, _>>();
        let bytes =
            bytes.and_then(|tensors| writer::to_bytes(Layout::Dense, &self.metadata, tensors));
        write_atomically(path, &bytes.map_err(in_file(path))?)
    }

    /// Reads a whole file or model folder, in any layout that [`Source`] reads. Tensors are views of
    /// the mapped file, which must not be changed while they are in use.
    pub fn load(path: &Path) -> Result<Self, StorageError> {
        Self::read(&Source::open(path)?).map_err(in_file(path))
    }

    /// The file's bytes, in our own layout.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StorageError> {
        let mut encoded = Vec::new();
        for (name, packed) in &self.tensors {
            let pattern = self.patterns.get(name).copied();
            encoded.push((name.clone(), encode::encode(Layout::Secateur, name, packed, pattern)?));
        }
        for (name, mask) in &self.masks {
            if self.tensors.contains_key(name) {
                return Err(StorageError::DuplicateName(name.clone()));
            }
            let pattern = self.patterns.get(name).copied();
            encoded.push((name.clone(), encode::mask_alone(name, mask, pattern)?));
        }
        let known =
            |name: &&String| self.tensors.contains_key(*name) || self.masks.contains_key(*name);
        if let Some(name) = self.patterns.keys().find(|name| !known(name)) {
            return Err(StorageError::Missing(name.clone()));
        }
        writer::to_bytes(Layout::Secateur, &self.metadata, encoded)
    }

    /// A checkpoint from a file's bytes, of which its tensors are views. Nothing in them is believed
    /// unchecked.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, StorageError> {
        Self::read(&Source::from_bytes(bytes)?)
    }

    fn read(source: &Source) -> Result<Self, StorageError> {
        let mut checkpoint = Self { metadata: source.metadata().clone(), ..Self::default() };
        for (name, entry) in source.entries() {
            if entry.format == Format::Mask {
                checkpoint.masks.extend(source.mask(name)?.map(|mask| (name.clone(), mask)));
            } else {
                checkpoint.tensors.insert(name.clone(), source.tensor(name)?);
            }
            checkpoint.patterns.extend(entry.pattern.map(|pattern| (name.clone(), pattern)));
        }
        Ok(checkpoint)
    }
}
