//! What lies in the safetensors file itself? Named parts: each written once, each read exactly once.

use crate::{Dense, Packed, StorageError, rowbits};
use safetensors::{Dtype, SafeTensors, View, tensor::TensorView};
use secateur_mask::Mask;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// The tensors of a file, each of which is read exactly once.
pub(crate) struct Parts<'a> {
    file: SafeTensors<'a>,
    unread: BTreeSet<String>,
    /// More entries than this cannot be packed into the file: eight to a byte is the densest.
    pub most_entries: usize,
}

impl<'a> Parts<'a> {
    pub fn new(file: SafeTensors<'a>, bytes: usize) -> Self {
        let unread = file.names().into_iter().map(str::to_owned).collect();
        // A little more for tiny files: sides of zero are shapes too.
        Self { file, unread, most_entries: bytes.saturating_mul(8).saturating_add(1 << 16) }
    }

    /// A tensor that was not read, if there is one.
    pub fn left_over(mut self) -> Option<String> {
        self.unread.pop_first()
    }

    fn take(
        &mut self,
        name: String,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<TensorView<'a>, StorageError> {
        let view = find(&self.file, &name)?;
        if view.dtype() != dtype {
            return Err(wrong_dtype(&name, view.dtype(), dtype));
        }
        if view.shape() != shape {
            return Err(StorageError::Entry {
                name,
                reason: "it has another shape than its entry",
            });
        }
        if !self.unread.remove(&name) {
            return Err(StorageError::Entry { name, reason: "two entries share it" });
        }
        Ok(view)
    }

    pub fn floats(&mut self, name: String, shape: &[usize]) -> Result<Vec<f32>, StorageError> {
        Ok(to_floats(self.take(name, Dtype::F32, shape)?.data()))
    }

    pub fn bytes(&mut self, name: String, shape: &[usize]) -> Result<&'a [u8], StorageError> {
        Ok(self.take(name, Dtype::U8, shape)?.data())
    }
}

/// One tensor of the file to be.
pub(crate) struct Part<'a> {
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

pub(crate) fn add_parts<'a>(
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

pub(crate) fn add<'a>(
    parts: &mut BTreeMap<String, Part<'a>>,
    name: String,
    part: Part<'a>,
) -> Result<(), StorageError> {
    // safetensors keeps its own metadata under that name.
    if name == "__metadata__" || parts.contains_key(&name) {
        return Err(StorageError::DuplicateName(name));
    }
    parts.insert(name, part);
    Ok(())
}

fn float_part<'a>(values: &[f32], shape: Vec<usize>) -> Part<'a> {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Part { dtype: Dtype::F32, shape, data: Cow::Owned(data) }
}

pub(crate) fn bitmask_part<'a>(mask: &Mask) -> Result<Part<'a>, StorageError> {
    let bytes = rowbits::to_bytes(mask)?;
    Ok(Part { dtype: Dtype::U8, shape: vec![bytes.len()], data: Cow::Owned(bytes) })
}

/// A tensor of a file that says nothing about itself.
pub(crate) fn plain(file: &SafeTensors<'_>, name: &str) -> Result<Dense, StorageError> {
    let view = find(file, name)?;
    match view.dtype() {
        Dtype::F32 => Dense::new(to_floats(view.data()), view.shape()),
        other => Err(wrong_dtype(name, other, Dtype::F32)),
    }
}

fn to_floats(bytes: &[u8]) -> Vec<f32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

fn find<'a>(file: &SafeTensors<'a>, name: &str) -> Result<TensorView<'a>, StorageError> {
    file.tensor(name).map_err(|_| StorageError::Missing(name.to_owned()))
}

fn wrong_dtype(name: &str, found: Dtype, expected: Dtype) -> StorageError {
    StorageError::Dtype {
        name: name.to_owned(),
        found: format!("{found:?}"),
        expected: format!("{expected:?}"),
    }
}
