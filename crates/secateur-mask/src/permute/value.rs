//! What is a permutation worth? Exact sums in `f64`, computed from the scores as they were given.

use crate::NOfM;

/// A score matrix whose columns move in channels.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    /// Row-major, `channels · width` to a row.
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) channels: usize,
    /// Columns of a channel.
    pub(super) width: usize,
    pub(super) pattern: NOfM,
}

impl Matrix<'_> {
    /// Columns of the matrix.
    pub(super) fn cols(&self) -> usize {
        self.channels * self.width
    }

    /// The sum of the scores that N:M keeps when the channels stand in `order`.
    pub(super) fn kept(&self, order: impl Iterator<Item = usize> + Clone) -> f64 {
        let (n, m, width) = (self.pattern.n(), self.pattern.m(), self.width);
        if self.values.is_empty() {
            return 0.0;
        }
        let mut permuted = Vec::with_capacity(self.cols());
        let mut kept = 0.0;
        for row in self.values.chunks_exact(self.cols()) {
            permuted.clear();
            for channel in order.clone() {
                permuted.extend_from_slice(&row[channel * width..][..width]);
            }
            kept += permuted.chunks_mut(m).map(|group| sum_of_largest(group, n)).sum::<f64>();
        }
        kept
    }

    /// The sum of the best scores of every row, as many as N:M keeps of it, wherever they are: no
    /// permutation keeps more.
    pub(super) fn kept_rows(&self) -> f64 {
        let (n, m) = (self.pattern.n(), self.pattern.m());
        if self.values.is_empty() {
            return 0.0;
        }
        let keep = self.cols() / m * n + (self.cols() % m).min(n);
        let mut row = Vec::with_capacity(self.cols());
        let mut kept = 0.0;
        for scores in self.values.chunks_exact(self.cols()) {
            row.clear();
            row.extend_from_slice(scores);
            kept += sum_of_largest(&mut row, keep);
        }
        kept
    }
}

/// The sum of the `n` largest; reorders.
fn sum_of_largest(scores: &mut [f32], n: usize) -> f64 {
    if n < scores.len() && n > 0 {
        scores.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a));
    }
    scores.iter().take(n).map(|&score| f64::from(score)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ragged_group_keeps_what_it_can() {
        let pattern = NOfM::TWO_OF_FOUR;
        let values = [4.0, 3.0, 2.0, 1.0, -1.0];
        let matrix = Matrix { values: &values, rows: 1, channels: 5, width: 1, pattern };
        assert_eq!(matrix.kept(0..5), 6.0);
        assert_eq!(matrix.kept([0, 4, 2, 3, 1].into_iter()), 9.0);
        assert_eq!(matrix.kept_rows(), 9.0);
    }

    #[test]
    fn channels_move_whole() {
        let pattern = NOfM::TWO_OF_FOUR;
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let matrix = Matrix { values: &values, rows: 1, channels: 3, width: 2, pattern };
        assert_eq!(matrix.kept(0..3), 7.0 + 11.0);
        assert_eq!(matrix.kept([0, 2, 1].into_iter()), 11.0 + 7.0);
    }
}
