//! How do weights become eight bits? Each output row gets the scale of its largest magnitude.

use crate::{Dense, StorageError, Values};

impl Dense {
    /// I8 with one scale per output row: `round(w / scale)`, `scale = max |w| of the row / 127`,
    /// symmetric, ties to even. Zeros stay exactly zero; a row of zeros has scale 0.
    ///
    /// This is per-channel weight quantisation as in Krishnamoorthi (2018), section 2.2. Errors on
    /// infinite values and NaN.
    ///
    /// ```
    /// use secateur_storage::Dense;
    /// let weight = Dense::new(vec![0.5_f32, -1.27, 0.0, 254.0], &[2, 2])?;
    /// let quantised = weight.quantise_i8()?;
    /// assert_eq!(quantised.values().data()[..], [50, -127_i8 as u8, 0, 127]);
    /// assert_eq!(quantised.to_f32()?[3], 254.0);
    /// # Ok::<(), secateur_storage::StorageError>(())
    /// ```
    pub fn quantise_i8(&self) -> Result<Self, StorageError> {
        let floats = self.to_f32()?;
        let rows = if self.shape().len() > 1 { self.shape()[0] } else { 1 };
        let cols = floats.len() / rows.max(1);
        let (mut scales, mut quantised) = (vec![0.0; rows], Vec::with_capacity(floats.len()));
        for (row, values) in floats.chunks(cols.max(1)).enumerate() {
            if values.iter().any(|value| !value.is_finite()) {
                return Err(StorageError::NotFinite { row });
            }
            let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            // In f64, so that a row of subnormals does not divide by zero.
            let scale = f64::from(largest) / 127.0;
            scales[row] = scale as f32;
            let quantise = |value: &f32| match scales[row] {
                0.0 => 0,
                _ => (f64::from(*value) / scale).round_ties_even() as i8,
            };
            quantised.extend(values.iter().map(quantise));
        }
        Dense::new(Values::from(quantised).with_scales(scales)?, self.shape())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_stay_below_half_a_scale_and_zeros_are_exact() {
        let weights: Vec<f32> = (0..64).map(|i| (i * 37 % 64) as f32 / 7.0 - 3.0).collect();
        let weights = [&weights[..], &[0.0; 32]].concat();
        let dense = Dense::new(weights.clone(), &[3, 32]).unwrap();
        let quantised = dense.quantise_i8().unwrap();
        let scales = quantised.values().scales().unwrap();
        for (index, (before, after)) in
            weights.iter().zip(&*quantised.to_f32().unwrap()).enumerate()
        {
            assert!((before - after).abs() <= scales[index / 32] * 0.5001);
        }
        assert_eq!(scales[2], 0.0);
    }

    #[test]
    fn what_has_no_scale_is_refused() {
        let dense = Dense::new(vec![1.0, 2.0, f32::NAN, 0.0], &[2, 2]).unwrap();
        assert!(matches!(dense.quantise_i8(), Err(StorageError::NotFinite { row: 1 })));
    }
}
