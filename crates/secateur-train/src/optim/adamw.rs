//! Adam with decoupled weight decay (Loshchilov & Hutter 2019); without decay, Adam (Kingma & Ba).

use super::{
    Optimizer,
    inplace::{blocks_kept, cut, lend, lend_reading, possible},
    saved,
};
use crate::TrainError;
use candle_core::{Tensor, Var, backprop::GradStore};
use secateur_mask::Mask;
use std::collections::BTreeMap;

/// AdamW with PyTorch's defaults: β₁ 0.9, β₂ 0.999, ε 1e-8. Weight decay 0 makes it Adam.
#[derive(Debug)]
pub struct AdamW {
    parameters: BTreeMap<String, Var>,
    moments: BTreeMap<String, Moments>,
    steps: u32,
    learning_rate: f64,
    weight_decay: f64,
}

#[derive(Debug)]
struct Moments {
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
}

/// What a step does to each number of a parameter, besides the constants of the method.
struct Pass {
    /// What weight decay leaves of a weight.
    keep: f32,
    /// The learning rate, with the first moment's correction.
    scale: f32,
    /// The second moment's correction.
    root: f32,
}

impl Pass {
    /// In lanes; divisions and square roots are what it takes its time for, a mask costs nothing.
    fn run(
        &self,
        w: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        g: &[f32],
        mask: Option<&Mask>,
    ) -> candle_core::Result<()> {
        let (beta1, beta2, epsilon) = (BETA1 as f32, BETA2 as f32, EPSILON as f32);
        let (rest1, rest2) = ((1.0 - BETA1) as f32, (1.0 - BETA2) as f32);
        let kept = blocks_kept(mask, w.len())?;
        let blocks = w.chunks_mut(64).zip(m.chunks_mut(64)).zip(v.chunks_mut(64));
        for ((((w, m), v), g), kept) in blocks.zip(g.chunks(64)).zip(kept) {
            for ((((w, m), v), &g), &kept) in w.iter_mut().zip(m).zip(v).zip(g).zip(&kept) {
                let exp_avg = beta1 * *m + rest1 * g;
                let exp_avg_sq = beta2 * *v + rest2 * g * g;
                let step = self.scale * exp_avg / ((exp_avg_sq * self.root).sqrt() + epsilon);
                let moved = (self.keep * *w - step, exp_avg, exp_avg_sq);
                (*w, *m, *v) = if kept != 0 { moved } else { (0.0, 0.0, 0.0) };
            }
        }
        Ok(())
    }
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

impl AdamW {
    /// An optimizer with zero moments.
    pub fn new(
        parameters: BTreeMap<String, Var>,
        learning_rate: f64,
        weight_decay: f64,
    ) -> Result<Self, TrainError> {
        let mut moments = BTreeMap::new();
        for (name, parameter) in &parameters {
            // Two tensors, not one shared: they are updated in place.
            let (exp_avg, exp_avg_sq) = (parameter.zeros_like()?, parameter.zeros_like()?);
            moments.insert(name.clone(), Moments { exp_avg, exp_avg_sq });
        }
        Ok(Self { parameters, moments, steps: 0, learning_rate, weight_decay })
    }
}

impl Optimizer for AdamW {
    fn parameters(&self) -> &BTreeMap<String, Var> {
        &self.parameters
    }

    /// w ← (1 − ηλ)·w − η · m̂ / (√v̂ + ε), with m̂, v̂ the bias-corrected moments.
    fn step(&mut self, gradients: &GradStore) -> Result<(), TrainError> {
        self.step_masked(gradients, &BTreeMap::new())
    }

