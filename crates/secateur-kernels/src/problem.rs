//! What is asked? A product's shape, its sparsity, and how many tokens come at once.

use secateur_storage::{Dtype, Format, Packed};
use std::fmt;

/// One product `y = x · Wᵀ`: everything that decides which kernel should run it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Problem {
    /// Outputs: rows of the weight.
    pub rows: usize,
    /// Inputs: columns of the weight.
    pub cols: usize,
    /// Rows of the activations: batch size times sequence length.
    pub tokens: usize,
    /// How the weight is packed.
    pub format: Format,
    /// Stored values of the weight.
    pub stored: usize,
    /// What they are stored as.
    pub dtype: Dtype,
}

impl Problem {
    /// The problem of multiplying `tokens` rows of activations with `weight`.
    pub fn of(weight: &Packed, tokens: usize) -> Self {
        let (rows, cols) = weight.matrix();
        let (format, stored) = (weight.format(), weight.values().len());
        Self { rows, cols, tokens, format, stored, dtype: weight.dtype() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = if self.tokens == 1 { "token" } else { "tokens" };
        let Self { rows, cols, format, dtype, .. } = self;
        write!(f, "{rows}x{cols} {format} {dtype}, {} {tokens}", self.tokens)
    }
}

/// The kernels there are, whatever the tier they are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum KernelKind {
    /// A dense product by the `gemm` crate, AVX-512 included.
    Dense,
    /// N of every M values: 2:4, 4:8, 8:16; 1:4, 2:8, 4:16; 1:8, 2:16.
    NOfM,
    /// Any sparsity, a column number beside each value.
    Csr,
    /// Blocks two, four or more rows high, which share their columns.
    Block,
}

impl KernelKind {
    /// Every kernel.
    pub const ALL: [Self; 4] = [Self::Dense, Self::NOfM, Self::Csr, Self::Block];
}

impl fmt::Display for KernelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dense => "dense",
            Self::NOfM => "n:m",
            Self::Csr => "csr",
            Self::Block => "block",
        })
    }
}
