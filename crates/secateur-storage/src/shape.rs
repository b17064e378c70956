//! How large is a shape, as a matrix and as work? Checked once, so that sides can be multiplied freely.

use crate::StorageError;

/// The number of entries of `shape`; a shape that does not fit memory is an error.
pub(crate) fn checked_len(shape: &[usize]) -> Result<usize, StorageError> {
    // A side of zero hides no overflow of the others: rows and columns are multiplied elsewhere.
    shape
        .iter()
        .try_fold(1_usize, |len, &side| len.checked_mul(side.max(1)))
        .filter(|len| *len <= isize::MAX as usize / 64)
        .ok_or_else(|| StorageError::TooLarge(shape.to_vec()))?;
    Ok(shape.iter().product())
}

/// Any weight as the matrix its product sees: outputs × all that is reduced over.
pub(crate) fn matrix_view(shape: &[usize]) -> Result<(usize, usize), StorageError> {
    checked_len(shape)?;
    match shape {
        [] => Ok((1, 1)),
        [len] => Ok((1, *len)),
        [rows, rest @ ..] => Ok((*rows, checked_len(rest)?)),
    }
}

/// Errors when a shape has far more entries than its bytes in a file can tell apart. Sides of zero, and
/// rows without a value, cost few bytes or none, so without this nothing would bound the work.
pub(crate) fn bounded(shape: &[usize], bytes: u64, per_byte: u64) -> Result<(), StorageError> {
    checked_len(shape)?;
    // A side of zero hides none of the others: compressed-tensors counts rows along all but the last.
    let entries: usize = shape.iter().map(|side| (*side).max(1)).product();
    match entries as u64 <= bytes.saturating_mul(per_byte).saturating_add(1 << 16) {
        true => Ok(()),
        false => Err(StorageError::TooLarge(shape.to_vec())),
    }
}
