//! How curved is the loss? The inverse of the empirical Fisher matrix, in blocks along the diagonal.

use crate::CriterionError;
use candle_core::{DType, Tensor};
use rayon::prelude::*;

/// Entries of a block, as in oBERT (Kurtic et al. 2022).
const BLOCK: usize = 50;
/// λ of `F = λI + (1/m) Σ g gᵀ` (Kurtic et al. 2022).
const DAMPING: f64 = 1e-7;

/// The inverse of `F = λI + (1/m) Σ g·gᵀ` over m gradients of single samples, block-diagonal.
///
/// Blocks are runs of 50 entries of the flattened weight. Each gradient updates the inverse by the
/// Woodbury identity (Singh & Alistarh 2020, "WoodFisher", section 3.1), so one pass is enough and
/// memory is 50 numbers a weight, in f64. m has to be known beforehand: it scales every term.
#[derive(Debug, Clone)]
pub struct Fisher {
    inverse: Vec<f64>,
    len: usize,
    of: usize,
    samples: u64,
}

impl Fisher {
    /// Nothing seen yet of a weight of `len` entries; `samples` gradients are going to come.
    pub fn new(len: usize, samples: usize) -> Self {
        let mut inverse = vec![0.0; len.div_ceil(BLOCK) * BLOCK * BLOCK];
        for block in inverse.chunks_exact_mut(BLOCK * BLOCK) {
            block.iter_mut().step_by(BLOCK + 1).for_each(|diagonal| *diagonal = 1.0 / DAMPING);
        }
        Self { inverse, len, of: samples.max(1), samples: 0 }
    }

    /// Sees the gradient of one sample's loss, of the weight's shape. Errors on another size, on
    /// numbers that are not finite, and beyond the number of samples announced.
    pub fn update(&mut self, gradient: &Tensor) -> Result<(), CriterionError> {
        let gradient = gradient.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        if gradient.len() != self.len {
            let (found, expected) = (vec![gradient.len()], self.len);
            return Err(CriterionError::Features { found, expected });
        }
        if !gradient.iter().all(|g| g.is_finite()) {
            return Err(CriterionError::NotFinite("gradients"));
        }
        if self.samples == self.of as u64 {
            return Err(CriterionError::Other(format!(
                "a Fisher matrix of {} samples was given one more; announce as many as come",
                self.of
            )));
        }
        let of = self.of as f64;
        self.inverse.par_chunks_exact_mut(BLOCK * BLOCK).zip(gradient.par_chunks(BLOCK)).for_each(
            |(inverse, gradient)| {
                let mut product = [0.0; BLOCK];
                for (product, row) in product.iter_mut().zip(inverse.chunks_exact(BLOCK)) {
                    *product = row.iter().zip(gradient).map(|(f, g)| f * g).sum();
                }
                let scale: f64 = of + product.iter().zip(gradient).map(|(p, g)| p * g).sum::<f64>();
                for (row, &left) in inverse.chunks_exact_mut(BLOCK).zip(&product) {
                    for (entry, &right) in row.iter_mut().zip(&product) {
                        *entry -= left * right / scale;
                    }
                }
            },
        );
        self.samples += 1;
        Ok(())
    }

    /// Entries of the weight.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the weight has no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many gradients were seen.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// `[F⁻¹]_qq` of entry `q` of the flattened weight. Panics beyond [`Self::len`].
    pub fn diagonal(&self, q: usize) -> f64 {
        self.inverse[q / BLOCK * BLOCK * BLOCK + q % BLOCK * (BLOCK + 1)]
    }

    /// The blocks of the inverse, each row-major `size × size` with the first entry it belongs to.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, &[f64])> {
        self.inverse.chunks_exact(BLOCK * BLOCK).enumerate().map(|(i, block)| (i * BLOCK, block))
    }

    /// Entries of a block.
    pub(crate) const fn block() -> usize {
        BLOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// F times its inverse is the identity, block by block.
    #[test]
    fn the_inverse_is_one() {
        let (len, samples) = (BLOCK + 13, 20);
        let gradient = |k: usize| -> Vec<f64> {
            (0..len).map(|i| ((i * 31 + k * 17) as f64).sin() * 1e-3).collect()
        };
        let mut fisher = Fisher::new(len, samples);
        for k in 0..samples {
            fisher.update(&Tensor::new(gradient(k), &Device::Cpu).unwrap()).unwrap();
        }
        assert_eq!(fisher.samples(), samples as u64);
        assert!(fisher.update(&Tensor::new(gradient(0), &Device::Cpu).unwrap()).is_err());
        for (start, inverse) in fisher.blocks() {
            let size = BLOCK.min(len - start);
            for i in 0..size {
                for j in 0..size {
                    let product: f64 = (0..size)
                        .map(|l| {
                            let outer: f64 = (0..samples)
                                .map(|k| gradient(k)[start + i] * gradient(k)[start + l])
                                .sum();
                            let f = outer / samples as f64 + if i == l { DAMPING } else { 0.0 };
                            f * inverse[l * BLOCK + j]
                        })
                        .sum();
                    let expected = if i == j { 1.0 } else { 0.0 };
                    assert!((product - expected).abs() < 1e-6, "{start} {i} {j}: {product}");
                }
            }
        }
    }
}
