//! What is the simplest real network? Fully connected layers with ReLU between them.

use crate::{Dropout, Linear, Network, NnError, PrunableLayer, Stage, weight_name};
use candle_core::{Device, Module, Tensor};
use secateur_kernels::Dispatcher;
use secateur_storage::Checkpoint;
use std::collections::BTreeMap;

/// A multilayer perceptron; layers are named `fc1`, `fc2`, … (up to `fc9`, in this order).
#[derive(Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
}

/// The widths of LeNet-300-100: 266 610 parameters.
const LENET_300_100: [usize; 4] = [784, 300, 100, 10];
/// The widths of the digits network: 26 122 parameters.
const DIGITS: [usize; 4] = [64, 128, 128, 10];

impl Mlp {
    /// A network of the given widths, inputs first, freshly initialised from `seed`.
    pub fn new(widths: &[usize], seed: u64, device: &Device) -> Result<Self, NnError> {
        let layers = widths
            .windows(2)
            .enumerate()
            .map(|(i, io)| Linear::init(io[0], io[1], seed, &layer_name(i), device))
            .collect::<Result<_, _>>()?;
        Ok(Self { layers })
    }

    /// LeNet-300-100 (LeCun et al. 1998): 784 pixels, 300 and 100 hidden units, 10 classes.
    pub fn lenet_300_100(seed: u64, device: &Device) -> Result<Self, NnError> {
        Self::new(&LENET_300_100, seed, device)
    }

    /// A small network for 8×8 digits: 64 pixels, twice 128 hidden units, 10 classes.
    pub fn digits(seed: u64, device: &Device) -> Result<Self, NnError> {
        Self::new(&DIGITS, seed, device)
    }

    /// The network that a checkpoint holds: as many layers as there are `fcN.weight`, each dense or
    /// packed as stored there.
    pub fn load(
        checkpoint: &Checkpoint,
        dispatcher: &Dispatcher,
        device: &Device,
    ) -> Result<Self, NnError> {
        let held = |i: &usize| checkpoint.tensors.contains_key(&weight_name(&layer_name(*i)));
        let count = (0..).take_while(held).count();
        if count == 0 {
            return Err(NnError::MissingTensor(weight_name(&layer_name(0))));
        }
        let mut layers: Vec<Linear> = Vec::with_capacity(count);
        for i in 0..count {
            let layer = Linear::load(checkpoint, &layer_name(i), dispatcher, device)?;
            let (inputs, outputs) = layer.dims();
            if let Some(feeding) = layers.last()
                && feeding.dims().1 != inputs
            {
                return Err(NnError::Shape {
                    name: weight_name(&layer_name(i)),
                    found: vec![outputs, inputs],
                    expected: vec![outputs, feeding.dims().1],
                });
            }
            layers.push(layer);
        }
        Ok(Self { layers })
    }

    /// Width of the inputs.
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.dims().0)
    }

    fn run(
        &self,
        xs: &Tensor,
        mut activate: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let mut xs = xs.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                xs = activate(&xs)?;
            }
            xs = layer.forward(&xs)?;
        }
        Ok(xs)
    }
}

fn layer_name(index: usize) -> String {
    format!("fc{}", index + 1)
}

impl Network for Mlp {
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.run(xs, Tensor::relu)
    }

    fn forward_train(&self, xs: &Tensor, dropout: &mut Dropout) -> candle_core::Result<Tensor> {
        self.run(xs, |hidden| dropout.relu(hidden))
    }

    fn layers(&self) -> BTreeMap<String, &PrunableLayer> {
        self.layers.iter().enumerate().map(|(i, layer)| (layer_name(i), &**layer)).collect()
    }

    fn layers_mut(&mut self) -> BTreeMap<String, &mut PrunableLayer> {
        self.layers.iter_mut().enumerate().map(|(i, layer)| (layer_name(i), &mut **layer)).collect()
    }

    fn chain(&self) -> Vec<Stage> {
        (0..self.layers.len()).map(|i| Stage { layer: layer_name(i), norm: None }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{count_nonzero, count_parameters};

    #[test]
    fn sizes_are_the_published_ones() {
        let lenet = Mlp::lenet_300_100(0, &Device::Cpu).unwrap();
        assert_eq!(count_parameters(&lenet), 266_610);
        assert_eq!(count_nonzero(&lenet).unwrap(), 266_610);
        assert_eq!(lenet.inputs(), 784);
    }

    #[test]
    fn an_empty_or_mismatched_checkpoint_is_refused() {
        let dispatcher = Dispatcher::probe().unwrap();
        let load = |checkpoint: &Checkpoint| Mlp::load(checkpoint, &dispatcher, &Device::Cpu);
        let mut checkpoint = Checkpoint::default();
        assert!(matches!(load(&checkpoint), Err(NnError::MissingTensor(_))));
        for (name, shape) in [("fc1.weight", [3, 2]), ("fc2.weight", [2, 4])] {
            let dense =
                secateur_storage::Dense::new(vec![0.0; shape[0] * shape[1]], &shape).unwrap();
            checkpoint.tensors.insert(name.into(), dense.into());
        }
        assert!(matches!(load(&checkpoint), Err(NnError::Shape { .. })));
        for (name, shape) in [("fc1.bias", vec![1]), ("fc1.weight", vec![6])] {
            let dense = secateur_storage::Dense::new(vec![0.0; shape[0]], &shape).unwrap();
            checkpoint.tensors.insert(name.into(), dense.into());
            assert!(load(&checkpoint).unwrap_err().to_string().contains(name));
        }
    }
}
