//! What must a model offer to be pruned? Its layers by name, and its outputs.

use crate::{Dropout, NnError, PrunableLayer, Stage};
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
        layer_parameters(self)
    }

    /// What a checkpoint holds besides [`Self::parameters`] and no optimizer trains, such as the running
    /// mean and variance of a batch normalisation. The default is nothing.
    fn buffers(&self) -> BTreeMap<String, Var> {
        BTreeMap::new()
    }

    /// The prunable layers in the order in which activations pass them, if the network is a chain: each reads
    /// only the one before it, through ReLU and at most pooling and a flatten. The default says it is none.
    fn chain(&self) -> Vec<Stage> {
        Vec::new()
    }
}

/// A network whose type is known only at run time, such as `Box<dyn Network>`.
impl<N: Network + ?Sized> Network for Box<N> {
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        (**self).forward(xs)
    }
    fn forward_train(&self, xs: &Tensor, dropout: &mut Dropout) -> candle_core::Result<Tensor> {
        (**self).forward_train(xs, dropout)
    }
    fn layers(&self) -> BTreeMap<String, &PrunableLayer> {
        (**self).layers()
    }
    fn layers_mut(&mut self) -> BTreeMap<String, &mut PrunableLayer> {
        (**self).layers_mut()
    }
    fn parameters(&self) -> BTreeMap<String, Var> {
        (**self).parameters()
    }
    fn buffers(&self) -> BTreeMap<String, Var> {
        (**self).buffers()
    }
    fn chain(&self) -> Vec<Stage> {
        (**self).chain()
    }
}

/// The weights and biases of the prunable layers.
pub(crate) fn layer_parameters<N: Network + ?Sized>(network: &N) -> BTreeMap<String, Var> {
    let mut parameters = BTreeMap::new();
    for (name, layer) in network.layers() {
        if let Some(weight) = layer.weight() {
            parameters.insert(weight_name(&name), weight.clone());
        }
        if let Some(bias) = layer.bias() {
            parameters.insert(format!("{name}.bias"), bias.clone());
        }
    }
    parameters
}

/// The name of a layer's weight in a checkpoint.
pub fn weight_name(layer: &str) -> String {
    format!("{layer}.weight")
}

/// All parameters, cut or not: weights, biases and what else is trained, such as norms.
pub fn count_parameters<N: Network + ?Sized>(network: &N) -> usize {
    let weights =
        network.layers().into_values().map(|layer| layer.shape().iter().product::<usize>());
    weights.sum::<usize>() + others(network).values().map(|other| other.elem_count()).sum::<usize>()
}

/// The parameters that are left: whatever is not zero.
pub fn count_nonzero<N: Network + ?Sized>(network: &N) -> Result<usize, NnError> {
    let mut count = 0;
    for layer in network.layers().into_values() {
        count += layer.count_nonzero()?;
    }
    for other in others(network).into_values() {
        let values = other.flatten_all()?.to_vec1::<f32>()?;
        count += values.into_iter().filter(|value| *value != 0.0).count();
    }
    Ok(count)
}

/// Parameters that are no weights of prunable layers.
fn others<N: Network + ?Sized>(network: &N) -> BTreeMap<String, Var> {
    let mut others = network.parameters();
    for name in network.layers().keys() {
        others.remove(&weight_name(name));
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mlp;
    use candle_core::{DType, Device};

    /// Says of itself what none of the defaults would say.
    struct Odd(Mlp);

    impl Network for Odd {
        fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
            self.0.forward(xs)
        }
        fn forward_train(&self, xs: &Tensor, _: &mut Dropout) -> candle_core::Result<Tensor> {
            self.0.forward(xs)? + 1.0
        }
        fn layers(&self) -> BTreeMap<String, &PrunableLayer> {
            self.0.layers()
        }
        fn layers_mut(&mut self) -> BTreeMap<String, &mut PrunableLayer> {
            self.0.layers_mut()
        }
        fn parameters(&self) -> BTreeMap<String, Var> {
            BTreeMap::new()
        }
        fn buffers(&self) -> BTreeMap<String, Var> {
            let mean = Var::zeros(3, DType::F32, &Device::Cpu).unwrap();
            [("norm.running_mean".to_owned(), mean)].into()
        }
        fn chain(&self) -> Vec<Stage> {
            vec![Stage { layer: "fc1".into(), norm: None }]
        }
    }

    #[test]
    fn a_boxed_network_is_the_network() {
        let plain = Mlp::new(&[4, 3, 2], 0, &Device::Cpu).unwrap();
        assert!(plain.buffers().is_empty());
        let mut boxed: Box<dyn Network> = Box::new(Odd(plain));
        let network = &mut boxed;
        assert_eq!(network.layers_mut().len(), 2);
        let xs = Tensor::ones((1, 4), DType::F32, &Device::Cpu).unwrap();
        let row = |ys: Tensor| ys.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let outputs = row(Network::forward(network, &xs).unwrap());
        let train = Network::forward_train(network, &xs, &mut Dropout::new(0.0, 0, "test"));
        for (now, training) in outputs.iter().zip(row(train.unwrap())) {
            assert!((now + 1.0 - training).abs() < 1e-6);
        }
        assert!(Network::parameters(network).is_empty());
        assert_eq!(Network::buffers(network).keys().collect::<Vec<_>>(), ["norm.running_mean"]);
        assert_eq!(Network::chain(network).len(), 1);
        // `Odd` says that nothing but its weights is trained.
        assert_eq!(count_parameters(network), 12 + 6);
    }
}
