//! Which formats are there, and by which names do files and people call them?

use secateur_mask::{Block, NOfM, Pattern};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The formats of `docs/format.md`, by the names that files use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Format {
    /// `dense`: every element.
    Dense,
    /// `2:4`, `4:8`, …: N elements of every M, with indices of log2 M bits.
    NOfM(NOfM),
    /// `bitmap`: the kept elements, with a bit per element.
    Bitmap,
    /// `csr`: the kept elements, with a column number each.
    Csr,
    /// `block4x1`, …: whole blocks, with a block column number each (BSR).
    Block(Block),
    /// `mask`: a mask alone.
    Mask,
}

impl Format {
    /// 2:4, the format of sparse tensor cores.
    pub const TWO_OF_FOUR: Self = Self::NOfM(NOfM::TWO_OF_FOUR);
    /// The largest M of `N:M` that is packed with indices; beyond it, a bitmap is smaller.
    pub const MOST_M: usize = 16;

    /// How many entries a byte of a tensor's parts may stand for, or nothing would bound the work of
    /// reading it. Eight is the densest that bits can say; one of 16 single bytes is a byte and a half;
    /// offsets and columns may say more, and what is sparser than this goes into a bitmap.
    pub(crate) fn entries_per_byte(self) -> u64 {
        match self {
            Self::Dense | Self::Bitmap | Self::Mask => 8,
            Self::NOfM(_) => Self::MOST_M as u64,
            Self::Csr | Self::Block(_) => 64,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense => f.write_str("dense"),
            Self::NOfM(pattern) => write!(f, "{}", Pattern::NOfM(*pattern)),
            Self::Bitmap => f.write_str("bitmap"),
            Self::Csr => f.write_str("csr"),
            Self::Block(block) => write!(f, "{}", Pattern::Block(*block)),
            Self::Mask => f.write_str("mask"),
        }
    }
}

/// A name that is no format.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no format; there are dense, N:M (M up to 16), bitmap, csr, blockRxC and mask")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "dense" => return Ok(Self::Dense),
            "bitmap" => return Ok(Self::Bitmap),
            "csr" => return Ok(Self::Csr),
            "mask" => return Ok(Self::Mask),
            _ => {}
        }
        match text.parse() {
            Ok(Pattern::NOfM(pattern)) if pattern.m() <= Self::MOST_M => Ok(Self::NOfM(pattern)),
            Ok(Pattern::Block(block)) => Ok(Self::Block(block)),
            _ => Err(UnknownFormat(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Format {
    type Error = UnknownFormat;
    fn try_from(text: String) -> Result<Self, UnknownFormat> {
        text.parse()
    }
}

impl From<Format> for String {
    fn from(format: Format) -> Self {
        format.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for name in ["dense", "2:4", "8:16", "bitmap", "csr", "block4x1", "mask"] {
            assert_eq!(name.parse::<Format>().unwrap().to_string(), name);
        }
        for name in ["", "3:32", "channel", "Dense", "unstructured"] {
            assert!(name.parse::<Format>().is_err(), "{name}");
        }
        assert_eq!("2:4".parse::<Format>().unwrap(), Format::TWO_OF_FOUR);
    }
}
