//! What is the classic small convolutional network? LeNet-5, in the sizes that pruning papers count.

use crate::{
    Conv2d, Dropout, Linear, Network, NnError, PrunableLayer, Stage, VarBuilder, ops::max_pool2,
    weight_name,
};
use candle_core::{Device, Module, Tensor};
use secateur_kernels::{Conv2dGeometry, Dispatcher};
use secateur_storage::Checkpoint;
use std::collections::BTreeMap;

/// LeNet-5 (LeCun et al. 1998) in Caffe's sizes, 431 080 parameters, as Han et al. 2015 and those after
/// them prune it: 20 and 50 kernels of 5×5, each followed by a max-pooling of 2, then 800 → 500 → 10.
/// ReLU follows every hidden layer (in Caffe's own file, `fc1` alone).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use secateur_nn::{LeNet5, Network, count_parameters};
///
/// let network = LeNet5::new(0, &Device::Cpu)?;
/// assert_eq!(count_parameters(&network), 431_080);
/// // Images as rows of 784 pixels, or as [batch, 1, 28, 28].
/// let images = Tensor::zeros((2, 784), DType::F32, &Device::Cpu)?;
/// assert_eq!(network.forward(&images)?.dims(), [2, 10]);
/// # Ok::<(), secateur_nn::NnError>(())
/// ```
#[derive(Debug)]
pub struct LeNet5 {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

/// Height and width of an image.
const SIDE: usize = 28;
/// Height and width of a kernel.
const KERNEL: (usize, usize) = (5, 5);
/// Channels in and out.
const CONVS: [(usize, usize); 2] = [(1, 20), (20, 50)];
/// Pixels of a channel that are left behind the convolutions: 4×4.
const PIXELS: usize = 16;
/// Classes.
const CLASSES: usize = 10;
/// Features in and out.
const FULL: [(usize, usize); 2] = [(50 * PIXELS, 500), (500, CLASSES)];

impl LeNet5 {
    /// A network freshly initialised from `seed`.
    pub fn new(seed: u64, device: &Device) -> Result<Self, NnError> {
        let conv = |(inputs, outputs), name| {
            Conv2d::init(inputs, outputs, KERNEL, Conv2dGeometry::default(), seed, name, device)
        };
        let full = |(inputs, outputs), name| Linear::init(inputs, outputs, seed, name, device);
        Ok(Self {
            conv1: conv(CONVS[0], "conv1")?,
            conv2: conv(CONVS[1], "conv2")?,
            fc1: full(FULL[0], "fc1")?,
            fc2: full(FULL[1], "fc2")?,
        })
    }

    /// The network that a checkpoint holds, each layer dense or packed as stored there, with as many hidden
    /// units as its weights have.
    pub fn load(
        checkpoint: &Checkpoint,
        dispatcher: &Dispatcher,
        device: &Device,
    ) -> Result<Self, NnError> {
        let vb = VarBuilder::from_checkpoint(checkpoint, dispatcher, device);
        let outputs = |name| vb.outputs(&weight_name(name));
        let (first, second, hidden) = (outputs("conv1")?, outputs("conv2")?, outputs("fc1")?);
        let conv = |inputs, outputs, name: &str| {
            vb.pp(name).conv2d(inputs, outputs, KERNEL, Conv2dGeometry::default())
        };
        Ok(Self {
            conv1: conv(1, first, "conv1")?,
            conv2: conv(first, second, "conv2")?,
            fc1: vb.pp("fc1").linear(second * PIXELS, hidden)?,
            fc2: vb.pp("fc2").linear(hidden, CLASSES)?,
        })
    }

    fn run(
        &self,
        xs: &Tensor,
        mut drop: impl FnMut(Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let xs = xs.reshape(((), 1, SIDE, SIDE))?;
        // The largest of four is above zero if the largest of their ReLUs is: pool first, it is cheaper.
        let xs = max_pool2(&self.conv1.forward(&xs)?)?.relu()?;
        let xs = max_pool2(&self.conv2.forward(&xs)?)?.relu()?;
        let xs = self.fc1.forward(&xs.flatten_from(1)?)?.relu()?;
        self.fc2.forward(&drop(xs)?)
    }
}

impl Network for LeNet5 {
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.run(xs, Ok)
    }

    /// With dropout before the last layer.
    fn forward_train(&self, xs: &Tensor, dropout: &mut Dropout) -> candle_core::Result<Tensor> {
        self.run(xs, |hidden| dropout.forward(&hidden))
    }

    fn layers(&self) -> BTreeMap<String, &PrunableLayer> {
        let Self { conv1, conv2, fc1, fc2 } = self;
        let layers: [(_, &PrunableLayer); 4] =
            [("conv1", conv1), ("conv2", conv2), ("fc1", fc1), ("fc2", fc2)];
        layers.into_iter().map(|(name, layer)| (name.to_owned(), layer)).collect()
    }

    fn layers_mut(&mut self) -> BTreeMap<String, &mut PrunableLayer> {
        let Self { conv1, conv2, fc1, fc2 } = self;
        let layers: [(_, &mut PrunableLayer); 4] =
            [("conv1", conv1), ("conv2", conv2), ("fc1", fc1), ("fc2", fc2)];
        layers.into_iter().map(|(name, layer)| (name.to_owned(), layer)).collect()
    }

    fn chain(&self) -> Vec<Stage> {
        let names = ["conv1", "conv2", "fc1", "fc2"].map(str::to_owned);
        names.into_iter().map(|layer| Stage { layer, norm: None }).collect()
    }
}
