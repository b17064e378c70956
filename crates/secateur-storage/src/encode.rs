//! How is a weight written into safetensors? As a set of named parts, and what our own layout claims of it.

use crate::{
    Dtype, Format, Layout, Packed, Places, StorageError, claimed::claim, claims::Claim,
    places::n_of_m_sides, rowbits, shape::bounded,
};
use bytes::Bytes;
use secateur_mask::{Block, Mask, NOfM, Pattern};

/// One tensor of the file to be.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Bytes,
}

impl Part {
    /// Bytes of its shape and dtype; its data may be written later.
    pub fn len(&self) -> u64 {
        let sides = self.shape.iter().fold(1_u64, |len, side| len.saturating_mul(*side as u64));
        sides.saturating_mul(self.dtype.bitsize() as u64) / 8
    }
}

/// A tensor ready to be written: its parts, and what our own layout claims about it.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub parts: Vec<Part>,
    pub entry: Option<Claim>,
}

/// The parts of a weight that `layout` does not refuse, and of any dense tensor.
pub(crate) fn encode(
    layout: Layout,
    name: &str,
    packed: &Packed,
    pattern: Option<Pattern>,
) -> Result<Encoded, StorageError> {
    // Every other layout has a bit for each entry at least.
    let (bytes, per_byte) = match layout {
        Layout::Secateur => (packed.bytes(), packed.format().entries_per_byte()),
        _ => (packed.shape().iter().product(), 1),
    };
    if packed.format() != Format::Dense || layout == Layout::Masks {
        bounded(packed.shape(), bytes as u64, per_byte)?;
    }
    match layout {
        Layout::Secateur => secateur(name, packed, pattern),
        Layout::Masks => {
            let mask = match packed.mask() {
                Some(mask) => mask,
                None => packed.unpack().nonzero()?,
            };
            mask_alone(name, &mask, pattern)
        }
        _ if layout == Layout::Dense || packed.format() == Format::Dense => {
            Ok(Encoded { parts: dense(name, packed), entry: None })
        }
        _ => Ok(Encoded { parts: compressed_tensors(layout, name, packed)?, entry: None }),
    }
}

/// A mask alone, in our own layout.
pub(crate) fn mask_alone(
    name: &str,
    mask: &Mask,
    pattern: Option<Pattern>,
) -> Result<Encoded, StorageError> {
    bounded(mask.shape(), mask.len() as u64, 1)?;
    let entry = claim(name, Format::Mask, mask.shape(), pattern, Some(mask))?;
    Ok(Encoded { parts: vec![flat(name, rowbits::to_bytes(mask)?)], entry: Some(entry) })
}

/// A tensor's parts and claims at their longest, whatever it will be packed as; without data.
pub(crate) fn worst_case(layout: Layout, name: &str, entry: &crate::Entry) -> Encoded {
    let rows = entry.shape.first().copied().unwrap_or(1);
    let entries: usize = entry.shape.iter().product();
    // No side of a part is longer, nor of a block that pays.
    let most = entries.saturating_add(rows).saturating_add(64).saturating_mul(16);
    let sides = [&entry.shape[..], &[most; 3]].concat();
    let part = |suffix: &str, dtype, shape: &[usize]| Part {
        name: format!("{name}{suffix}"),
        dtype,
        shape: shape.to_vec(),
        data: Bytes::new(),
    };
    let scales = |suffix| part(suffix, Dtype::F32, &[rows, 1]);
    let parts = match layout {
        Layout::Dense => vec![part("", entry.dtype, &entry.shape), scales("_scale")],
        Layout::Masks => vec![part(".bitmask", Dtype::U8, &[most])],
        Layout::Secateur => vec![
            part(".values", entry.dtype, &sides),
            part(".crow_indices", Dtype::I64, &[most]),
            part(".col_indices", Dtype::I32, &[most]),
            scales(".scales"),
        ],
        Layout::Sparse24Bitmask | Layout::SparseBitmask => vec![
            part(".compressed", entry.dtype, &sides),
            part(".bitmask", Dtype::U8, &sides),
            part(".shape", Dtype::I64, &[most, 1]),
            part(".row_offsets", Dtype::I64, &sides),
        ],
    };
    // The longest names of formats and patterns are those of blocks.
    let block = Block::new(most, most).ok();
    let claims = Claim {
        format: block.map_or(Format::Mask, Format::Block),
        shape: entry.shape.clone(),
        pattern: block.map(Pattern::Block),
        mask_sha256: Some("0".repeat(64)),
    };
    Encoded { parts, entry: layout.has_claims().then_some(claims) }
}

fn dense(name: &str, packed: &Packed) -> Vec<Part> {
    let dense = packed.unpack();
    let mut parts = vec![Part {
        name: name.to_owned(),
        dtype: dense.dtype(),
        shape: dense.shape().to_vec(),
        data: dense.values().data().clone(),
    }];
    parts.extend(scales(&format!("{name}_scale"), packed));
    parts
}

/// The scales of a quantised weight, a column as compressed-tensors has them.
fn scales(name: &str, packed: &Packed) -> Option<Part> {
    let scales = packed.values().scales()?;
    let data = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    let shape = vec![scales.len(), 1];
    Some(Part { name: name.to_owned(), dtype: Dtype::F32, shape, data })
}

