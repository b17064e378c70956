//! What else does a sparse network learn from? The dense one's outputs (Hinton et al. 2015).

use crate::{Samples, TrainError, logits};
use candle_core::{D, Tensor};
use candle_nn::{loss::cross_entropy, ops};
use secateur_nn::Network;
use serde::{Deserialize, Serialize};

/// Learning from another network's outputs (Hinton et al. 2015): the loss is
/// `(1 − weight) · CE(labels) + weight · T² · CE(softmax(teacher / T))`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// The share of the loss that the teacher decides, in 0..=1.
    pub weight: f64,
    /// `T`, above 0: the higher, the softer the teacher's word.
    pub temperature: f64,
}

impl Distillation {
    /// Errors unless the weight is a share and the temperature above 0.
    pub fn check(&self) -> Result<(), TrainError> {
        let refuse = |what, value: f64, must| {
            Err(TrainError::Setting { what, value: value.to_string(), must })
        };
        if !(0.0..=1.0).contains(&self.weight) {
            return refuse("distillation.weight", self.weight, "in 0..=1");
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return refuse("distillation.temperature", self.temperature, "above 0");
        }
        Ok(())
    }
}

/// A trained network's softened outputs for all training samples: computed once, as nothing about the samples
/// changes from epoch to epoch.
#[derive(Debug)]
pub(crate) struct Teacher {
    settings: Distillation,
    probabilities: Tensor,
}

impl Teacher {
    /// What `network` says, as it is now, about `samples`.
    pub fn new<N: Network + ?Sized>(
        network: &N,
        samples: &Samples,
        settings: Distillation,
    ) -> Result<Self, TrainError> {
        let softened = (logits(network, samples)? / settings.temperature)?;
        Ok(Self { settings, probabilities: ops::softmax(&softened, D::Minus1)?.detach() })
    }

    /// The loss of `logits` `[batch, classes]` for the training samples at `indices` with these `labels`.
    pub fn loss(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        indices: &[u32],
    ) -> Result<Tensor, TrainError> {
        let Distillation { weight, temperature } = self.settings;
        let indices = Tensor::new(indices, logits.device())?;
        let wanted = self.probabilities.index_select(&indices, 0)?;
        let said = ops::log_softmax(&(logits / temperature)?, D::Minus1)?;
        let distance = (wanted * said)?.sum(D::Minus1)?.mean_all()?.neg()?;
        let soft = (distance * (weight * temperature * temperature))?;
        Ok(((cross_entropy(logits, labels)? * (1.0 - weight))? + soft)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_loss_is_the_published_mixture() {
        let tensor = |rows: &[[f32; 2]]| {
            Tensor::from_vec(rows.concat(), (rows.len(), 2), &Device::Cpu).unwrap()
        };
        let settings = Distillation { weight: 0.25, temperature: 2.0 };
        let teacher = Teacher { settings, probabilities: tensor(&[[0.5, 0.5], [0.9, 0.1]]) };
        let labels = Tensor::new(&[0_u32], &Device::Cpu).unwrap();
        let loss = teacher.loss(&tensor(&[[1.0, -1.0]]), &labels, &[1]).unwrap();
        let log = |logit: f64, other: f64| -(1.0 + (other - logit).exp()).ln();
        let hard = -log(1.0, -1.0);
        let soft = -(0.9 * log(0.5, -0.5) + 0.1 * log(-0.5, 0.5));
        let expected = 0.75 * hard + 0.25 * 4.0 * soft;
        assert!((f64::from(loss.to_scalar::<f32>().unwrap()) - expected).abs() < 1e-6);
    }
}
