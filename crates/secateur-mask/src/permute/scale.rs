//! Do eight bits suffice? Scores as bytes where they do, as floats where not.
//!
//! Sums over many rows forgive rounding: with 256 levels the search finds what it finds with floats,
//! at several times the speed. That fails when few scores are so far from the rest that the rest
//! falls into a handful of levels. The far ones are clipped, at three times the span of the middle
//! 98 %, and when the middle half still covers fewer than eight levels, floats are taken.

use super::{
    lanes::{Lane, PADDING},
    value::Matrix,
};

/// How scores become lanes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    /// Whether eight bits suffice.
    pub(super) bytes: bool,
}

impl Scale {
    /// The scale of a matrix, or `None` when all its scores are equal or there are none.
    pub(super) fn of(values: &[f32]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        if least >= most {
            return None;
        }
        let quantile = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
        let margin = 3.0 * (quantile(99) - quantile(1));
        let (mut low, mut high) = (least, most);
        if margin > 0.0 {
            low = low.max(quantile(1) - margin);
            high = high.min(quantile(99) + margin);
        }
        let levels = 255.0 * (quantile(75) - quantile(25)) / (high - low);
        Some(Self { low, high, bytes: levels >= 8.0 })
    }

    /// The share of the way from `low` to `high`, below at least 0.
    fn share(self, value: f32) -> f64 {
        ((f64::from(value) - self.low) / (self.high - self.low)).max(0.0)
    }

    /// One byte, clipped on both sides.
    pub(super) fn byte(self, value: f32) -> u8 {
        (self.share(value) * 255.0).round() as u8
    }

    /// A float, clipped below, and above only where sums would overflow.
    pub(super) fn float(self, value: f32) -> f32 {
        self.share(value).min(1e18) as f32
    }
}

/// The columns of a matrix in a given order of its channels, one after another: rows padded, and the
/// last group filled up with virtual columns of zeros.
pub(super) fn columns<L: Lane>(
    matrix: &Matrix<'_>,
    order: &[usize],
    lane: impl Fn(f32) -> L,
) -> (Vec<L>, usize) {
    let (rows, cols, width) = (matrix.rows, matrix.cols(), matrix.width);
    let stride = rows.next_multiple_of(PADDING);
    let mut columns = vec![L::ZERO; stride * cols.next_multiple_of(matrix.pattern.m())];
    for (row, scores) in matrix.values.chunks_exact(cols.max(1)).enumerate() {
        for (place, &channel) in order.iter().enumerate() {
            for column in 0..width {
                columns[(place * width + column) * stride + row] =
                    lane(scores[channel * width + column]);
            }
        }
    }
    (columns, stride)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_scores_fit_into_bytes_end_to_end() {
        let values: Vec<f32> = (0..1000_i16).map(|i| f32::from(i) - 200.0).collect();
        let scale = Scale::of(&values).unwrap();
        assert!(scale.bytes);
        assert_eq!([-200.0, 799.0, 299.5].map(|value| scale.byte(value)), [0, 255, 128]);
    }

    #[test]
    fn a_far_score_is_clipped_and_many_call_for_floats() {
        let mut values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        values[0] = 1e30;
        let scale = Scale::of(&values).unwrap();
        assert!(scale.bytes && scale.byte(1e30) == 255 && scale.byte(999.0) > 50);
        values[..100].fill(1e6);
        assert!(!Scale::of(&values).unwrap().bytes);
        values[..100].fill(f32::MAX);
        values[200] = f32::MIN;
        let scale = Scale::of(&values).unwrap();
        assert!(values.iter().all(|&value| scale.float(value).is_finite()));
    }

    #[test]
    fn nothing_to_tell_apart() {
        assert_eq!(Scale::of(&[]), None);
        assert_eq!(Scale::of(&[2.0; 9]), None);
    }
}
