//! What can go wrong when something is multiplied.

use crate::KernelKind;
use secateur_storage::{Dtype, Format, StorageError};

/// Errors of dispatch and products.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice of the wrong length.
    #[error("{what} holds {found} numbers, this product needs {expected}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length needed.
        expected: usize,
    },
    /// A view that does not hold what it should.
    #[error(
        "{what} holds {found} numbers, too few for {tokens} tokens of {features} features, {stride} \
         numbers from one to the next"
    )]
    View {
        /// Which argument.
        what: &'static str,
        /// Its length.
        found: usize,
        /// Its tokens.
        tokens: usize,
        /// From a token to the next.
        stride: usize,
        /// Features of a token.
        features: usize,
    },
    /// Activations that no kernel here rounds to.
    #[error(
        "no kernel of this weight and this processor rounds activations to {dtype:?}; BF16 needs a 2:4 \
         weight of BF16 and AVX-512 BF16, I8 one of I8 and AVX-512 VNNI"
    )]
    Activations {
        /// The dtype asked for.
        dtype: Dtype,
    },
    /// A calibration that belongs elsewhere, or cannot be kept.
    #[error(
        "the calibration cannot be used: {0}; SECATEUR_CACHE says where one is kept, off that none is"
    )]
    Calibration(String),
    /// Nothing to measure.
    #[error("a product is measured at one number of tokens at least, and no number is 0")]
    NothingToMeasure,
    /// Panels that were cut for something else.
    #[error(
        "panels and product must come from one dispatcher, and the product's inputs must be in order"
    )]
    Panels,
    /// An order of inputs that is none.
    #[error("an order of inputs must name each of the {cols} columns exactly once")]
    Order {
        /// Columns of the weight.
        cols: usize,
    },
    /// A weight whose values are no numbers that products understand.
    #[error("the weight cannot be multiplied: {0}")]
    Weight(String),
    /// More tokens or weights than an address space holds.
    #[error("{tokens} tokens of {cols} inputs and {rows} outputs are too large to address")]
    TooLarge {
        /// Rows of the weight.
        rows: usize,
        /// Columns of the weight.
        cols: usize,
        /// Tokens asked for.
        tokens: usize,
    },
    /// A tier that nobody knows.
    #[error("{0:?} is no tier; set SECATEUR_TIER to avx512, avx2 or portable, or leave it unset")]
    UnknownTier(String),
    /// A tier that this processor does not have.
    #[error("this processor has no {asked}; the best tier here is {best}")]
    NoSuchTier {
        /// The tier asked for.
        asked: &'static str,
        /// The best one there is.
        best: &'static str,
    },
    /// A device, or what was asked of it.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Cuda(#[from] crate::cuda::CudaError),
    /// A storage format that a kernel cannot run.
    #[error("the {kind} kernel cannot run a {format} weight; ask the dispatcher for a plan")]
    UnsupportedFormat {
        /// The kernel asked for.
        kind: KernelKind,
        /// The weight's format.
        format: Format,
    },
}

impl From<StorageError> for KernelError {
    fn from(error: StorageError) -> Self {
        Self::Weight(error.to_string())
    }
}
