//! How much search fits into a second? A nominal machine, so that the answer is the same everywhere.
//!
//! A budget of seconds becomes a budget of work before the search starts, by constants measured
//! once (on a server core of 2023, baseline SSE2). On a faster machine
//! a search ends early, on a slower one later, but what it finds is the same.

use super::lanes::{Lane, STEP, UNROLLED};
use crate::NOfM;

/// The share of a budget that is planned; the rest is for machines slower than the nominal one.
const PLANNED: f64 = 0.95;
/// The same for several chains, which share caches and whatever else runs on the machine.
const PLANNED_TOGETHER: f64 = 0.75;
/// Nominal nanoseconds until several threads have started.
const STARTING: f64 = 10_000_000.0;
/// Of the planned work, the share that is left for the last climb.
pub(super) const CLIMB: f64 = 0.04;
/// No search looks at more than so many swaps for each pair of channels.
const PER_PAIR: f64 = 100_000.0;

/// Swaps to look at for each pair of channels before it is better to start afresh.
const ROUND: f64 = 2_500.0;

/// What things cost, in nominal nanoseconds.
#[derive(Clone, Copy)]
pub(super) struct Costs {
    /// Looking at a swap.
    pub(super) proposal: f64,
    /// Making one.
    pub(super) swap: f64,
}

impl Costs {
    /// For columns or channels of `stride` rows.
    pub(super) fn new<L: Lane>(stride: usize, width: usize, pattern: NOfM) -> Self {
        let (n, m) = (pattern.n() as f64, pattern.m() as f64);
        let registers = (stride * L::BYTES) as f64 / 16.0;
        let steps = (stride / STEP) as f64;
        // Minima and maxima are cheap where the loop over N is unrolled.
        let each = if pattern.n() < UNROLLED { 0.4 } else { 1.6 };
        let sorting = each * L::BYTES as f64 * steps * m;
        if width == 1 {
            Self {
                proposal: 3.2 + 0.78 * registers,
                swap: 60.0 + 2.0 * (sorting * (n + 2.0) + m * registers),
            }
        } else {
            let touched = 2.0 * ((width as f64 - 1.0) / m + 1.0);
            let floats = if L::BYTES == 4 && pattern.n() < UNROLLED { 3.0 } else { 1.0 };
            let group = 6.0 + 1.5 * m + 0.75 * floats * (sorting * n + n * steps);
            Self { proposal: touched * group, swap: 100.0 + touched * group }
        }
    }
}

/// Nominal nanoseconds of search that `seconds` hold for a matrix of so many `entries` and
/// `channels`; what has to be done anyway is taken off.
pub(super) fn plan(
    seconds: f64,
    threads: usize,
    entries: usize,
    channels: usize,
    costs: Costs,
) -> f64 {
    let (planned, starting) = match threads {
        1 => (PLANNED, 0.0),
        // A short budget still does something.
        _ => (PLANNED_TOGETHER, STARTING.min(0.1 * seconds * 1e9)),
    };
    let fixed = 60.0 * entries as f64 + 20_000.0 + starting;
    let most = PER_PAIR * pairs(channels) * costs.proposal;
    (planned * seconds * 1e9 - fixed).clamp(0.0, most)
}

/// How often to anneal within an amount of work: once, until a round gets long enough that a second
/// one is likelier to find something better than a slower first one.
pub(super) fn rounds(work: f64, channels: usize, costs: Costs) -> usize {
    (work / (ROUND * pairs(channels) * costs.proposal)).max(1.0) as usize
}

fn pairs(channels: usize) -> f64 {
    let channels = channels as f64;
    (0.5 * channels * (channels - 1.0)).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_become_work() {
        let costs = Costs::new::<u8>(128, 1, NOfM::TWO_OF_FOUR);
        let plan = |seconds, threads| plan(seconds, threads, 8192, 64, costs);
        assert_eq!(plan(0.0, 1), 0.0);
        let (one, ten) = (plan(1.0, 1), plan(10.0, 1));
        assert!(9e8 < one && one < 9.5e8 && ten > one && plan(1.0, 2) < one);
        assert_eq!(plan(1e300, 1), plan(1e9, 1));
    }

    #[test]
    fn rounds_come_with_time() {
        let costs = Costs::new::<u8>(128, 1, NOfM::TWO_OF_FOUR);
        let rounds = |seconds| rounds(plan(seconds, 1, 8192, 64, costs), 64, costs);
        assert_eq!((rounds(0.0), rounds(0.05)), (1, 1));
        assert!((10..25).contains(&rounds(1.0)) && rounds(1e9) < 50);
    }

    #[test]
    fn more_costs_more() {
        let cost = |stride, width| Costs::new::<u8>(stride, width, NOfM::TWO_OF_FOUR).proposal;
        assert!(cost(128, 1) < cost(256, 1));
        assert!(cost(128, 1) < cost(128, 9));
        let floats = Costs::new::<f32>(128, 1, NOfM::TWO_OF_FOUR);
        assert!(floats.proposal > cost(128, 1));
    }
}
