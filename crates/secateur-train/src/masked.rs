//! How does a cut weight stay cut while its neighbours move? The mask has the last word each step.

use crate::{Optimizer, TrainError, optim::cut_all};
use candle_core::{Tensor, backprop::GradStore};
use secateur_mask::Mask;
use std::collections::BTreeMap;

/// Any optimizer, with masks over some of its parameters.
///
/// After construction and after every step, cut weights are exactly `+0.0` and so are their moments,
/// whatever the gradients were, NaN included. Without masks it is the optimizer itself.
///
/// ```
/// use candle_core::{Device, Var};
/// use secateur_mask::Mask;
/// use secateur_train::{AdamW, Masked, Optimizer};
///
/// let weight = Var::new(&[1_f32, 2., 3., 4.], &Device::Cpu)?;
/// let adamw = AdamW::new([("fc1.weight".to_owned(), weight.clone())].into(), 0.1, 0.01)?;
/// let mask = Mask::from_bools(&[true, false, false, true], &[4])?;
/// let mut masked = Masked::new(adamw, &[("fc1.weight".to_owned(), mask)].into())?;
///
/// let loss = weight.sqr()?.sum_all()?;
/// masked.step(&loss.backward()?)?;
/// let values = weight.to_vec1::<f32>()?;
/// assert!(values[0] < 1.0 && values[1] == 0.0 && values[2] == 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Masked<O> {
    inner: O,
    masks: BTreeMap<String, Mask>,
}

impl<O: Optimizer> Masked<O> {
    /// Puts `masks`, by parameter name, over `inner` and cuts at once. Errors on a name that `inner`
    /// does not train, and on a mask of another shape.
    pub fn new(inner: O, masks: &BTreeMap<String, Mask>) -> Result<Self, TrainError> {
        let mut masked = Self { inner, masks: BTreeMap::new() };
        masked.set_masks(masks)?;
        Ok(masked)
    }

    /// Holds by `masks` from now on, by those alone, and cuts at once. What an earlier mask cut is free again and
    /// starts from zero. Errors as [`Self::new`] does, and then changes nothing.
    pub fn set_masks(&mut self, masks: &BTreeMap<String, Mask>) -> Result<(), TrainError> {
        for (name, mask) in masks {
            let unknown = || TrainError::UnknownParameter(name.clone());
            let parameter = self.inner.parameters().get(name).ok_or_else(unknown)?;
            if mask.shape() != parameter.dims() {
                return Err(TrainError::State(format!(
                    "the mask of {name} has shape {:?}, the weight {:?}",
                    mask.shape(),
                    parameter.dims()
                )));
            }
        }
        self.masks.clone_from(masks);
        Ok(cut_all(&mut self.inner, masks)?)
    }

    /// The optimizer inside.
    pub fn into_inner(self) -> O {
        self.inner
    }
}

