//! Which swaps are made? Simulated annealing (Kirkpatrick et al. 1983), counted in work.
//!
//! A swap that gains is always made, one that loses `d` with probability `exp(−d / temperature)`.
//! The temperature starts where the order of the columns just melts and falls to where it freezes;
//! both are constants in units of the median `|gain|` of random swaps. Everything that decides is
//! arithmetic that IEEE 754 fixes to the last bit (no `exp`, no `ln` of the platform), and progress
//! is counted in nominal nanoseconds of [`Costs`], not read from a clock.

use super::cost::Costs;
use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::Rng};
use std::{ops::Range, time::Instant};

/// Where annealing starts, in median `|gain|`s.
const HOT: f64 = 0.22;
/// Where it ends; then comes the quench.
const COLD: f64 = 0.12;
/// The share of the work after which the temperature drops to zero.
const QUENCH: f64 = 0.95;
/// Random swaps that measure the median.
const SAMPLES: usize = 1001;
/// Nominal nanoseconds between two looks at the clock.
const LOOK: f64 = 200_000.0;

/// A matrix in which two places can change their content.
pub(super) trait Moves {
    /// What swapping places `a` and `b` would gain.
    fn gain(&self, a: usize, b: usize) -> f64;
    /// Swaps them.
    fn swap(&mut self, a: usize, b: usize);
    /// The first content of every place that can move.
    fn order(&self) -> &[u32];
    /// The places, `place` among them, with which swapping it gains nothing.
    fn pointless(&self, place: usize) -> Range<usize>;
}

/// How long a chain may take: in nominal work, and by the clock.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Nominal nanoseconds.
    pub(super) work: f64,
    /// Start and seconds; `None` in tests that must not depend on a clock.
    pub(super) clock: Option<(Instant, f64)>,
}

impl Limits {
    pub(super) fn passed(&self) -> bool {
        self.clock.is_some_and(|(start, seconds)| start.elapsed().as_secs_f64() > seconds)
    }
}

/// What a chain found.
pub(super) struct Found {
    pub(super) order: Vec<u32>,
    /// Swaps looked at.
    pub(super) proposals: u64,
    /// Whether all the planned work was done.
    pub(super) complete: bool,
}

/// Anneals from the present order; the best order on the way.
pub(super) fn anneal(
    moves: &mut impl Moves,
    rng: &mut Xoshiro256PlusPlus,
    costs: Costs,
    limits: Limits,
) -> Found {
    let places = moves.order().len();
    let mut found = Found { order: moves.order().to_vec(), proposals: 0, complete: true };
    let mut work = SAMPLES as f64 * costs.proposal;
    let Some(unit) = (work < limits.work).then(|| median_gain(moves, rng)).flatten() else {
        return found;
    };
    let logs = log_table();
    let (mut value, mut best, mut saved, mut next_look) = (0.0, 0.0, true, 0.0);
    while work < limits.work {
        if work >= next_look {
            if limits.passed() {
                found.complete = false;
                break;
            }
            next_look = work + LOOK;
        }
        let temperature = unit * schedule(work / limits.work);
        let a = below(rng.next_u64(), places);
        let pointless = moves.pointless(a);
        let (mut swaps, mut bits, mut draws) = (0_u32, 0, 0);
        for b in (0..pointless.start).chain(pointless.end..places) {
            if draws == 0 {
                (bits, draws) = (rng.next_u64(), 6);
            }
            let log = logs[(bits & 1023) as usize];
            (bits, draws) = (bits >> 10, draws - 1);
            let gain = moves.gain(a, b);
            // Equals are left alone: on a matrix of ties everything would move for nothing.
            if gain < temperature * log || gain == 0.0 {
                continue;
            }
            if gain < 0.0 && !saved {
                found.order.copy_from_slice(moves.order());
                saved = true;
            }
            moves.swap(a, b);
            swaps += 1;
            value += gain;
            if value > best {
                (best, saved) = (value, false);
            }
        }
        let proposals = places - pointless.len();
        found.proposals += proposals as u64;
        work += costs.proposal * (proposals + 1) as f64 + costs.swap * f64::from(swaps);
    }
    if !saved {
        found.order.copy_from_slice(moves.order());
    }
    found
}

/// Makes every swap that gains until none does or the work is done.
pub(super) fn climb(moves: &mut impl Moves, costs: Costs, limits: Limits) -> Found {
    let places = moves.order().len();
    let (mut work, mut proposals, mut complete, mut quiet) = (0.0, 0, true, 0);
    'climb: for a in (0..places).cycle() {
        let pointless = moves.pointless(a);
        quiet += 1;
        if limits.passed() {
            complete = false;
            break;
        }
        for b in pointless.end..places {
            if work >= limits.work {
                break 'climb;
            }
            proposals += 1;
            work += costs.proposal;
            // Less than this is rounding, by which a climb could go round in circles.
            if moves.gain(a, b) > 1e-5 {
                moves.swap(a, b);
                work += costs.swap;
                quiet = 0;
            }
        }
        if quiet > places {
            break;
        }
    }
    Found { order: moves.order().to_vec(), proposals, complete }
}

