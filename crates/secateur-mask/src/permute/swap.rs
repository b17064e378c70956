//! What does a swap of two columns gain? Two L1 distances, less two that are known.
//!
//! Take column `a` out of its group: in each row let `t_a` be the N-th largest of the M − 1 that
//! remain. With `x` in the place of `a` the group keeps `T_a + max(t_a, x)`, where `T_a`, the sum of
//! the N − 1 largest, is the same for every `x`. As `max(t, x) = (t + x + |t − x|) / 2`, all but the
//! distances cancels when `a` and `b` of two groups change places:
//!
//! ```text
//! gain = ½ Σ_rows ( |t_a − x_b| + |t_b − x_a| − |t_a − x_a| − |t_b − x_b| )
//! ```

use super::{
    anneal::Moves,
    lanes::{Lane, STEP, UNROLLED, largest},
};
use crate::NOfM;
use std::ops::Range;

/// A matrix of single columns, in their present places.
#[derive(Clone)]
pub(super) struct Columns<L> {
    /// One column after another.
    values: Vec<L>,
    /// `t` of every column, laid out the same.
    thresholds: Vec<L>,
    /// `Σ |t_a − x_a|` of every column.
    own: Vec<f64>,
    /// Which column is where; virtual ones are not listed.
    order: Vec<u32>,
    stride: usize,
    pattern: NOfM,
}

impl<L: Lane> Columns<L> {
    /// Columns of `stride` rows each in their first order; those beyond `real` are virtual: they
    /// fill up the last group and never move.
    pub(super) fn new(values: Vec<L>, stride: usize, real: usize, pattern: NOfM) -> Self {
        let places = values.len() / stride;
        let mut columns = Self {
            thresholds: vec![L::ZERO; values.len()],
            own: vec![0.0; places],
            order: (0..real as u32).collect(),
            values,
            stride,
            pattern,
        };
        for group in 0..places / pattern.m() {
            columns.refresh(group);
        }
        columns
    }

    #[inline]
    fn column(&self, place: usize) -> &[L] {
        &self.values[place * self.stride..][..self.stride]
    }

    #[inline]
    fn threshold(&self, place: usize) -> &[L] {
        &self.thresholds[place * self.stride..][..self.stride]
    }

    /// Computes `t` anew for one group.
    fn refresh(&mut self, group: usize) {
        match self.pattern.n() {
            1 => self.refresh_as::<2>(group),
            2 => self.refresh_as::<3>(group),
            3 => self.refresh_as::<4>(group),
            4 => self.refresh_as::<5>(group),
            5..=8 => self.refresh_as::<9>(group),
            9..=16 => self.refresh_as::<17>(group),
            _ => self.refresh_as::<65>(group),
        }
        for place in group * self.pattern.m()..(group + 1) * self.pattern.m() {
            self.own[place] = L::distance(self.threshold(place), self.column(place));
        }
    }

    /// Without a column that is among the N largest, the N-th largest is the one that was next;
    /// without any other column it is what it was. `K` is N + 1; above [`UNROLLED`], at least.
    fn refresh_as<const K: usize>(&mut self, group: usize) {
        let (n, m, stride) = (self.pattern.n(), self.pattern.m(), self.stride);
        let keep = if K > UNROLLED { n + 1 } else { K };
        let range = group * m * stride..(group + 1) * m * stride;
        let (values, thresholds) = (&self.values[range.clone()], &mut self.thresholds[range]);
        for row in (0..stride).step_by(STEP) {
            let columns = (0..m).map(|place| L::step(&values[place * stride + row..]));
            let top = largest::<L, K>(columns, keep);
            let (nth, next) = (&top[keep - 2], &top[keep - 1]);
            for at in (row..m * stride).step_by(stride) {
                let value = L::step(&values[at..]);
                let threshold = &mut thresholds[at..at + STEP];
                for lane in 0..STEP {
                    threshold[lane] = if value[lane] >= nth[lane] { next[lane] } else { nth[lane] };
                }
            }
        }
    }
}

impl<L: Lane> Moves for Columns<L> {
    #[inline(always)]
    fn gain(&self, a: usize, b: usize) -> f64 {
        let (x_a, t_a) = (self.column(a), self.threshold(a));
        let (x_b, t_b) = (self.column(b), self.threshold(b));
        0.5 * (L::distances(t_a, x_b, t_b, x_a) - self.own[a] - self.own[b])
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (low, high) = (a.min(b), a.max(b));
        let (head, tail) = self.values.split_at_mut(high * self.stride);
        head[low * self.stride..][..self.stride].swap_with_slice(&mut tail[..self.stride]);
        self.order.swap(a, b);
        self.refresh(a / self.pattern.m());
        self.refresh(b / self.pattern.m());
    }

    fn order(&self) -> &[u32] {
        &self.order
    }

    fn pointless(&self, place: usize) -> Range<usize> {
        let first = place / self.pattern.m() * self.pattern.m();
        first..(first + self.pattern.m()).min(self.order.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permute::{
        anneal::swaps_are_what_recomputation_says, lanes::PADDING, scale, value::Matrix,
    };

    /// Gains and thresholds against the definition, over patterns, widths and ragged groups.
    #[test]
    fn gains_are_what_recomputation_says() {
        for (n, m, cols) in [
            (2, 4, 16),
            (2, 4, 15),
            (1, 2, 7),
            (1, 4, 13),
            (3, 4, 9),
            (3, 8, 17),
            (7, 8, 20),
            (12, 20, 50),
        ] {
            let pattern = NOfM::new(n, m).unwrap();
            let values: Vec<f32> = (0..20 * cols).map(|i| (i * i * 7919 % 251) as f32).collect();
            let matrix = Matrix { values: &values, rows: 20, channels: cols, width: 1, pattern };
            let mut order: Vec<usize> = (0..cols).collect();
            let (bytes, stride) = scale::columns(&matrix, &order, |value| value as u8);
            assert_eq!(stride, PADDING);
            let (floats, _) = scale::columns(&matrix, &order, |value| value);
            let mut bytes = Columns::new(bytes, stride, cols, pattern);
            let mut floats = Columns::new(floats, stride, cols, pattern);
            swaps_are_what_recomputation_says(&matrix, &mut bytes, &mut floats, &mut order);
        }
    }
}
