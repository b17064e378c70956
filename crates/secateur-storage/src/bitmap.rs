//! How does an unstructured sparse weight lie? A bit per entry, then the kept values in order.

use crate::{Dense, StorageError};
use secateur_mask::Mask;

/// The kept values of a weight in row-major order, and the mask that places them.
#[derive(Debug, Clone, PartialEq)]
pub struct Bitmap {
    mask: Mask,
    values: Vec<f32>,
}

impl Bitmap {
    /// Keeps of `dense` what `mask` keeps.
    pub fn pack(dense: &Dense, mask: &Mask) -> Result<Self, StorageError> {
        fits(dense, mask)?;
        let kept = dense.values().iter().zip(mask.iter());
        let values = kept.filter(|(_, kept)| *kept).map(|(value, _)| *value).collect();
        Ok(Self { mask: mask.clone(), values })
    }

    /// A bitmap from its parts. Errors when the mask does not keep as many as there are values.
    pub fn from_parts(mask: Mask, values: Vec<f32>) -> Result<Self, StorageError> {
        let expected = mask.count_kept();
        if values.len() != expected {
            return Err(StorageError::Length {
                what: "the values of a bitmap",
                found: values.len(),
                expected,
            });
        }
        Ok(Self { mask, values })
    }

    /// The dense tensor: cut entries are `+0.0`.
    pub fn unpack(&self) -> Dense {
        let mut values = self.values.iter();
        let place = |kept| if kept { values.next().copied() } else { None };
        let dense = self.mask.iter().map(place).map(Option::unwrap_or_default).collect();
        Dense::new(dense, self.mask.shape()).expect("one value per entry of the mask")
    }

    /// Which entries are kept.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// The kept values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

/// Errors unless `mask` has the shape of `dense`.
pub(crate) fn fits(dense: &Dense, mask: &Mask) -> Result<(), StorageError> {
    if mask.shape() == dense.shape() {
        return Ok(());
    }
    Err(StorageError::MaskShape { mask: mask.shape().to_vec(), weight: dense.shape().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_decides_not_the_value() {
        let dense = Dense::new(vec![0.0, 7.0, -0.0, 3.0], &[4]).unwrap();
        let mask = Mask::from_bools(&[true, false, false, true], &[4]).unwrap();
        let packed = Bitmap::pack(&dense, &mask).unwrap();
        assert_eq!(packed.values(), [0.0, 3.0]);
        let bits: Vec<u32> = packed.unpack().values().iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [0, 0, 0, 3.0_f32.to_bits()]);
    }

    #[test]
    fn counts_must_agree() {
        assert!(Bitmap::from_parts(Mask::full(&[3]).unwrap(), vec![1.0]).is_err());
        let dense = Dense::new(vec![0.0; 4], &[4]).unwrap();
        assert!(Bitmap::pack(&dense, &Mask::full(&[2, 2]).unwrap()).is_err());
    }
}
