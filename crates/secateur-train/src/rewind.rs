//! From where does a pruned network go on? From what it learnt, or from earlier.

use crate::TrainError;
use candle_core::{Tensor, Var};
use rand::seq::SliceRandom;
use secateur_criteria::seed;
use secateur_nn::Network;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The weights that a pruned network is retrained from, and the routine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rewind {
    /// The weights it has, trained by the retraining routine: fine-tuning (Han et al. 2015).
    None,
    /// The weights it has, and the training routine from its beginning: learning rate rewinding
    /// (Renda et al. 2020), "repeat the training" (Mishra et al. 2021).
    #[default]
    LearningRate,
    /// The weights from before training: a lottery ticket (Frankle & Carbin 2019).
    Initial,
    /// The weights and the learning rate at this step of the dense training: late rewinding
    /// (Frankle et al. 2020).
    Step(usize),
    /// The weights from before training, shuffled within each tensor: another draw of the same
    /// distribution. It is the control: if it does as well, it is the mask that counts.
    Random,
}

/// Copies of parameters, by name.
pub(crate) type Weights = BTreeMap<String, Tensor>;

/// Everything about a network that training changes: parameters and buffers.
pub(crate) fn state<N: Network + ?Sized>(network: &N) -> BTreeMap<String, Var> {
    let mut state = network.parameters();
    state.extend(network.buffers());
    state
}

/// Copies that later steps do not change.
pub(crate) fn snapshot(parameters: &BTreeMap<String, Var>) -> Result<Weights, TrainError> {
    let copy = |(name, var): (&String, &Var)| Ok((name.clone(), var.copy()?.detach()));
    parameters.iter().map(copy).collect()
}

/// Puts back what [`snapshot`] took.
pub(crate) fn restore(
    parameters: &BTreeMap<String, Var>,
    weights: &Weights,
) -> Result<(), TrainError> {
    for (name, parameter) in parameters {
        if let Some(weight) = weights.get(name) {
            parameter.set(&weight.to_device(parameter.device())?)?;
        }
    }
    Ok(())
}

/// Errors unless `weights` has all of `parameters` in their shapes.
pub(crate) fn check_all(
    parameters: &BTreeMap<String, Var>,
    weights: &Weights,
) -> Result<(), TrainError> {
    for (name, parameter) in parameters {
        if weights.get(name).is_none_or(|weight| weight.dims() != parameter.dims()) {
            return Err(TrainError::State(format!("{name} is missing, or has another shape")));
        }
    }
    Ok(())
}

/// Puts back what came from a file.
pub(crate) fn restore_all(
    parameters: &BTreeMap<String, Var>,
    weights: &Weights,
) -> Result<(), TrainError> {
    check_all(parameters, weights)?;
    restore(parameters, weights)
}

/// Every tensor's numbers in another order, drawn from `seed` for this `round`.
pub(crate) fn shuffled(weights: &Weights, seed: u64, round: usize) -> Result<Weights, TrainError> {
    let mut shuffled = Weights::new();
    for (name, weight) in weights {
        let mut values = weight.flatten_all()?.to_vec1::<f32>()?;
        values.shuffle(&mut seed::stream(seed, &format!("reinitialise/{round}/{name}")));
        let weight = Tensor::from_vec(values, weight.shape(), weight.device())?;
        shuffled.insert(name.clone(), weight);
    }
    Ok(shuffled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn shuffling_is_another_draw_of_the_same_numbers() {
        let values: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let weight = Tensor::from_vec(values.clone(), (8, 8), &Device::Cpu).unwrap();
        let weights = Weights::from([("w".to_owned(), weight)]);
        let draw = |seed, round| -> Vec<f32> {
            let drawn = &shuffled(&weights, seed, round).unwrap()["w"];
            assert_eq!(drawn.dims(), [8, 8]);
            drawn.flatten_all().unwrap().to_vec1().unwrap()
        };
        assert_eq!(draw(1, 1), draw(1, 1));
        assert!(draw(1, 1) != draw(2, 1) && draw(1, 1) != draw(1, 2) && draw(1, 1) != values);
        let mut sorted = draw(1, 1);
        sorted.sort_by(f32::total_cmp);
        assert_eq!(sorted, values);
    }
}
