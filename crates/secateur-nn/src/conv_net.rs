//! What is a modern small convolutional network? Convolutions, each followed by a batch normalisation.

use crate::{
    BatchNorm2d, Conv2d, Dropout, Linear, Network, NnError, PrunableLayer, Stage, VarBuilder,
    network::layer_parameters, weight_name,
};
use candle_core::{Device, Module, Result, Tensor, Var};
use secateur_kernels::{Conv2dGeometry, Dispatcher};
use secateur_storage::Checkpoint;
use std::collections::BTreeMap;

/// A convolutional network for images of 28×28, 61 050 parameters: four times a convolution of 3×3, batch
/// normalisation and ReLU (16, 32, 64 and 64 channels; the first two step by 2), the mean over what is left of
/// the image, and one fully connected layer.
///
/// Layers are named `conv1`, `bn1` … `conv4`, `bn4` and `fc`. The convolutions have no bias, since the norms
/// have, and no padding, so that a channel that became constant can be taken out exactly.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use secateur_nn::{ConvNet, Network, count_parameters};
///
/// let network = ConvNet::new(0, &Device::Cpu)?;
/// assert_eq!(count_parameters(&network), 61_050);
/// // Images as rows of 784 pixels, or as [batch, 1, 28, 28].
/// let images = Tensor::zeros((2, 784), DType::F32, &Device::Cpu)?;
/// assert_eq!(network.forward(&images)?.dims(), [2, 10]);
/// # Ok::<(), secateur_nn::NnError>(())
/// ```
#[derive(Debug)]
pub struct ConvNet {
    blocks: Vec<(Conv2d, BatchNorm2d)>,
    fc: Linear,
}

/// Height and width of an image.
const SIDE: usize = 28;
/// Height and width of a kernel.
const KERNEL: (usize, usize) = (3, 3);
/// Channels and stride of each convolution.
const CONVS: [(usize, usize); 4] = [(16, 2), (32, 2), (64, 1), (64, 1)];
/// Classes.
const CLASSES: usize = 10;

fn conv_name(block: usize) -> String {
    format!("conv{}", block + 1)
}

fn norm_name(block: usize) -> String {
    format!("bn{}", block + 1)
}

fn geometry(stride: usize) -> Conv2dGeometry {
    Conv2dGeometry { stride, ..Conv2dGeometry::default() }
}

impl ConvNet {
    /// A network freshly initialised from `seed`.
    pub fn new(seed: u64, device: &Device) -> std::result::Result<Self, NnError> {
        let (mut inputs, mut blocks) = (1, Vec::with_capacity(CONVS.len()));
        for (block, (outputs, stride)) in CONVS.into_iter().enumerate() {
            let (name, geometry) = (conv_name(block), geometry(stride));
            let conv = Conv2d::init(inputs, outputs, KERNEL, geometry, seed, &name, device)?;
            let weight = conv.weight().cloned().ok_or(NnError::Packed("initialised"))?;
            let conv = Conv2d::new(weight, None, geometry)?;
            blocks.push((conv, BatchNorm2d::new(outputs, device)?));
            inputs = outputs;
        }
        Ok(Self { blocks, fc: Linear::init(inputs, CLASSES, seed, "fc", device)? })
    }

    /// The network that a checkpoint holds, each layer dense or packed as stored there, with as many channels
    /// as its weights have.
    pub fn load(
        checkpoint: &Checkpoint,
        dispatcher: &Dispatcher,
        device: &Device,
    ) -> std::result::Result<Self, NnError> {
        let vb = VarBuilder::from_checkpoint(checkpoint, dispatcher, device);
        let (mut inputs, mut blocks) = (1, Vec::with_capacity(CONVS.len()));
        for (block, (_, stride)) in CONVS.into_iter().enumerate() {
            let name = conv_name(block);
            let outputs = vb.outputs(&weight_name(&name))?;
            let conv = vb.pp(name).conv2d(inputs, outputs, KERNEL, geometry(stride))?;
            blocks.push((conv, BatchNorm2d::from_vb(&vb.pp(norm_name(block)), outputs)?));
            inputs = outputs;
        }
        Ok(Self { blocks, fc: vb.pp("fc").linear(inputs, CLASSES)? })
    }

    fn run(
        &self,
        xs: &Tensor,
        norm: impl Fn(&BatchNorm2d, &Tensor) -> Result<Tensor>,
        mut drop: impl FnMut(Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut xs = xs.reshape(((), 1, SIDE, SIDE))?;
        for (conv, bn) in &self.blocks {
            xs = norm(bn, &conv.forward(&xs)?)?.relu()?;
        }
        self.fc.forward(&drop(xs.flatten_from(2)?.mean(2)?)?)
    }
}

impl Network for ConvNet {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.run(xs, |norm, xs| norm.forward(xs), Ok)
    }

    /// With the statistics of the batch, and dropout before the last layer.
    fn forward_train(&self, xs: &Tensor, dropout: &mut Dropout) -> Result<Tensor> {
        self.run(xs, |norm, xs| norm.forward_train(xs), |hidden| dropout.forward(&hidden))
    }

    fn layers(&self) -> BTreeMap<String, &PrunableLayer> {
        let convs = self.blocks.iter().enumerate();
        let mut layers: BTreeMap<String, &PrunableLayer> =
            convs.map(|(block, (conv, _))| (conv_name(block), &**conv)).collect();
        layers.insert("fc".to_owned(), &self.fc);
        layers
    }

