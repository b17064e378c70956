//! How are channels reordered so that the network still computes the same function?
//!
//! `N:M` keeps N of every M *neighbouring* inputs, so it matters who is whose neighbour: an order in
//! which large weights do not compete loses less (Pool & Yu 2021, *Channel Permutations for N:M
//! Sparsity*). The inputs of a layer can only be reordered together with the outputs of whatever
//! produces them, everything that rides along (biases, norms) and everybody else who reads them. A
//! [`ChannelGraph`] knows who that is, from the network's description as [`Step`]s; it reorders all
//! of them or refuses and says why.
//!
//! Nothing is estimated: the same numbers are multiplied, and only the order of the sums differs.
//! Reorder first and prune afterwards, because a mask held elsewhere is not reordered.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use secateur_nn::permute::{ChannelGraph, Step};
//! use secateur_nn::{Mlp, Network};
//! use std::collections::BTreeMap;
//!
//! let network = Mlp::new(&[8, 4, 3], 7, &Device::Cpu)?;
//! let xs = Tensor::rand(-1_f32, 1., (5, 8), &Device::Cpu)?;
//! let before = network.forward(&xs)?;
//!
//! // The network's parameters by name, copied, and what it does with activations.
//! let mut tensors = BTreeMap::new();
//! for (name, var) in network.parameters() {
//!     tensors.insert(name, var.copy()?);
//! }
//! let steps = [Step::Linear("fc1".into()), Step::Elementwise, Step::Linear("fc2".into())];
//! let graph = ChannelGraph::new(&steps, &tensors)?;
//! assert_eq!(
//!     graph.to_string(),
//!     "fc1: 8 channels, fixed: the network's inputs keep their order\n\
//!      fc2: 4 channels, free\n",
//! );
//!
//! // What was input 2 of fc2 comes first now, and so does what was output 2 of fc1.
//! graph.permute("fc2", &[2, 0, 3, 1], &mut tensors)?;
//! for (name, var) in network.parameters() {
//!     var.set(&tensors[&name])?;
//! }
//! let difference = (network.forward(&xs)? - before)?.abs()?.max_all()?.to_scalar::<f32>()?;
//! assert!(difference < 1e-5);
//! # Ok::<(), secateur_nn::NnError>(())
//! ```

mod space;
mod streams;
#[cfg(test)]
mod tests;
mod walk;

pub use space::{Reason, Space};

use crate::NnError;
use candle_core::Tensor;
use secateur_criteria::Criterion;
use secateur_mask::Scores;
use std::{collections::BTreeMap, fmt};

/// What happens to the activations, one step after the other.
///
/// A step named `fc1` owns the tensors `fc1.weight`, `fc1.bias` and so on. A tensor of more than one
/// number under `fc1.` that the step does not know is an error: it would be left behind. Using a
/// name twice shares the layer between two places; whatever they connect is reordered together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Mixes the features: `weight` `[out, in]`, and `bias` `[out]` if there is one.
    Linear(String),
    /// Mixes the channels, all with all: `weight` `[out, in, kh, kw]`, and `bias` `[out]` if there is
    /// one.
    Conv2d(String),
    /// A grouped or depthwise convolution, `weight` `[out, in/groups, kh, kw]`: the channels before
    /// and after it keep their order.
    GroupedConv2d {
        /// The layer.
        name: String,
        /// Groups of channels that are not mixed with each other.
        groups: usize,
    },
    /// Works on each channel alone: `running_mean` and `running_var` `[channels]`, and `weight` and
    /// `bias` `[channels]` if there are any.
    BatchNorm(String),
    /// Normalises over all channels at once: `weight` `[channels]`, and `bias` `[channels]` if there
    /// is one. An RMS norm too. Without a weight it is [`Self::Elementwise`].
    LayerNorm(String),
    /// Normalises over groups of neighbouring channels, which therefore keep their order.
    GroupNorm(String),
    /// Treats every channel alike: ReLU, GELU, dropout, pooling, padding. It has no parameters of its
    /// own per channel.
    Elementwise,
    /// `[batch, channels, height, width]` → `[batch, channels · height · width]`: each channel
    /// becomes `spatial` = height × width consecutive features.
    Flatten {
        /// Positions per channel; at least one.
        spatial: usize,
    },
    /// Remembers the activations under a label, for [`Self::Add`] and [`Self::Load`]. A label may be
    /// used again.
    Save(String),
    /// Goes on from saved activations instead of the present ones: a second branch.
    Load(String),
    /// Adds saved activations to the present ones, channel by channel: a residual. Any other
    /// element-wise join, such as the product of a gate, is described by it as well.
    Add(String),
    /// Anything else (attention, a softmax over channels, a reshape): the channels before and after
    /// it keep their order.
    Opaque(String),
}

/// Which channels of a network belong together, and what carries them.
///
/// The network's inputs and outputs keep their order, and so does everything that is joined to
/// them. What no later step reads counts as an output.
#[derive(Debug, Clone)]
pub struct ChannelGraph {
    spaces: Vec<Space>,
}

