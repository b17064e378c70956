//! How does a network become a file and come back? Packed parts in safetensors, every claim proved.

use crate::{
    Bitmap, Dense, Format, Packed, Packed24, StorageError,
    atomic::write_atomically,
    dense::matrix_view,
    header::{Entry, Header, KEY, VERSION, mask_hash},
    parts::{Parts, add, add_parts, bitmask_part, plain},
    rowbits,
};
use safetensors::SafeTensors;
use secateur_mask::{Mask, Pattern};
use std::{collections::BTreeMap, fs, path::Path};

/// Tensors and masks by name, what they claim to be, and free-form metadata.
///
/// Saving and loading prove every claim: a mask that does not have the claimed pattern is an error
/// on both sides. Equal checkpoints give equal bytes.
///
/// ```
/// use secateur_storage::{Checkpoint, Dense, Packed};
///
/// let mut checkpoint = Checkpoint::default();
/// let bias = Dense::new(vec![0.5, -0.5], &[2])?;
/// checkpoint.tensors.insert("fc1.bias".into(), Packed::Dense(bias));
/// checkpoint.metadata.insert("seed".into(), "7".into());
///
/// let bytes = checkpoint.to_bytes()?;
/// assert_eq!(Checkpoint::from_bytes(&bytes)?, checkpoint);
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
    /// Writes the file, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), StorageError> {
        let bytes = self.to_bytes().map_err(in_file(path))?;
        write_atomically(path, &bytes)
    }

    /// Reads a file that [`Self::save`] wrote, or any plain f32 safetensors file.
    pub fn load(path: &Path) -> Result<Self, StorageError> {
        let bytes = fs::read(path).map_err(|source| StorageError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(&bytes).map_err(in_file(path))
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StorageError> {
        let mut parts = BTreeMap::new();
        let mut entries = BTreeMap::new();
        for (name, packed) in &self.tensors {
            let entry = self.entry(name, packed.format(), packed.shape(), packed.mask())?;
            entries.insert(name.clone(), entry);
            add_parts(&mut parts, name, packed)?;
        }
        for (name, mask) in &self.masks {
            let entry = self.entry(name, Format::Mask, mask.shape(), Some(mask.clone()))?;
            if entries.insert(name.clone(), entry).is_some() {
                return Err(StorageError::DuplicateName(name.clone()));
            }
            add(&mut parts, format!("{name}.bitmask"), bitmask_part(mask)?)?;
        }
        if let Some(name) = self.patterns.keys().find(|name| !entries.contains_key(*name)) {
            return Err(StorageError::Missing(name.clone()));
        }
        let header = Header { version: VERSION, metadata: self.metadata.clone(), tensors: entries };
        let metadata = [(KEY.to_owned(), serde_json::to_string(&header)?)].into();
        Ok(safetensors::serialize(parts, Some(metadata))?)
    }

    /// A checkpoint from a file's bytes. Nothing in them is believed unchecked.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StorageError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let file = SafeTensors::deserialize(bytes)?;
        let text = metadata.metadata().as_ref().and_then(|map| map.get(KEY));
        let mut checkpoint = Self::default();
        let Some(text) = text else {
            for name in file.names() {
                checkpoint.tensors.insert(name.to_owned(), Packed::Dense(plain(&file, name)?));
            }
            return Ok(checkpoint);
        };
        let header = Header::parse(text)?;
        checkpoint.metadata = header.metadata;
        let mut parts = Parts::new(file, bytes.len());
        for (name, entry) in header.tensors {
            let mask = checkpoint.read_entry(&mut parts, &name, &entry)?;
            match (&mask, &entry.mask_sha256) {
                (Some(mask), Some(hash)) if mask_hash(mask) == *hash => {}
                (Some(_), _) => return Err(StorageError::MaskHash { name }),
                (None, _) if entry.mask_sha256.is_some() || entry.pattern.is_some() => {
                    return Err(dense_claim(name));
                }
                (None, _) => {}
            }
            if let (Some(mask), Some(pattern)) = (&mask, entry.pattern) {
                mask.verify(&pattern).map_err(claim(&name))?;
                checkpoint.patterns.insert(name, pattern);
            }
        }
        match parts.left_over() {
            Some(name) => Err(StorageError::Entry { name, reason: "the header does not name it" }),
            None => Ok(checkpoint),
        }
    }

    /// The header's entry of a tensor, after proving what it claims.
    fn entry(
        &self,
        name: &str,
        format: Format,
        shape: &[usize],
        mask: Option<Mask>,
    ) -> Result<Entry, StorageError> {
        let pattern = self.patterns.get(name).copied();
        match (pattern, &mask) {
            (Some(pattern), Some(mask)) => mask.verify(&pattern).map_err(claim(name))?,
            (Some(_), None) => return Err(dense_claim(name.to_owned())),
            (None, _) => {}
        }
        let mask_sha256 = mask.as_ref().map(mask_hash);
        Ok(Entry { format, shape: shape.to_vec(), pattern, mask_sha256 })
    }

    /// Reads one entry into its place and returns its mask.
    fn read_entry(
        &mut self,
        parts: &mut Parts<'_>,
        name: &str,
        entry: &Entry,
    ) -> Result<Option<Mask>, StorageError> {
        let shape = &entry.shape;
        let (rows, cols) = matrix_view(shape)?;
        // Sides of zero cost no bytes, so the bytes alone do not bound the work.
        if rows.max(1).saturating_mul(cols.max(1)) > parts.most_entries {
            return Err(StorageError::TooLarge(shape.clone()));
        }
        let part = |suffix: &str| format!("{name}.{suffix}");
        let packed = match entry.format {
            Format::Dense => {
                Packed::Dense(Dense::new(parts.floats(name.to_owned(), shape)?, shape)?)
            }
            Format::TwoFour => {
                let groups = cols.div_ceil(4);
                let values = parts.floats(part("values"), &[rows, groups * 2])?;
                let indices = parts.bytes(part("indices"), &[rows, groups.div_ceil(2)])?;
                Packed::TwoFour(Packed24::from_parts(shape, values, indices.to_vec())?)
            }
            Format::Bitmap | Format::Mask => {
                let bits = parts.bytes(part("bitmask"), &[rows * cols.div_ceil(8)])?;
                let mask = rowbits::from_bytes(bits, shape)?;
                if entry.format == Format::Mask {
                    self.masks.insert(name.to_owned(), mask.clone());
                    return Ok(Some(mask));
                }
                let values = parts.floats(part("values"), &[mask.count_kept()])?;
                Packed::Bitmap(Bitmap::from_parts(mask, values)?)
            }
        };
        let mask = packed.mask();
        self.tensors.insert(name.to_owned(), packed);
        Ok(mask)
    }
}

/// A dense tensor has no mask to prove anything by.
fn dense_claim(name: String) -> StorageError {
    StorageError::Entry { name, reason: "a dense tensor claims a mask or a pattern" }
}

fn in_file(path: &Path) -> impl Fn(StorageError) -> StorageError + '_ {
    |source| StorageError::InFile { path: path.to_owned(), source: Box::new(source) }
}

fn claim(name: &str) -> impl Fn(secateur_mask::MaskError) -> StorageError + '_ {
    |source| StorageError::Claim { name: name.to_owned(), source }
}
