//! What does a selection rank? One finite-or-infinite number per weight, checked once.

use crate::MaskError;
use rayon::prelude::*;
use std::borrow::Cow;

/// Scores that one thread checks at a time.
const CHUNK: usize = 1 << 16;

/// Scores of one weight tensor, row-major; a higher score is kept.
///
/// Construction proves that there is one score per entry and that none is NaN. `-0.0` and `0.0` are
/// equal, infinities are allowed and rank first or last.
#[derive(Debug, Clone)]
pub struct Scores<'a> {
    values: Cow<'a, [f32]>,
    shape: Vec<usize>,
}

impl<'a> Scores<'a> {
    /// Scores for a weight of `shape`. Errors on a length that does not match and on NaN.
    pub fn new(values: impl Into<Cow<'a, [f32]>>, shape: &[usize]) -> Result<Self, MaskError> {
        let values = values.into();
        if checked_len(shape) != Some(values.len()) {
            return Err(MaskError::Shape { shape: shape.to_vec(), len: values.len() });
        }
        // Most scores are fine: look at many at a time, and for the place only if one is not.
        let has_nan = |chunk: &[f32]| chunk.iter().fold(false, |nan, score| nan | score.is_nan());
        if values.par_chunks(CHUNK).any(has_nan)
            && let Some(index) = values.iter().position(|score| score.is_nan())
        {
            return Err(MaskError::NanScore { index });
        }
        Ok(Self { values, shape: shape.to_vec() })
    }

    /// The scores, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The shape of the weight they belong to.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
}

/// The number of entries of `shape`, unless it overflows. A side of zero hides no overflow of the
/// others, so that rows and columns can be multiplied without looking.
pub(crate) fn checked_len(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |len, &side| len.checked_mul(side.max(1)))?;
    Some(shape.iter().product())
}

/// Any weight as the matrix its product sees: outputs × everything reduced over.
///
/// `[out, in]` is itself, `[out, in, kh, kw]` is `out × (in · kh · kw)`, a vector is one row.
pub(crate) fn matrix_view(shape: &[usize]) -> (usize, usize) {
    match shape {
        [] => (1, 1),
        [len] => (1, *len),
        [rows, rest @ ..] => (*rows, rest.iter().product()),
    }
}

/// A key that orders as scores do: larger is kept, `-0.0` equals `0.0`.
pub(crate) fn rank_key(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // -0.0 + 0.0 is +0.0
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The score that has this key.
pub(crate) fn score_of(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_keys_order_as_floats_do() {
        let ascending = [f32::NEG_INFINITY, -2.0, -1e-40, 0.0, 1e-40, 1.0, f32::INFINITY];
        assert!(ascending.windows(2).all(|w| rank_key(w[0]) < rank_key(w[1])));
        assert_eq!(rank_key(-0.0), rank_key(0.0));
        assert!(ascending.iter().all(|score| score_of(rank_key(*score)) == *score));
    }

    #[test]
    fn refuses_nan_and_wrong_lengths() {
        assert_eq!(
            Scores::new(&[1.0, f32::NAN][..], &[2]).unwrap_err(),
            MaskError::NanScore { index: 1 }
        );
        assert!(Scores::new(&[1.0][..], &[2]).is_err());
        assert!(Scores::new(&[][..], &[usize::MAX, 2]).is_err());
        assert!(Scores::new(&[][..], &[0, usize::MAX, 2]).is_err());
    }
}
