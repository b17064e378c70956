//! How does a network learn sparse and yet forget nothing? Dense weights behind the masked ones.
//!
//! The network computes with masked weights, and its gradients move the dense ones as if there were no mask
//! (a straight-through estimator). Masks are chosen anew from the dense weights, so that what was cut can
//! come back: for `N:M` that is training from scratch (SR-STE, Zhou et al. 2021, "Learning N:M Fine-grained
//! Structured Sparse Neural Networks From Scratch"), for unstructured masks dynamic pruning with feedback
//! (DPF, Lin et al. 2020).

use crate::{Optimizer, TrainError};
use candle_core::{Tensor, backprop::GradStore};
use secateur_mask::Mask;
use std::collections::BTreeMap;

/// How a network trains while it is sparse.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum SparseTraining {
    /// What is cut is zero and stays so until a schedule says otherwise: [`Masked`](crate::Masked).
    #[default]
    Masked,
    /// Dense weights behind the masked ones are trained, and masks chosen anew from them:
    /// [`StraightThrough`].
    StraightThrough {
        /// The share of itself that a cut weight feels in its gradient; 0 is plain STE.
        decay: f64,
        /// Steps between two choices of masks.
        every: usize,
    },
}

impl SparseTraining {
    /// SR-STE as published: decay 2e-4, masks chosen at every step (Zhou et al. 2021).
    pub const SR_STE: Self = Self::StraightThrough { decay: 2e-4, every: 1 };
}

/// Any optimizer, moving dense weights while its parameters hold masked ones.
///
/// After construction and after every step the parameters are masked: cut weights are exactly `+0.0`. The
/// dense weights are [`Self::dense`]; whoever chooses masks from them hands them to [`Self::set_masks`].
///
/// ```
/// use candle_core::{Device, Var};
/// use secateur_mask::Mask;
/// use secateur_train::{Optimizer, Sgd, StraightThrough};
///
/// let weight = Var::new(&[1_f32, 2.], &Device::Cpu)?;
/// let sgd = Sgd::new([("w".to_owned(), weight.clone())].into(), 0.1, 0.0, 0.0)?;
/// let mask = Mask::from_bools(&[true, false], &[2])?;
/// let mut through = StraightThrough::new(sgd, &[("w".to_owned(), mask)].into(), 0.5)?;
///
/// let mut gradients = weight.sum_all()?.backward()?; // one for each weight
/// through.step_adding_decay(&mut gradients)?;
/// assert_eq!(weight.to_vec1::<f32>()?, [0.9, 0.0]);
/// // The cut weight was 2: it felt the same gradient, and half its own size.
/// assert!((through.dense()["w"].to_vec1::<f32>()?[1] - 1.8).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StraightThrough<O> {
    inner: O,
    decay: f64,
    held: BTreeMap<String, Held>,
}

#[derive(Debug)]
struct Held {
    dense: Tensor,
    kept: Tensor,
    zeros: Tensor,
}

impl<O: Optimizer> StraightThrough<O> {
    /// Takes the parameters' present values for the dense ones and masks them. `decay` is what
    /// [`Self::step_adding_decay`] adds: 0 is plain STE, 2e-4 SR-STE as published. Errors on a name that
    /// `inner` does not train, and on a mask of another shape.
    pub fn new(inner: O, masks: &BTreeMap<String, Mask>, decay: f64) -> Result<Self, TrainError> {
        let mut held = BTreeMap::new();
        for (name, mask) in masks {
            let unknown = || TrainError::UnknownParameter(name.clone());
            let parameter = inner.parameters().get(name).ok_or_else(unknown)?;
            let kept = kept(name, mask, parameter)?;
            let (dense, zeros) = (parameter.copy()?.detach(), parameter.zeros_like()?);
            held.insert(name.clone(), Held { dense, kept, zeros });
        }
        let through = Self { inner, decay, held };
        through.show_masked()?;
        Ok(through)
    }

    /// The dense weights behind the masked parameters, by name.
    pub fn dense(&self) -> BTreeMap<String, Tensor> {
        self.held.iter().map(|(name, held)| (name.clone(), held.dense.clone())).collect()
    }

    /// Replaces the dense weights, as [`Self::dense`] gave them. Errors, and changes nothing, when one is
    /// missing or has another shape.
    pub fn set_dense(&mut self, dense: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        for (name, held) in &self.held {
            let fits = dense.get(name).is_some_and(|dense| dense.dims() == held.dense.dims());
            if !fits {
                return Err(TrainError::State(format!("{name} has no dense weight that fits")));
            }
        }
        for (name, held) in &mut self.held {
            held.dense = dense[name].copy()?.detach();
        }
        self.show_masked()
    }

