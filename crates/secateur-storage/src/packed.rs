//! Which format does a weight get? The one its pattern allows and its size deserves.

use crate::{Bitmap, Dense, Packed24, StorageError};
use secateur_mask::{Mask, Pattern};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The formats of `docs/format.md`, by the names that files use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// Every entry.
    Dense,
    /// Two of every four, with index nibbles.
    #[serde(rename = "2:4")]
    TwoFour,
    /// The kept entries, with a bit per entry.
    Bitmap,
    /// A mask alone.
    Mask,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dense => "dense",
            Self::TwoFour => "2:4",
            Self::Bitmap => "bitmap",
            Self::Mask => "mask",
        })
    }
}

/// A weight in whichever format holds it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Packed {
    /// Every entry.
    Dense(Dense),
    /// Two of every four, with index nibbles.
    TwoFour(Packed24),
    /// The kept entries, with a bit per entry.
    Bitmap(Bitmap),
}

impl Packed {
    /// Packs what `mask` keeps of `dense`, after proving that the mask has `pattern`.
    ///
    /// 2:4 becomes [`Packed::TwoFour`], and so does transposable 2:4 unless its ragged edge keeps fewer
    /// than two of a group, a mask that keeps everything [`Packed::Dense`], all else
    /// [`Packed::Bitmap`] (smaller than dense below 31/32 density).
    pub fn pack(dense: &Dense, mask: &Mask, pattern: Pattern) -> Result<Self, StorageError> {
        mask.verify(&pattern)?;
        if pattern == Pattern::TWO_OF_FOUR {
            return Ok(Self::TwoFour(Packed24::pack(dense, mask)?));
        }
        if pattern == Pattern::TransposableTwoOfFour {
            // Slots that the format fills up would not be in the pattern along the columns.
            let packed = Packed24::pack(dense, mask)?;
            if packed.mask() == *mask {
                return Ok(Self::TwoFour(packed));
            }
        }
        let bitmap = Bitmap::pack(dense, mask)?;
        Ok(match mask.count_kept() == mask.len() {
            true => Self::Dense(bitmap.unpack()),
            false => Self::Bitmap(bitmap),
        })
    }

    /// The dense tensor: what is not stored is `+0.0`.
    pub fn unpack(&self) -> Dense {
        match self {
            Self::Dense(dense) => dense.clone(),
            Self::TwoFour(packed) => packed.unpack(),
            Self::Bitmap(bitmap) => bitmap.unpack(),
        }
    }

    /// The shape of the dense weight.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Dense(dense) => dense.shape(),
            Self::TwoFour(packed) => packed.shape(),
            Self::Bitmap(bitmap) => bitmap.mask().shape(),
        }
    }

    /// Rows and columns of the matrix that a product sees: outputs × all that is reduced over. A
    /// vector is one row.
    pub fn matrix(&self) -> (usize, usize) {
        match self.shape() {
            [] => (1, 1),
            [len] => (1, *len),
            [rows, rest @ ..] => (*rows, rest.iter().product()),
        }
    }

    /// The format.
    pub fn format(&self) -> Format {
        match self {
            Self::Dense(_) => Format::Dense,
            Self::TwoFour(_) => Format::TwoFour,
            Self::Bitmap(_) => Format::Bitmap,
        }
    }

    /// The values that are stored.
    pub fn values(&self) -> &[f32] {
        match self {
            Self::Dense(dense) => dense.values(),
            Self::TwoFour(packed) => packed.values(),
            Self::Bitmap(bitmap) => bitmap.values(),
        }
    }

    /// Which entries are stored, or `None` for a dense tensor.
    pub fn mask(&self) -> Option<Mask> {
        match self {
            Self::Dense(_) => None,
            Self::TwoFour(packed) => Some(packed.mask()),
            Self::Bitmap(bitmap) => Some(bitmap.mask().clone()),
        }
    }

    /// Bytes of values and indices, in memory as on disk (headers aside).
    pub fn bytes(&self) -> usize {
        let places = match self {
            Self::Dense(_) => 0,
            Self::TwoFour(packed) => packed.indices().len(),
            Self::Bitmap(_) => {
                let (rows, cols) = self.matrix();
                rows * cols.div_ceil(8)
            }
        };
        size_of_val(self.values()) + places
    }
}
