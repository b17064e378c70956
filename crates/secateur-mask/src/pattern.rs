//! In which shape do weights go? The kinds of pattern, and the names users write for them.
//!
//! Patterns see every weight as a matrix, outputs × inputs: `[out, in]` as it is and convolutions
//! `[out, in, kh, kw]` as `out × (in·kh·kw)`, row-major.

use crate::{MaskError, Sparsity};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The shape that the kept entries of a weight must have.
///
/// Written and parsed as `unstructured`, `2:4`, `block4x1`, `channel` and `input-channel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Pattern {
    /// Any entry may go, on its own.
    Unstructured,
    /// N of every M neighbours along a row stay (Mishra et al. 2021 for 2:4).
    NOfM(NOfM),
    /// Whole blocks go or stay.
    Block(Block),
    /// Whole rows or columns go or stay: neurons, filters.
    Channel(Axis),
}

/// `N:M`: of every M neighbours along a row, N are kept.
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
    /// Columns of the weight: one input feature of every neuron.
    Input,
}

impl Pattern {
    /// 2:4, the pattern of NVIDIA's sparse tensor cores.
    pub const TWO_OF_FOUR: Self = Self::NOfM(NOfM::TWO_OF_FOUR);

    /// The sparsity that the pattern dictates, if it does: `1 - N/M` for `N:M`.
    pub fn fixed_sparsity(self) -> Option<Sparsity> {
        match self {
            Self::NOfM(p) => Sparsity::of_counts(p.m() - p.n(), p.m()).ok(),
            _ => None,
        }
    }

    /// The block that is cut as one in a matrix of `rows × cols`, or `None` for `N:M`.
    ///
    /// Unstructured pruning cuts 1 × 1 blocks, channels are blocks as long as the matrix.
    pub(crate) fn unit(self, rows: usize, cols: usize) -> Option<Block> {
        let (rows, cols) = match self {
            Self::NOfM(_) => return None,
            Self::Unstructured => (1, 1),
            Self::Block(block) => (block.rows, block.cols),
            Self::Channel(Axis::Output) => (1, cols),
            Self::Channel(Axis::Input) => (rows, 1),
        };
        Some(Block { rows: rows.max(1), cols: cols.max(1) })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unstructured => f.write_str("unstructured"),
            Self::NOfM(p) => write!(f, "{}:{}", p.n, p.m),
            Self::Block(b) => write!(f, "block{}x{}", b.rows, b.cols),
            Self::Channel(Axis::Output) => f.write_str("channel"),
            Self::Channel(Axis::Input) => f.write_str("input-channel"),
        }
    }
}

impl FromStr for Pattern {
    type Err = MaskError;

    fn from_str(text: &str) -> Result<Self, MaskError> {
        let unknown = || MaskError::UnknownPattern(text.to_owned());
        let pair = |text: &str, separator| -> Option<(usize, usize)> {
            let (left, right) = text.split_once(separator)?;
            Some((left.parse().ok()?, right.parse().ok()?))
        };
        match text {
            "unstructured" => Ok(Self::Unstructured),
            "channel" => Ok(Self::Channel(Axis::Output)),
            "input-channel" => Ok(Self::Channel(Axis::Input)),
            _ => match text.strip_prefix("block") {
                Some(sides) => {
                    let (rows, cols) = pair(sides, 'x').ok_or_else(unknown)?;
                    Ok(Self::Block(Block::new(rows, cols)?))
                }
                None => {
                    let (n, m) = pair(text, ':').ok_or_else(unknown)?;
                    Ok(Self::NOfM(NOfM::new(n, m)?))
                }
            },
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = MaskError;
    fn try_from(text: String) -> Result<Self, MaskError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["unstructured", "2:4", "1:64", "block4x1", "channel", "input-channel"] {
            assert_eq!(name.parse::<Pattern>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for name in ["4:2", "0:4", "2:2", "3:65", "block0x4", "block4", "2:x", "", "N:M"] {
            assert!(name.parse::<Pattern>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn two_of_four_fixes_one_half() {
        assert_eq!(Pattern::TWO_OF_FOUR.fixed_sparsity().unwrap().share(), 0.5);
        assert_eq!(Pattern::Unstructured.fixed_sparsity(), None);
    }
}
