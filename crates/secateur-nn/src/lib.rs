//! What is a layer that can be pruned, and what models are built of it?
//!
//! [`Linear`] and [`Conv2d`] are drop-in layers in three states: dense, masked and packed (what they share
//! is a [`PrunableLayer`]). A [`Network`] hands
//! its prunable layers out by name; everything else (criteria, the loop, storage) works through
//! that. The networks of this crate: [`Mlp::lenet_300_100`], [`Mlp::digits`], [`LeNet5`]
//! and [`ConvNet`].
//! [`Bert`] and [`SentenceEncoder`] are for inference, dense or packed. Models load through a
//! [`VarBuilder`], or by the names of their tensors ([`load()`]). [`permute`] reorders channels without changing
//! what a network computes, [`shrink`] leaves out those that pruning made superfluous.
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

mod batch_norm;
mod bert;
mod conv2d;
mod conv_net;
mod dead;
mod dropout;
mod error;
mod layer;
mod lenet5;
mod linear;
mod load;
mod mlp;
mod network;
mod observe;
mod ops;
mod packed;
pub mod permute;
mod var_builder;

pub use batch_norm::BatchNorm2d;
pub use bert::{Bert, BertConfig, HiddenAct, PositionEmbeddingType, SentenceEncoder};
pub use conv_net::ConvNet;
pub use conv2d::Conv2d;
pub use dead::{Stage, fold_dead, shrink};
pub use dropout::Dropout;
pub use error::NnError;
pub use layer::{PrunableLayer, State};
pub use lenet5::LeNet5;
pub use linear::Linear;
pub use load::load;
pub use mlp::Mlp;
pub use network::{Network, count_nonzero, count_parameters, weight_name};
pub use secateur_kernels::Conv2dGeometry;
pub use var_builder::VarBuilder;