/// The temperature after a share of the work.
fn schedule(share: f64) -> f64 {
    if share < QUENCH {
        HOT + (COLD - HOT) * share / QUENCH
    } else {
        COLD * (1.0 - share) / (1.0 - QUENCH)
    }
}

/// The median of `|gain|` over random swaps, those that change nothing left out.
fn median_gain(moves: &impl Moves, rng: &mut Xoshiro256PlusPlus) -> Option<f64> {
    let places = moves.order().len();
    let mut gains = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let a = below(rng.next_u64(), places);
        let pointless = moves.pointless(a);
        if pointless.len() == places {
            continue; // one group alone
        }
        let b = below(rng.next_u64(), places - pointless.len());
        let b = if b < pointless.start { b } else { b + pointless.len() };
        gains.push(moves.gain(a, b).abs());
    }
    gains.retain(|gain| *gain > 0.0);
    gains.sort_by(f64::total_cmp);
    gains.get(gains.len() / 2).copied()
}

/// A place below `places`, which is at least 1 and at most 2³².
fn below(word: u64, places: usize) -> usize {
    (((word >> 32) * places as u64) >> 32) as usize
}

/// `ln((i + ½) / 1024)`, by the series of the area hyperbolic tangent, the same on every machine.
fn log_table() -> [f64; 1024] {
    let mut logs = [0.0; 1024];
    let mut sum = 0.0;
    for (i, log) in logs.iter_mut().enumerate().rev() {
        // From i + 1½ down to i + ½; from 1024 down to 1023½ at the top.
        let z = if i == 1023 { 1.0 / 4095.0 } else { 1.0 / (2 * i + 2) as f64 };
        let (mut power, mut series) = (z, 0.0);
        for k in 0..32 {
            series += power / f64::from(2 * k + 1);
            power *= z * z;
        }
        sum -= 2.0 * series;
        *log = sum;
    }
    logs
}

/// Sixty swaps, some taken back, on bytes and on floats: every gain is what the exact sums differ by.
#[cfg(test)]
pub(super) fn swaps_are_what_recomputation_says(
    matrix: &super::value::Matrix<'_>,
    bytes: &mut impl Moves,
    floats: &mut impl Moves,
    order: &mut [usize],
) {
    for step in 0..60 {
        let (a, b) = (step * 5 % order.len(), step * 11 % order.len());
        if bytes.pointless(a).contains(&b) {
            continue;
        }
        let before = matrix.kept(order.iter().copied());
        order.swap(a, b);
        let gain = matrix.kept(order.iter().copied()) - before;
        assert_eq!(bytes.gain(a, b), gain, "{:?}, {a} and {b}", matrix.pattern);
        assert!((floats.gain(a, b) - gain).abs() < 1e-2, "{:?}, {a} and {b}", matrix.pattern);
        if step % 3 == 0 {
            order.swap(a, b);
        } else {
            bytes.swap(a, b);
            floats.swap(a, b);
        }
    }
    assert!(bytes.order().iter().zip(order).all(|(&a, &mut b)| a as usize == b));
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::rand_core::SeedableRng;

    #[test]
    fn logarithms_are_logarithms() {
        for (i, log) in log_table().into_iter().enumerate() {
            assert!((log - ((i as f64 + 0.5) / 1024.0).ln()).abs() < 1e-9, "{i}: {log}");
        }
    }

    #[test]
    fn the_schedule_falls_to_zero() {
        let temperatures: Vec<f64> = (0..=1000).map(|i| schedule(f64::from(i) / 1000.0)).collect();
        assert!(temperatures.windows(2).all(|pair| pair[0] > pair[1]));
        assert_eq!((temperatures[0], temperatures[1000]), (HOT, 0.0));
    }

    /// A landscape without slopes: every order has a value of its own.
    struct Rugged {
        order: Vec<u32>,
        best: i64,
    }

    fn rugged(order: &[u32]) -> i64 {
        order.iter().fold(17_i64, |hash, &place| (hash * 31 + i64::from(place)) * 7919 % 10_007)
    }

    impl Moves for Rugged {
        fn gain(&self, a: usize, b: usize) -> f64 {
            let mut order = self.order.clone();
            order.swap(a, b);
            (rugged(&order) - rugged(&self.order)) as f64
        }
        fn swap(&mut self, a: usize, b: usize) {
            self.order.swap(a, b);
            self.best = self.best.max(rugged(&self.order));
        }
        fn order(&self) -> &[u32] {
            &self.order
        }
        fn pointless(&self, place: usize) -> Range<usize> {
            place..place + 1
        }
    }

    #[test]
    fn the_best_on_the_way_is_what_comes_back() {
        let costs = Costs { proposal: 1.0, swap: 0.0 };
        for seed in 0..20 {
            let order: Vec<u32> = (0..7).collect();
            let mut moves = Rugged { best: rugged(&order), order };
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let limits = Limits { work: 3000.0, clock: None };
            let found = anneal(&mut moves, &mut rng, costs, limits);
            assert!(found.complete && found.proposals > 1000);
            assert_eq!(rugged(&found.order), moves.best);
        }
    }
}