impl ChannelGraph {
    /// Walks through `steps` and checks that their `tensors` are there and fit together.
    ///
    /// # Errors
    ///
    /// On a tensor that is missing, has another shape than the steps before it make necessary, or
    /// belongs to a layer without being known to it; on a label that nothing saved. Each error names
    /// the tensor or label.
    pub fn new(steps: &[Step], tensors: &BTreeMap<String, Tensor>) -> Result<Self, NnError> {
        Ok(Self { spaces: walk::walk(steps, tensors)? })
    }

    /// The spaces that layers read from, in the order of their first reader. Printing the graph
    /// lists them too, one a line.
    pub fn spaces(&self) -> &[Space] {
        &self.spaces
    }

    /// The space that `layer` reads its inputs from. Errors unless it is a linear or convolutional
    /// layer of the steps.
    pub fn space(&self, layer: &str) -> Result<&Space, NnError> {
        let reads = |space: &&Space| space.layers().iter().any(|name| name == layer);
        self.spaces
            .iter()
            .find(reads)
            .ok_or_else(|| NnError::NotInGraph { layer: layer.to_owned() })
    }

    /// Reorders the input channels of `layer`: `permutation[j]` is the old channel at the new place
    /// `j`. Producers, riders and all other readers of these channels follow.
    ///
    /// Changed tensors are replaced by new, detached ones of the same shape, dtype and device;
    /// storage is never written to.
    ///
    /// # Errors
    ///
    /// When the layer is unknown or its inputs are fixed, when `permutation` does not name every
    /// channel once, and when `tensors` lack one or have another shape than in [`Self::new`].
    /// `tensors` are then as they were.
    pub fn permute(
        &self,
        layer: &str,
        permutation: &[usize],
        tensors: &mut BTreeMap<String, Tensor>,
    ) -> Result<(), NnError> {
        let moved = self.space(layer)?.moved(layer, permutation, tensors)?;
        tensors.extend(moved);
        Ok(())
    }

    /// Lets `search` choose an order for every space that is free, and applies it. Returns the
    /// permutation of each layer's input channels.
    ///
    /// `search` sees the space and the scores of all layers that read it, stacked: `[rows, channels]`
    /// where each has one column per channel, `[rows, channels, columns]` where it has several (a
    /// kernel, flattened positions); rows are outputs. It returns a permutation of the *channels*.
    /// Spaces whose readers disagree in [`Space::columns`] are left alone.
    ///
    /// # Errors
    ///
    /// What `search` and [`Self::permute`] return, and scores that the criterion cannot give.
    /// `tensors` are then as they were.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use secateur_nn::{NnError, permute::{ChannelGraph, Step}};
    /// # use std::collections::BTreeMap;
    /// let mut tensors = BTreeMap::from([
    ///     ("a.weight".to_owned(), Tensor::new(&[[1_f32], [2.], [3.]], &Device::Cpu)?),
    ///     ("b.weight".to_owned(), Tensor::new(&[[1_f32, -9., 4.]], &Device::Cpu)?),
    /// ]);
    /// let steps = [Step::Linear("a".into()), Step::Elementwise, Step::Linear("b".into())];
    /// let graph = ChannelGraph::new(&steps, &tensors)?;
    /// let found = graph.permute_all(&secateur_criteria::Magnitude, &mut tensors, |_, scores| {
    ///     assert_eq!(scores.values(), [1., 9., 4.]);
    ///     Ok::<_, NnError>(vec![1, 2, 0])
    /// })?;
    /// assert_eq!(found["b"], [1, 2, 0]);
    /// assert_eq!(tensors["a.weight"].to_vec2::<f32>()?, [[2.], [3.], [1.]]);
    /// assert_eq!(tensors["b.weight"].to_vec2::<f32>()?, [[-9., 4., 1.]]);
    /// # Ok::<(), NnError>(())
    /// ```
    pub fn permute_all<E: From<NnError>>(
        &self,
        criterion: &dyn Criterion,
        tensors: &mut BTreeMap<String, Tensor>,
        mut search: impl FnMut(&Space, Scores<'static>) -> Result<Vec<usize>, E>,
    ) -> Result<BTreeMap<String, Vec<usize>>, E> {
        let (mut work, mut found) = (tensors.clone(), BTreeMap::new());
        for space in self.spaces.iter().filter(|space| space.fixed().is_none()) {
            let Some(scores) = space.scores(criterion, &work)? else { continue };
            let permutation = search(space, scores)?;
            for (i, layer) in space.layers().iter().enumerate() {
                if i == 0 {
                    self.permute(layer, &permutation, &mut work)?;
                }
                found.insert(layer.clone(), permutation.clone());
            }
        }
        *tensors = work;
        Ok(found)
    }
}

impl fmt::Display for ChannelGraph {
    /// One line per space: who reads it, how many channels, and why they are fixed if they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spaces.iter().try_for_each(|space| writeln!(f, "{space}"))
    }
}
