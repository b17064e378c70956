//! What are patterns made of? Small shapes, valid by construction.

use crate::MaskError;

/// `N:M`: of every M neighbours, N are kept.
///
/// A last group that is shorter than M keeps at most N too; when it has no more than N entries,
/// it keeps all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NOfM {
    n: u8,
    m: u8,
}

impl NOfM {
    /// 2:4, the pattern of NVIDIA's sparse tensor cores.
    pub const TWO_OF_FOUR: Self = Self { n: 2, m: 4 };

    /// Keeps `n` of every `m`. Errors unless `1 <= n < m <= 64`.
    pub fn new(n: usize, m: usize) -> Result<Self, MaskError> {
        if 1 <= n && n < m && m <= 64 {
            Ok(Self { n: n as u8, m: m as u8 })
        } else {
            Err(MaskError::NOfM { n, m })
        }
    }

    /// Entries kept in each group.
    pub fn n(self) -> usize {
        usize::from(self.n)
    }

    /// Entries in each group.
    pub fn m(self) -> usize {
        usize::from(self.m)
    }
}

/// `V:N:M` (Castro et al. 2023, "VENOM"): blocks of V rows × M columns agree on four columns, and
/// every row keeps N of those four.
///
/// So a 2:4 tensor core runs sparsities beyond one half: it sees only the four columns that a block
/// chose. Blocks at the ragged edge are smaller; one of fewer than four columns chooses among those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VNOfM {
    v: usize,
    n: u8,
    m: u8,
}

impl VNOfM {
    /// The columns that a block chooses.
    pub const COLUMNS: usize = 4;

    /// Rows `v` that share their columns, of which each row keeps `n` of every `m`. Errors unless
    /// `v >= 1`, `1 <= n < 4 <= m <= 64`.
    pub fn new(v: usize, n: usize, m: usize) -> Result<Self, MaskError> {
        if v >= 1 && (1..Self::COLUMNS).contains(&n) && (Self::COLUMNS..=64).contains(&m) {
            Ok(Self { v, n: n as u8, m: m as u8 })
        } else {
            Err(MaskError::VNOfM { v, n, m })
        }
    }

    /// Rows that share their columns.
    pub fn v(self) -> usize {
        self.v
    }

    /// Entries that a row keeps in each group.
    pub fn n(self) -> usize {
        usize::from(self.n)
    }

    /// Columns in each group.
    pub fn m(self) -> usize {
        usize::from(self.m)
    }
}

/// A block of `rows` outputs × `cols` inputs. Blocks at the ragged edge are smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    rows: usize,
    cols: usize,
}

impl Block {
    /// A block; errors when a side is zero.
    pub fn new(rows: usize, cols: usize) -> Result<Self, MaskError> {
        if rows == 0 || cols == 0 {
            return Err(MaskError::Block { rows, cols });
        }
        Ok(Self { rows, cols })
    }

    /// A block that has at least one row and one column.
    pub(crate) fn at_least_one(rows: usize, cols: usize) -> Self {
        Self { rows: rows.max(1), cols: cols.max(1) }
    }

    /// Outputs that a block spans.
    pub fn rows(self) -> usize {
        self.rows
    }

    /// Inputs that a block spans.
    pub fn cols(self) -> usize {
        self.cols
    }
}

/// Which side of the weight a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Rows of the weight: neurons or filters, with all that feeds them.
    Output,
    /// One input of every neuron: a column, or all taps of one input channel of a convolution.
    Input,
}
