//! What was observed of a layer while data ran through it? Only what a criterion asked for.

mod fisher;
mod gram;
mod norms;

pub use fisher::Fisher;
pub use gram::Gram;
pub use norms::InputNorms;

use crate::CriterionError;
use candle_core::{DType, Tensor};

/// What a criterion wants to know besides the weight.
///
/// Whoever runs the data (the loop of `secateur-train`, or a program of your own) fills exactly this
/// into [`Statistics`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// The gradient of the loss with respect to the weight.
    pub gradient: bool,
    /// Gradients of single samples, for [`Fisher`].
    pub sample_gradients: bool,
    /// The Hessian of the loss times its gradient.
    pub hessian_gradient: bool,
    /// The gradient of the synaptic flow instead of the loss; see
    /// [`SynFlow`](crate::SynFlow).
    pub flow: bool,
    /// The norms of the inputs.
    pub input_norms: bool,
    /// The Gram matrix of the inputs.
    pub gram: bool,
}

impl Needs {
    /// The weight alone is enough.
    pub const WEIGHT: Self = Self {
        gradient: false,
        sample_gradients: false,
        hessian_gradient: false,
        flow: false,
        input_norms: false,
        gram: false,
    };
    /// The gradient of the loss.
    pub const GRADIENT: Self = Self { gradient: true, ..Self::WEIGHT };
    /// Gradients of single samples.
    pub const SAMPLE_GRADIENTS: Self = Self { sample_gradients: true, ..Self::WEIGHT };
    /// The Hessian of the loss times its gradient.
    pub const HESSIAN_GRADIENT: Self = Self { hessian_gradient: true, ..Self::WEIGHT };
    /// The gradient of the synaptic flow.
    pub const FLOW: Self = Self { flow: true, ..Self::WEIGHT };
    /// The norms of the inputs.
    pub const INPUT_NORMS: Self = Self { input_norms: true, ..Self::WEIGHT };
    /// The Gram matrix of the inputs.
    pub const GRAM: Self = Self { gram: true, ..Self::WEIGHT };

    /// What either asks for.
    pub fn or(self, other: Self) -> Self {
        Self {
            gradient: self.gradient | other.gradient,
            sample_gradients: self.sample_gradients | other.sample_gradients,
            hessian_gradient: self.hessian_gradient | other.hessian_gradient,
            flow: self.flow | other.flow,
            input_norms: self.input_norms | other.input_norms,
            gram: self.gram | other.gram,
        }
    }

    /// Whether activations have to be watched.
    pub fn inputs(self) -> bool {
        self.input_norms | self.gram
    }
}

/// What was observed of one layer; what nobody asked for is `None`.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    /// The gradient of the loss (or of the synaptic flow), of the weight's shape.
    pub gradient: Option<Tensor>,
    /// The Hessian of the loss times its gradient, of the weight's shape.
    pub hessian_gradient: Option<Tensor>,
    /// The norms of the inputs.
    pub input_norms: Option<InputNorms>,
    /// The Gram matrix of the inputs.
    pub gram: Option<Gram>,
    /// The inverse of the empirical Fisher matrix.
    pub fisher: Option<Fisher>,
}

/// The rows of `xs` `[.., features]`, row-major in f32; errors when the last side is another, or when
/// a number is not finite.
fn rows(xs: &Tensor, features: usize) -> Result<Vec<f32>, CriterionError> {
    if xs.dims().last() != Some(&features) {
        let (found, expected) = (xs.dims().to_vec(), features);
        return Err(CriterionError::Features { found, expected });
    }
    let values = xs.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(CriterionError::NotFinite("activations")),
    }
}
