//! Everything at once, or the same share of what is left in every round?

use super::{Aim, Round, Schedule};
use crate::TrainError;
use secateur_mask::Sparsity;

/// Everything at once.
#[derive(Debug, Clone, Copy)]
pub struct OneShot(pub Sparsity);

impl Schedule for OneShot {
    fn next(&self, done: &[Round]) -> Option<Aim> {
        (done.len() == 1).then_some(Aim { sparsity: self.0, from: 0 })
    }

    fn rounds(&self) -> Option<usize> {
        Some(1)
    }
}

/// More rounds than anybody retrains.
const MOST_ROUNDS: usize = 1000;

/// The same share of what is left in every round (Han et al. 2015; Frankle & Carbin 2019): after
/// round `r` of `n` a density of `d^(r / n)` is left.
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
    fn next(&self, done: &[Round]) -> Option<Aim> {
        let from = done.len().checked_sub(1)?;
        let sparsity = match done.len() {
            last if last == self.rounds => self.target,
            round if round < self.rounds => {
                let density = self.target.density().powf(round as f64 / self.rounds as f64);
                Sparsity::new(1.0 - density).ok()?
            }
            _ => return None,
        };
        Some(Aim { sparsity, from })
    }

    fn rounds(&self) -> Option<usize> {
        Some(self.rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::history;

    #[test]
    fn iterative_rounds_keep_a_constant_share_and_end_on_the_target() {
        let target = Sparsity::new(0.992).unwrap();
        let schedule = Iterative::new(target, 3).unwrap();
        let after = |rounds: usize| schedule.next(&history(&vec![(0.0, 1.0); rounds]));
        assert!((after(1).unwrap().sparsity.density() - 0.2).abs() < 1e-12);
        assert!((after(2).unwrap().sparsity.density() - 0.04).abs() < 1e-12);
        assert_eq!(after(3), Some(Aim { sparsity: target, from: 2 }));
        assert_eq!((after(4), after(0), schedule.rounds()), (None, None, Some(3)));
        assert!(Iterative::new(target, 0).is_err() && Iterative::new(target, 1001).is_err());
        assert!(Iterative::new(Sparsity::new(1.0).unwrap(), 2).is_err());
    }

    #[test]
    fn one_shot_is_one_round() {
        let schedule = OneShot(Sparsity::DENSE);
        let aim = schedule.next(&history(&[(0.0, 1.0)]));
        assert_eq!(aim, Some(Aim { sparsity: Sparsity::DENSE, from: 0 }));
        assert_eq!(schedule.next(&history(&[(0.0, 1.0); 2])), None);
    }
}
