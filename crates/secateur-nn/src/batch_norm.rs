//! What is a batch normalisation? Channels brought to mean 0 and variance 1, then scaled and shifted.

use crate::{NnError, VarBuilder, ops};
use candle_core::{DType, Device, Module, Result, Tensor, Var, bail};
use std::collections::BTreeMap;

/// Batch normalisation of images `[batch, channels, height, width]` (Ioffe & Szegedy 2015), f32.
///
/// While training it normalises by the batch's own mean and (biased) variance and remembers a running mean of
/// both, with PyTorch's momentum of 0.1 and the unbiased variance; afterwards it normalises by what it
/// remembers. ε is 1e-5.
///
/// ```
/// use candle_core::{Device, Module, Tensor};
/// use secateur_nn::BatchNorm2d;
///
/// let norm = BatchNorm2d::new(1, &Device::Cpu)?;
/// let images = Tensor::new(&[[[[1_f32, 3.0]]]], &Device::Cpu)?;
/// let ys = norm.forward_train(&images)?.flatten_all()?.to_vec1::<f32>()?;
/// assert!((ys[0] + 1.0).abs() < 1e-4 && (ys[1] - 1.0).abs() < 1e-4);
/// // A tenth of the way from 0 to the mean 2, and from 1 to the unbiased variance 2.
/// assert_eq!(norm.running_mean().to_vec1::<f32>()?, [0.2]);
/// assert_eq!(norm.running_var().to_vec1::<f32>()?, [1.1]);
/// # Ok::<(), secateur_nn::NnError>(())
/// ```
#[derive(Debug)]
pub struct BatchNorm2d {
    weight: Var,
    bias: Var,
    running_mean: Var,
    running_var: Var,
}

/// How much of a batch's statistics goes into the running ones.
const MOMENTUM: f64 = 0.1;
/// What is added to variances.
pub(crate) const EPSILON: f64 = 1e-5;

impl BatchNorm2d {
    /// A layer of weight 1, bias 0, running mean 0 and running variance 1, `[channels]` each.
    pub fn new(channels: usize, device: &Device) -> std::result::Result<Self, NnError> {
        let zeros = || Var::zeros(channels, DType::F32, device);
        let ones = || Var::ones(channels, DType::F32, device);
        Ok(Self { weight: ones()?, bias: zeros()?, running_mean: zeros()?, running_var: ones()? })
    }

    /// The layer under the prefix of `vb`, which has all four tensors.
    pub(crate) fn from_vb(
        vb: &VarBuilder<'_>,
        channels: usize,
    ) -> std::result::Result<Self, NnError> {
        let var = |name| -> std::result::Result<Var, NnError> {
            Ok(Var::from_tensor(&vb.get(channels, name)?)?)
        };
        Ok(Self {
            weight: var("weight")?,
            bias: var("bias")?,
            running_mean: var("running_mean")?,
            running_var: var("running_var")?,
        })
    }

    /// Normalises by the batch's own statistics, and moves the running ones towards them. Gradients flow
    /// through the statistics too. Errors on channels of a single number, which have no variance.
    pub fn forward_train(&self, xs: &Tensor) -> Result<Tensor> {
        let (batch, _, high, wide) = xs.dims4()?;
        let count = batch * high * wide;
        if count < 2 {
            bail!("a batch of {count} numbers in each channel cannot be normalised; train on more");
        }
        let (ys, mean, variance) = ops::batch_norm(xs, &self.weight, &self.bias, EPSILON)?;
        let unbiased = count as f64 / (count - 1) as f64;
        for (running, of_batch) in
            [(&self.running_mean, mean), (&self.running_var, (variance * unbiased)?)]
        {
            let before = running.as_detached_tensor();
            running.set(&((before * (1.0 - MOMENTUM))? + (of_batch * MOMENTUM)?)?)?;
        }
        Ok(ys)
    }

    /// The running mean `[channels]`.
    pub fn running_mean(&self) -> &Var {
        &self.running_mean
    }

    /// The running variance `[channels]`.
    pub fn running_var(&self) -> &Var {
        &self.running_var
    }

    /// What is trained, for a layer of that name in a checkpoint: `name.weight` and `name.bias`.
    pub fn parameters(&self, name: &str) -> BTreeMap<String, Var> {
        [
            (format!("{name}.weight"), self.weight.clone()),
            (format!("{name}.bias"), self.bias.clone()),
        ]
        .into()
    }

    /// What is remembered: `name.running_mean` and `name.running_var`.
    pub fn buffers(&self, name: &str) -> BTreeMap<String, Var> {
        [
            (format!("{name}.running_mean"), self.running_mean.clone()),
            (format!("{name}.running_var"), self.running_var.clone()),
        ]
        .into()
    }
}

impl Module for BatchNorm2d {
    /// Normalises by the running statistics.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let deviation = (self.running_var.as_detached_tensor() + EPSILON)?.sqrt()?;
        let scale = self.weight.div(&deviation)?;
        let shift = (self.bias.as_tensor() - (self.running_mean.as_detached_tensor() * &scale)?)?;
        let channel = |of: Tensor| of.reshape((1, (), 1, 1));
        xs.broadcast_mul(&channel(scale)?)?.broadcast_add(&channel(shift)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_nn::{BatchNormConfig, ModuleT};

    /// Outputs, running statistics and evaluation against candle's layer over several batches.
    #[test]
    fn it_is_candles() {
        let ours = BatchNorm2d::new(3, &Device::Cpu).unwrap();
        ours.weight.set(&Tensor::new(&[0.5_f32, -2.0, 1.0], &Device::Cpu).unwrap()).unwrap();
        ours.bias.set(&Tensor::new(&[0.0_f32, 1.0, -1.0], &Device::Cpu).unwrap()).unwrap();
        let theirs = candle_nn::BatchNorm::new(
            3,
            Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap(),
            Tensor::ones(3, DType::F32, &Device::Cpu).unwrap(),
            ours.weight.as_tensor().clone(),
            ours.bias.as_tensor().clone(),
            EPSILON,
        )
        .unwrap();
        assert_eq!(BatchNormConfig::default().momentum, MOMENTUM);
        let close = |a: &Tensor, b: &Tensor| {
            let difference = (a - b).unwrap().abs().unwrap().max_all().unwrap();
            assert!(difference.to_scalar::<f32>().unwrap() < 1e-5, "{a} {b}");
        };
        for _ in 0..3 {
            let xs = Tensor::rand(-3_f32, 5.0, (4, 3, 5, 4), &Device::Cpu).unwrap();
            close(&ours.forward_train(&xs).unwrap(), &theirs.forward_t(&xs, true).unwrap());
            close(&ours.running_mean, theirs.running_mean());
            close(&ours.running_var, theirs.running_var());
            close(&ours.forward(&xs).unwrap(), &theirs.forward_t(&xs, false).unwrap());
        }
        let one = Tensor::zeros((1, 3, 1, 1), DType::F32, &Device::Cpu).unwrap();
        assert!(ours.forward_train(&one).is_err() && ours.forward(&one).is_ok());
        assert_eq!(ours.parameters("n").keys().collect::<Vec<_>>(), ["n.bias", "n.weight"]);
        let buffers = ours.buffers("n");
        assert_eq!(buffers.keys().collect::<Vec<_>>(), ["n.running_mean", "n.running_var"]);
    }
}
