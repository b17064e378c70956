//! What can go wrong in memory and on disk: one variant per cause, each message says what to do.

use crate::Dtype;
use secateur_mask::MaskError;
use std::{
    io,
    path::{Path, PathBuf},
};

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
    /// A file that ends before its header does, or that is no safetensors file at all.
    #[error(
        "not a safetensors file: it has {file} bytes and claims a header of {claimed}; copy or write \
         it again"
    )]
    HeaderLength {
        /// Bytes of header that the first eight bytes claim.
        claimed: u64,
        /// Bytes of the file.
        file: u64,
    },
    /// A header that is not the JSON it should be.
    #[error("the safetensors header is damaged ({0}); copy or write the file again")]
    HeaderText(serde_json::Error),
    /// A tensor whose place in the file cannot be.
    #[error("tensor {name}: {reason}; the file is damaged or cut off, copy or write it again")]
    Offsets {
        /// The tensor.
        name: String,
        /// What cannot be.
        reason: &'static str,
    },
    /// Something beside the weights (an index of shards, a configuration) is not what it should be.
    #[error("{what} is damaged ({source}); write it again")]
    Json {
        /// Which text.
        what: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A folder without weights, an index that names files it should not, and the like.
    #[error("{} {reason}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
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
    /// A part of a tensor in another dtype than its format has.
    #[error("tensor {name} is {found:?}, expected {expected:?}; write the file again")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its dtype.
        found: Dtype,
        /// What its format has there.
        expected: Dtype,
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
    /// A format that holds no weight, or an `N:M` of more than 16.
    #[error("no weight is packed as {0}; take N:M with M up to 16, bitmap, csr, blocks or dense")]
    NoSuchFormat(String),
    /// Mask and weight differ in shape.
    #[error("a mask of shape {mask:?} does not fit a weight of shape {weight:?}")]
    MaskShape {
        /// The mask's shape.
        mask: Vec<usize>,
        /// The weight's shape.
        weight: Vec<usize>,
    },
    /// Group indices that no writer makes.
    #[error("row {row}, group {group}: the indices do not ascend below {m}; the file is damaged")]
    Indices {
        /// The row.
        row: usize,
        /// The group of M columns in it.
        group: usize,
        /// M.
        m: usize,
    },
    /// Row offsets that no writer makes.
    #[error("row {row}: crow_indices do not ascend to the number of values; the file is damaged")]
    RowOffsets {
        /// The row.
        row: usize,
    },
    /// Column numbers that no writer makes.
    #[error("row {row}: col_indices do not ascend below {cols}; the file is damaged")]
    Columns {
        /// The row.
        row: usize,
        /// Columns, or blocks across.
        cols: usize,
    },
    /// A group of four whose two places cannot be told from its mask.
    #[error("row {row}, group {group}: the bitmask keeps {kept} of four where 2:4 stores two")]
    NotTwoOfFour {
        /// The row.
        row: usize,
        /// The group of four columns in it.
        group: usize,
        /// Bits set.
        kept: usize,
    },
    /// Scales on something that is not quantised.
    #[error("scales belong to I8 values, these are {found:?}; leave them out")]
    ScaledDtype {
        /// The dtype of the values.
        found: Dtype,
    },
    /// A scale that is infinite or not a number.
    #[error("the scale of row {row} is not finite; quantise the weight again")]
    Scale {
        /// The output row.
        row: usize,
    },
    /// A weight that cannot be quantised.
    #[error("row {row} holds an infinite value or NaN and cannot be quantised; repair it first")]
    NotFinite {
        /// The output row.
        row: usize,
    },
    /// Elements that are no plain numbers.
    #[error(
        "{found:?} elements are not understood here; keep the tensor dense or convert it first"
    )]
    NotNumbers {
        /// The dtype.
        found: Dtype,
    },
    /// More non-zeros in a group of four columns than 2:4 stores.
    #[error(
        "row {row}, group {group} has {found} non-zeros, 2:4 stores two; prune the weight first"
    )]
    Crowded {
        /// The row.
        row: usize,
        /// The group of four columns in it.
        group: usize,
        /// Non-zeros found.
        found: usize,
    },
    /// A side that a layout cannot divide into its words or blocks.
    #[error("{what} are {found}, which is no multiple of {multiple}; pad the weight with zeros")]
    Multiple {
        /// Which side of which layout.
        what: &'static str,
        /// Its length, in rows or columns of the dense weight.
        found: usize,
        /// What has to divide it.
        multiple: usize,
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

impl StorageError {
    /// The same error about a file that is to lie in `to`, and lies in `from` while it is made.
    pub(crate) fn relocated(mut self, from: &Path, to: &Path) -> Self {
        if let Self::Io { path, .. } | Self::InFile { path, .. } | Self::Folder { path, .. } =
            &mut self
            && let Ok(rest) = path.strip_prefix(from)
        {
            *path = to.join(rest);
        }
        self
    }
}
