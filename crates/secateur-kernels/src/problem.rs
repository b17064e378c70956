//! What is asked? A product's shape, its sparsity, and how many tokens come at once.

use secateur_storage::{Format, Packed};
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
}

impl Problem {
    /// The problem of multiplying `tokens` rows of activations with `weight`.
    pub fn of(weight: &Packed, tokens: usize) -> Self {
        let (rows, cols) = weight.matrix();
        Self { rows, cols, tokens, format: weight.format(), stored: weight.values().len() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = if self.tokens == 1 { "token" } else { "tokens" };
        write!(f, "{}x{} {}, {} {tokens}", self.rows, self.cols, self.format, self.tokens)
    }
}

/// The kernels there are, whatever the tier they are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelKind {
    /// A dense product by the `gemm` crate, AVX-512 included.
    Dense,
    /// Two of every four values, skipped zeros.
    TwoFour,
    /// Any sparsity, a column number beside each value.
    Csr,
}

impl fmt::Display for KernelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dense => "dense",
            Self::TwoFour => "2:4",
            Self::Csr => "csr",
        })
    }
}
