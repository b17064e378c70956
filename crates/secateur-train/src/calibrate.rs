//! What does data show of a network's layers? Activations, gradients and flow, as a criterion asks.

use crate::{Samples, TrainError};
use candle_core::{D, DType, Tensor, Var};
use candle_nn::loss::cross_entropy;
use secateur_criteria::{Fisher, Needs, Statistics, grasp};
use secateur_nn::{Network, weight_name};
use std::collections::BTreeMap;

/// Training samples that statistics are taken of, at most: as many as layer-wise methods and the
/// Fisher matrix of oBERT need (Kurtic et al. 2022).
const SAMPLES: usize = 1024;
/// Samples in one pass.
const BATCH: usize = 128;

/// Observes every prunable layer of `network` on (up to 1024, the first) `samples`, as `needs` asks;
/// by parameter name. The network's weights are as before afterwards.
///
/// Gradients are of the mean cross-entropy, in evaluation mode (no dropout). For
/// [`Needs::FLOW`] the samples only give the shape of an input of ones.
pub fn calibrate<N: Network + ?Sized>(
    network: &mut N,
    samples: &Samples,
    needs: Needs,
) -> Result<BTreeMap<String, Statistics>, TrainError> {
    if needs == Needs::WEIGHT {
        return Ok(BTreeMap::new());
    }
    let samples = samples.slice(0, samples.len().min(SAMPLES))?;
    let mut statistics = observe_inputs(network, &samples, needs)?;
    let weights: Vec<(String, Var)> = network
        .layers()
        .into_iter()
        .filter_map(|(name, layer)| Some((weight_name(&name), layer.weight()?.clone())))
        .collect();
    let vars: Vec<Var> = weights.iter().map(|(_, var)| var.clone()).collect();
    let mut give = |tensors: Vec<Tensor>, place: fn(&mut Statistics, Tensor)| {
        for ((name, _), tensor) in weights.iter().zip(tensors) {
            place(statistics.entry(name.clone()).or_default(), tensor);
        }
    };
    if needs.gradient {
        give(gradients(network, &vars, &samples, 1.0)?, |s, g| s.gradient = Some(g));
    }
    if needs.flow {
        give(flow(network, &vars, &samples)?, |s, g| s.gradient = Some(g));
    }
    if needs.hessian_gradient {
        let gradients = || gradients(network, &vars, &samples, grasp::TEMPERATURE);
        let products = grasp::hessian_gradient(&vars, gradients)?;
        give(products, |s, hg| s.hessian_gradient = Some(hg));
    }
    if needs.sample_gradients {
        let mut fishers: Vec<Fisher> =
            vars.iter().map(|var| Fisher::new(var.elem_count(), samples.len())).collect();
        for sample in 0..samples.len() {
            let one = samples.slice(sample, 1)?;
            for (fisher, g) in fishers.iter_mut().zip(gradients(network, &vars, &one, 1.0)?) {
                fisher.update(&g)?;
            }
        }
        for ((name, _), fisher) in weights.iter().zip(fishers) {
            statistics.entry(name.clone()).or_default().fisher = Some(fisher);
        }
    }
    Ok(statistics)
}

fn observe_inputs<N: Network + ?Sized>(
    network: &mut N,
    samples: &Samples,
    needs: Needs,
) -> Result<BTreeMap<String, Statistics>, TrainError> {
    if !needs.inputs() {
        return Ok(BTreeMap::new());
    }
    for layer in network.layers_mut().into_values().filter(|layer| layer.weight().is_some()) {
        layer.observe(needs)?;
    }
    let run = || -> Result<(), TrainError> {
        for start in (0..samples.len()).step_by(BATCH) {
            let batch = samples.slice(start, BATCH.min(samples.len() - start))?;
            network.forward(batch.xs())?;
        }
        Ok(())
    };
    let ran = run();
    // Layers stop watching whether or not a pass failed.
    let observed = network.layers_mut().into_iter();
    let statistics = observed
        .filter_map(|(name, layer)| Some((weight_name(&name), layer.observed()?)))
        .collect();
    ran.map(|()| statistics)
}

/// The gradients of the mean cross-entropy of logits divided by `temperature`, over all samples.
fn gradients<N: Network + ?Sized>(
    network: &N,
    vars: &[Var],
    samples: &Samples,
    temperature: f64,
) -> Result<Vec<Tensor>, TrainError> {
    let mut sums: Vec<Tensor> = vars.iter().map(|v| v.zeros_like()).collect::<Result<_, _>>()?;
    for start in (0..samples.len()).step_by(BATCH) {
        let batch = samples.slice(start, BATCH.min(samples.len() - start))?;
        let logits = (network.forward(batch.xs())? / temperature)?;
        let loss = cross_entropy(&logits, batch.ys())?;
        let store = loss.backward()?;
        let share = batch.len() as f64 / samples.len() as f64;
        for (sum, var) in sums.iter_mut().zip(vars) {
            if let Some(gradient) = store.get(var) {
                *sum = (&*sum + (gradient.detach() * share)?)?;
            }
        }
    }
    Ok(sums)
}

