//! What can go wrong with a mask: one variant per cause, each message says what to do.

use crate::{Pattern, Sparsity};

/// Errors of masks, patterns and selection.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MaskError {
    /// A share of zeros outside `[0, 1]`, or not a number.
    #[error("a sparsity is a share of zeros between 0 and 1, but {0} was given")]
    Sparsity(f64),
    /// `N:M` with N = 0, N >= M or M > 64.
    #[error("{n}:{m} keeps {n} of every {m}; it needs 1 <= N < M <= 64")]
    NOfM {
        /// Entries kept in each group.
        n: usize,
        /// Entries in each group.
        m: usize,
    },
    /// `V:N:M` with V = 0, N = 0, N >= 4, M < 4 or M > 64.
    #[error("{v}:{n}:{m} needs V >= 1 rows, 1 <= N < 4 and 4 <= M <= 64, such as 64:2:8")]
    VNOfM {
        /// Rows that share their columns.
        v: usize,
        /// Entries kept in each group.
        n: usize,
        /// Columns in each group.
        m: usize,
    },
    /// A block without rows or columns.
    #[error("a block of {rows} x {cols} holds nothing; both sides must be at least 1")]
    Block {
        /// Rows of the block.
        rows: usize,
        /// Columns of the block.
        cols: usize,
    },
    /// A pattern's name that nobody knows.
    #[error("{0:?} is no pattern; write {names}", names = Pattern::NAMES)]
    UnknownPattern(String),
    /// A word that is neither a share nor a pattern with one.
    #[error(
        "{0:?} is no pattern; write a share such as 0.9, or {names}, with the share behind an @ where \
         the pattern does not fix it (block4x1@0.8)",
        names = Pattern::NAMES
    )]
    UnknownTarget(String),
    /// A pattern that does not know its sparsity was asked for without one.
    #[error("{0} needs a sparsity; write {0}@0.5 to cut half")]
    NoSparsity(Pattern),
    /// The pattern decides the sparsity by itself, and another one was asked for.
    #[error("{pattern} fixes the sparsity at {fixed}, but {asked} was asked for; ask for {fixed}")]
    FixedSparsity {
        /// The pattern in question.
        pattern: Pattern,
        /// What the pattern always gives.
        fixed: Sparsity,
        /// What was asked for.
        asked: Sparsity,
    },
    /// The number of entries does not match the shape.
    #[error("shape {shape:?} does not hold {len} entries; pass one entry per weight, row-major")]
    Shape {
        /// The shape given.
        shape: Vec<usize>,
        /// The number of entries given.
        len: usize,
    },
    /// Two masks of different shapes were combined.
    #[error("masks of shapes {left:?} and {right:?} cannot be combined; they must be equal")]
    ShapeMismatch {
        /// Shape of the left operand.
        left: Vec<usize>,
        /// Shape of the right operand.
        right: Vec<usize>,
    },
    /// A score that cannot be ranked.
    #[error("the score at flat index {index} is NaN; a criterion must give every weight a number")]
    NanScore {
        /// Row-major position of the score.
        index: usize,
    },
    /// Raw words with bits set beyond the last entry, or of the wrong count.
    #[error("a mask of {len} entries needs {expected} words with zero padding bits")]
    Words {
        /// Entries of the mask.
        len: usize,
        /// Words that hold them.
        expected: usize,
    },
    /// The mask does not have the pattern it was said to have.
    #[error("the mask is not {pattern}: {detail}")]
    Violation {
        /// The pattern that was claimed.
        pattern: Pattern,
        /// The first place that breaks it.
        detail: String,
    },
    /// A score that cannot be added up.
    #[error(
        "the score at flat index {index} is infinite; a permutation search needs finite scores"
    )]
    InfiniteScore {
        /// Row-major position of the score.
        index: usize,
    },
    /// A time budget that is no number of seconds.
    #[error("a search of {0} seconds cannot be planned; give a finite number that is not negative")]
    Seconds(f64),
    /// A search on no thread at all.
    #[error("a search needs at least 1 thread, but 0 were asked for")]
    NoThreads,
    /// More channels than a search can order.
    #[error("{channels} channels are too many for a permutation search, which orders {most}")]
    Channels {
        /// Channels of the scores.
        channels: usize,
        /// The most that can be ordered.
        most: usize,
    },
    /// A list of places that is no permutation.
    #[error(
        "entry {index} of the permutation is {value}; each of 0..{len} must appear exactly once"
    )]
    NotAPermutation {
        /// The first entry that is too large or appeared before.
        index: usize,
        /// What it is.
        value: usize,
        /// Entries of the permutation.
        len: usize,
    },
}
