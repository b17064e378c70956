//! *Which* weights matter, and *how much* of each layer goes?
//!
//! A [`Criterion`] gives every weight of a layer a score, an [`Allocation`] turns a target for the
//! network into a [`Sparsity`](secateur_mask::Sparsity) for each layer, and [`prune`] composes both
//! with a pattern. The pieces know nothing of each other: any criterion goes with any pattern and
//! any allocation.
//!
//! A criterion of your own is one `impl`:
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use secateur_criteria::{Criterion, CriterionError, Layer};
//! use secateur_mask::Pattern;
//!
//! /// Magnitude relative to the largest weight of the same output.
//! #[derive(Debug)]
//! struct RowRelative;
//!
//! impl Criterion for RowRelative {
//!     fn name(&self) -> &str {
//!         "row-relative"
//!     }
//!     fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
//!         let magnitude = layer.weight().abs()?;
//!         Ok(magnitude.broadcast_div(&magnitude.max_keepdim(1)?)?)
//!     }
//! }
//!
//! let weight = Tensor::new(&[[0.1_f32, -4.0, 2.0, 0.3]], &Device::Cpu)?;
//! let layer = Layer::new("fc1.weight", &weight);
//! let pattern = Pattern::TWO_OF_FOUR;
//! let cut = RowRelative.prune(&layer, pattern, pattern.fixed_sparsity().unwrap())?;
//! assert_eq!(cut.mask.to_string(), "0110");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod allocation;
mod alps;
mod criterion;
mod error;
pub mod grasp;
mod hessian;
mod layer;
mod magnitude;
mod movement;
mod obs;
mod prune;
mod random;
mod refit;
mod ria;
pub mod seed;
mod snip;
mod sparsegpt;
mod statistics;
pub mod synflow;
mod taylor;
mod wanda;

pub use allocation::{
    Allocation, Budgets, Erk, Global, Lamp, LayerScores, Owl, Sensitivity, Spare, Uniform,
};
pub use alps::Alps;
pub use criterion::{Criterion, Cut};
pub use error::CriterionError;
pub use grasp::Grasp;
pub use layer::Layer;
pub use magnitude::{Magnitude, MagnitudeL2};
pub use movement::Movement;
pub use obs::Obs;
pub use prune::{prune, prune_in_steps};
pub use random::Random;
pub use refit::{Refit, output_error};
pub use ria::Ria;
pub use snip::Snip;
pub use sparsegpt::SparseGpt;
pub use statistics::{Fisher, Gram, InputNorms, Needs, Statistics};
pub use synflow::SynFlow;
pub use taylor::Taylor;
pub use wanda::Wanda;
