//! How does a search run? Check, scale, anneal on every thread, climb, and take the best by exact
//! sums.

use super::{
    Permuted, Search,
    anneal::{Found, Limits, anneal, climb},
    cost::{CLIMB, Costs, plan, rounds},
    lanes::Lane,
    scale::{Scale, columns},
    swap::Columns,
    value::Matrix,
    wide::Channels,
};
use crate::{MaskError, Scores};
use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
use rayon::prelude::*;
use std::time::Instant;

/// More channels than any layer has; places are kept in 32 bits.
const MOST_CHANNELS: usize = 1 << 24;
/// Rows of bytes whose distances surely fit into 32 bits.
const MOST_BYTE_ROWS: usize = 1 << 24;

impl Search {
    /// Searches a permutation of the input channels, axis 1 of the scores' shape (axis 0 of a
    /// vector).
    ///
    /// A convolution's `[out, in, kh, kw]` is seen as the matrix `out × (in·kh·kw)`, along whose rows
    /// the pattern runs, as everywhere in this crate; its channels are `kh·kw` columns that move
    /// together, and the search is slower. A last group of fewer than M columns takes part.
    ///
    /// Errors when a score is infinite, the seconds are negative or not finite, `threads` is 0 or
    /// there are more than 2²⁴ channels. Matrices without entries, of one group, or of equal scores
    /// give the identity.
    pub fn run(&self, scores: &Scores<'_>) -> Result<Permuted, MaskError> {
        let start = Instant::now();
        if !(self.seconds >= 0.0 && self.seconds.is_finite()) {
            return Err(MaskError::Seconds(self.seconds));
        }
        if self.threads == 0 {
            return Err(MaskError::NoThreads);
        }
        let matrix = self.matrix(scores)?;
        let mut permuted = self.search(&matrix, Some((start, self.seconds)));
        permuted.seconds = start.elapsed().as_secs_f64();
        Ok(permuted)
    }

    fn matrix<'a>(&self, scores: &'a Scores<'_>) -> Result<Matrix<'a>, MaskError> {
        let values = scores.values();
        if let Some(index) = values.iter().position(|score| !score.is_finite()) {
            return Err(MaskError::InfiniteScore { index });
        }
        let (rows, channels, width) = match scores.shape() {
            [] => (1, 1, 1),
            [channels] => (1, *channels, 1),
            [rows, channels, rest @ ..] => (*rows, *channels, rest.iter().product()),
        };
        if channels > MOST_CHANNELS {
            return Err(MaskError::Channels { channels, most: MOST_CHANNELS });
        }
        Ok(Matrix { values, rows, channels, width, pattern: self.pattern })
    }

    /// Everything but the checks; without a clock it always ends complete.
    fn search(&self, matrix: &Matrix<'_>, clock: Option<(Instant, f64)>) -> Permuted {
        let kept_default = matrix.kept(0..matrix.channels);
        let mut permuted = Permuted {
            permutation: (0..matrix.channels).collect(),
            kept: kept_default,
            kept_default,
            kept_rows: matrix.kept_rows(),
            seconds: 0.0,
            proposals: 0,
            complete: true,
        };
        // With no more than one group, or groups that end where channels end, no order is better.
        let fixed = matrix.width.is_multiple_of(matrix.pattern.m())
            || matrix.cols() <= matrix.pattern.m()
            || permuted.kept_rows <= kept_default;
        let Some(scale) = (!fixed).then(|| Scale::of(matrix.values)).flatten() else {
            return permuted;
        };
        let chains: Vec<Vec<Found>> = if self.threads == 1 {
            vec![self.chain(matrix, scale, 0, clock)]
        } else {
            let chain = |chain| self.chain(matrix, scale, chain, clock);
            (0..self.threads).into_par_iter().map(chain).collect()
        };
        for found in chains.into_iter().flatten() {
            let order = found.order.iter().map(|&channel| channel as usize);
            let kept = matrix.kept(order.clone());
            if kept > permuted.kept {
                permuted.kept = kept;
                permuted.permutation = order.collect();
            }
            permuted.proposals += found.proposals;
            permuted.complete &= found.complete;
        }
        permuted
    }

