//! What can go wrong with data and with training: one variant per cause.

use secateur_criteria::CriterionError;
use secateur_kernels::KernelError;
use secateur_mask::MaskError;
use secateur_nn::NnError;
use secateur_storage::StorageError;
use std::{io, path::PathBuf};

/// Errors of data sets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file of the data set is not there.
    #[error(
        "{} has no {stem}; it needs train-images-idx3-ubyte, train-labels-idx1-ubyte, \
         t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or with .gz",
        folder.display()
    )]
    Missing {
        /// The folder searched.
        folder: PathBuf,
        /// The file's name, without `.gz`.
        stem: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not the IDX file that its name promises.
    #[error("{} is not a valid IDX file: {reason}; fetch it again", path.display())]
    Idx {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Images and labels, or training and test images, do not go together.
    #[error("{0}")]
    Inconsistent(String),
    /// A tensor operation failed.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Errors of training, pruning and packing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A tensor operation failed.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A layer refused.
    #[error(transparent)]
    Nn(#[from] NnError),
    /// A criterion or an allocation refused.
    #[error(transparent)]
    Criterion(#[from] CriterionError),
    /// A mask refused.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// A file or a packed weight is wrong.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No kernel for this machine.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The data set is wrong.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A number in a recipe makes no sense.
    #[error("{what} is {value}, it must be {must}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        must: &'static str,
    },
    /// The loss is no longer a number.
    #[error("the loss became {loss} in {phase}, epoch {epoch}; lower the learning rate")]
    Diverged {
        /// The loss.
        loss: f64,
        /// The phase.
        phase: String,
        /// The epoch.
        epoch: usize,
    },
    /// No network of a search is good enough.
    #[error(
        "no pruned network reached {:.2} % of validation samples (the dense one has {:.2} %); lower the \
         threshold, or train longer",
        floor * 100.0,
        dense * 100.0
    )]
    Threshold {
        /// The least accuracy asked for.
        floor: f64,
        /// The dense network's accuracy.
        dense: f64,
    },
    /// A choice that does not go with another one.
    #[error("{0}")]
    Combination(String),
    /// Saved progress belongs to another run, or is damaged.
    #[error("{} cannot be resumed: {reason}", file.display())]
    Resume {
        /// The file.
        file: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A mask or saved state names a parameter that the optimizer does not train.
    #[error("the optimizer has no parameter {0}; it trains another network")]
    UnknownParameter(String),
    /// Saved optimizer state lacks an entry, or has it in another shape.
    #[error("the saved optimizer state does not fit: {0}")]
    State(String),
}