    /// Puts other masks over the same dense weights. Errors on names and shapes that are not held.
    pub fn set_masks(&mut self, masks: &BTreeMap<String, Mask>) -> Result<(), TrainError> {
        for (name, mask) in masks {
            let held = self.held.get_mut(name);
            let held = held.ok_or_else(|| TrainError::UnknownParameter(name.clone()))?;
            held.kept = kept(name, mask, &held.dense)?;
        }
        self.show_masked()
    }

    /// A step in which every cut weight also feels a share of itself: `g += decay · (1 − m) ⊙ w`
    /// (Zhou et al. 2021, equation 8).
    pub fn step_adding_decay(&mut self, gradients: &mut GradStore) -> Result<(), TrainError> {
        if self.decay > 0.0 {
            for (name, held) in &self.held {
                let Some(parameter) = self.inner.parameters().get(name) else { continue };
                let Some(gradient) = gradients.get(parameter) else { continue };
                let cut = held.kept.where_cond(&held.zeros, &held.dense)?;
                let refined = (gradient + (cut * self.decay)?)?;
                gradients.insert(parameter, refined);
            }
        }
        self.step(gradients)
    }

    fn show_masked(&self) -> Result<(), TrainError> {
        for (name, held) in &self.held {
            if let Some(parameter) = self.inner.parameters().get(name) {
                parameter.set(&held.kept.where_cond(&held.dense, &held.zeros)?)?;
            }
        }
        Ok(())
    }
}

/// A mask as a tensor of the parameter's shape, 1 for what is kept.
fn kept(name: &str, mask: &Mask, like: &Tensor) -> Result<Tensor, TrainError> {
    if mask.shape() != like.dims() {
        return Err(TrainError::State(format!(
            "the mask of {name} has shape {:?}, the weight {:?}",
            mask.shape(),
            like.dims()
        )));
    }
    let bits: Vec<u8> = mask.iter().map(u8::from).collect();
    Ok(Tensor::from_vec(bits, mask.shape(), like.device())?)
}

impl<O: Optimizer> Optimizer for StraightThrough<O> {
    fn parameters(&self) -> &BTreeMap<String, candle_core::Var> {
        self.inner.parameters()
    }

    /// Moves the dense weights and masks them again.
    fn step(&mut self, gradients: &GradStore) -> Result<(), TrainError> {
        for (name, held) in &self.held {
            if let Some(parameter) = self.inner.parameters().get(name) {
                parameter.set(&held.dense)?;
            }
        }
        let stepped = self.inner.step(gradients);
        for (name, held) in &mut self.held {
            if let Some(parameter) = self.inner.parameters().get(name) {
                held.dense = parameter.copy()?.detach();
            }
        }
        // Masked again even when the step failed half-way.
        self.show_masked()?;
        stepped
    }

    fn learning_rate(&self) -> f64 {
        self.inner.learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.inner.set_learning_rate(learning_rate);
    }

    fn moments_mut(&mut self, parameter: &str) -> Vec<&mut Tensor> {
        self.inner.moments_mut(parameter)
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>, TrainError> {
        self.inner.state()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        self.inner.load_state(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sgd;
    use candle_core::{Device, Var};

    #[test]
    fn what_was_cut_learns_on_and_can_come_back() {
        let var = Var::new(&[1.0_f32, 0.9], &Device::Cpu).unwrap();
        let sgd = Sgd::new([("w".to_owned(), var.clone())].into(), 0.1, 0.0, 0.0).unwrap();
        let mask = |bits: &[bool]| {
            BTreeMap::from([("w".to_owned(), Mask::from_bools(bits, &[2]).unwrap())])
        };
        let mut through = StraightThrough::new(sgd, &mask(&[true, false]), 0.0).unwrap();
        assert_eq!(var.to_vec1::<f32>().unwrap(), [1.0, 0.0]);
        let slope = Tensor::new(&[1.0_f32, -1.0], &Device::Cpu).unwrap();
        for _ in 0..2 {
            let loss = (var.as_tensor() * &slope).unwrap().sum_all().unwrap();
            through.step(&loss.backward().unwrap()).unwrap();
        }
        through.set_masks(&mask(&[false, true])).unwrap();
        let values = var.to_vec1::<f32>().unwrap();
        assert_eq!(values[0].to_bits(), 0);
        assert!((values[1] - 1.1).abs() < 1e-6, "{values:?}");

        let dense = through.dense();
        assert!(through.set_dense(&BTreeMap::new()).is_err());
        through.set_dense(&dense).unwrap();
        assert_eq!(var.to_vec1::<f32>().unwrap(), values);
    }
}
