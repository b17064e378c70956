//! How do weights move? Optimizers whose state can be masked, saved and restored.
//!
//! candle's own optimizers keep their moments to themselves; pruning has to zero them and resuming
//! has to save them. These follow PyTorch's definitions and defaults.

mod adamw;
mod inplace;
mod sgd;

pub use adamw::AdamW;
pub(crate) use inplace::cut_all;
pub use sgd::Sgd;

use crate::TrainError;
use candle_core::{Tensor, Var, backprop::GradStore};
use secateur_mask::Mask;
use std::collections::BTreeMap;

/// An optimizer over named parameters. Object safe.
pub trait Optimizer {
    /// The parameters trained, by name.
    fn parameters(&self) -> &BTreeMap<String, Var>;

    /// Moves every parameter that has a gradient.
    fn step(&mut self, gradients: &GradStore) -> Result<(), TrainError>;

    /// The same, and whatever `masks`, by parameter name, cut is exactly `+0.0` afterwards, its moments
    /// too, whatever it was before and whether or not there was a gradient. This is a step of
    /// [`Masked`](crate::Masked). The default cuts after the step; an optimizer that passes over its
    /// parameters anyway can do both in one. Errors on a mask of another size.
    fn step_masked(
        &mut self,
        gradients: &GradStore,
        masks: &BTreeMap<String, Mask>,
    ) -> Result<(), TrainError> {
        // Cut even when a step failed half-way.
        let stepped = self.step(gradients);
        cut_all(self, masks)?;
        stepped
    }

    /// The learning rate of the next step.
    fn learning_rate(&self) -> f64;

    /// Sets the learning rate of the next steps.
    fn set_learning_rate(&mut self, learning_rate: f64);

    /// The moments kept for a parameter, each of its shape.
    fn moments_mut(&mut self, parameter: &str) -> Vec<&mut Tensor>;

    /// Everything that the next step depends on besides parameters and learning rate, by name:
    /// `fc1.weight/exp_avg`, `step`, …
    fn state(&self) -> Result<BTreeMap<String, Tensor>, TrainError>;

    /// Restores what [`Self::state`] gave. Errors, and changes nothing, when anything is missing or
    /// has another shape.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), TrainError>;
}

impl<O: Optimizer + ?Sized> Optimizer for Box<O> {
    fn parameters(&self) -> &BTreeMap<String, Var> {
        (**self).parameters()
    }
    fn step(&mut self, gradients: &GradStore) -> Result<(), TrainError> {
        (**self).step(gradients)
    }
    fn step_masked(
        &mut self,
        gradients: &GradStore,
        masks: &BTreeMap<String, Mask>,
    ) -> Result<(), TrainError> {
        (**self).step_masked(gradients, masks)
    }
    fn learning_rate(&self) -> f64 {
        (**self).learning_rate()
    }
    fn set_learning_rate(&mut self, learning_rate: f64) {
        (**self).set_learning_rate(learning_rate);
    }
    fn moments_mut(&mut self, parameter: &str) -> Vec<&mut Tensor> {
        (**self).moments_mut(parameter)
    }
    fn state(&self) -> Result<BTreeMap<String, Tensor>, TrainError> {
        (**self).state()
    }
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        (**self).load_state(state)
    }
}

/// A moment from saved state, if it is there in the parameter's shape.
fn saved(
    state: &BTreeMap<String, Tensor>,
    name: &str,
    like: &Tensor,
) -> Result<Tensor, TrainError> {
    let found = state.get(name).ok_or_else(|| TrainError::State(format!("{name} is missing")))?;
    if found.dims() != like.dims() || found.dtype() != like.dtype() {
        let (found, like) = (found.dims(), like.dims());
        return Err(TrainError::State(format!("{name} has shape {found:?}, not {like:?}")));
    }
    // A copy, which later steps may change in place.
    Ok(found.to_device(like.device())?.contiguous()?.copy()?)
}