    fn layers_mut(&mut self) -> BTreeMap<String, &mut PrunableLayer> {
        let convs = self.blocks.iter_mut().enumerate();
        let mut layers: BTreeMap<String, &mut PrunableLayer> =
            convs.map(|(block, (conv, _))| (conv_name(block), &mut **conv)).collect();
        layers.insert("fc".to_owned(), &mut self.fc);
        layers
    }

    fn parameters(&self) -> BTreeMap<String, Var> {
        let mut parameters = layer_parameters(self);
        for (block, (_, norm)) in self.blocks.iter().enumerate() {
            parameters.append(&mut norm.parameters(&norm_name(block)));
        }
        parameters
    }

    fn buffers(&self) -> BTreeMap<String, Var> {
        let norms = self.blocks.iter().enumerate();
        norms.flat_map(|(block, (_, norm))| norm.buffers(&norm_name(block))).collect()
    }

    fn chain(&self) -> Vec<Stage> {
        let blocks = (0..self.blocks.len())
            .map(|block| Stage { layer: conv_name(block), norm: Some(norm_name(block)) });
        blocks.chain([Stage { layer: "fc".to_owned(), norm: None }]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{State, count_nonzero, count_parameters};
    use secateur_mask::{Pattern, Scores, Sparsity};
    use secateur_storage::{Dense, Packed};

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn images(purpose: &str) -> Tensor {
        use rand::RngExt;
        let mut stream = secateur_criteria::seed::stream(0, purpose);
        let pixels: Vec<f32> = (0..32 * 784).map(|_| stream.random()).collect();
        Tensor::from_vec(pixels, (32, 784), &Device::Cpu).unwrap()
    }

    #[test]
    fn training_uses_the_batch_and_remembers_it() {
        let network = ConvNet::new(3, &Device::Cpu).unwrap();
        assert_eq!((network.parameters().len(), network.buffers().len()), (14, 8));
        // The norms' biases begin at zero.
        assert_eq!(count_nonzero(&network).unwrap(), count_parameters(&network) - 16 - 32 - 2 * 64);
        let xs = images("images");
        let before = values(&network.forward(&xs).unwrap());
        let mut dropout = Dropout::new(0.0, 0, "test");
        let mut train = || network.forward_train(&xs, &mut dropout);
        let first = train().unwrap();
        let gradients = first.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        for (name, parameter) in network.parameters() {
            let gradient = values(gradients.get(&parameter).unwrap());
            assert!(gradient.iter().any(|g| *g != 0.0), "{name} learns nothing");
        }
        assert!(network.buffers().values().all(|buffer| gradients.get(buffer).is_none()));
        assert_ne!(values(&network.forward(&xs).unwrap()), before);
        for _ in 0..150 {
            assert_eq!(values(&train().unwrap()), values(&first));
        }
        // The running statistics have come close to the batch's.
        for (now, trained) in values(&network.forward(&xs).unwrap()).iter().zip(values(&first)) {
            assert!((now - trained).abs() < 0.05, "{now} {trained}");
        }
    }

    /// What is saved is parameters and buffers; convolutions that were packed load packed.
    #[test]
    fn a_saved_network_loads_dense_and_packed() {
        let dispatcher = Dispatcher::probe().unwrap();
        let mut network = ConvNet::new(3, &Device::Cpu).unwrap();
        let xs = images("images");
        network.forward_train(&xs, &mut Dropout::new(0.0, 0, "test")).unwrap();
        let mut checkpoint = Checkpoint::default();
        for (name, var) in network.parameters().into_iter().chain(network.buffers()) {
            checkpoint.tensors.insert(name, Dense::new(values(&var), var.dims()).unwrap().into());
        }
        let load = |checkpoint: &Checkpoint| ConvNet::load(checkpoint, &dispatcher, &Device::Cpu);
        let loaded = load(&checkpoint).unwrap();
        assert_eq!(values(&loaded.forward(&xs).unwrap()), values(&network.forward(&xs).unwrap()));

        let pattern = Pattern::Unstructured;
        for (name, layer) in network.layers_mut() {
            let scores: Vec<f32> =
                values(layer.weight().unwrap()).iter().map(|w| w.abs()).collect();
            let scores = Scores::new(scores, layer.shape()).unwrap();
            let mask = pattern.select(scores, Sparsity::new(0.5).unwrap()).unwrap();
            layer.set_mask(mask.clone()).unwrap();
            let dense = Dense::new(values(layer.weight().unwrap()), layer.shape()).unwrap();
            let packed = Packed::pack(&dense, &mask, pattern).unwrap();
            checkpoint.tensors.insert(weight_name(&name), packed);
        }
        let masked = network.forward(&xs).unwrap();
        let packed = load(&checkpoint).unwrap();
        for layer in packed.layers().into_values() {
            assert!(matches!(layer.state(), State::Packed { .. }));
        }
        assert_eq!(count_parameters(&packed), 61_050);
        assert_eq!(count_nonzero(&packed).unwrap(), count_nonzero(&network).unwrap());
        for (packed, masked) in values(&packed.forward(&xs).unwrap()).iter().zip(values(&masked)) {
            assert!((packed - masked).abs() < 1e-4, "{packed} {masked}");
        }
        for lost in ["bn3.running_var", "conv4.weight", "fc.weight"] {
            let mut damaged = checkpoint.clone();
            damaged.tensors.remove(lost);
            assert!(load(&damaged).unwrap_err().to_string().contains(lost), "{lost}");
        }
    }
}