fn secateur(
    name: &str,
    packed: &Packed,
    pattern: Option<Pattern>,
) -> Result<Encoded, StorageError> {
    let (format, shape, mask) = (packed.format(), packed.shape(), packed.mask());
    let entry = claim(name, format, shape, pattern, mask.as_ref())?;
    let stored = packed.values();
    let part = |suffix: &str, dtype, shape, data| Part {
        name: format!("{name}.{suffix}"),
        dtype,
        shape,
        data,
    };
    let values = |shape| part("values", stored.dtype(), shape, stored.data().clone());
    let mut parts = match packed.places() {
        Places::Dense => {
            let mut parts = dense(name, packed);
            parts.truncate(1);
            parts
        }
        Places::NOfM(indices) => {
            let (pattern, matrix) = (indices.pattern(), packed.matrix());
            let mut parts = n_of_m(name, stored.dtype(), pattern, matrix);
            parts[0].data = stored.data().clone();
            parts[1].data = indices.bytes().clone();
            parts
        }
        Places::Bitmap(mask) => {
            vec![values(vec![stored.len()]), flat(name, rowbits::to_bytes(mask)?)]
        }
        Places::Csr(csr) => {
            let shape = vec![stored.len()];
            [vec![values(shape)], compressed_rows(name, csr)].concat()
        }
        Places::Block(block, csr) => {
            let shape = vec![csr.col_indices().len(), block.rows(), block.cols()];
            [vec![values(shape)], compressed_rows(name, csr)].concat()
        }
    };
    parts.extend(scales(&format!("{name}.scales"), packed));
    Ok(Encoded { parts, entry: Some(entry) })
}

/// The two parts of an `N:M` weight in our own layout, without their data.
pub(crate) fn n_of_m(
    name: &str,
    dtype: Dtype,
    pattern: NOfM,
    (rows, cols): (usize, usize),
) -> Vec<Part> {
    let (slots, bytes) = n_of_m_sides(pattern, cols);
    let part = |suffix: &str, dtype, cols| Part {
        name: format!("{name}.{suffix}"),
        dtype,
        shape: vec![rows, cols],
        data: Bytes::new(),
    };
    vec![part("values", dtype, slots), part("indices", Dtype::U8, bytes)]
}

/// The parts of a 2:4 weight in compressed-tensors' layout: values and bitmask without their data,
/// and the shape.
pub(crate) fn two_of_four_bitmask(
    name: &str,
    dtype: Dtype,
    (rows, cols): (usize, usize),
) -> Vec<Part> {
    let prefix = name.strip_suffix(".weight").unwrap_or(name);
    let part = |suffix: &str, dtype, shape, data| Part {
        name: format!("{prefix}.{suffix}"),
        dtype,
        shape,
        data,
    };
    let sides = [rows, cols].iter().flat_map(|side| (*side as i64).to_le_bytes()).collect();
    vec![
        part("compressed", dtype, vec![rows, cols / 2], Bytes::new()),
        part("bitmask", Dtype::U8, vec![rows, cols.div_ceil(8)], Bytes::new()),
        part("shape", Dtype::I64, vec![2, 1], sides),
    ]
}

fn flat(name: &str, bitmask: Vec<u8>) -> Part {
    let (name, shape) = (format!("{name}.bitmask"), vec![bitmask.len()]);
    Part { name, dtype: Dtype::U8, shape, data: bitmask.into() }
}

fn compressed_rows(name: &str, csr: &crate::Csr) -> Vec<Part> {
    let (crow, col) = (csr.crow_indices(), csr.col_indices());
    let part = |suffix: &str, dtype, len, data| Part {
        name: format!("{name}.{suffix}"),
        dtype,
        shape: vec![len],
        data,
    };
    vec![
        part(
            "crow_indices",
            Dtype::I64,
            crow.len(),
            crow.iter().flat_map(|i| i.to_le_bytes()).collect(),
        ),
        part(
            "col_indices",
            Dtype::I32,
            col.len(),
            col.iter().flat_map(|i| i.to_le_bytes()).collect(),
        ),
    ]
}

/// `MODULE.shape`, `.compressed`, `.bitmask` and, where rows differ, `.row_offsets`.
fn compressed_tensors(
    layout: Layout,
    name: &str,
    packed: &Packed,
) -> Result<Vec<Part>, StorageError> {
    let prefix = name.strip_suffix(".weight").unwrap_or(name);
    let shape = packed.shape();
    let mask = packed.mask().ok_or_else(|| StorageError::Missing(name.to_owned()))?;
    // Bits and offsets run along the last side there, along all but the first here.
    let cols = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().rev().skip(1).product::<usize>();
    let lines = Mask::from_words(mask.words().to_vec(), &[rows, cols])?;
    let mut bitmask_shape = shape.to_vec();
    if let Some(last) = bitmask_shape.last_mut() {
        *last = cols.div_ceil(8);
    }
    let part = |suffix: &str, dtype, shape, data| Part {
        name: format!("{prefix}.{suffix}"),
        dtype,
        shape,
        data,
    };
    if layout == Layout::Sparse24Bitmask {
        let mut parts = two_of_four_bitmask(name, packed.dtype(), (rows, cols));
        parts[0].data = packed.values().data().clone();
        parts[1].data = rowbits::to_bytes(&lines)?.into();
        return Ok(parts);
    }
    let sides: Bytes = shape.iter().flat_map(|side| (*side as i64).to_le_bytes()).collect();
    let bitmask = part("bitmask", Dtype::U8, bitmask_shape, rowbits::to_bytes(&lines)?.into());
    let bitmap = packed.to_format(Format::Bitmap)?;
    let values = bitmap.values();
    let compressed = part("compressed", values.dtype(), vec![values.len()], values.data().clone());
    let offsets = rowbits::row_offsets(&lines);
    let offset_bytes = offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
    Ok(vec![
        compressed,
        part("shape", Dtype::I64, vec![shape.len()], sides),
        bitmask,
        part(
            "row_offsets",
            Dtype::I64,
            shape[..shape.len().saturating_sub(1)].to_vec(),
            offset_bytes,
        ),
    ])
}
