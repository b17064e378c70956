//! Which units does nobody need any more, and what is the network without them?
//!
//! After pruning, a unit (a neuron, or the kernel of an output channel) may have lost every outgoing weight:
//! nobody reads it. Or it lost every incoming one: it is a constant, the ReLU of its bias, which whoever reads
//! it may as well have in the bias of its own. Pruning whole filters (Li et al. 2017) makes the second kind,
//! unstructured pruning both (Han et al. 2015, section 3.5). [`fold_dead`] takes them out of a network and
//! leaves its shapes; [`shrink`] gives the smaller dense network.
//!
//! Both work on a network's [`Network::chain`]. A weight is a matrix `[out, in · kh · kw]` there, whose columns
//! belong to the units before it in equal shares: taps of a channel, pixels of a flattened channel, or one.

mod chain;
#[cfg(test)]
mod tests;

use crate::{Network, NnError, weight_name};
use candle_core::Tensor;
use chain::Chain;
use secateur_mask::Mask;
use secateur_storage::{Checkpoint, Dense};
use std::collections::BTreeMap;

/// A layer of a network that is a chain, by its names in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The prunable layer.
    pub layer: String,
    /// The batch normalisation behind it, if there is one.
    pub norm: Option<String>,
}

/// Takes dead units out of a network's function, in place; shapes stay.
///
/// A unit without incoming weights is added to the next layer's bias, or taken from the running mean of its
/// norm, and its outgoing weights are cut. That is not done where it would not be exact: where the next layer
/// pads its inputs and the constant is not zero, or has neither bias nor norm. A unit without outgoing
/// weights loses its incoming ones, its bias, and its norm's weight and bias. Masks shrink with it, so whoever
/// packs afterwards asks them for their tightest pattern; a layer without a mask gets zeros.
///
/// Returns the dead units of each layer, ascending; layers without any are left out. The network computes
/// (with running statistics) what it computed before, up to rounding. Errors when it is not a chain, or
/// packed.
pub fn fold_dead<N: Network + ?Sized>(
    network: &mut N,
) -> Result<BTreeMap<String, Vec<usize>>, NnError> {
    let mut chain = Chain::of(network)?;
    let dead = chain.fold();
    for (name, var) in network.parameters().into_iter().chain(network.buffers()) {
        if let Some(tensor) = chain.tensors.get(&name) {
            var.set(&Tensor::from_slice(&tensor.values, &tensor.shape[..], var.device())?)?;
        }
    }
    for (at, stage) in chain.stages.iter().enumerate() {
        let mut layers = network.layers_mut();
        let Some(layer) = layers.get_mut(&stage.layer) else { continue };
        if let Some(mask) = layer.mask() {
            let live = chain.live(at, &dead);
            let mask = mask.and(&Mask::from_bools(&live, mask.shape())?)?;
            layer.set_mask(mask)?;
        }
    }
    Ok(named(&chain, dead))
}

/// The network without its dead units (see [`fold_dead`]), dense: what is computed without them, and what is
/// computed from them, is gone from weights, biases and norms. It loads back with fewer units; a layer keeps
/// at least one. Weights that are zero among those that stay are zeros; the network itself is not changed.
///
/// Errors when it is not a chain, or packed.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use secateur_kernels::Dispatcher;
/// use secateur_mask::Mask;
/// use secateur_nn::{Mlp, Network, count_parameters, shrink};
///
/// let mut network = Mlp::new(&[4, 3, 2], 0, &Device::Cpu)?;
/// // Filter pruning: the second of three hidden neurons loses all it is computed from.
/// let kept = [[true; 4], [false; 4], [true; 4]].concat();
/// if let Some(layer) = network.layers_mut().get_mut("fc1") {
///     layer.set_mask(Mask::from_bools(&kept, &[3, 4])?)?;
/// }
/// let smaller = Mlp::load(&shrink(&network)?, &Dispatcher::built_in()?, &Device::Cpu)?;
/// assert_eq!(count_parameters(&network), 4 * 3 + 3 + 3 * 2 + 2);
/// assert_eq!(count_parameters(&smaller), 4 * 2 + 2 + 2 * 2 + 2);
///
/// let xs = Tensor::rand(-1_f32, 1.0, (5, 4), &Device::Cpu)?;
/// let difference = (network.forward(&xs)? - smaller.forward(&xs)?)?.abs()?.max_all()?;
/// assert!(difference.to_scalar::<f32>()? < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn shrink<N: Network + ?Sized>(network: &N) -> Result<Checkpoint, NnError> {
    let mut chain = Chain::of(network)?;
    let dead = chain.fold();
    let mut checkpoint = Checkpoint::default();
    for (name, tensor) in chain.without(dead) {
        let dense = Dense::new(tensor.values, &tensor.shape)?;
        checkpoint.tensors.insert(name, dense.into());
    }
    Ok(checkpoint)
}

/// Dead units by the name of their layer, where there are any.
fn named(chain: &Chain, dead: Vec<Vec<usize>>) -> BTreeMap<String, Vec<usize>> {
    let names = chain.stages.iter().map(|stage| stage.layer.clone());
    names.zip(dead).filter(|(_, dead)| !dead.is_empty()).collect()
}

/// The weight of a stage.
fn weight_of(stage: &Stage) -> String {
    weight_name(&stage.layer)
}
