//! In which shape do weights go? The kinds of pattern, and the names users write for them.
//!
//! Patterns see every weight as a matrix, outputs × inputs: `[out, in]` as it is and convolutions
//! `[out, in, kh, kw]` as `out × (in·kh·kw)`, row-major. So an `N:M` group of a convolution runs
//! along `kw`, then `kh`, then `in`, which is PyTorch's `weight.flatten(1)` and the order in which
//! packed formats store a row and kernels read it.

use crate::{Axis, Block, MaskError, NOfM, Sparsity, VNOfM, scores::matrix_view};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The shape that the kept entries of a weight must have.
///
/// Each is written and parsed by the name given with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Pattern {
    /// `unstructured`: any entry may go, on its own.
    Unstructured,
    /// `unstructured-row`: any entry may go, but every output row loses equally many (as Wanda
    /// compares weights, Sun et al. 2023).
    UnstructuredRow,
    /// `2:4`: N of every M neighbours along a row (the inputs) stay (Mishra et al. 2021).
    NOfM(NOfM),
    /// `output-2:4`: N of every M neighbours along a column (the outputs) stay.
    OutputNOfM(NOfM),
    /// `64:2:8`: N of every M along a row stay, from columns that V rows share.
    VNOfM(VNOfM),
    /// `transposable-2:4`: 2:4 along rows and along columns at once, so that the transposed weight
    /// of the backward pass is 2:4 too (Hubara et al. 2021).
    TransposableTwoOfFour,
    /// `block4x1`: whole blocks of outputs × inputs go or stay.
    Block(Block),
    /// `channel` (neurons, filters) and `input-channel`: whole rows, or whole inputs, go or stay.
    Channel(Axis),
}

impl Pattern {
    /// 2:4, the pattern of NVIDIA's sparse tensor cores.
    pub const TWO_OF_FOUR: Self = Self::NOfM(NOfM::TWO_OF_FOUR);

    /// The sparsity that the pattern dictates, if it does: `1 - N/M` for `N:M` and its kin.
    pub fn fixed_sparsity(self) -> Option<Sparsity> {
        let (n, m) = match self {
            Self::NOfM(p) | Self::OutputNOfM(p) => (p.n(), p.m()),
            Self::VNOfM(p) => (p.n(), p.m()),
            Self::TransposableTwoOfFour => (2, 4),
            Self::Unstructured | Self::UnstructuredRow | Self::Block(_) | Self::Channel(_) => {
                return None;
            }
        };
        Sparsity::of_counts(m - n, m).ok()
    }

    /// The block that goes as one in a weight of `shape`, or `None` for patterns whose groups each
    /// keep their own share (`N:M` and its kin).
    ///
    /// Unstructured pruning cuts 1 × 1 blocks, channels are blocks as long as the matrix. An input
    /// channel of a convolution is all its `kh · kw` columns.
    pub(crate) fn unit(self, shape: &[usize]) -> Option<Block> {
        let (rows, cols) = matrix_view(shape);
        let taps = shape.iter().skip(2).product();
        Some(match self {
            Self::NOfM(_) | Self::OutputNOfM(_) | Self::VNOfM(_) | Self::TransposableTwoOfFour => {
                return None;
            }
            Self::Unstructured | Self::UnstructuredRow => Block::at_least_one(1, 1),
            Self::Block(block) => block,
            Self::Channel(Axis::Output) => Block::at_least_one(1, cols),
            Self::Channel(Axis::Input) => Block::at_least_one(rows, taps),
        })
    }

    /// What a reader of `--help` wants to know: the names and what they mean.
    pub const NAMES: &str = "unstructured, unstructured-row (each output row alike), N:M (such as \
        2:4), output-N:M (along the outputs), V:N:M (such as 64:2:8), transposable-2:4, blockRxC \
        (such as block4x1), channel (output rows) or input-channel";
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unstructured => f.write_str("unstructured"),
            Self::UnstructuredRow => f.write_str("unstructured-row"),
            Self::NOfM(p) => write!(f, "{}:{}", p.n(), p.m()),
            Self::OutputNOfM(p) => write!(f, "output-{}:{}", p.n(), p.m()),
            Self::VNOfM(p) => write!(f, "{}:{}:{}", p.v(), p.n(), p.m()),
            Self::TransposableTwoOfFour => f.write_str("transposable-2:4"),
            Self::Block(b) => write!(f, "block{}x{}", b.rows(), b.cols()),
            Self::Channel(Axis::Output) => f.write_str("channel"),
            Self::Channel(Axis::Input) => f.write_str("input-channel"),
        }
    }
}

impl FromStr for Pattern {
    type Err = MaskError;

    fn from_str(text: &str) -> Result<Self, MaskError> {
        let unknown = || MaskError::UnknownPattern(text.to_owned());
        let numbers = |text: &str, separator: char| -> Result<Vec<usize>, MaskError> {
            let parse = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
                true => part.parse().ok(),
                false => None,
            };
            text.split(separator).map(parse).collect::<Option<_>>().ok_or_else(unknown)
        };
        match text {
            "unstructured" => return Ok(Self::Unstructured),
            "unstructured-row" => return Ok(Self::UnstructuredRow),
            "transposable-2:4" => return Ok(Self::TransposableTwoOfFour),
            "channel" => return Ok(Self::Channel(Axis::Output)),
            "input-channel" => return Ok(Self::Channel(Axis::Input)),
            _ => {}
        }
        if let Some(sides) = text.strip_prefix("block") {
            let &[rows, cols] = &numbers(sides, 'x')?[..] else { return Err(unknown()) };
            return Ok(Self::Block(Block::new(rows, cols)?));
        }
        if let Some(groups) = text.strip_prefix("output-") {
            let &[n, m] = &numbers(groups, ':')?[..] else { return Err(unknown()) };
            return Ok(Self::OutputNOfM(NOfM::new(n, m)?));
        }
        match numbers(text, ':')?[..] {
            [n, m] => Ok(Self::NOfM(NOfM::new(n, m)?)),
            [v, n, m] => Ok(Self::VNOfM(VNOfM::new(v, n, m)?)),
            _ => Err(unknown()),
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
        for name in [
            "unstructured",
            "unstructured-row",
            "2:4",
            "1:64",
            "output-2:4",
            "64:2:8",
            "transposable-2:4",
            "block4x1",
            "channel",
            "input-channel",
        ] {
            assert_eq!(name.parse::<Pattern>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for name in [
            "4:2",
            "0:4",
            "2:2",
            "3:65",
            "block0x4",
            "block4",
            "2:x",
            "",
            "N:M",
            "+2:4",
            ":",
            "0:2:8",
            "8:4:8",
            "8:2:3",
            "8:2:65",
            "1:2:3:4",
            "output-4:2",
            "output-",
            "transposable-1:4",
            "block",
            "blockx",
            "99999999999999999999:4",
        ] {
            assert!(name.parse::<Pattern>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn groups_fix_their_sparsity() {
        for (name, share) in
            [("2:4", 0.5), ("output-1:4", 0.75), ("64:2:8", 0.75), ("transposable-2:4", 0.5)]
        {
            let pattern: Pattern = name.parse().unwrap();
            assert_eq!(pattern.fixed_sparsity().unwrap().share(), share, "{name}");
        }
        assert_eq!(Pattern::Unstructured.fixed_sparsity(), None);
    }
}
