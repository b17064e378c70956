//! What does a swap of two convolution channels gain? The groups they touch, computed anew.
//!
//! A channel of a convolution is `kh · kw` neighbouring columns that move together. Groups of M do
//! not line up with channels, so one group may hold parts of several, and one channel may be part
//! of several groups; the short formula of `swap.rs` does not apply. Here every group remembers
//! what it keeps, and a swap is tried by computing the groups under both channels with the two
//! exchanged.

use super::{
    anneal::Moves,
    lanes::{Lane, STEP, UNROLLED, largest},
};
use crate::NOfM;
use std::ops::Range;

/// A matrix of channels that are several columns wide, in their present places.
#[derive(Clone)]
pub(super) struct Channels<L> {
    /// One column after another, so that a channel is contiguous; virtual columns at the end.
    values: Vec<L>,
    /// What every group keeps.
    kept: Vec<f64>,
    /// Which channel is where.
    order: Vec<u32>,
    stride: usize,
    width: usize,
    pattern: NOfM,
}

impl<L: Lane> Channels<L> {
    /// Channels of `width` columns of `stride` rows each in their first order; columns beyond the
    /// `real` channels are virtual.
    pub(super) fn new(
        values: Vec<L>,
        stride: usize,
        width: usize,
        real: usize,
        pattern: NOfM,
    ) -> Self {
        let groups = values.len() / stride / pattern.m();
        let order = (0..real as u32).collect();
        let mut channels = Self { values, kept: Vec::new(), order, stride, width, pattern };
        channels.kept = (0..groups).map(|group| channels.group(group, 0, 0)).collect();
        channels
    }

    /// What a group keeps when the channels at `a` and `b` have changed places.
    fn group(&self, group: usize, a: usize, b: usize) -> f64 {
        match self.pattern.n() {
            1 => self.group_as::<1>(group, a, b),
            2 => self.group_as::<2>(group, a, b),
            3 => self.group_as::<3>(group, a, b),
            4 => self.group_as::<4>(group, a, b),
            5..=8 => self.group_as::<8>(group, a, b),
            9..=16 => self.group_as::<16>(group, a, b),
            _ => self.group_as::<64>(group, a, b),
        }
    }

    /// `K` is N; above [`UNROLLED`], at least.
    fn group_as<const K: usize>(&self, group: usize, a: usize, b: usize) -> f64 {
        let (n, m) = (if K > UNROLLED { self.pattern.n() } else { K }, self.pattern.m());
        let mut starts = [0; 64];
        for (start, column) in starts.iter_mut().zip(group * m..(group + 1) * m) {
            let channel = match column / self.width {
                channel if channel == a => b,
                channel if channel == b => a,
                channel => channel,
            };
            *start = (channel * self.width + column % self.width) * self.stride;
        }
        let mut kept = 0.0;
        for row in (0..self.stride).step_by(STEP) {
            let columns = starts[..m].iter().map(|start| L::step(&self.values[start + row..]));
            let top = largest::<L, K>(columns, n);
            kept += top[..n].iter().map(L::total).sum::<f64>();
        }
        kept
    }

    /// The groups that hold a part of the channel at `place`.
    fn groups(&self, place: usize) -> Range<usize> {
        let m = self.pattern.m();
        place * self.width / m..((place + 1) * self.width).div_ceil(m)
    }

    /// The groups under either of two channels, each once.
    fn touched(&self, a: usize, b: usize) -> impl Iterator<Item = usize> + use<L> {
        let (low, high) = (self.groups(a.min(b)), self.groups(a.max(b)));
        let rest = high.start.max(low.end)..high.end;
        low.chain(rest)
    }
}

impl<L: Lane> Moves for Channels<L> {
    fn gain(&self, a: usize, b: usize) -> f64 {
        self.touched(a, b).map(|group| self.group(group, a, b) - self.kept[group]).sum()
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (len, low, high) = (self.width * self.stride, a.min(b), a.max(b));
        let (head, tail) = self.values.split_at_mut(high * len);
        head[low * len..][..len].swap_with_slice(&mut tail[..len]);
        self.order.swap(a, b);
        for group in self.touched(a, b) {
            self.kept[group] = self.group(group, a, a);
        }
    }

    fn order(&self) -> &[u32] {
        &self.order
    }

    fn pointless(&self, place: usize) -> Range<usize> {
        place..place + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permute::{
        anneal::swaps_are_what_recomputation_says, lanes::PADDING, scale, value::Matrix,
    };

    /// Gains against the definition, over patterns, widths and ragged groups.
    #[test]
    fn gains_are_what_recomputation_says() {
        for (n, m, cols, width) in
            [(2, 4, 8, 9), (2, 4, 7, 3), (1, 4, 9, 2), (3, 8, 5, 5), (12, 20, 9, 9), (2, 4, 6, 4)]
        {
            let pattern = NOfM::new(n, m).unwrap();
            let values: Vec<f32> =
                (0..20 * cols * width).map(|i| (i * i * 7919 % 251) as f32).collect();
            let matrix = Matrix { values: &values, rows: 20, channels: cols, width, pattern };
            let mut order: Vec<usize> = (0..cols).collect();
            let (bytes, stride) = scale::columns(&matrix, &order, |value| value as u8);
            assert_eq!(stride, PADDING);
            let (floats, _) = scale::columns(&matrix, &order, |value| value);
            let mut bytes = Channels::new(bytes, stride, width, cols, pattern);
            let mut floats = Channels::new(floats, stride, width, cols, pattern);
            swaps_are_what_recomputation_says(&matrix, &mut bytes, &mut floats, &mut order);
        }
    }
}
