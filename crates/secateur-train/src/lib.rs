//! *When* to cut, and how to keep cut weights cut: train, prune, retrain, prove, pack.
//!
//! [`Run`] is the whole job on any [`Network`](secateur_nn::Network). Its parts stand alone:
//! [`fit`] trains with early stopping, [`Masked`] keeps a mask under any [`Optimizer`], a
//! [`Schedule`] says how far each round prunes, [`data`] brings real data sets.
//!
//! Key decisions of this crate: every random number comes from one seed, and the test set is looked
//! at once, at the end of [`Run::execute`]; all choices are made on validation data.
#![forbid(unsafe_code)]

mod allocator;
mod calibrate;
pub mod data;
mod error;
mod evaluate;
mod fit;
mod masked;
mod observer;
pub mod optim;
mod outcome;
mod run;
mod schedule;
mod sensitivity;
mod training;

pub use calibrate::calibrate;
pub use data::{Dataset, Samples, Split};
pub use error::{DataError, TrainError};
pub use evaluate::{Evaluation, evaluate, logits};
pub use fit::{Stretch, fit};
pub use masked::Masked;
pub use observer::{Epoch, Observer, Phase};
pub use optim::{AdamW, Optimizer, Sgd};
pub use outcome::{Outcome, Proof};
pub use run::Run;
pub use schedule::{Iterative, OneShot, Schedule};
pub use sensitivity::sensitivity;
pub use training::{Decay, OptimizerKind, Training};
