//! How does a network become a file and come back? Packed parts in safetensors, every claim proved.

use crate::{
    Bitmap, Dense, Packed, Packed24, StorageError,
    atomic::write_atomically,
    header::{Entry, Format, Header, KEY, VERSION, mask_hash},
    rowbits,
};
use safetensors::{Dtype, SafeTensors, View};
use secateur_mask::{Mask, Pattern};
use std::{borrow::Cow, collections::BTreeMap, fs, path::Path};

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
            let entry = self.entry(name, packed.format_tag(), packed.shape(), packed.mask())?;
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
                checkpoint.tensors.insert(name.to_owned(), Packed::Dense(dense(&file, name)?));
            }
            return Ok(checkpoint);
        };
        let header = Header::parse(text)?;
        checkpoint.metadata = header.metadata;
        for (name, entry) in header.tensors {
            let mask = checkpoint.read_entry(&file, &name, &entry)?;
            if let (Some(mask), Some(hash)) = (&mask, &entry.mask_sha256)
                && mask_hash(mask) != *hash
            {
                return Err(StorageError::MaskHash { name });
            }
            if let (Some(mask), Some(pattern)) = (&mask, entry.pattern) {
                mask.verify(&pattern).map_err(claim(&name))?;
                checkpoint.patterns.insert(name, pattern);
            }
        }
        Ok(checkpoint)
    }

    /// The header's entry of a tensor, after proving what it claims.
    fn entry(
        &self,
        name: &str,
        format: Format,
        shape: &[usize],
        mask: Option<Mask>,
    ) -> Result<Entry, StorageError> {
        let pattern = self.patterns.get(name).copied().filter(|_| mask.is_some());
        if let (Some(pattern), Some(mask)) = (pattern, &mask) {
            mask.verify(&pattern).map_err(claim(name))?;
        }
        let mask_sha256 = mask.as_ref().map(mask_hash);
        Ok(Entry { format, shape: shape.to_vec(), pattern, mask_sha256 })
    }

    /// Reads one entry into its place and returns its mask.
    fn read_entry(
        &mut self,
        file: &SafeTensors<'_>,
        name: &str,
        entry: &Entry,
    ) -> Result<Option<Mask>, StorageError> {
        let part = |suffix: &str| format!("{name}.{suffix}");
        let packed = match entry.format {
            Format::Dense => Packed::Dense(dense(file, name)?),
            Format::TwoFour => Packed::TwoFour(Packed24::from_parts(
                &entry.shape,
                floats(file, &part("values"))?,
                raw(file, &part("indices"))?.to_vec(),
            )?),
            Format::Bitmap => {
                let mask = rowbits::from_bytes(raw(file, &part("bitmask"))?, &entry.shape)?;
                Packed::Bitmap(Bitmap::from_parts(mask, floats(file, &part("values"))?)?)
            }
            Format::Mask => {
                let mask = rowbits::from_bytes(raw(file, &part("bitmask"))?, &entry.shape)?;
                self.masks.insert(name.to_owned(), mask.clone());
                return Ok(Some(mask));
            }
        };
        let mask = packed.mask();
        self.tensors.insert(name.to_owned(), packed);
        Ok(mask)
    }
}

/// One tensor of the file to be.
struct Part<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Cow<'a, [u8]>,
}

impl View for Part<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }
    fn data_len(&self) -> usize {
        self.data.len()
    }
}

impl Packed {
    fn format_tag(&self) -> Format {
        match self {
            Self::Dense(_) => Format::Dense,
            Self::TwoFour(_) => Format::TwoFour,
            Self::Bitmap(_) => Format::Bitmap,
        }
    }
}

fn add_parts<'a>(
    parts: &mut BTreeMap<String, Part<'a>>,
    name: &str,
    packed: &'a Packed,
) -> Result<(), StorageError> {
    match packed {
        Packed::Dense(dense) => {
            add(parts, name.to_owned(), float_part(dense.values(), dense.shape().to_vec()))
        }
        Packed::TwoFour(packed) => {
            let groups = packed.cols().div_ceil(4);
            let values = float_part(packed.values(), vec![packed.rows(), groups * 2]);
            add(parts, format!("{name}.values"), values)?;
            let indices = Part {
                dtype: Dtype::U8,
                shape: vec![packed.rows(), groups.div_ceil(2)],
                data: Cow::Borrowed(packed.indices()),
            };
            add(parts, format!("{name}.indices"), indices)
        }
        Packed::Bitmap(bitmap) => {
            let values = float_part(bitmap.values(), vec![bitmap.values().len()]);
            add(parts, format!("{name}.values"), values)?;
            add(parts, format!("{name}.bitmask"), bitmask_part(bitmap.mask())?)
        }
    }
}

fn add<'a>(
    parts: &mut BTreeMap<String, Part<'a>>,
    name: String,
    part: Part<'a>,
) -> Result<(), StorageError> {
    match parts.insert(name.clone(), part) {
        Some(_) => Err(StorageError::DuplicateName(name)),
        None => Ok(()),
    }
}

fn float_part<'a>(values: &[f32], shape: Vec<usize>) -> Part<'a> {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Part { dtype: Dtype::F32, shape, data: Cow::Owned(data) }
}

fn bitmask_part<'a>(mask: &Mask) -> Result<Part<'a>, StorageError> {
    let bytes = rowbits::to_bytes(mask)?;
    Ok(Part { dtype: Dtype::U8, shape: vec![bytes.len()], data: Cow::Owned(bytes) })
}

fn dense(file: &SafeTensors<'_>, name: &str) -> Result<Dense, StorageError> {
    let values = floats(file, name)?;
    Dense::new(values, find(file, name)?.shape())
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, StorageError> {
    let view = find(file, name)?;
    expect_dtype(name, view.dtype(), Dtype::F32, "F32")?;
    Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn raw<'a>(file: &SafeTensors<'a>, name: &str) -> Result<&'a [u8], StorageError> {
    let view = find(file, name)?;
    expect_dtype(name, view.dtype(), Dtype::U8, "U8")?;
    Ok(view.data())
}

fn find<'a>(
    file: &SafeTensors<'a>,
    name: &str,
) -> Result<safetensors::tensor::TensorView<'a>, StorageError> {
    file.tensor(name).map_err(|_| StorageError::Missing(name.to_owned()))
}

fn expect_dtype(
    name: &str,
    found: Dtype,
    wanted: Dtype,
    expected: &'static str,
) -> Result<(), StorageError> {
    if found == wanted {
        return Ok(());
    }
    Err(StorageError::Dtype { name: name.to_owned(), found: format!("{found:?}"), expected })
}

fn in_file(path: &Path) -> impl Fn(StorageError) -> StorageError + '_ {
    |source| StorageError::InFile { path: path.to_owned(), source: Box::new(source) }
}

fn claim(name: &str) -> impl Fn(secateur_mask::MaskError) -> StorageError + '_ {
    |source| StorageError::Claim { name: name.to_owned(), source }
}
