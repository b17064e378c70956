//! What can go wrong in memory and on disk: one variant per cause, each message says what to do.

use secateur_mask::MaskError;
use std::{io, path::PathBuf};

/// Errors of packed tensors and checkpoint files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something inside the named file is wrong.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<StorageError>,
    },
    /// Not a safetensors file, or a damaged one.
    #[error("not a readable safetensors file ({0}); copy or write it again")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// The `secateur` entry of the metadata is not what `docs/format.md` says.
    #[error("the `secateur` metadata is damaged ({0}); write the file again")]
    Header(#[from] serde_json::Error),
    /// A file of a later version of the format.
    #[error(
        "the file has format version {found}, this build reads version {known}; update secateur"
    )]
    Version {
        /// The file's version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// An entry of the header does not agree with the tensors of the file.
    #[error("tensor {name}: {reason}; correct it and write the file again")]
    Entry {
        /// The tensor.
        name: String,
        /// What does not agree.
        reason: &'static str,
    },
    /// A tensor that the header names is not in the file.
    #[error("tensor {0} is named but not there; add it, or write the file again")]
    Missing(String),
    /// Two entries of a checkpoint need the same name in the file.
    #[error("two tensors would be stored as {0}; rename one of them")]
    DuplicateName(String),
    /// A dtype that this build does not hold.
    #[error("tensor {name} is {found}, expected {expected}; convert it first")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its dtype.
        found: String,
        /// What can be read there.
        expected: String,
    },
    /// Data and shape do not agree.
    #[error("{what} holds {found} entries, its shape needs {expected}")]
    Length {
        /// Which data.
        what: &'static str,
        /// Entries found.
        found: usize,
        /// Entries needed.
        expected: usize,
    },
    /// A shape whose number of entries overflows.
    #[error("shape {0:?} is too large")]
    TooLarge(Vec<usize>),
    /// Mask and weight differ in shape.
    #[error("a mask of shape {mask:?} does not fit a weight of shape {weight:?}")]
    MaskShape {
        /// The mask's shape.
        mask: Vec<usize>,
        /// The weight's shape.
        weight: Vec<usize>,
    },
    /// A group index byte that no writer makes.
    #[error("row {row}, group {group}: {nibble:#x} is no pair of ascending 2-bit indices")]
    Indices {
        /// The row.
        row: usize,
        /// The group of four columns in it.
        group: usize,
        /// The four bits found.
        nibble: u8,
    },
    /// Padding that is not zero.
    #[error("row {row} has data in its padding; the file is damaged, write it again")]
    Padding {
        /// The row.
        row: usize,
    },
    /// The mask in the file is not the mask that was written.
    #[error("the mask of {name} does not have the hash written beside it; the file is damaged")]
    MaskHash {
        /// The tensor.
        name: String,
    },
    /// A claim about a pattern does not hold, or a mask cannot exist.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// A claim about a pattern does not hold for a named tensor.
    #[error("tensor {name}: {source}")]
    Claim {
        /// The tensor.
        name: String,
        /// The proof's objection.
        source: MaskError,
    },
}
