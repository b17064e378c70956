//! What does it take to go on with a stretch of training at the step where it was left?

use super::{Best, Session};
use crate::{
    Evaluation, Optimizer, TrainError,
    hold::Hold,
    pruner::{self, Masks},
    rewind::{Weights, check_all, restore_all, snapshot, state},
};
use candle_core::Var;
use secateur_nn::Network;
use serde::{Deserialize, Serialize};

/// Everything about a session that is a number.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Steps done.
    pub step: usize,
    /// The sparsity last pruned to, in this stretch or at its beginning.
    pub(super) target: f64,
    /// The sum of the losses since the last evaluation, and the samples in it.
    pub(super) loss: f64,
    pub(super) samples: usize,
    /// The best evaluation, the steps done at it, and how many evaluations came after it.
    pub(super) best: Option<Evaluation>,
    pub(super) best_step: usize,
    pub(super) since_best: usize,
    pub(super) stopped: bool,
}

/// What a session has to save besides numbers.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    pub weights: Weights,
    pub dense: Weights,
    pub optimizer: Weights,
    pub masks: Masks,
    pub best: Weights,
    pub best_masks: Masks,
}

impl Session<'_> {
    /// Everything that the next steps depend on.
    pub fn save<N: Network + ?Sized>(&self, network: &N) -> Result<(Position, Saved), TrainError> {
        let mut saved = Saved {
            weights: snapshot(&state(network))?,
            optimizer: self.hold.optimizer().state()?,
            masks: self.masks.clone(),
            ..Saved::default()
        };
        if let Hold::Through(through) = &self.hold {
            saved.dense = through.dense();
        }
        if let Some(best) = &self.best {
            (saved.best, saved.best_masks) = (best.weights.clone(), best.masks.clone());
        }
        Ok((self.at.clone(), saved))
    }

    /// Takes up what [`Self::save`] gave. The session must have been made with the saved masks.
    pub fn load<N: Network + ?Sized>(
        &mut self,
        network: &N,
        at: Position,
        saved: Saved,
    ) -> Result<(), TrainError> {
        let here = (self.task.from_step..=self.steps).contains(&at.step);
        let seen = (at.step as u64).saturating_mul(self.stretch.training.batch_size as u64);
        if !here || at.samples as u64 > seen || at.best_step > at.step {
            return Err(TrainError::State(
                "the place where it was is nowhere in this phase".into(),
            ));
        }
        for masks in [&saved.masks, &saved.best_masks] {
            self.check_masks(network, masks)?;
        }
        restore_all(&state(network), &saved.weights)?;
        match &mut self.hold {
            Hold::Masked(masked) => masked.load_state(&saved.optimizer)?,
            Hold::Through(through) => {
                through.set_dense(&saved.dense)?;
                through.load_state(&saved.optimizer)?;
            }
        }
        if at.best.is_some() {
            check_all(&state(network), &saved.best)?;
            self.best = Some(Best { weights: saved.best, masks: saved.best_masks });
        }
        self.at = at;
        Ok(())
    }

    /// Errors unless `masks` are those of every prunable weight, or of none where none need be cut.
    fn check_masks<N: Network + ?Sized>(
        &self,
        network: &N,
        masks: &Masks,
    ) -> Result<(), TrainError> {
        let all = pruner::weights(network);
        let fits = |(name, var): (&String, &Var)| {
            masks.get(name).is_some_and(|mask| mask.shape() == var.dims())
        };
        match masks.is_empty() || (masks.len() == all.len() && all.iter().all(fits)) {
            true => Ok(()),
            false => Err(TrainError::State("the masks do not fit the network".into())),
        }
    }
}
