//! What happens to a sum before it is written? A bias is added, and an activation applied.

use crate::{Tier, elementwise::gelu_tier};

/// The function applied to every output, bias added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// The output as it is.
    #[default]
    None,
    /// `max(0, y)`; NaN stays NaN, as in PyTorch.
    Relu,
    /// `y · Φ(y)`, Φ the normal distribution's: the exact GELU, by `erf` (Hendrycks & Gimpel 2016).
    Gelu,
}

impl Activation {
    /// Applies it in place.
    pub(crate) fn apply(self, tier: Tier, y: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Relu => y.iter_mut().filter(|y| **y < 0.0).for_each(|y| *y = 0.0),
            Self::Gelu => gelu_tier(tier, y),
        }
    }
}

/// What a product does to its sums on the way out: `activation(sum + bias)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// One number for each row of the weight, or none.
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}
