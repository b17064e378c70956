//! How is a checkpoint cut while it streams past? By magnitude, in bands where the pattern allows it.

use crate::{Dense, StorageError};
use rayon::prelude::*;
use secateur_mask::{Mask, Pattern, Scores, Target};

/// Elements of a band, a multiple of 64 so that its mask is whole words.
const BAND: usize = 1 << 18;

/// The mask of the largest magnitudes of `dense` in the shape that `target` wants; what `before` has
/// cut stays cut. NaN counts as the largest magnitude: a broken weight is not hidden by pruning.
///
/// Groups of `N:M` within a row are decided band by band, so that the scores take no memory to speak
/// of; every other pattern needs those of the whole tensor.
pub(crate) fn magnitude(
    dense: &Dense,
    before: Option<&Mask>,
    target: Target,
) -> Result<Mask, StorageError> {
    let shape = dense.shape();
    let (rows, cols) = crate::shape::matrix_view(shape)?;
    let (pattern, sparsity) = (target.pattern(), target.sparsity());
    let scores_of = |dense: &Dense, first: usize| -> Result<Vec<f32>, StorageError> {
        let mut scores = dense.to_f32()?.into_owned();
        for (index, score) in scores.iter_mut().enumerate() {
            let cut = before.is_some_and(|mask| mask.get(first + index) == Some(false));
            *score = match score.is_nan() {
                _ if cut => -1.0,
                true => f32::INFINITY,
                false => score.abs(),
            };
        }
        Ok(scores)
    };
    let select = |scores: Vec<f32>, shape: &[usize]| -> Result<Mask, StorageError> {
        Ok(pattern.select(Scores::new(scores, shape)?, sparsity)?)
    };
    let by_row = matches!(pattern, Pattern::NOfM(_)) && dense.values().scales().is_none();
    // Whole rows that are whole words: 64 rows always are.
    let band_rows = (BAND / cols.max(1)).max(1).next_multiple_of(64);
    let mask = if !by_row || rows <= band_rows || cols == 0 {
        select(scores_of(dense, 0)?, shape)?
    } else {
        let size = dense.dtype().bitsize() / 8;
        let bands: Result<Vec<Vec<u64>>, StorageError> = (0..rows.div_ceil(band_rows))
            .into_par_iter()
            .map(|band| {
                let first = band * band_rows;
                let shape = [band_rows.min(rows - first), cols];
                let bytes = first * cols * size..(first + shape[0]) * cols * size;
                let values = dense.values().rearranged(dense.values().data().slice(bytes));
                let scores = scores_of(&Dense::new(values, &shape)?, first * cols)?;
                Ok(select(scores, &shape)?.words().to_vec())
            })
            .collect();
        Mask::from_words(bands?.concat(), shape)?
    };
    match before {
        Some(before) => Ok(mask.and(before)?),
        None => Ok(mask),
    }
}
