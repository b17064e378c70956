//! Which weights matter? Those that training moves away from zero (Sanh et al. 2020).

use crate::{Criterion, CriterionError, Layer};
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;

/// Score `S = −Σ lr · w · g` over the training steps seen: high where steps made `|w|` grow.
///
/// A criterion with a memory: show it every step with [`Self::observe`]. A weight that was cut may
/// come back when its score says so: pass layers without the mask of an earlier pruning (and let
/// gradients reach cut weights).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use secateur_criteria::{Criterion, Layer, Movement};
///
/// let weight = Tensor::new(&[1_f32, -1., 2.], &Device::Cpu)?;
/// let gradient = Tensor::new(&[1_f32, 1., -1.], &Device::Cpu)?;
/// let mut movement = Movement::default();
/// movement.observe("w", &weight, &gradient, 0.5)?;
/// let score = movement.score(&Layer::new("w", &weight))?;
/// assert_eq!(score.to_vec1::<f64>()?, [-0.5, 0.5, 1.0]); // shrinks, grows, grows
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Movement {
    sums: BTreeMap<String, Tensor>,
}

impl Movement {
    /// Sees one training step of a layer: its weight before the step, the gradient of the loss, and
    /// the learning rate.
    pub fn observe(
        &mut self,
        layer: &str,
        weight: &Tensor,
        gradient: &Tensor,
        learning_rate: f64,
    ) -> Result<(), CriterionError> {
        let (weight, gradient) = (weight.to_dtype(DType::F64)?, gradient.to_dtype(DType::F64)?);
        let moved = ((weight * gradient)? * -learning_rate)?.detach();
        let sum = match self.sums.get(layer) {
            Some(sum) => (sum + moved)?,
            None => moved,
        };
        self.sums.insert(layer.to_owned(), sum);
        Ok(())
    }
}

impl Criterion for Movement {
    fn name(&self) -> &str {
        "movement"
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        self.sums.get(layer.name()).cloned().ok_or_else(|| CriterionError::Missing {
            layer: layer.name().to_owned(),
            what: "training steps (Movement::observe)",
        })
    }
}