/// ∂R/∂|θ| of the synaptic flow `R = Σ net(|θ|; 1)`, biases zero, up to a factor common to all
/// layers: each is scaled so that R stays in range, which multiplies all scores by one number.
fn flow<N: Network + ?Sized>(
    network: &N,
    vars: &[Var],
    samples: &Samples,
) -> Result<Vec<Tensor>, TrainError> {
    let copies = |vars: &[Var]| -> Result<Vec<Tensor>, TrainError> {
        vars.iter().map(|var| Ok(var.copy()?.detach())).collect()
    };
    let parameters: Vec<Var> = network.parameters().into_values().collect();
    let (before, weights) = (copies(&parameters)?, copies(vars)?);
    let linear = || -> Result<Vec<Tensor>, TrainError> {
        for parameter in &parameters {
            parameter.set(&parameter.zeros_like()?)?;
        }
        let mut scales = Vec::new();
        for (var, weight) in vars.iter().zip(&weights) {
            let magnitudes = weight.abs()?;
            let sums = magnitudes.flatten_from(1)?.sum(D::Minus1)?.to_dtype(DType::F64)?;
            let largest = sums.max_all()?.to_scalar::<f64>()?;
            let scale = if largest > 0.0 { largest } else { 1.0 };
            var.set(&(magnitudes / scale)?)?;
            scales.push(scale);
        }
        let ones = samples.slice(0, 1)?.xs().ones_like()?;
        let store = network.forward(&ones)?.sum_all()?.backward()?;
        let gradient = |(var, scale): (&Var, f64)| match store.get(var) {
            Some(gradient) => Ok((gradient.detach() / scale)?),
            None => Ok(var.zeros_like()?),
        };
        vars.iter().zip(scales).map(gradient).collect()
    };
    let flows = linear();
    for (parameter, before) in parameters.iter().zip(&before) {
        parameter.set(before)?;
    }
    flows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digits;
    use candle_core::Device;
    use secateur_criteria::synflow::chain_flow;
    use secateur_nn::Mlp;

    fn values(tensor: &Tensor) -> Vec<f64> {
        tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    /// Everything at once: what was asked for is there, and the weights are as before.
    #[test]
    fn what_is_asked_for_is_observed_and_the_weights_stay() {
        let mut network = Mlp::digits(1, &Device::Cpu).unwrap();
        let samples = digits(&Device::Cpu).unwrap().split(200, 1).unwrap().train;
        let samples = samples.slice(0, 64).unwrap();
        let before: Vec<Vec<f64>> = network.parameters().values().map(|v| values(v)).collect();
        let needs = Needs::GRAM
            .or(Needs::INPUT_NORMS)
            .or(Needs::GRADIENT)
            .or(Needs::SAMPLE_GRADIENTS)
            .or(Needs::HESSIAN_GRADIENT);
        let statistics = calibrate(&mut network, &samples, needs).unwrap();
        assert_eq!(statistics.len(), 3);
        for (name, seen) in &statistics {
            let (gram, norms) = (seen.gram.as_ref().unwrap(), seen.input_norms.as_ref().unwrap());
            assert_eq!((gram.tokens(), norms.tokens()), (64, 64), "{name}");
            for (a, b) in gram.squares().iter().zip(norms.squares()) {
                assert!((a - b).abs() <= 1e-9 * b.abs());
            }
            assert_eq!(seen.fisher.as_ref().unwrap().samples(), 64);
            for gradient in [&seen.gradient, &seen.hessian_gradient] {
                assert!(values(gradient.as_ref().unwrap()).iter().any(|g| *g != 0.0), "{name}");
            }
        }
        let inputs = values(samples.xs());
        let first: f64 = inputs.iter().skip(20).step_by(64).map(|x| x * x).sum();
        let seen = statistics["fc1.weight"].input_norms.as_ref().unwrap().squares()[20];
        assert!((first - seen).abs() <= 1e-6 * first, "{first} {seen}");
        let after: Vec<Vec<f64>> = network.parameters().values().map(|v| values(v)).collect();
        assert_eq!(before, after);
    }

    /// Through the network or along the chain of its weights: the same flow, up to one factor.
    #[test]
    fn flow_is_that_of_the_chain() {
        let mut network = Mlp::digits(2, &Device::Cpu).unwrap();
        let samples = digits(&Device::Cpu).unwrap().split(200, 1).unwrap().train;
        let weights: Vec<Tensor> = network
            .layers()
            .into_values()
            .map(|layer| layer.weight().unwrap().as_tensor().copy().unwrap())
            .collect();
        let chain = chain_flow(&weights.iter().collect::<Vec<_>>()).unwrap();
        let statistics = calibrate(&mut network, &samples, Needs::FLOW).unwrap();
        let mut factor = None;
        for (seen, along) in statistics.values().zip(&chain) {
            let (seen, along) = (values(seen.gradient.as_ref().unwrap()), values(along));
            for (seen, along) in seen.iter().zip(&along) {
                let factor = *factor.get_or_insert(seen / along);
                assert!((seen - along * factor).abs() <= 1e-4 * seen.abs(), "{seen} {along}");
            }
        }
    }
}
