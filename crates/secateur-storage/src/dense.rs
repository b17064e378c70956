//! What is a weight before it is packed? Row-major f32 values with a shape.

use crate::StorageError;

/// A dense tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Dense {
    /// A tensor of `shape`. Errors when the count of values does not match.
    pub fn new(values: Vec<f32>, shape: &[usize]) -> Result<Self, StorageError> {
        let expected = checked_len(shape)?;
        if values.len() != expected {
            return Err(StorageError::Length {
                what: "a dense tensor",
                found: values.len(),
                expected,
            });
        }
        Ok(Self { shape: shape.to_vec(), values })
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values, row-major, by value.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
}

/// The number of entries of `shape`; a shape that does not fit memory is an error.
pub(crate) fn checked_len(shape: &[usize]) -> Result<usize, StorageError> {
    // A side of zero hides no overflow of the others: rows and columns are multiplied elsewhere.
    shape
        .iter()
        .try_fold(1_usize, |len, &side| len.checked_mul(side.max(1)))
        .filter(|len| *len <= isize::MAX as usize / 8)
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
