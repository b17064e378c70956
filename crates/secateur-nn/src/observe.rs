//! What goes into a layer while data runs through it? A watch that sums up its activations.

use crate::{NnError, PrunableLayer, layer::Kind};
use candle_core::Tensor;
use secateur_criteria::{CriterionError, Gram, InputNorms, Needs, Statistics};
use std::sync::{Mutex, PoisonError};

/// Sums up the activations that a layer is called with.
#[derive(Debug)]
pub(crate) struct Watch(Mutex<Statistics>);

impl Watch {
    fn new(features: usize, needs: Needs) -> Self {
        Self(Mutex::new(Statistics {
            input_norms: needs.input_norms.then(|| InputNorms::new(features)),
            gram: needs.gram.then(|| Gram::new(features)),
            ..Statistics::default()
        }))
    }

    /// Adds activations `[.., in]`.
    pub fn see(&self, xs: &Tensor) -> Result<(), CriterionError> {
        let mut statistics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(norms) = &mut statistics.input_norms {
            norms.update(xs)?;
        }
        if let Some(gram) = &mut statistics.gram {
            gram.update(xs)?;
        }
        Ok(())
    }
}

impl PrunableLayer {
    /// From now on sums up the layer's inputs as `needs` asks, on every forward pass, until
    /// [`Self::observed`] ends it. What a convolution is fed are its patches, `in · kh · kw` features
    /// each. A packed layer cannot be observed: there is nothing to prune. Nor can, yet, the inputs of a
    /// convolution in groups, whose outputs are fed differently.
    ///
    /// ```
    /// use candle_core::{Device, Module, Tensor};
    /// use secateur_criteria::Needs;
    /// use secateur_nn::Linear;
    ///
    /// let mut layer = Linear::init(2, 3, 0, "fc", &Device::Cpu)?;
    /// layer.observe(Needs::INPUT_NORMS)?;
    /// layer.forward(&Tensor::new(&[[3_f32, 0.], [4., 1.]], &Device::Cpu)?)?;
    /// let statistics = layer.observed().unwrap();
    /// assert_eq!(statistics.input_norms.unwrap().squares(), [25.0, 1.0]);
    /// # Ok::<(), secateur_nn::NnError>(())
    /// ```
    pub fn observe(&mut self, needs: Needs) -> Result<(), NnError> {
        if self.weight().is_none() {
            return Err(NnError::Packed("observed"));
        }
        if let Kind::Conv2d(geometry) = self.kind()
            && geometry.groups > 1
            && needs.inputs()
        {
            return Err(NnError::GroupedInputs { groups: geometry.groups });
        }
        let features = self.shape()[1..].iter().product();
        self.watch = needs.inputs().then(|| Watch::new(features, needs));
        Ok(())
    }

    /// What was observed since [`Self::observe`]; the watch ends.
    pub fn observed(&mut self) -> Option<Statistics> {
        let watch = self.watch.take()?;
        Some(watch.0.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}
