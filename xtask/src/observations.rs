//! What was observed of a bare layer? Activations and gradients from files, by the weight's name.

use crate::weights::Weights;
use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Tensor};
use secateur::criteria::{Fisher, Gram, InputNorms, Movement, Needs, Statistics};
use std::path::Path;

/// Tokens multiplied at a time.
const CHUNK: usize = 1024;

/// Files of activations and gradients.
pub struct Observations {
    inputs: Option<Weights>,
    gradients: Option<Weights>,
}

impl Observations {
    /// Opens what is given.
    pub fn load(inputs: Option<&Path>, gradients: Option<&Path>) -> Result<Self> {
        let load = |path: Option<&Path>| path.map(Weights::load).transpose();
        Ok(Self { inputs: load(inputs)?, gradients: load(gradients)? })
    }

    /// Adds to `statistics` what `needs` asks for of the layer `name` and the files hold.
    pub fn add(
        &self,
        statistics: &mut Statistics,
        name: &str,
        weight: &Tensor,
        needs: Needs,
    ) -> Result<()> {
        let features = weight.elem_count() / weight.dims()[0].max(1);
        if needs.inputs()
            && let Some(inputs) = self.inputs(name)?
        {
            let said = || format!("the activations of {name}");
            if needs.gram {
                let mut gram = Gram::new(features);
                gram.update(&inputs).with_context(said)?;
                statistics.gram = Some(gram);
            } else {
                let mut norms = InputNorms::new(features);
                norms.update(&inputs).with_context(said)?;
                statistics.input_norms = Some(norms);
            }
        }
        if let Some(gradients) = self.gradients(name, weight)? {
            if needs.gradient {
                statistics.gradient = Some(gradients.mean(0)?);
            }
            if needs.hessian_gradient {
                statistics.hessian_gradient = Some(gradients.mean(0)?);
            }
            if needs.sample_gradients {
                let samples = gradients.dims()[0];
                let mut fisher = Fisher::new(weight.elem_count(), samples);
                for sample in 0..samples {
                    let gradient = gradients.get(sample)?;
                    fisher.update(&gradient).with_context(|| format!("gradients of {name}"))?;
                }
                statistics.fisher = Some(fisher);
            }
        }
        Ok(())
    }

    /// A movement criterion that has seen one step, at a learning rate of 1, for every gradient.
    pub fn movement(&self, weights: &Weights, names: &[String]) -> Result<Movement> {
        let mut movement = Movement::default();
        for name in names {
            let weight = weights.tensor(name)?.context("a tensor was there and is gone")?;
            if let Some(gradients) = self.gradients(name, &weight)? {
                for step in 0..gradients.dims()[0] {
                    movement.observe(name, &weight, &gradients.get(step)?, 1.0)?;
                }
            }
        }
        Ok(movement)
    }

    /// Tokens seen and `‖XWᵀ − XŴᵀ‖² / ‖XWᵀ‖²`, where there are inputs of the layer `name`.
    pub fn output_error(
        &self,
        name: &str,
        before: &Tensor,
        after: &Tensor,
    ) -> Result<Option<(u64, f64)>> {
        let Some(inputs) = self.inputs(name)? else { return Ok(None) };
        let matrix = |weight: &Tensor| weight.flatten_from(1)?.to_dtype(DType::F32);
        let (before, after) = (matrix(before)?, matrix(after)?);
        let difference = (&before - after)?;
        let features = before.dims()[1];
        let tokens = inputs.elem_count() / features.max(1);
        let inputs = inputs.to_dtype(DType::F32)?.reshape((tokens, features))?;
        let (mut error, mut whole) = (0.0, 0.0);
        for start in (0..tokens).step_by(CHUNK) {
            let x = inputs.narrow(0, start, CHUNK.min(tokens - start))?;
            let square = |weight: &Tensor| -> Result<f64> {
                let outputs = x.matmul(&weight.t()?)?.to_dtype(DType::F64)?;
                Ok(outputs.sqr()?.sum_all()?.to_scalar::<f64>()?)
            };
            error += square(&difference)?;
            whole += square(&before)?;
        }
        Ok(Some((tokens as u64, if error == 0.0 { 0.0 } else { error / whole })))
    }

    /// The activations of the layer `name`.
    fn inputs(&self, name: &str) -> Result<Option<Tensor>> {
        self.inputs.as_ref().map_or(Ok(None), |file| find(file, name))
    }

    /// The gradients of the layer `name`, `[n, shape of the weight]`.
    fn gradients(&self, name: &str, weight: &Tensor) -> Result<Option<Tensor>> {
        let Some(file) = &self.gradients else { return Ok(None) };
        let Some(gradients) = find(file, name)? else { return Ok(None) };
        if gradients.dims() == weight.dims() {
            return Ok(Some(gradients.unsqueeze(0)?));
        }
        ensure!(
            gradients.dims().split_first().is_some_and(|(n, rest)| *n > 0 && rest == weight.dims()),
            "the gradients of {name} have shape {:?}; give {:?}, or several stacked in front",
            gradients.dims(),
            weight.dims()
        );
        Ok(Some(gradients))
    }
}

/// The tensor called `name`, or the same without its `.weight`.
fn find(file: &Weights, name: &str) -> Result<Option<Tensor>> {
    if let Some(tensor) = file.tensor(name)? {
        return Ok(Some(tensor));
    }
    let Some(short) = name.strip_suffix(".weight") else { return Ok(None) };
    match file.tensor(short)? {
        Some(tensor) if tensor.rank() == 0 => bail!("{short} is a single number, no activations"),
        other => Ok(other),
    }
}
