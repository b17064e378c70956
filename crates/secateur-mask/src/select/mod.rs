//! Which entries does a score keep? The highest; among equals, those of lower index.

mod groups;
pub mod lanes;
mod top;
mod transposable;
mod v_n_m;

use crate::{
    Block, Mask, MaskError, Pattern, Scores, Sparsity,
    scores::{matrix_view, rank_key},
};
use top::keep_highest;

impl Pattern {
    /// Keeps the highest `scores` in this pattern's shape and cuts `amount` of the rest.
    ///
    /// - Counts are exact: of `n` units (entries, blocks or channels) `round(amount · n)` go;
    ///   `unstructured-row` counts so within each row. `N:M` and its kin fix their own sparsity: any
    ///   other `amount` is an error.
    /// - Among equal scores the lower index is kept, so the mask is the same on every machine and
    ///   for any number of threads.
    /// - A unit's score is the mean of its entries' scores, so that smaller blocks at a ragged edge
    ///   compete fairly. Means of magnitudes rank as L1 norms do, means of squares as L2 norms.
    ///
    /// ```
    /// # use secateur_mask::{Pattern, Scores, Sparsity};
    /// let scores = Scores::new(&[3.0, 1.0, 2.0, 1.0][..], &[4])?;
    /// let mask = Pattern::Unstructured.select(scores, Sparsity::new(0.25)?)?;
    /// assert_eq!(mask.to_string(), "1110"); // of the two ones, the first stays
    /// # Ok::<(), secateur_mask::MaskError>(())
    /// ```
    pub fn select(self, scores: Scores<'_>, amount: Sparsity) -> Result<Mask, MaskError> {
        if let Some(fixed) = self.fixed_sparsity()
            && fixed != amount
        {
            return Err(MaskError::FixedSparsity { pattern: self, fixed, asked: amount });
        }
        let mut mask = Mask::empty(scores.shape())?;
        let (values, matrix) = (scores.values(), matrix_view(scores.shape()));
        match self {
            Self::Unstructured => {
                keep_highest(values, values.len() - amount.cut_of(values.len()), &mut mask);
            }
            Self::UnstructuredRow => {
                let keep = matrix.1 - amount.cut_of(matrix.1);
                mask.fill_bands(values, matrix, 1, |band, scores| {
                    groups::keep_in_rows(band, scores, keep);
                });
            }
            Self::NOfM(p) => groups::keep_n_of_m(&mut mask, values, matrix, p),
            Self::OutputNOfM(p) => {
                mask.fill_bands(values, matrix, p.m(), |band, scores| {
                    groups::keep_in_columns(band, scores, p);
                });
            }
            Self::VNOfM(p) => {
                mask.fill_bands(values, matrix, p.v(), |band, scores| {
                    v_n_m::keep(band, scores, p);
                });
            }
            Self::TransposableTwoOfFour => {
                let choices = transposable::Choices::new();
                mask.fill_bands(values, matrix, transposable::SIDE, |band, scores| {
                    choices.keep(band, scores);
                });
            }
            Self::Block(_) | Self::Channel(_) => {
                let units = self.unit_scores(&scores);
                let mut kept = Mask::empty(&[units.len()])?;
                keep_highest(&units, units.len() - amount.cut_of(units.len()), &mut kept);
                if let Some(unit) = self.unit(scores.shape()) {
                    keep_units(&mut mask, values, matrix, unit, &kept);
                }
            }
        }
        Ok(mask)
    }

    /// One score per unit that this pattern cuts as a whole, in row-major order of the units.
    ///
    /// Units are single entries, blocks or channels. `N:M` and its kin have no such units (every
    /// group keeps its share), so the answer is empty. Allocations that compare layers pool these.
    pub fn unit_scores(self, scores: &Scores<'_>) -> Vec<f32> {
        let (rows, cols) = matrix_view(scores.shape());
        let Some(unit) = self.unit(scores.shape()) else { return Vec::new() };
        if (unit.rows(), unit.cols()) == (1, 1) {
            return scores.values().to_vec();
        }
        if cols == 0 {
            return Vec::new();
        }
        let (height, across) = (unit.rows(), cols.div_ceil(unit.cols()));
        let mut units = Vec::with_capacity(rows.div_ceil(height) * across);
        for band in scores.values().chunks(height.saturating_mul(cols)) {
            for left in (0..cols).step_by(unit.cols()) {
                let right = left.saturating_add(unit.cols()).min(cols);
                let entries = band.chunks_exact(cols).flat_map(|row| &row[left..right]).copied();
                let size = band.len() / cols * (right - left);
                units.push((sum(entries) / size as f64) as f32);
            }
        }
        units
    }
}

/// The sum of the scores of entries that are judged together.
///
/// An entry at −∞ was cut by an earlier pruning and is worth nothing; where all are, the sum is −∞.
fn sum(scores: impl Iterator<Item = f32>) -> f64 {
    let (mut sum, mut any) = (0.0, false);
    for score in scores.filter(|score| *score > f32::NEG_INFINITY) {
        sum += f64::from(score);
        any = true;
    }
    if any { sum } else { f64::NEG_INFINITY }
}

