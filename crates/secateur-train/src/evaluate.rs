//! How good is a network? Loss and accuracy on samples it does not learn from.

use crate::{BestBy, Samples, TrainError};
use candle_core::{D, Tensor};
use candle_nn::loss::cross_entropy;
use secateur_nn::Network;
use serde::{Deserialize, Serialize};

/// Samples per forward pass.
const BATCH: usize = 1000;

/// The result of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Share classified rightly.
    pub accuracy: f64,
    /// Samples seen.
    pub samples: usize,
}

impl Evaluation {
    /// Share classified wrongly.
    pub fn error(&self) -> f64 {
        1.0 - self.accuracy
    }

    /// Whether this one is better, by one of the two and, among equals, by the other.
    pub(crate) fn beats(&self, other: &Self, by: BestBy) -> bool {
        match by {
            BestBy::Accuracy => (self.accuracy, -self.loss) > (other.accuracy, -other.loss),
            BestBy::Loss => (-self.loss, self.accuracy) > (-other.loss, other.accuracy),
        }
    }

    /// Judges `logits` `[n, classes]` by `labels` `[n]`.
    pub(crate) fn of(logits: &Tensor, labels: &Tensor) -> Result<Self, TrainError> {
        let samples = labels.elem_count();
        let loss = f64::from(cross_entropy(logits, labels)?.to_scalar::<f32>()?);
        let right: Vec<u8> = logits.argmax(D::Minus1)?.eq(labels)?.to_vec1()?;
        let right = right.iter().filter(|right| **right == 1).count();
        Ok(Self { loss, accuracy: right as f64 / samples as f64, samples })
    }
}

/// The logits `[n, classes]` of a network for all `samples`, computed in batches.
pub fn logits<N: Network + ?Sized>(network: &N, samples: &Samples) -> Result<Tensor, TrainError> {
    let mut outputs = Vec::new();
    for start in (0..samples.len()).step_by(BATCH) {
        let batch = samples.slice(start, BATCH.min(samples.len() - start))?;
        outputs.push(network.forward(batch.xs())?.detach());
    }
    Ok(Tensor::cat(&outputs, 0)?)
}

/// Judges a network by `samples`.
pub fn evaluate<N: Network + ?Sized>(
    network: &N,
    samples: &Samples,
) -> Result<Evaluation, TrainError> {
    Evaluation::of(&logits(network, samples)?, samples.ys())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn counts_what_is_right() {
        let logits =
            Tensor::new(&[[2_f32, 0.], [0., 2.], [5., 0.], [0., 1.]], &Device::Cpu).unwrap();
        let labels = Tensor::new(&[0_u32, 1, 1, 1], &Device::Cpu).unwrap();
        let evaluation = Evaluation::of(&logits, &labels).unwrap();
        assert_eq!((evaluation.accuracy, evaluation.error(), evaluation.samples), (0.75, 0.25, 4));
        let worse = Evaluation { accuracy: 0.5, ..evaluation };
        let surer = Evaluation { loss: 0.1, ..evaluation };
        let by = BestBy::Accuracy;
        assert!(evaluation.beats(&worse, by) && surer.beats(&evaluation, by));
        assert!(!evaluation.beats(&evaluation, by));
        let sure_and_wrong = Evaluation { accuracy: 0.5, ..surer };
        assert!(sure_and_wrong.beats(&evaluation, BestBy::Loss));
        assert!(evaluation.beats(&worse, BestBy::Loss));
    }
}
