//! How large are the inputs of a layer? A running sum of squares for each feature.

use super::rows;
use crate::CriterionError;
use candle_core::Tensor;

/// Σ x² of every input feature, summed over tokens in f64: one pass, memory of one number a feature.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use secateur_criteria::InputNorms;
///
/// let mut norms = InputNorms::new(2);
/// norms.update(&Tensor::new(&[[3_f32, 0.], [4., 1.]], &Device::Cpu)?)?;
/// assert_eq!(norms.tokens(), 2);
/// assert_eq!(norms.squares(), [25.0, 1.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct InputNorms {
    squares: Vec<f64>,
    tokens: u64,
}

impl InputNorms {
    /// Nothing seen yet of `features` inputs.
    pub fn new(features: usize) -> Self {
        Self { squares: vec![0.0; features], tokens: 0 }
    }

    /// Sees activations `[.., features]`; every row is a token. Errors on another width and on
    /// numbers that are not finite; then nothing was added.
    pub fn update(&mut self, xs: &Tensor) -> Result<(), CriterionError> {
        let features = self.squares.len();
        for row in rows(xs, features)?.chunks_exact(features.max(1)) {
            for (sum, &x) in self.squares.iter_mut().zip(row) {
                *sum += f64::from(x) * f64::from(x);
            }
            self.tokens += 1;
        }
        Ok(())
    }

    /// Σ x² for each feature.
    pub fn squares(&self) -> &[f64] {
        &self.squares
    }

    /// How many tokens were seen.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }
}
