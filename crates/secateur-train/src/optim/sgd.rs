//! Stochastic gradient descent with momentum, as PyTorch defines it (Sutskever et al. 2013).

use super::{
    Optimizer,
    inplace::{blocks_kept, cut, lend, lend_reading, possible},
    saved,
};
use crate::TrainError;
use candle_core::{Tensor, Var, backprop::GradStore};
use secateur_mask::Mask;
use std::collections::BTreeMap;

/// SGD with momentum and (coupled) L2 weight decay.
#[derive(Debug)]
pub struct Sgd {
    parameters: BTreeMap<String, Var>,
    buffers: BTreeMap<String, Tensor>,
    learning_rate: f64,
    momentum: f64,
    weight_decay: f64,
}

impl Sgd {
    /// An optimizer with zero momentum buffers.
    pub fn new(
        parameters: BTreeMap<String, Var>,
        learning_rate: f64,
        momentum: f64,
        weight_decay: f64,
    ) -> Result<Self, TrainError> {
        let mut buffers = BTreeMap::new();
        for (name, parameter) in &parameters {
            buffers.insert(name.clone(), parameter.zeros_like()?);
        }
        Ok(Self { parameters, buffers, learning_rate, momentum, weight_decay })
    }
}

/// What a step does to each number of a parameter.
struct Pass {
    momentum: f32,
    decay: f32,
    rate: f32,
}

impl Pass {
    fn run(
        &self,
        w: &mut [f32],
        b: &mut [f32],
        g: &[f32],
        mask: Option<&Mask>,
    ) -> candle_core::Result<()> {
        let kept = blocks_kept(mask, w.len())?;
        let blocks = w.chunks_mut(64).zip(b.chunks_mut(64)).zip(g.chunks(64));
        for (((w, b), g), kept) in blocks.zip(kept) {
            for (((w, b), &g), &kept) in w.iter_mut().zip(b).zip(g).zip(&kept) {
                let buffer = self.momentum * *b + (g + self.decay * *w);
                let moved = (*w - self.rate * buffer, buffer);
                (*w, *b) = if kept != 0 { moved } else { (0.0, 0.0) };
            }
        }
        Ok(())
    }
}

impl Optimizer for Sgd {
    fn parameters(&self) -> &BTreeMap<String, Var> {
        &self.parameters
    }

    /// b ← μ·b + (g + λ·w), w ← w − η·b.
    fn step(&mut self, gradients: &GradStore) -> Result<(), TrainError> {
        self.step_masked(gradients, &BTreeMap::new())
    }

    fn step_masked(
        &mut self,
        gradients: &GradStore,
        masks: &BTreeMap<String, Mask>,
    ) -> Result<(), TrainError> {
        let pass = Pass {
            momentum: self.momentum as f32,
            decay: self.weight_decay as f32,
            rate: self.learning_rate as f32,
        };
        for ((name, parameter), buffer) in self.parameters.iter().zip(self.buffers.values_mut()) {
            let (gradient, mask) = (gradients.get(parameter), masks.get(name));
            if let Some(gradient) = gradient
                && possible(&[buffer, parameter])
            {
                lend(buffer, |b| {
                    lend_reading(parameter, gradient, |w, g| pass.run(w, b, g, mask))
                })?;
                continue;
            }
            if let Some(gradient) = gradient {
                let decay = (parameter.as_tensor() * self.weight_decay)?;
                *buffer = ((&*buffer * self.momentum)? + (gradient + decay)?)?.detach();
                let update = (&*buffer * self.learning_rate)?;
                parameter.set(&(parameter.as_tensor() - update)?)?;
            }
            if let Some(mask) = mask {
                cut(parameter, [buffer], mask)?;
            }
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn moments_mut(&mut self, parameter: &str) -> Vec<&mut Tensor> {
        self.buffers.get_mut(parameter).into_iter().collect()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>, TrainError> {
        let mut state = BTreeMap::new();
        for (name, buffer) in &self.buffers {
            state.insert(format!("{name}/momentum"), buffer.copy()?);
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        let mut buffers = BTreeMap::new();
        for (name, parameter) in &self.parameters {
            buffers.insert(name.clone(), saved(state, &format!("{name}/momentum"), parameter)?);
        }
        self.buffers = buffers;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn first(tensor: &Tensor) -> f64 {
        tensor.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()[0]
    }

    /// f32 runs in place, f64 by expressions.
    #[test]
    fn follows_the_published_formula() {
        follows_the_formula_in(DType::F32);
        follows_the_formula_in(DType::F64);
    }

    fn follows_the_formula_in(dtype: DType) {
        let one = Tensor::new(&[1.0_f64], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let var = Var::from_tensor(&one).unwrap();
        let mut sgd = Sgd::new([("w".to_owned(), var.clone())].into(), 0.1, 0.5, 0.2).unwrap();
        let (mut expected, mut buffer) = (1.0_f64, 0.0);
        for _ in 0..3 {
            let loss = (var.as_tensor() * 3.0).unwrap().sum_all().unwrap();
            sgd.step(&loss.backward().unwrap()).unwrap();
            buffer = 0.5 * buffer + 3.0 + 0.2 * expected;
            expected -= 0.1 * buffer;
        }
        let found = first(&var);
        assert!((found - expected).abs() < 1e-6, "{dtype:?}: {found} {expected}");
        // Saved state is a copy: a later step does not reach into it.
        let state = sgd.state().unwrap();
        assert_eq!(state.keys().collect::<Vec<_>>(), ["w/momentum"]);
        let saved = first(&state["w/momentum"]);
        let loss = (var.as_tensor() * 3.0).unwrap().sum_all().unwrap();
        sgd.step(&loss.backward().unwrap()).unwrap();
        assert_eq!(first(&state["w/momentum"]), saved);
        sgd.load_state(&state).unwrap();
    }
}