    fn step_masked(
        &mut self,
        gradients: &GradStore,
        masks: &BTreeMap<String, Mask>,
    ) -> Result<(), TrainError> {
        self.steps = self.steps.saturating_add(1);
        let power = f64::from(self.steps);
        let (correction1, correction2) = (1.0 - BETA1.powf(power), 1.0 - BETA2.powf(power));
        let (rate, keep) = (self.learning_rate, 1.0 - self.learning_rate * self.weight_decay);
        let pass = Pass {
            keep: keep as f32,
            scale: (rate / correction1) as f32,
            root: (1.0 / correction2) as f32,
        };
        for ((name, parameter), moments) in self.parameters.iter().zip(self.moments.values_mut()) {
            let (m, v) = (&mut moments.exp_avg, &mut moments.exp_avg_sq);
            let (gradient, mask) = (gradients.get(parameter), masks.get(name));
            if let Some(gradient) = gradient
                && possible(&[m, v, parameter])
            {
                lend(m, |m| {
                    lend(v, |v| {
                        lend_reading(parameter, gradient, |w, g| pass.run(w, m, v, g, mask))
                    })
                })?;
                continue;
            }
            if let Some(gradient) = gradient {
                *m = ((&*m * BETA1)? + (gradient * (1.0 - BETA1))?)?.detach();
                *v = ((&*v * BETA2)? + (gradient.sqr()? * (1.0 - BETA2))?)?.detach();
                let root = ((&*v / correction2)?.sqrt()? + EPSILON)?;
                let update = ((&*m * (rate / correction1))? / root)?;
                parameter.set(&((parameter.as_tensor() * keep)? - update)?)?;
            }
            if let Some(mask) = mask {
                cut(parameter, [m, v], mask)?;
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
        match self.moments.get_mut(parameter) {
            Some(moments) => vec![&mut moments.exp_avg, &mut moments.exp_avg_sq],
            None => vec![],
        }
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>, TrainError> {
        let mut state = BTreeMap::new();
        for (name, moments) in &self.moments {
            state.insert(format!("{name}/exp_avg"), moments.exp_avg.copy()?);
            state.insert(format!("{name}/exp_avg_sq"), moments.exp_avg_sq.copy()?);
        }
        state.insert("step".into(), Tensor::new(&[self.steps], &candle_core::Device::Cpu)?);
        Ok(state)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        let like = Tensor::new(&[self.steps], &candle_core::Device::Cpu)?;
        let steps = saved(state, "step", &like)?.to_vec1::<u32>()?[0];
        let mut moments = BTreeMap::new();
        for (name, parameter) in &self.parameters {
            let exp_avg = saved(state, &format!("{name}/exp_avg"), parameter)?;
            let exp_avg_sq = saved(state, &format!("{name}/exp_avg_sq"), parameter)?;
            moments.insert(name.clone(), Moments { exp_avg, exp_avg_sq });
        }
        (self.steps, self.moments) = (steps, moments);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    /// Three steps on the loss Σ c·w with c = (1, −2), by hand in f64: f32 runs in place, f64 by
    /// expressions.
    #[test]
    fn follows_the_published_formula() {
        follows_the_formula_in(DType::F32);
        follows_the_formula_in(DType::F64);
    }

    fn follows_the_formula_in(dtype: DType) {
        let tensor = |values: [f64; 2]| Tensor::new(&values, &Device::Cpu)?.to_dtype(dtype);
        let var = Var::from_tensor(&tensor([1.0, -1.0]).unwrap()).unwrap();
        let slope = tensor([1.0, -2.0]).unwrap();
        let mut adamw = AdamW::new([("w".to_owned(), var.clone())].into(), 0.1, 0.5).unwrap();
        let (mut expected, mut m, mut v) = ([1.0_f64, -1.0], [0.0_f64; 2], [0.0_f64; 2]);
        for step in 1..=3 {
            let loss = (var.as_tensor() * &slope).unwrap().sum_all().unwrap();
            adamw.step(&loss.backward().unwrap()).unwrap();
            for (i, g) in [1.0, -2.0].into_iter().enumerate() {
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let (mh, vh) =
                    (m[i] / (1.0 - 0.9_f64.powi(step)), v[i] / (1.0 - 0.999_f64.powi(step)));
                expected[i] = expected[i] * (1.0 - 0.1 * 0.5) - 0.1 * mh / (vh.sqrt() + 1e-8);
            }
        }
        let found = var.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        for (w, e) in found.into_iter().zip(expected) {
            assert!((w - e).abs() < 1e-6, "{dtype:?}: {w} {e}");
        }
    }

    #[test]
    fn a_restored_optimizer_continues_as_if_nothing_happened() {
        let run = |interrupted: bool| {
            let var = Var::new(&[1.0_f32, -1.0], &Device::Cpu).unwrap();
            let new = || AdamW::new([("w".to_owned(), var.clone())].into(), 0.1, 0.0).unwrap();
            let mut adamw = new();
            for step in 0..6 {
                if interrupted && step == 3 {
                    let state = adamw.state().unwrap();
                    adamw = new();
                    adamw.load_state(&state).unwrap();
                }
                let loss = var.sqr().unwrap().sum_all().unwrap();
                adamw.step(&loss.backward().unwrap()).unwrap();
            }
            var.to_vec1::<f32>().unwrap()
        };
        assert_eq!(run(true), run(false));
        let mut adamw = AdamW::new(
            [("w".to_owned(), Var::new(&[1.0_f32], &Device::Cpu).unwrap())].into(),
            0.1,
            0.0,
        )
        .unwrap();
        assert!(adamw.load_state(&BTreeMap::new()).is_err());
    }
}
