//! Where does a model get its tensors from? From a checkpoint, by name, each as it is stored there.
//!
//! The manner is that of `candle_transformers::quantized_var_builder`: cheap to clone, prefixes pushed
//! with [`VarBuilder::pp`], shapes checked where tensors are asked for. Beside dense tensors it gives
//! packed ones, which stay packed.

use crate::{Conv2d, Linear, NnError, packed::PackedWeight};
use candle_core::{Device, Shape, Tensor};
use secateur_kernels::{Conv2dGeometry, Dispatcher};
use secateur_storage::{Checkpoint, Format, Packed, Source};

/// Tensors of a checkpoint under a prefix.
///
/// ```
/// use candle_core::Device;
/// use secateur_kernels::Dispatcher;
/// use secateur_nn::VarBuilder;
/// use secateur_storage::{Checkpoint, Dense};
///
/// let mut checkpoint = Checkpoint::default();
/// let bias = Dense::new(vec![0.5, -0.5], &[2])?;
/// checkpoint.tensors.insert("encoder.0.bias".into(), bias.into());
///
/// let vb = VarBuilder::from_checkpoint(&checkpoint, &Dispatcher::probe()?, &Device::Cpu);
/// let layer = vb.pp("encoder").pp(0);
/// assert_eq!(layer.get(2, "bias")?.to_vec1::<f32>()?, [0.5, -0.5]);
/// let error = layer.get((2, 4), "bias").unwrap_err().to_string();
/// assert_eq!(error, "tensor encoder.0.bias has shape [2], the model needs [2, 4]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct VarBuilder<'a> {
    from: From<'a>,
    path: String,
    dispatcher: Dispatcher,
    device: Device,
}

#[derive(Debug, Clone, Copy)]
enum From<'a> {
    Checkpoint(&'a Checkpoint),
    Source(&'a Source),
}

impl<'a> VarBuilder<'a> {
    /// The tensors of a checkpoint that is in memory. Packed weights are laid out by `dispatcher`,
    /// dense ones lie on `device`.
    pub fn from_checkpoint(
        checkpoint: &'a Checkpoint,
        dispatcher: &Dispatcher,
        device: &Device,
    ) -> Self {
        Self::new(From::Checkpoint(checkpoint), dispatcher, device)
    }

    /// The tensors of a file or a model folder, each read and proved when it is asked for.
    pub fn from_source(source: &'a Source, dispatcher: &Dispatcher, device: &Device) -> Self {
        Self::new(From::Source(source), dispatcher, device)
    }

    fn new(from: From<'a>, dispatcher: &Dispatcher, device: &Device) -> Self {
        Self { from, path: String::new(), dispatcher: *dispatcher, device: device.clone() }
    }

    /// The tensors under a further prefix: `vb.pp("encoder").pp(0)` finds `encoder.0.weight`.
    pub fn pp(&self, prefix: impl ToString) -> Self {
        Self { path: self.full_name(&prefix.to_string()), ..self.clone() }
    }

    /// The name that a tensor has in the checkpoint.
    pub fn full_name(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Whether there is such a tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// The shape of the dense tensor, if there is one. Nothing is read.
    pub fn shape(&self, name: &str) -> Option<&'a [usize]> {
        let name = self.full_name(name);
        match self.from {
            From::Checkpoint(checkpoint) => checkpoint.tensors.get(&name).map(Packed::shape),
            From::Source(source) => {
                let entry = source.entries().get(&name)?;
                (entry.format != Format::Mask).then_some(&entry.shape[..])
            }
        }
    }

    /// How many outputs a weight has, its first dimension. Errors when it is not there.
    pub(crate) fn outputs(&self, weight: &str) -> Result<usize, NnError> {
        let outputs = self.shape(weight).map(|shape| shape.first().copied().unwrap_or(0));
        outputs.ok_or_else(|| NnError::MissingTensor(self.full_name(weight)))
    }

    /// Who lays packed weights out.
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// Where dense tensors are put.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A tensor as it is stored, packed or not. Errors when it is not there, has another shape, or is
    /// not what its file claims.
    pub fn get_packed(&self, shape: impl Into<Shape>, name: &str) -> Result<Packed, NnError> {
        let shape: Shape = shape.into();
        let (full, found) = (self.full_name(name), self.shape(name));
        match found {
            None => Err(NnError::MissingTensor(full)),
            Some(found) if found != shape.dims() => Err(NnError::Shape {
                name: full,
                found: found.to_vec(),
                expected: shape.dims().to_vec(),
            }),
            Some(_) => self.read(&full),
        }
    }

    fn read(&self, full: &str) -> Result<Packed, NnError> {
        match self.from {
            From::Checkpoint(checkpoint) => {
                let missing = || NnError::MissingTensor(full.to_owned());
                checkpoint.tensors.get(full).cloned().ok_or_else(missing)
            }
            From::Source(source) => Ok(source.tensor(full)?),
        }
    }

    /// A dense f32 tensor, unpacked if it is stored packed. Errors as [`Self::get_packed`] does, and
    /// for dtypes that are no numbers.
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor, NnError> {
        let dense = self.get_packed(shape, name)?.unpack();
        let values = dense.to_f32()?;
        Ok(Tensor::from_slice(&values, dense.shape(), &self.device)?)
    }

    /// The numbers of [`Self::get`], for layers that compute on slices.
    pub(crate) fn values(&self, shape: &[usize], name: &str) -> Result<Vec<f32>, NnError> {
        Ok(self.get_packed(shape, name)?.unpack().to_f32()?.into_owned())
    }

    /// A fully connected layer of `weight` `[outputs, inputs]` and, if there is one, `bias`
    /// `[outputs]`: packed if the weight is stored packed, dense and trainable otherwise.
    pub fn linear(&self, inputs: usize, outputs: usize) -> Result<Linear, NnError> {
        Linear::from_vb(self, inputs, outputs)
    }

    /// A convolution of `weight` `[outputs, inputs / groups, height, width]` and, if there is one, `bias`
    /// `[outputs]`: packed if the weight is stored packed, dense and trainable otherwise.
    pub fn conv2d(
        &self,
        inputs: usize,
        outputs: usize,
        kernel: (usize, usize),
        geometry: Conv2dGeometry,
    ) -> Result<Conv2d, NnError> {
        Conv2d::from_vb(self, (inputs, outputs), kernel, geometry)
    }

    /// The bias of a layer, if it has one.
    pub(crate) fn bias(&self, outputs: usize) -> Result<Option<Vec<f32>>, NnError> {
        self.contains("bias").then(|| self.values(&[outputs], "bias")).transpose()
    }

    /// A fully connected layer for inference only: dense weights too run through our own products.
    pub(crate) fn product(&self, inputs: usize, outputs: usize) -> Result<PackedWeight, NnError> {
        let weight = self.get_packed((outputs, inputs), "weight")?;
        PackedWeight::new(&weight, self.bias(outputs)?, &self.dispatcher)
    }
}
