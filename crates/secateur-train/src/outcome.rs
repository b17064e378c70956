//! What does a run leave behind? Checkpoints, two judgements and a proof.

use crate::{Evaluation, Round, TrainError};
use candle_core::{D, Tensor};
use secateur_storage::Checkpoint;
use serde::Serialize;

/// The largest difference that packing may make, relative to a sample's largest logit: kernels add
/// in another order, nothing more.
const TOLERANCE: f64 = 1e-5;

/// What [`Run::execute`](crate::Run::execute) gives.
#[derive(Debug)]
pub struct Outcome<N> {
    /// The network, packed: it multiplies only what is left.
    pub network: N,
    /// The dense network's weights.
    pub dense: Checkpoint,
    /// The pruned network's weights, packed, with their patterns.
    pub pruned: Checkpoint,
    /// The masks, with their patterns.
    pub masks: Checkpoint,
    /// Where whole units were pruned ([`Pattern::Channel`](secateur_mask::Pattern::Channel)) of a network that is a
    /// chain: the smaller dense network that computes the same ([`shrink`](secateur_nn::shrink)).
    pub shrunk: Option<Checkpoint>,
    /// The dense network, judged by the test samples.
    pub dense_test: Evaluation,
    /// The packed network, judged by the same.
    pub pruned_test: Evaluation,
    /// Whether packing changed anything; see [`Proof::holds`].
    pub proof: Proof,
    /// What every stretch came to on validation samples, the dense one first: the frontier walked.
    pub rounds: Vec<Round>,
    /// Which of them is the pruned network.
    pub chosen: usize,
}

/// The packed network against the masked dense one, over the whole test set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Proof {
    /// Largest difference of a logit, relative to the largest logit of its sample.
    pub difference: f64,
    /// Samples compared.
    pub samples: usize,
    /// Samples that the two classify differently.
    pub disagreements: usize,
}

impl Proof {
    /// Whether packing changed nothing: no logit by more than 1e-5 of the largest of its sample, and
    /// no prediction. Kernels add in another order, so the last bits may differ.
    pub fn holds(&self) -> bool {
        self.difference <= TOLERANCE && self.disagreements == 0
    }

    /// Compares logits `[n, classes]` of two networks for the same samples.
    pub fn of(packed: &Tensor, masked: &Tensor) -> Result<Self, TrainError> {
        let scale = masked.abs()?.max_keepdim(D::Minus1)?.maximum(f32::MIN_POSITIVE)?;
        let relative = (packed - masked)?.abs()?.broadcast_div(&scale)?;
        let values = relative.flatten_all()?.to_vec1::<f32>()?;
        // NaN is a difference too: `f64::max` would lose it.
        let worst = |a: f64, b: f32| if a.is_nan() || a >= f64::from(b) { a } else { f64::from(b) };
        let difference = values.into_iter().fold(0.0, worst);
        let same: Vec<u8> =
            packed.argmax(D::Minus1)?.eq(&masked.argmax(D::Minus1)?)?.flatten_all()?.to_vec1()?;
        let disagreements = same.iter().filter(|same| **same == 0).count();
        Ok(Self { difference, samples: same.len(), disagreements })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn holds(packed: [[f32; 2]; 2]) -> bool {
        let tensor = |values: [[f32; 2]; 2]| Tensor::new(&values, &Device::Cpu).unwrap();
        Proof::of(&tensor(packed), &tensor([[1.0, 100.0], [2.0, 1.0]])).unwrap().holds()
    }

    #[test]
    fn rounding_passes_anything_else_does_not() {
        assert!(holds([[1.0, 100.0], [2.0, 1.0]]));
        assert!(holds([[1.0005, 100.0], [2.0, 1.0]]));
        assert!(!holds([[1.01, 100.0], [2.0, 1.0]]));
        assert!(!holds([[1.0, 100.0], [f32::NAN, 1.0]]));
    }
}
