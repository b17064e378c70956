//! What *shape* may a sparsity have, and which entries does a score keep?
//!
//! Three small types carry the answer. A [`Sparsity`] says how much goes, a [`Pattern`] says in
//! which shape, and a [`Mask`] records which entries stayed. [`Pattern::select`] makes the third out
//! of the first two and of [`Scores`]; [`Mask::verify`] proves afterwards that the shape holds. A
//! [`Target`] is the first two in one word, such as `block4x1@0.8`.
//!
//! A key decision of this crate: it knows slices and shapes, no tensor library. A mask made here is
//! as good for candle as for anything else.
//!
//! ```
//! use secateur_mask::{Pattern, Scores, Sparsity};
//!
//! let pattern: Pattern = "2:4".parse()?;
//! let weights = [0.1, -0.9, 0.5, 0.0, 3.0, 1.0, 2.0, 4.0_f32];
//! let scores: Vec<f32> = weights.iter().map(|w| w.abs()).collect();
//! let mask = pattern.select(Scores::new(&scores, &[2, 4])?, Sparsity::new(0.5)?)?;
//!
//! assert_eq!(mask.to_string(), "0110\n1001");
//! mask.verify(&pattern)?;
//! # Ok::<(), secateur_mask::MaskError>(())
//! ```
#![forbid(unsafe_code)]

mod bands;
mod bits;
mod error;
mod groups;
mod mask;
mod matrix;
mod pattern;
pub mod permute;
mod scores;
mod select;
mod shapes;
mod sparsity;
mod target;
mod tightest;
mod verify;

pub use error::MaskError;
pub use mask::Mask;
pub use pattern::Pattern;
pub use scores::Scores;
pub use select::lanes;
pub use shapes::{Axis, Block, NOfM, VNOfM};
pub use sparsity::Sparsity;
pub use target::Target;
pub use tightest::GroupsOver;
