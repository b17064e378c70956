//! Which network does a checkpoint hold? The names of its tensors say.

use crate::{ConvNet, LeNet5, Mlp, Network, NnError};
use candle_core::Device;
use secateur_kernels::Dispatcher;
use secateur_storage::Checkpoint;

/// The network that a checkpoint holds, each layer dense or packed as stored there: a [`ConvNet`] if there is
/// `bn1.weight`, else a [`LeNet5`] if there is `conv1.weight`, else an [`Mlp`] if there is `fc1.weight`.
///
/// Errors if there is none of them, and whatever loading that network says.
///
/// ```
/// use candle_core::Device;
/// use secateur_kernels::Dispatcher;
/// use secateur_nn::Network;
/// use secateur_storage::{Checkpoint, Dense};
///
/// let mut checkpoint = Checkpoint::default();
/// checkpoint.tensors.insert("fc1.weight".into(), Dense::new(vec![0.5; 6], &[2, 3])?.into());
/// let network = secateur_nn::load(&checkpoint, &Dispatcher::built_in()?, &Device::Cpu)?;
/// assert_eq!(network.layers()["fc1"].shape(), [2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(
    checkpoint: &Checkpoint,
    dispatcher: &Dispatcher,
    device: &Device,
) -> Result<Box<dyn Network>, NnError> {
    let has = |name| checkpoint.tensors.contains_key(name);
    if has("bn1.weight") {
        Ok(Box::new(ConvNet::load(checkpoint, dispatcher, device)?))
    } else if has("conv1.weight") {
        Ok(Box::new(LeNet5::load(checkpoint, dispatcher, device)?))
    } else if has("fc1.weight") {
        Ok(Box::new(Mlp::load(checkpoint, dispatcher, device)?))
    } else {
        Err(NnError::UnknownNetwork)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;
    use secateur_storage::Dense;

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn every_network_is_recognised() {
        let dispatcher = Dispatcher::built_in().unwrap();
        let networks: [Box<dyn Network>; 3] = [
            Box::new(Mlp::lenet_300_100(1, &Device::Cpu).unwrap()),
            Box::new(LeNet5::new(1, &Device::Cpu).unwrap()),
            Box::new(ConvNet::new(1, &Device::Cpu).unwrap()),
        ];
        let xs = Tensor::rand(0_f32, 1.0, (3, 784), &Device::Cpu).unwrap();
        for network in networks {
            let mut checkpoint = Checkpoint::default();
            for (name, var) in network.parameters().into_iter().chain(network.buffers()) {
                let dense = Dense::new(values(&var), var.dims()).unwrap();
                checkpoint.tensors.insert(name, dense.into());
            }
            let loaded = load(&checkpoint, &dispatcher, &Device::Cpu).unwrap();
            assert_eq!(
                values(&loaded.forward(&xs).unwrap()),
                values(&network.forward(&xs).unwrap())
            );
            assert!(loaded.layers().keys().eq(network.layers().keys()));
        }
        let error = load(&Checkpoint::default(), &dispatcher, &Device::Cpu).err().unwrap();
        assert!(error.to_string().contains("bn1.weight"), "{error}");
    }
}
