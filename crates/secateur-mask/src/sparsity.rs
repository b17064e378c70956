//! How much goes? A share of zeros, validated once, with exact counts.

use crate::MaskError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The share of entries that are cut, in `[0, 1]`.
///
/// Counts are exact: asked for a share `s` of `n` entries, `round(s * n)` go. No threshold is
/// involved, so equal scores can never cut too many.
///
/// ```
/// # use secateur_mask::Sparsity;
/// assert_eq!(Sparsity::new(0.29)?.cut_of(100), 29);
/// assert!(Sparsity::new(1.5).is_err());
/// # Ok::<(), secateur_mask::MaskError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Sparsity(f64);

impl Sparsity {
    /// Nothing is cut.
    pub const DENSE: Self = Self(0.0);

    /// A share of zeros. Errors unless `0 <= share <= 1`.
    pub fn new(share: f64) -> Result<Self, MaskError> {
        if (0.0..=1.0).contains(&share) { Ok(Self(share)) } else { Err(MaskError::Sparsity(share)) }
    }

    /// The sparsity at which exactly `cut` of `total` entries go; [`Self::DENSE`] of nothing.
    ///
    /// `cut` beyond `total` is an error.
    pub fn of_counts(cut: usize, total: usize) -> Result<Self, MaskError> {
        if total == 0 {
            return Ok(Self::DENSE);
        }
        Self::new(cut as f64 / total as f64)
    }

    /// How many of `total` entries go: `round(share * total)`.
    pub fn cut_of(self, total: usize) -> usize {
        (self.0 * total as f64).round() as usize
    }

    /// The share of zeros.
    pub fn share(self) -> f64 {
        self.0
    }

    /// The share that is kept.
    pub fn density(self) -> f64 {
        1.0 - self.0
    }
}

impl TryFrom<f64> for Sparsity {
    type Error = MaskError;
    fn try_from(share: f64) -> Result<Self, MaskError> {
        Self::new(share)
    }
}

impl From<Sparsity> for f64 {
    fn from(sparsity: Sparsity) -> f64 {
        sparsity.0
    }
}

impl fmt::Display for Sparsity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_rounded_not_truncated() {
        let cut = |share: f64, n| Sparsity::new(share).unwrap().cut_of(n);
        assert_eq!(cut(0.29, 100), 29); // 0.29 * 100 is 28.999999999999996
        assert_eq!(cut(0.5, 3), 2);
        assert_eq!(cut(1.0, 7), 7);
    }

    #[test]
    fn counts_survive_the_way_through_a_share() {
        for total in [1, 3, 7, 1000, 266_200] {
            for cut in [0, 1, total / 3, total - 1, total] {
                assert_eq!(Sparsity::of_counts(cut, total).unwrap().cut_of(total), cut);
            }
        }
    }

    #[test]
    fn rejects_what_is_no_share() {
        for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Sparsity::new(share).is_err(), "{share}");
        }
        assert!(serde_json::from_str::<Sparsity>("2.0").is_err());
    }
}