    /// Anneals with bytes if they suffice, then climbs with floats. Both orders are returned, for
    /// exact sums to choose.
    fn chain(
        &self,
        matrix: &Matrix<'_>,
        scale: Scale,
        chain: usize,
        clock: Option<(Instant, f64)>,
    ) -> Vec<Found> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        for _ in 0..chain {
            rng.jump();
        }
        let identity: Vec<usize> = (0..matrix.channels).collect();
        let annealed = if scale.bytes && matrix.rows <= MOST_BYTE_ROWS {
            self.anneal(matrix, &identity, |value| scale.byte(value), &mut rng, clock)
        } else {
            self.anneal(matrix, &identity, |value| scale.float(value), &mut rng, clock)
        };
        let start: Vec<usize> = annealed.order.iter().map(|&channel| channel as usize).collect();
        let (values, stride) = columns(matrix, &start, |value| scale.float(value));
        let costs = Costs::new::<f32>(stride, matrix.width, self.pattern);
        let limits = Limits { work: CLIMB * self.plan(matrix, costs), clock };
        let mut climbed = match matrix.width {
            1 => climb(&mut Columns::new(values, stride, start.len(), self.pattern), costs, limits),
            width => {
                let real = start.len();
                let mut channels = Channels::new(values, stride, width, real, self.pattern);
                climb(&mut channels, costs, limits)
            }
        };
        for channel in &mut climbed.order {
            *channel = start[*channel as usize] as u32;
        }
        vec![annealed, climbed]
    }

    fn anneal<L: Lane>(
        &self,
        matrix: &Matrix<'_>,
        identity: &[usize],
        lane: impl Fn(f32) -> L,
        rng: &mut Xoshiro256PlusPlus,
        clock: Option<(Instant, f64)>,
    ) -> Found {
        let (values, stride) = columns(matrix, identity, lane);
        let costs = Costs::new::<L>(stride, matrix.width, self.pattern);
        // When the clock runs out, time is left to climb.
        let clock = clock.map(|(start, seconds)| (start, 0.95 * seconds));
        let work = (1.0 - CLIMB) * self.plan(matrix, costs);
        let rounds = rounds(work, identity.len(), costs);
        let limits = Limits { work: work / rounds as f64, clock };
        let (real, pattern) = (identity.len(), self.pattern);
        match matrix.width {
            1 => {
                let columns = Columns::new(values, stride, real, pattern);
                best_of(rounds, matrix, || anneal(&mut columns.clone(), rng, costs, limits))
            }
            width => {
                let channels = Channels::new(values, stride, width, real, pattern);
                best_of(rounds, matrix, || anneal(&mut channels.clone(), rng, costs, limits))
            }
        }
    }

    fn plan(&self, matrix: &Matrix<'_>, costs: Costs) -> f64 {
        plan(self.seconds, self.threads, matrix.values.len(), matrix.channels, costs)
    }
}

/// Anneals several times, always from the order given, and takes the best.
fn best_of(rounds: usize, matrix: &Matrix<'_>, mut anneal: impl FnMut() -> Found) -> Found {
    let mut best = anneal();
    let value = |found: &Found| matrix.kept(found.order.iter().map(|&channel| channel as usize));
    let mut kept = value(&best);
    for _ in 1..rounds {
        if !best.complete {
            break;
        }
        let mut next = anneal();
        next.proposals += best.proposals;
        let next_kept = value(&next);
        if next_kept > kept {
            (best, kept) = (next, next_kept);
        } else {
            (best.proposals, best.complete) = (next.proposals, next.complete);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NOfM, permute::check};

    /// Scores without structure; every 16th column is far larger when `far`.
    fn scores(rows: usize, cols: usize, far: bool) -> Vec<f32> {
        let scale = |i: usize| if far && (i % cols).is_multiple_of(16) { 1e5 } else { 1.0 };
        (0..rows * cols).map(|i| (i * i * 7919 % 1009) as f32 * scale(i)).collect()
    }

    fn search(values: &[f32], shape: &[usize], seed: u64, threads: usize) -> Permuted {
        let search = Search { pattern: NOfM::TWO_OF_FOUR, seconds: 0.02, seed, threads };
        let scores = Scores::new(values, shape).unwrap();
        search.search(&search.matrix(&scores).unwrap(), None)
    }

    /// Without a clock nothing but the inputs decides; bytes, floats and wide channels alike.
    #[test]
    fn the_seed_decides_and_threads_only_add() {
        for (shape, far) in [([48, 40, 1], false), ([48, 40, 1], true), ([16, 18, 3], false)] {
            let values = scores(shape[0], shape[1] * shape[2], far);
            assert_eq!(Scale::of(&values).unwrap().bytes, !far);
            let one = search(&values, &shape, 5, 1);
            check(one.permutation()).unwrap();
            assert!(one.complete() && one.kept() > one.kept_default() && one.proposals() > 1000);
            assert_eq!(one, search(&values, &shape, 5, 1));
            let [two, four] = [2, 4].map(|threads| search(&values, &shape, 5, threads));
            assert_eq!(four, search(&values, &shape, 5, 4));
            assert!(four.kept() >= two.kept() && four.proposals() > two.proposals() * 3 / 2);
            assert_ne!(one.permutation(), search(&values, &shape, 6, 1).permutation());
        }
    }
}
