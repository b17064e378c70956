//! How far can a network be cut? The smallest subset of weights whose quality stays above a threshold.

use super::{Aim, Round, Schedule, check_share};
use crate::TrainError;
use secateur_mask::Sparsity;

/// Searches for the sparsest network whose validation accuracy is at least `floor`.
///
/// Each round keeps the share `keep` of the last network that met the floor. When one misses it, the search goes
/// back and takes smaller steps (the square root of the share) until `misses` rounds have missed it. Quality
/// against sparsity need not be monotonic: what is found is the sparsest network on the way that was walked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MinAccuracy {
    /// The least share of validation samples to be classified rightly.
    pub floor: f64,
    /// The share of the weights left that the first rounds keep.
    pub keep: f64,
    /// Rounds that may miss the floor before the search ends.
    pub misses: usize,
}

/// No search takes more rounds than this.
const MOST_ROUNDS: usize = 100;

impl MinAccuracy {
    /// Halves what is left until the floor is missed, then refines three times. Errors as [`Self::check`] does.
    pub fn new(floor: f64) -> Result<Self, TrainError> {
        let schedule = Self { floor, keep: 0.5, misses: 4 };
        schedule.check().map(|()| schedule)
    }

    /// Errors unless the floor is a share, and the share kept is inside 0..1.
    pub fn check(&self) -> Result<(), TrainError> {
        check_share("the least accuracy", self.floor)?;
        if self.keep > 0.0 && self.keep < 1.0 {
            return Ok(());
        }
        let (what, value) = ("the share kept by each round", self.keep.to_string());
        Err(TrainError::Setting { what, value, must: "between 0 and 1" })
    }

    fn meets(&self, round: &Round) -> bool {
        round.validation.accuracy >= self.floor
    }

    /// The sparsest network so far that meets the floor, and how many rounds did not better it: those that
    /// missed the floor, and those that could cut no more.
    fn standing(&self, done: &[Round]) -> Option<(usize, usize)> {
        let (mut best, mut misses) = (None, 0);
        for (at, round) in done.iter().enumerate() {
            let further = best.is_none_or(|best: usize| round.sparsity > done[best].sparsity);
            match self.meets(round) && further {
                true => best = Some(at),
                false => misses += 1,
            }
        }
        best.map(|best| (best, misses))
    }
}

impl Schedule for MinAccuracy {
    fn next(&self, done: &[Round]) -> Option<Aim> {
        let (from, misses) = self.standing(done)?;
        if misses >= self.misses.max(1) || done.len() > MOST_ROUNDS {
            return None;
        }
        let keep = (0..misses).fold(self.keep, |keep, _| keep.sqrt());
        let sparsity = Sparsity::new(1.0 - (1.0 - done[from].sparsity) * keep).ok()?;
        Some(Aim { sparsity, from })
    }

    fn result(&self, done: &[Round]) -> Result<usize, TrainError> {
        let best = done.first().map_or(0.0, |dense| dense.validation.accuracy);
        match self.standing(done) {
            None | Some((0, _)) => Err(TrainError::Threshold { floor: self.floor, dense: best }),
            Some((met, _)) => Ok(met),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::history;

    /// A network whose accuracy falls once less than 3 % is left.
    #[test]
    fn the_search_closes_in_on_the_sparsest_that_will_do() {
        let schedule = MinAccuracy::new(0.95).unwrap();
        let mut walked = vec![(0.0, 0.98)];
        while let Some(aim) = schedule.next(&history(&walked)) {
            let sparsity = aim.sparsity.share();
            assert!(sparsity > walked[aim.from].0);
            walked.push((sparsity, if sparsity <= 0.97 { 0.96 } else { 0.94 }));
        }
        assert_eq!(walked.iter().filter(|(_, accuracy)| *accuracy < 0.95).count(), 4);
        let found = walked[schedule.result(&history(&walked)).unwrap()].0;
        assert!((0.966..=0.97).contains(&found), "{found}: {walked:?}");
    }

    /// Rounding, or nothing left to cut: the same sparsity again and again.
    #[test]
    fn a_search_that_gets_no_further_ends() {
        let schedule = MinAccuracy::new(0.5).unwrap();
        let mut walked = vec![(0.0, 0.98)];
        while schedule.next(&history(&walked)).is_some() {
            walked.push((0.5, 0.97));
        }
        assert_eq!(walked.len(), 1 + 1 + 4);
        assert_eq!(schedule.result(&history(&walked)).unwrap(), 1);
    }

    #[test]
    fn a_floor_that_nothing_meets_is_an_error() {
        let schedule = MinAccuracy::new(0.99).unwrap();
        let done = history(&[(0.0, 0.98)]);
        assert_eq!(schedule.next(&done), None);
        let said = schedule.result(&done).unwrap_err().to_string();
        assert!(said.contains("98.00") && said.contains("99.00"), "{said}");
        assert!(MinAccuracy::new(1.5).is_err() && MinAccuracy::new(f64::NAN).is_err());
        assert!(MinAccuracy { keep: 1.0, ..schedule }.check().is_err());
    }
}
