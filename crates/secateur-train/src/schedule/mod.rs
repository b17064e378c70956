//! *When* is how much cut? Rounds of prune and retrain, and what happens within one.
//!
//! A [`Schedule`] answers two questions. [`Schedule::next`]: what does the next round aim at, given what the
//! rounds so far came to? [`Schedule::event`]: what happens to the masks at this step of a round? Both are
//! functions of their arguments alone, so that a resumed run decides as the one that was not killed.

mod gradual;
mod min_accuracy;
mod regrowth;
mod rounds;

pub use gradual::Gradual;
pub use min_accuracy::MinAccuracy;
pub use regrowth::{ConstantWithRegrowth, Regrow};
pub use rounds::{Iterative, OneShot};

use crate::{Evaluation, TrainError};
use secateur_mask::Sparsity;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// When how much is cut. Object safe; `next` is all that must be written.
pub trait Schedule: Debug + Send + Sync {
    /// What the next round aims at; `None` once there are no more. `done[0]` is the dense network, the
    /// rounds of pruning follow.
    fn next(&self, done: &[Round]) -> Option<Aim>;

    /// The rounds of pruning in all, if that is known beforehand.
    fn rounds(&self) -> Option<usize> {
        None
    }

    /// What happens to the masks before a step of a round that aims at `aim`. By default everything goes
    /// at the first step.
    fn event(&self, aim: Sparsity, moment: Moment) -> Option<Event> {
        (moment.step == 0).then_some(Event::Prune(aim))
    }

    /// Which of the networks in `done` is the result; the last one by default. Errors if none will do.
    fn result(&self, done: &[Round]) -> Result<usize, TrainError> {
        Ok(done.len().saturating_sub(1))
    }
}

/// What a round of pruning and retraining came to: a point of the frontier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// `dense`, `retrain 1/6`, …
    pub name: String,
    /// The share of prunable weights that were cut.
    pub sparsity: f64,
    /// The best of its evaluations, on validation samples.
    pub validation: Evaluation,
}

/// What a round aims at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aim {
    /// The sparsity it ends with.
    pub sparsity: Sparsity,
    /// The network it begins with, by its place in `done`; the last one or the one that
    /// [`Schedule::result`] would choose.
    pub from: usize,
}

/// Where in a round training is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Steps done in this round.
    pub step: usize,
    /// Steps of this round in all.
    pub steps: usize,
    /// Steps of an epoch.
    pub epoch: usize,
}

/// What happens to masks.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Scores are taken anew and the network is cut to this sparsity.
    Prune(Sparsity),
    /// The share `exchanged` of what every layer keeps is cut, smallest magnitudes first, and as many
    /// weights of that layer come back, as zeros that are trained again.
    Exchange {
        /// The share of the kept weights.
        exchanged: f64,
        /// Which come back.
        regrow: Regrow,
    },
}

/// How often something happens while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Every {
    /// Every so many steps.
    Steps(usize),
    /// Every so many epochs.
    Epochs(usize),
}

impl Every {
    /// The number of steps, at least one.
    pub(crate) fn steps(self, epoch: usize) -> usize {
        match self {
            Self::Steps(steps) => steps.max(1),
            Self::Epochs(epochs) => epochs.saturating_mul(epoch).max(1),
        }
    }
}

/// Errors unless `share` is in `0..=1`.
fn check_share(what: &'static str, share: f64) -> Result<(), TrainError> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(TrainError::Setting { what, value: share.to_string(), must: "in 0..=1" })
}

/// A history for tests: rounds of the given sparsities and accuracies.
#[cfg(test)]
fn history(rounds: &[(f64, f64)]) -> Vec<Round> {
    let round = |&(sparsity, accuracy): &(f64, f64)| {
        let validation = Evaluation { loss: 1.0 - accuracy, accuracy, samples: 100 };
        Round { name: String::new(), sparsity, validation }
    };
    rounds.iter().map(round).collect()
}