/// Keeps whole the units whose bit is set in `kept`.
fn keep_units(mask: &mut Mask, scores: &[f32], matrix: (usize, usize), unit: Block, kept: &Mask) {
    let across = matrix.1.div_ceil(unit.cols());
    mask.fill_bands(scores, matrix, 1, |band, _| {
        for row in 0..band.rows {
            let line = (band.first_row + row) / unit.rows() * across;
            for (place, start) in (0..band.cols).step_by(unit.cols()).enumerate() {
                if kept.get(line + place) == Some(true) {
                    band.keep_range(row, start, (start + unit.cols()).min(band.cols));
                }
            }
        }
    });
}

/// A key that orders a few scores as selection does, and no two alike: the higher score first, then
/// the lower index.
fn unique_key(score: f32, index: usize) -> u64 {
    u64::from(rank_key(score)) << 32 | u64::from(u32::MAX - index as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(pattern: &str, shape: &[usize], scores: &[f32], amount: f64) -> String {
        let scores = Scores::new(scores, shape).unwrap();
        let pattern: Pattern = pattern.parse().unwrap();
        pattern.select(scores, Sparsity::new(amount).unwrap()).unwrap().to_string()
    }

    #[test]
    fn two_of_four_keeps_the_two_highest_of_each_group() {
        assert_eq!(select("2:4", &[1, 8], &[1., 4., 2., 3., 9., 0., 0., 8.], 0.5), "01011001");
    }

    #[test]
    fn equal_scores_keep_the_lower_index() {
        assert_eq!(select("2:4", &[1, 4], &[7.; 4], 0.5), "1100");
        assert_eq!(select("1:3", &[1, 3], &[7.; 3], 2. / 3.), "100");
        assert_eq!(select("output-1:2", &[2, 1], &[7.; 2], 0.5), "1\n0");
        assert_eq!(select("unstructured", &[1, 4], &[7.; 4], 0.5), "1100");
        assert_eq!(select("unstructured-row", &[2, 2], &[7.; 4], 0.5), "10\n10");
        assert_eq!(select("unstructured", &[1, 3], &[0.0, -0.0, 0.0], 2. / 3.), "100");
    }

    #[test]
    fn a_shorter_last_group_keeps_at_most_n() {
        assert_eq!(select("2:4", &[1, 7], &[1., 2., 3., 4., 5., 6., 7.], 0.5), "0011011");
        assert_eq!(select("2:4", &[2, 1], &[0., 0.], 0.5), "1\n1");
        assert_eq!(select("output-2:4", &[5, 1], &[1., 2., 3., 4., 5.], 0.5), "0\n0\n1\n1\n1");
    }

    #[test]
    fn rows_lose_equally_many_or_compete() {
        let scores = [1., 2., 3., 4.];
        assert_eq!(select("unstructured", &[2, 2], &scores, 0.5), "00\n11");
        assert_eq!(select("unstructured-row", &[2, 2], &scores, 0.5), "01\n01");
    }

    #[test]
    fn blocks_go_whole_and_ragged_edges_compete_by_their_mean() {
        // Blocks of 2 x 2 over 2 x 3: means 1.0 and 2.0; the larger sum is not the larger mean.
        assert_eq!(select("block2x2", &[2, 3], &[1., 1., 2., 1., 1., 2.], 0.5), "001\n001");
    }

    #[test]
    fn channels_are_rows_or_inputs() {
        let scores = [1., 5., 1., 2., 2., 2.];
        assert_eq!(select("channel", &[2, 3], &scores, 0.5), "111\n000");
        assert_eq!(select("input-channel", &[2, 3], &scores, 2. / 3.), "010\n010");
        // A convolution of two inputs with two taps each: an input goes with all its taps.
        let taps = [1., 9., 4., 5., /**/ 1., 1., 2., 2.];
        assert_eq!(select("input-channel", &[2, 2, 1, 2], &taps, 0.5), "00\n11\n00\n11");
    }

    /// Groups run along `kw`, then `kh`, then `in`: the row-major order of `[out, in, kh, kw]`.
    #[test]
    fn convolutions_are_grouped_along_the_flattened_row() {
        assert_eq!(select("2:4", &[1, 2, 1, 2], &[1., 4., 2., 3.], 0.5), "01\n01");
        let scores: Vec<f32> = (0..18).map(|i| ((i * 7) % 18) as f32).collect();
        let flat = select("2:4", &[1, 18], &scores, 0.5);
        assert_eq!(select("2:4", &[1, 2, 3, 3], &scores, 0.5).replace('\n', ""), flat);
    }

    #[test]
    fn n_of_m_refuses_another_sparsity() {
        let scores = Scores::new(&[1.0; 4][..], &[4]).unwrap();
        let error = Pattern::TWO_OF_FOUR.select(scores, Sparsity::new(0.9).unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "2:4 fixes the sparsity at 0.5, but 0.9 was asked for; ask for 0.5"
        );
    }

    #[test]
    fn nothing_and_everything() {
        assert_eq!(select("unstructured", &[2], &[1., 2.], 1.0), "00");
        assert_eq!(select("unstructured", &[2], &[1., 2.], 0.0), "11");
        assert_eq!(select("2:4", &[3, 0], &[], 0.5), "\n\n");
        assert_eq!(select("block2x2", &[3, 0], &[], 0.5), "\n\n");
        assert_eq!(select("channel", &[0, 3], &[], 0.5), "");
    }
}
