//! *When* to cut, and how to keep cut weights cut: train, prune, retrain, prove, pack.
//!
//! [`Run`] is the whole job on any [`Network`](secateur_nn::Network). Its parts stand alone:
//! [`fit`] trains with early stopping, [`Masked`] keeps a mask under any [`Optimizer`],
//! [`StraightThrough`] lets what is cut come back, a [`Schedule`] says when how much is cut, [`Rewind`] from
//! where a pruned network goes on, [`data`] brings real data sets.
//!
//! Key decisions of this crate: every random number is a function of one seed, a purpose and a step, so that
//! nothing about randomness has to be saved; and the test set is looked at once, at the end of
//! [`Run::execute`]; all choices are made on validation data.
#![forbid(unsafe_code)]

mod allocator;
mod calibrate;
pub mod data;
mod distil;
mod drive;
mod error;
mod evaluate;
mod finish;
mod fit;
mod hold;
mod masked;
mod observer;
pub mod optim;
mod outcome;
mod plan;
mod progress;
mod pruner;
mod regrow;
mod rewind;
mod run;
mod schedule;
mod sensitivity;
mod session;
mod straight_through;
mod training;

pub use calibrate::calibrate;
pub use data::{Dataset, Samples, Split};
pub use distil::Distillation;
pub use error::{DataError, TrainError};
pub use evaluate::{Evaluation, evaluate, logits};
pub use fit::{Fitted, Stretch, fit, fit_steps};
pub use masked::Masked;
pub use observer::{Change, Epoch, Observer, Phase};
pub use optim::{AdamW, Optimizer, Sgd};
pub use outcome::{Outcome, Proof};
pub use progress::{Checkpointing, Interval};
pub use rewind::Rewind;
pub use run::Run;
pub use schedule::{
    Aim, ConstantWithRegrowth, Event, Every, Gradual, Iterative, MinAccuracy, Moment, OneShot,
    Regrow, Round, Schedule,
};
pub use sensitivity::sensitivity;
pub use straight_through::{SparseTraining, StraightThrough};
pub use training::{BestBy, Decay, OptimizerKind, Training};
