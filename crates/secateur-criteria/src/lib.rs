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
mod criterion;
mod error;
mod layer;
mod magnitude;
mod prune;
mod random;
pub mod seed;

pub use allocation::{Allocation, Budgets, Global, LayerScores, Uniform};
pub use criterion::{Criterion, Cut};
pub use error::CriterionError;
pub use layer::Layer;
pub use magnitude::Magnitude;
pub use prune::prune;
pub use random::Random;
