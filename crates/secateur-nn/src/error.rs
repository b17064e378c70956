//! What can go wrong in a layer.

use secateur_kernels::KernelError;
use secateur_mask::MaskError;
use secateur_storage::StorageError;

/// Errors of layers and models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NnError {
    /// A tensor operation failed.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A mask does not fit.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// A weight cannot be packed or unpacked.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A packed weight cannot be multiplied.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A packed layer was asked for what only a trainable one has.
    #[error("a packed layer cannot be {0}; load the dense weights for that")]
    Packed(&'static str),
    /// A checkpoint lacks a tensor.
    #[error("the checkpoint has no tensor {0}; is it a checkpoint of this model?")]
    MissingTensor(String),
    /// A weight that is no matrix.
    #[error("tensor {name} has shape {found:?}, a fully connected layer needs [out, in]")]
    Rank {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A tensor of the checkpoint has the wrong shape.
    #[error("tensor {name} has shape {found:?}, the model needs {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape needed.
        expected: Vec<usize>,
    },
}
