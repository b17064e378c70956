//! *When* is how much cut? A target for each round of prune and retrain.

use crate::TrainError;
use secateur_mask::Sparsity;
use std::fmt::Debug;

/// The sparsity that the network has after each round of pruning. Object safe.
pub trait Schedule: Debug + Send + Sync {
    /// The sparsity that round `round` (from 0) prunes to; `None` once there are no more rounds.
    fn at(&self, round: usize) -> Option<Sparsity>;

    /// The number of rounds.
    fn rounds(&self) -> usize {
        (0..).take_while(|round| self.at(*round).is_some()).count()
    }
}

/// Everything at once.
#[derive(Debug, Clone, Copy)]
pub struct OneShot(pub Sparsity);

impl Schedule for OneShot {
    fn at(&self, round: usize) -> Option<Sparsity> {
        (round == 0).then_some(self.0)
    }
}

/// More rounds than anybody retrains.
const MOST_ROUNDS: usize = 1000;

/// The same share of what is left in every round (Han et al. 2015; Frankle & Carbin 2019): after
/// round `r` of `n` a density of `d^((r + 1) / n)` is left.
#[derive(Debug, Clone, Copy)]
pub struct Iterative {
    target: Sparsity,
    rounds: usize,
}

impl Iterative {
    /// Reaches `target` in `rounds` rounds. Errors without rounds, and for a target of 1, which no
    /// share of what is left ever reaches.
    pub fn new(target: Sparsity, rounds: usize) -> Result<Self, TrainError> {
        let refuse = |what, value, must| Err(TrainError::Setting { what, value, must });
        if !(1..=MOST_ROUNDS).contains(&rounds) {
            return refuse("the number of rounds", rounds.to_string(), "from 1 to 1000");
        }
        if target.density() == 0.0 {
            return refuse("the sparsity of an iterative schedule", target.to_string(), "below 1");
        }
        Ok(Self { target, rounds })
    }
}

impl Schedule for Iterative {
    fn at(&self, round: usize) -> Option<Sparsity> {
        match round + 1 {
            last if last == self.rounds => Some(self.target),
            done if done < self.rounds => {
                let density = self.target.density().powf(done as f64 / self.rounds as f64);
                Sparsity::new(1.0 - density).ok()
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iterative_rounds_keep_a_constant_share_and_end_on_the_target() {
        let target = Sparsity::new(0.992).unwrap();
        let schedule = Iterative::new(target, 3).unwrap();
        let density = |round| schedule.at(round).unwrap().density();
        assert!((density(0) - 0.2).abs() < 1e-12 && (density(1) - 0.04).abs() < 1e-12);
        assert_eq!(schedule.at(2), Some(target));
        assert_eq!((schedule.at(3), schedule.rounds()), (None, 3));
        assert!(Iterative::new(target, 0).is_err() && Iterative::new(target, 1001).is_err());
        assert!(Iterative::new(Sparsity::new(1.0).unwrap(), 2).is_err());
    }

    #[test]
    fn one_shot_is_one_round() {
        assert_eq!(OneShot(Sparsity::DENSE).rounds(), 1);
    }
}