impl<O: Optimizer> Optimizer for Masked<O> {
    fn parameters(&self) -> &BTreeMap<String, candle_core::Var> {
        self.inner.parameters()
    }
    fn step(&mut self, gradients: &GradStore) -> Result<(), TrainError> {
        self.inner.step_masked(gradients, &self.masks)
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
        self.inner.load_state(state)?;
        Ok(cut_all(&mut self.inner, &self.masks)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AdamW, Sgd};
    use candle_core::{Device, Var};

    fn bits(tensor: &Tensor) -> Vec<u32> {
        tensor.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    }

    /// Momentum from before the cut, weight decay, negative and NaN gradients: nothing moves it.
    #[test]
    fn cut_weights_and_moments_are_plus_zero_under_any_optimizer() {
        let build: [fn(Var) -> Box<dyn Optimizer>; 2] = [
            |w| Box::new(AdamW::new([("w".to_owned(), w)].into(), 0.1, 0.1).unwrap()),
            |w| Box::new(Sgd::new([("w".to_owned(), w)].into(), 0.1, 0.9, 0.1).unwrap()),
        ];
        for build in build {
            let var = Var::new(&[-1.0_f32, 2.0, -3.0, 4.0], &Device::Cpu).unwrap();
            let mut optimizer = build(var.clone());
            let push = |optimizer: &mut dyn Optimizer, by: f32| {
                let slope = Tensor::new(&[by, by, -by, by], &Device::Cpu).unwrap();
                let loss = (var.as_tensor() * slope).unwrap().sum_all().unwrap();
                optimizer.step(&loss.backward().unwrap()).unwrap();
            };
            push(&mut *optimizer, 1.0);
            let mask = Mask::from_bools(&[true, false, false, true], &[4]).unwrap();
            let mut masked = Masked::new(optimizer, &[("w".to_owned(), mask)].into()).unwrap();
            for by in [1.0, -2.0, f32::NAN] {
                push(&mut masked, by);
                assert_eq!(bits(&var)[1..3], [0, 0]);
                for moment in masked.moments_mut("w") {
                    assert_eq!(bits(moment)[1..3], [0, 0]);
                }
            }
            assert_ne!(bits(&var)[0], 0);
        }
    }

    /// Steps with and without a mask, in blocks and their rest, with and without a gradient.
    #[test]
    fn one_pass_is_a_step_and_a_cut() {
        type Build = fn(BTreeMap<String, Var>) -> Box<dyn Optimizer>;
        let build: [Build; 2] = [
            |vars| Box::new(AdamW::new(vars, 0.1, 0.1).unwrap()),
            |vars| Box::new(Sgd::new(vars, 0.1, 0.9, 0.1).unwrap()),
        ];
        let count = 150;
        let values: Vec<f32> = (0..count).map(|i| (i as f32 + 0.5).sin()).collect();
        let kept: Vec<bool> = (0..count).map(|i| i * i % 7 < 3).collect();
        let mask = Mask::from_bools(&kept, &[count]).unwrap();
        let masks = ["moved", "idle"].map(|name| (name.to_owned(), mask.clone())).into();
        for build in build {
            let run = |fused: bool| {
                let vars: BTreeMap<String, Var> = ["moved", "idle", "free"]
                    .map(|name| (name.to_owned(), Var::new(&*values, &Device::Cpu).unwrap()))
                    .into();
                let mut optimizer = build(vars.clone());
                for _ in 0..3 {
                    let loss =
                        (vars["moved"].sqr().unwrap() + vars["free"].sqr().unwrap()).unwrap();
                    let gradients = loss.sum_all().unwrap().backward().unwrap();
                    if fused {
                        optimizer.step_masked(&gradients, &masks).unwrap();
                    } else {
                        optimizer.step(&gradients).unwrap();
                        cut_all(&mut optimizer, &masks).unwrap();
                    }
                }
                let moments = optimizer.state().unwrap();
                let moments = moments.into_iter().filter(|(name, _)| name != "step");
                let vars = vars.into_iter().map(|(name, var)| (name, var.as_tensor().clone()));
                vars.chain(moments).map(|(name, t)| (name, bits(&t))).collect::<Vec<_>>()
            };
            let found = run(true);
            assert_eq!(found, run(false));
            let moved = &found.iter().find(|(name, _)| name == "moved").unwrap().1;
            assert!(moved.iter().zip(&kept).all(|(bits, kept)| *kept == (*bits != 0)));
            let wrong = [("w".to_owned(), Mask::full(&[3]).unwrap())].into();
            let var = Var::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap();
            let gradients = var.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let mut optimizer = build([("w".to_owned(), var)].into());
            assert!(optimizer.step_masked(&gradients, &wrong).is_err());
        }
    }

    #[test]
    fn foreign_names_and_shapes_are_refused() {
        let var = Var::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap();
        let sgd = || Sgd::new([("w".to_owned(), var.clone())].into(), 0.1, 0.0, 0.0).unwrap();
        let masks = |name: &str, n| [(name.to_owned(), Mask::full(&[n]).unwrap())].into();
        assert!(Masked::new(sgd(), &masks("w", 2)).is_ok());
        assert!(Masked::new(sgd(), &masks("v", 2)).is_err());
        assert!(Masked::new(sgd(), &masks("w", 3)).is_err());
    }
}
