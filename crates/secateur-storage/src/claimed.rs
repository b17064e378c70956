//! How is a tensor in our own layout read? Its parts are checked against each other, and its mask against
//! what is claimed of it.

use crate::{
    Dtype, Entry, Format, Packed, Places, StorageError, Values,
    claims::{Claim, mask_hash},
    places::{grid_sides, n_of_m_sides},
    rowbits,
    shape::{bounded, matrix_view},
    tensor_file::TensorFile,
    values::zero_test,
};
use secateur_mask::{Mask, Pattern};

/// The names of an entry's parts.
pub(crate) fn parts(name: &str, format: Format, scaled: bool) -> Vec<String> {
    let suffixes: &[&str] = match format {
        Format::Dense => &[],
        Format::NOfM(_) => &["values", "indices"],
        Format::Bitmap => &["values", "bitmask"],
        Format::Csr | Format::Block(_) => &["values", "crow_indices", "col_indices"],
        Format::Mask => &["bitmask"],
    };
    let mut parts: Vec<String> = suffixes.iter().map(|suffix| format!("{name}.{suffix}")).collect();
    if format == Format::Dense {
        parts.push(name.to_owned());
    }
    if scaled {
        parts.push(format!("{name}.scales"));
    }
    parts
}

/// An entry from its claim, and from the part that holds its values.
pub(crate) fn claimed(
    name: &str,
    claim: &Claim,
    file: &TensorFile,
    at: usize,
    bytes: u64,
) -> Result<Entry, StorageError> {
    let (values, dtype) = match claim.format {
        Format::Mask => (String::new(), Some(Dtype::BOOL)),
        Format::Dense => (name.to_owned(), None),
        _ => (format!("{name}.values"), None),
    };
    let dtype = match dtype {
        Some(dtype) => dtype,
        None => file.info(&values)?.dtype,
    };
    let (shape, pattern) = (claim.shape.clone(), claim.pattern);
    if claim.format != Format::Dense {
        bounded(&shape, bytes, claim.format.entries_per_byte())?;
    }
    Ok(Entry { shape, dtype, format: claim.format, pattern, bytes, file: at })
}

/// Holds a claim against the mask that was read.
pub(crate) fn prove(name: &str, claim: &Claim, mask: Option<&Mask>) -> Result<(), StorageError> {
    let Some(mask) = mask else {
        return match claim.mask_sha256.is_some() || claim.pattern.is_some() {
            true => Err(dense_claim(name)),
            false => Ok(()),
        };
    };
    if claim.mask_sha256.as_deref() != Some(&mask_hash(mask)) {
        return Err(StorageError::MaskHash { name: name.to_owned() });
    }
    if let Some(pattern) = claim.pattern {
        holds(name, mask, pattern)?;
    }
    Ok(())
}

/// Errors, naming the tensor, unless its mask has the pattern.
pub(crate) fn holds(name: &str, mask: &Mask, pattern: Pattern) -> Result<(), StorageError> {
    let wrong = |source| StorageError::Claim { name: name.to_owned(), source };
    mask.verify(&pattern).map_err(wrong)
}

/// Reads a tensor in our own layout, checking its parts against each other.
pub(crate) fn read(
    file: &TensorFile,
    name: &str,
    claim: &Claim,
    is_scaled: bool,
) -> Result<Packed, StorageError> {
    let shape = &claim.shape;
    let (rows, cols) = matrix_view(shape)?;
    let part = |suffix: &str| format!("{name}.{suffix}");
    let name_of_values = part("values");
    let (values, places) = match claim.format {
        Format::Dense => (file.shaped(name, shape)?, Places::Dense),
        Format::NOfM(pattern) => {
            let (slots, bytes) = n_of_m_sides(pattern, cols);
            let values = file.shaped(&name_of_values, &[rows, slots])?;
            let indices = file.part(&part("indices"), Dtype::U8, &[rows, bytes])?;
            let size = whole_bytes(&values)?;
            let places = Places::n_of_m(pattern, shape, indices, values.data(), size)?;
            (values, places)
        }
        Format::Bitmap => {
            let mask = bitmask(file, name, shape)?;
            let values = file.shaped(&name_of_values, &[mask.count_kept()])?;
            whole_bytes(&values)?;
            (values, Places::Bitmap(mask))
        }
        Format::Csr | Format::Block(_) => {
            let block = match claim.format {
                Format::Block(block) => Some(block),
                _ => None,
            };
            let down = block.map_or(rows, |block| grid_sides(block, (rows, cols)).0);
            let crow = file.part(&part("crow_indices"), Dtype::I64, &[down.saturating_add(1)])?;
            let stored = file.info(&part("col_indices"))?.shape.first().copied().unwrap_or(0);
            let columns = file.part(&part("col_indices"), Dtype::I32, &[stored])?;
            let values = match block {
                None => file.shaped(&name_of_values, &[stored])?,
                Some(block) => {
                    file.shaped(&name_of_values, &[stored, block.rows(), block.cols()])?
                }
            };
            let size = whole_bytes(&values)?;
            let crow = crow.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
            let columns = columns.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
            let places = Places::csr(block, shape, (crow, columns), values.data(), size)?;
            (values, places)
        }
        Format::Mask => {
            let reason = "it is a mask alone, not a weight";
            return Err(StorageError::Entry { name: name.to_owned(), reason });
        }
    };
    let values = match is_scaled {
        false => values,
        true => {
            file.part(&part("scales"), Dtype::F32, &[rows, 1])?;
            scaled(values, file, &part("scales"))?
        }
    };
    Packed::from_parts(shape, values, places)
}

/// The values with the scales that lie under a name of their own, a column of F32.
pub(crate) fn scaled(
    values: Values,
    file: &TensorFile,
    name: &str,
) -> Result<Values, StorageError> {
    let scales = file.values(name)?.data().clone();
    let scales = scales.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    values.with_scales(scales.collect::<Vec<_>>())
}

/// The size of an element; packed tensors have none below a byte, and none that cannot be zero.
fn whole_bytes(values: &Values) -> Result<usize, StorageError> {
    let found = values.dtype();
    zero_test(found).map(|(size, _)| size).ok_or(StorageError::NotNumbers { found })
}

pub(crate) fn bitmask(
    file: &TensorFile,
    name: &str,
    shape: &[usize],
) -> Result<Mask, StorageError> {
    let (rows, cols) = matrix_view(shape)?;
    let bits = file.part(&format!("{name}.bitmask"), Dtype::U8, &[rows * cols.div_ceil(8)])?;
    rowbits::from_bytes(&bits, shape)
}

/// What the header says of a tensor, after proving it.
pub(crate) fn claim(
    name: &str,
    format: Format,
    shape: &[usize],
    pattern: Option<Pattern>,
    mask: Option<&Mask>,
) -> Result<Claim, StorageError> {
    match (pattern, mask) {
        (Some(pattern), Some(mask)) => holds(name, mask, pattern)?,
        (Some(_), None) => return Err(dense_claim(name)),
        (None, _) => {}
    }
    Ok(Claim { format, shape: shape.to_vec(), pattern, mask_sha256: mask.map(mask_hash) })
}

/// A dense tensor has no mask to prove anything by.
pub(crate) fn dense_claim(name: &str) -> StorageError {
    let reason = "a dense tensor claims a mask or a pattern";
    StorageError::Entry { name: name.to_owned(), reason }
}
