//! What are the criteria tried on? Random layers, and inputs whose features go together.
//!
//! All numbers are rounded to f32 once, so that the crate and the reference see the same layer.

use super::{Matrix, product};
use rand::Rng;
use secateur_criteria::seed::stream;

/// A source of random numbers.
pub struct Numbers(Box<dyn Rng>);

impl Numbers {
    /// Equal arguments, equal numbers.
    pub fn new(seed: u64, purpose: &str) -> Self {
        Self(Box::new(stream(seed, purpose)))
    }

    /// Uniform in `(0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Normal with mean 0 and variance 1 (Box & Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        rounded(radius * (std::f64::consts::TAU * self.uniform()).cos())
    }

    /// Independent normal entries.
    pub fn matrix(&mut self, rows: usize, cols: usize) -> Matrix {
        (0..rows).map(|_| (0..cols).map(|_| self.normal()).collect()).collect()
    }

    /// Tokens × features: a quarter as many causes as features, mixed, with a little noise and with
    /// features of unequal size, as activations of trained networks are.
    pub fn correlated(&mut self, tokens: usize, features: usize) -> Matrix {
        let causes = self.matrix(tokens, features.div_ceil(4));
        let mixing = self.matrix(features.div_ceil(4), features);
        let sizes: Vec<f64> = (0..features).map(|_| (0.6 * self.normal()).exp()).collect();
        let mut x = product(&causes, &mixing);
        for row in &mut x {
            for (value, size) in row.iter_mut().zip(&sizes) {
                *value = rounded(size * (*value / (features as f64).sqrt() + 0.2 * self.normal()));
            }
        }
        x
    }
}

/// The nearest f32.
pub fn rounded(value: f64) -> f64 {
    f64::from(value as f32)
}
