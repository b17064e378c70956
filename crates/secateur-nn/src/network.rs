//! What must a model offer to be pruned? Its layers by name, and its outputs.

use crate::{Dropout, NnError, PrunableLayer};
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;

/// A model that the prune–retrain loop can work on.
///
/// Implement it for a model of your own: hand out the layers that may be pruned, by a stable name,
/// and compute. Layers come in an ordered map, so that every run visits them in the same order.
pub trait Network {
    /// The outputs (for a classifier: logits `[batch, classes]`) for a batch of inputs.
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor>;

    /// The same while training, with `dropout` where the model wants it. The default uses none.
    fn forward_train(&self, xs: &Tensor, dropout: &mut Dropout) -> candle_core::Result<Tensor> {
        let _ = dropout;
        self.forward(xs)
    }

    /// The prunable layers, by name: `fc1` for the layer stored as `fc1.weight` and `fc1.bias`.
    fn layers(&self) -> BTreeMap<String, &PrunableLayer>;

    /// The same, to be changed.
    fn layers_mut(&mut self) -> BTreeMap<String, &mut PrunableLayer>;

    /// Every trainable parameter by its name in a checkpoint. The default is the weights and biases
    /// of [`Self::layers`]; override it for models that have others, such as norms.
    fn parameters(&self) -> BTreeMap<String, Var> {
        let mut parameters = BTreeMap::new();
        for (name, layer) in self.layers() {
            if let Some(weight) = layer.weight() {
                parameters.insert(weight_name(&name), weight.clone());
            }
            if let Some(bias) = layer.bias() {
                parameters.insert(format!("{name}.bias"), bias.clone());
            }
        }
        parameters
    }
}

/// The name of a layer's weight in a checkpoint.
pub fn weight_name(layer: &str) -> String {
    format!("{layer}.weight")
}

/// All parameters of the prunable layers, cut or not: weights and biases.
pub fn count_parameters<N: Network + ?Sized>(network: &N) -> usize {
    let count = |layer: &PrunableLayer| {
        layer.shape().iter().product::<usize>() + layer.bias().map_or(0, |bias| bias.elem_count())
    };
    network.layers().into_values().map(count).sum()
}

/// The parameters that are left: non-zero weights, and every bias.
pub fn count_nonzero<N: Network + ?Sized>(network: &N) -> Result<usize, NnError> {
    let mut count = 0;
    for layer in network.layers().into_values() {
        count += layer.count_nonzero()? + layer.bias().map_or(0, |bias| bias.elem_count());
    }
    Ok(count)
}
