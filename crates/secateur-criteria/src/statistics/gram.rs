//! How do the inputs of a layer go together? Their Gram matrix, summed token by token.

use super::rows;
use crate::CriterionError;
use candle_core::Tensor;
use faer::{
    Accum, Mat,
    linalg::matmul::triangular::{BlockStructure, matmul},
};

/// Tokens that are converted to f64 at a time.
const CHUNK: usize = 256;

/// Σ x·xᵀ over tokens, `features × features`, in f64: one pass, memory of one matrix.
///
/// It is XᵀX for activations X `[tokens, features]`: what the layer-wise methods (SparseGPT, ALPS,
/// refit) know of the data.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use secateur_criteria::Gram;
///
/// let mut gram = Gram::new(2);
/// gram.update(&Tensor::new(&[[3_f32, 0.], [4., 1.]], &Device::Cpu)?)?;
/// assert_eq!(gram.tokens(), 2);
/// assert_eq!((gram.get(0, 0), gram.get(0, 1), gram.get(1, 1)), (25.0, 4.0, 1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Gram {
    /// Only the lower triangle is kept up to date.
    lower: Mat<f64>,
    tokens: u64,
}

impl Gram {
    /// Nothing seen yet of `features` inputs.
    pub fn new(features: usize) -> Self {
        Self { lower: Mat::zeros(features, features), tokens: 0 }
    }

    /// Sees activations `[.., features]`; every row is a token. Errors on another width and on
    /// numbers that are not finite; then nothing was added.
    pub fn update(&mut self, xs: &Tensor) -> Result<(), CriterionError> {
        let features = self.features();
        if features == 0 {
            return Ok(());
        }
        let values = rows(xs, features)?;
        for chunk in values.chunks(CHUNK * features) {
            let tokens = chunk.len() / features;
            let x = Mat::from_fn(features, tokens, |feature, token| {
                f64::from(chunk[token * features + feature])
            });
            matmul(
                self.lower.as_mut(),
                BlockStructure::TriangularLower,
                Accum::Add,
                x.as_ref(),
                BlockStructure::Rectangular,
                x.transpose(),
                BlockStructure::Rectangular,
                1.0,
                faer::get_global_parallelism(),
            );
            self.tokens += tokens as u64;
        }
        Ok(())
    }

    /// How many features the inputs have.
    pub fn features(&self) -> usize {
        self.lower.nrows()
    }

    /// How many tokens were seen.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Σ x_i · x_j. Panics beyond [`Self::features`].
    pub fn get(&self, i: usize, j: usize) -> f64 {
        self.lower[(i.max(j), i.min(j))]
    }

    /// Σ x² of each feature: the diagonal.
    pub fn squares(&self) -> Vec<f64> {
        (0..self.features()).map(|i| self.get(i, i)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    /// In one piece or in many, and as the plain triple loop has it.
    #[test]
    fn sums_are_those_of_the_definition() {
        let (tokens, features) = (CHUNK + 44, 7);
        let x: Vec<f32> = (0..tokens * features).map(|i| ((i * 37 % 101) as f32).sin()).collect();
        let tensor = Tensor::from_slice(&x, (tokens, features), &Device::Cpu).unwrap();
        let mut whole = Gram::new(features);
        whole.update(&tensor.reshape((2, tokens / 2, features)).unwrap()).unwrap();
        let mut pieces = Gram::new(features);
        for start in (0..tokens).step_by(50) {
            pieces.update(&tensor.narrow(0, start, 50.min(tokens - start)).unwrap()).unwrap();
        }
        assert_eq!((whole.tokens(), pieces.tokens()), (tokens as u64, tokens as u64));
        for i in 0..features {
            for j in 0..features {
                let column = |c: usize| x.iter().skip(c).step_by(features).map(|&v| f64::from(v));
                let expected: f64 = column(i).zip(column(j)).map(|(a, b)| a * b).sum();
                assert!((whole.get(i, j) - expected).abs() < 1e-9 * tokens as f64);
                assert!((pieces.get(i, j) - expected).abs() < 1e-9 * tokens as f64);
            }
        }
    }

    #[test]
    fn what_is_no_activation_is_refused_and_leaves_nothing() {
        let mut gram = Gram::new(3);
        let wide = Tensor::new(&[[1_f32, 2.]], &Device::Cpu).unwrap();
        assert!(matches!(gram.update(&wide), Err(CriterionError::Features { .. })));
        let broken = Tensor::new(&[[1_f32, f32::NAN, 1.]], &Device::Cpu).unwrap();
        assert!(matches!(gram.update(&broken), Err(CriterionError::NotFinite(_))));
        assert_eq!((gram.tokens(), gram.squares()), (0, vec![0.0; 3]));
    }
}
