//! What is a weight before it is packed? All its elements, row-major, with a shape.

use crate::{
    Dtype, StorageError, Values, nonzero,
    shape::{checked_len, matrix_view},
};
use secateur_mask::Mask;
use std::borrow::Cow;

/// A dense tensor of any dtype, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    shape: Vec<usize>,
    values: Values,
}

impl Dense {
    /// A tensor of `shape`: of f32 (`Vec<f32>`), or of any [`Values`]. Errors when the count of
    /// elements, or of scales, does not match the shape.
    pub fn new(values: impl Into<Values>, shape: &[usize]) -> Result<Self, StorageError> {
        let values = values.into();
        let expected = checked_len(shape)?;
        let (rows, _) = matrix_view(shape)?;
        if values.len() != expected {
            let what = "a dense tensor";
            return Err(StorageError::Length { what, found: values.len(), expected });
        }
        scales_fit(&values, rows)?;
        Ok(Self { shape: shape.to_vec(), values })
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.values.dtype()
    }

    /// The elements, row-major.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The elements as f32, scales applied: borrowed where they are F32 already.
    pub fn to_f32(&self) -> Result<Cow<'_, [f32]>, StorageError> {
        let mut floats = self.values.to_f32()?;
        if let Some(scales) = self.values.scales() {
            let cols = floats.len() / scales.len().max(1);
            for (row, scale) in floats.to_mut().chunks_mut(cols.max(1)).zip(scales) {
                row.iter_mut().for_each(|value| *value *= scale);
            }
        }
        Ok(floats)
    }

    /// Which elements are not zero; `-0.0` is. Errors for dtypes that cannot be packed (F4, F6,
    /// F8_E8M0).
    pub fn nonzero(&self) -> Result<Mask, StorageError> {
        nonzero::mask(&self.values, &self.shape)
    }
}

/// Errors unless there is one scale for each row, or none at all.
pub(crate) fn scales_fit(values: &Values, rows: usize) -> Result<(), StorageError> {
    match values.scales().map(<[f32]>::len) {
        Some(found) if found != rows => {
            Err(StorageError::Length { what: "the scales of a tensor", found, expected: rows })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_multiply_their_row() {
        let values = Values::from(vec![1_i8, 2, 3, 4]).with_scales([0.5, 2.0]).unwrap();
        let dense = Dense::new(values.clone(), &[2, 2]).unwrap();
        assert_eq!(dense.to_f32().unwrap()[..], [0.5, 1.0, 6.0, 8.0]);
        assert!(Dense::new(values.clone(), &[4, 1]).is_err());
        assert!(Dense::new(values, &[2, 3]).is_err());
    }
}
