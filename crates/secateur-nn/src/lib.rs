//! What is a layer that can be pruned, and what models are built of it?
//!
//! [`Linear`] and [`Conv2d`] are drop-in layers in three states: dense, masked and packed (what they share
//! is a [`PrunableLayer`]). A [`Network`] hands
//! its prunable layers out by name; everything else (criteria, the loop, storage) works through
//! that. The networks of this crate: [`Mlp::lenet_300_100`], [`Mlp::digits`] and [`LeNet5`].
//! [`Bert`] and [`SentenceEncoder`] are for inference, dense or packed. Models load through a
//! [`VarBuilder`]. [`permute`] reorders channels without changing what a network computes.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use secateur_nn::{Mlp, Network};
//!
//! let network = Mlp::lenet_300_100(0, &Device::Cpu)?;
//! let images = Tensor::zeros((2, 784), candle_core::DType::F32, &Device::Cpu)?;
//! assert_eq!(network.forward(&images)?.dims(), [2, 10]);
//! assert_eq!(network.layers().keys().collect::<Vec<_>>(), ["fc1", "fc2", "fc3"]);
//! # Ok::<(), secateur_nn::NnError>(())
//! ```
#![forbid(unsafe_code)]

mod affine;
mod bert;
mod conv2d;
mod dropout;
mod error;
mod layer;
mod lenet5;
mod linear;
mod mlp;
mod network;
mod observe;
mod packed;
pub mod permute;
mod var_builder;

pub use bert::{Bert, BertConfig, HiddenAct, PositionEmbeddingType, SentenceEncoder};
pub use conv2d::Conv2d;
pub use dropout::Dropout;
pub use error::NnError;
pub use layer::{PrunableLayer, State};
pub use lenet5::LeNet5;
pub use linear::Linear;
pub use mlp::Mlp;
pub use network::{Network, count_nonzero, count_parameters, weight_name};
pub use secateur_kernels::Conv2dGeometry;
pub use var_builder::VarBuilder;
