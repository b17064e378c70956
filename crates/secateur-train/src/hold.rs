//! Who keeps cut weights at zero while a session trains, and what is added to their gradients?

use crate::{
    Masked, Optimizer, SparseTraining, StraightThrough, TrainError, Training,
    plan::Plan,
    pruner::{self, Masks},
};
use candle_core::{Tensor, Var, backprop::GradStore};
use secateur_nn::Network;
use std::collections::BTreeMap;

/// Who holds cut weights at zero.
pub(crate) enum Hold {
    Masked(Masked<Box<dyn Optimizer>>),
    Through(StraightThrough<Box<dyn Optimizer>>),
}

impl Hold {
    pub fn new(
        training: &Training,
        parameters: BTreeMap<String, Var>,
        masks: &Masks,
        plan: Option<&Plan<'_>>,
    ) -> Result<Self, TrainError> {
        let optimizer = training.optimizer(parameters)?;
        Ok(match plan.map(|plan| plan.sparse) {
            Some(SparseTraining::StraightThrough { decay, .. }) => {
                Self::Through(StraightThrough::new(optimizer, masks, decay)?)
            }
            _ => Self::Masked(Masked::new(optimizer, masks)?),
        })
    }

    pub fn optimizer(&self) -> &dyn Optimizer {
        match self {
            Self::Masked(masked) => masked,
            Self::Through(through) => through,
        }
    }

    pub fn optimizer_mut(&mut self) -> &mut dyn Optimizer {
        match self {
            Self::Masked(masked) => masked,
            Self::Through(through) => through,
        }
    }

    pub fn set_masks(&mut self, masks: &Masks) -> Result<(), TrainError> {
        match self {
            Self::Masked(masked) => masked.set_masks(masks),
            Self::Through(through) => through.set_masks(masks),
        }
    }

    pub fn step(&mut self, gradients: &mut GradStore) -> Result<(), TrainError> {
        match self {
            Self::Masked(masked) => masked.step(gradients),
            Self::Through(through) => through.step_adding_decay(gradients),
        }
    }
}

/// The gradients of the penalties on prunable weights.
pub(crate) fn penalise<N: Network + ?Sized>(
    network: &N,
    training: &Training,
    gradients: &mut GradStore,
) -> Result<(), TrainError> {
    if training.l1 == 0.0 && training.l2 == 0.0 {
        return Ok(());
    }
    for var in pruner::weights(network).into_values() {
        let Some(gradient) = gradients.get(&var) else { continue };
        let mut gradient: Tensor = gradient.clone();
        if training.l1 > 0.0 {
            gradient = (gradient + (var.sign()? * training.l1)?)?;
        }
        if training.l2 > 0.0 {
            gradient = (gradient + (var.as_tensor() * training.l2)?)?;
        }
        gradients.insert(&var, gradient.detach());
    }
    Ok(())
}
