//! What was observed of a bare layer? Activations and gradients from files, by the weight's name.

use crate::weights::Weights;
use anyhow::{Context, Result, ensure};
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
        if weight.elem_count() == 0 {
            return Ok(());
        }
        if needs.inputs()
            && let Some(inputs) = self.inputs(name, weight)?
        {
            let features = inputs.dims()[1];
            if needs.gram {
                let mut gram = Gram::new(features);
                gram.update(&inputs)?;
                statistics.gram = Some(gram);
            } else {
                let mut norms = InputNorms::new(features);
                norms.update(&inputs)?;
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
        if before.elem_count() == 0 {
            return Ok(None);
        }
        let Some(inputs) = self.inputs(name, before)? else { return Ok(None) };
        let matrix = |weight: &Tensor| weight.flatten_from(1)?.to_dtype(DType::F32);
        let (before, after) = (matrix(before)?, matrix(after)?);
        let difference = (&before - after)?;
        let tokens = inputs.dims()[0];
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

    /// The activations of the layer `name`, `[tokens, in]` in f32, whatever leading sides they have in
    /// the file. Refused, by name, when they do not fit the layer or are no numbers.
    fn inputs(&self, name: &str, weight: &Tensor) -> Result<Option<Tensor>> {
        let Some(file) = &self.inputs else { return Ok(None) };
        let Some(inputs) = find(file, name)? else { return Ok(None) };
        let features: usize = weight.dims()[1..].iter().product();
        let shape = inputs.dims().to_vec();
        ensure!(
            shape.last() == Some(&features),
            "the activations of {name} have shape {shape:?}, it needs [tokens, {features}]"
        );
        let inputs = inputs.to_dtype(DType::F32)?.reshape(((), features))?;
        ensure!(inputs.dims()[0] > 0, "the activations of {name} hold no token");
        let finite = inputs.flatten_all()?.to_vec1::<f32>()?.iter().all(|x| x.is_finite());
        ensure!(finite, "the activations of {name} hold NaN or infinity");
        Ok(Some(inputs))
    }

    /// Names in the files that belong to none of the layers `names`.
    pub fn unused(&self, names: &[String]) -> Vec<String> {
        let files = [&self.inputs, &self.gradients].into_iter().flatten();
        let belongs = |held: &String| {
            names.iter().any(|name| name == held || name.strip_suffix(".weight") == Some(held))
        };
        files.flat_map(Weights::names).filter(|held| !belongs(held)).collect()
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
    name.strip_suffix(".weight").map_or(Ok(None), |short| file.tensor(short))
}
