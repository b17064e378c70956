//! Prune neural networks, retrain them, store only what is left, multiply only what is left.
//!
//! This crate is a facade: it holds no logic, it re-exports the crates that do, one question each.
//!
//! | module | question |
//! | --- | --- |
//! | [`mask`] | what shape may a sparsity have, and which entries does a score keep |
//! | [`criteria`] | which weights matter, and how much of each layer goes |
//! | [`storage`] | how do the survivors lie in memory and on disk |
//! | [`kernels`] | how are they multiplied, and why that way here |
//! | [`nn`] | candle layers that are dense, masked or packed, and models of them |
//! | [`train`] | when to cut, and how to keep cut weights cut |
//!
//! # Quick start
//!
//! Train on 1438 real handwritten digits, cut every layer to 2:4, retrain, pack, and judge both
//! networks by 359 digits that neither has seen:
//!
//! ```
//! use secateur::prelude::*;
//!
//! let split = digits(&Device::Cpu)?.split(200, 7)?;
//! let training = Training::adam(8, 32, 2e-3); // epochs, batch size, learning rate
//! let run = Run { seed: 7, ..Run::new("2:4".parse()?, training) }; // by magnitude, the training repeated
//! let outcome = run.execute(Mlp::digits(7, &Device::Cpu)?, &split, &mut ())?;
//!
//! println!("{:.3} -> {:.3}", outcome.dense_test.accuracy, outcome.pruned_test.accuracy);
//! println!("{}", outcome.network.layers()["fc1"].explain(1).unwrap().explain());
//! assert!(outcome.pruned_test.accuracy > 0.9);
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("pruned.safetensors");
//! outcome.pruned.save(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub use candle_core;
pub use secateur_criteria as criteria;
pub use secateur_kernels as kernels;
pub use secateur_mask as mask;
pub use secateur_nn as nn;
pub use secateur_storage as storage;
pub use secateur_train as train;

/// What most programs need, under one `use`.
pub mod prelude {
    pub use candle_core::{Device, Tensor};
    pub use secateur_criteria::{
        Allocation, Criterion, CriterionError, Global, Layer, Magnitude, Random, Refit, SparseGpt,
        Uniform, Wanda, prune,
    };
    pub use secateur_kernels::{Dispatcher, Product};
    pub use secateur_mask::{Mask, Pattern, Scores, Sparsity, Target};
    pub use secateur_nn::{
        Bert, Conv2d, LeNet5, Linear, Mlp, Network, PrunableLayer, SentenceEncoder, VarBuilder,
    };
    pub use secateur_storage::{Checkpoint, Dense, Packed};
    pub use secateur_train::{
        Aim, Dataset, Every, Gradual, Iterative, Masked, Observer, OneShot, Optimizer, Outcome,
        Rewind, Round, Run, Schedule, SparseTraining, StraightThrough, Training,
        data::{digits, load_idx},
    };
}
