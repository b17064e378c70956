//! What has to move together when channels are reordered, and what forbids it?

use crate::{NnError, weight_name};
use candle_core::Tensor;
use secateur_criteria::{Criterion, Layer};
use secateur_mask::Scores;
use std::{collections::BTreeMap, fmt};

/// Channels that can only be reordered together, seen from the layers that read them.
#[derive(Debug, Clone)]
pub struct Space {
    pub(super) layers: Vec<String>,
    pub(super) channels: usize,
    pub(super) columns: Option<usize>,
    pub(super) fixed: Option<Reason>,
    pub(super) moves: Vec<Move>,
}

/// One axis of one tensor that carries the channels, each as `repeat` consecutive entries.
#[derive(Debug, Clone)]
pub(super) struct Move {
    pub tensor: String,
    pub axis: usize,
    pub repeat: usize,
}

/// Why channels must keep their order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// They are the network's inputs.
    Inputs,
    /// They are outputs of the network: what comes last, or is dropped for another branch.
    Outputs,
    /// They were saved under this label and nothing reads them: an output as well.
    Unread(String),
    /// This group norm reads them.
    GroupNorm(String),
    /// This grouped convolution reads or makes them.
    GroupedConv2d(String),
    /// This opaque step reads or makes them.
    Opaque(String),
    /// At the join of this label, one side was flattened and the other was not, or not as much.
    Join(String),
    /// This tensor is used twice, with different numbers of columns per channel.
    Shared(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inputs => f.write_str("the network's inputs keep their order"),
            Self::Outputs => f.write_str("the network's outputs keep their order"),
            Self::Unread(label) => {
                write!(f, "nothing reads what was saved as {label}, so it counts as an output")
            }
            Self::GroupNorm(name) => write!(f, "{name} normalises groups of neighbouring channels"),
            Self::GroupedConv2d(name) => write!(f, "{name} ties channels to groups"),
            Self::Opaque(name) => write!(f, "{name} is opaque, so it may depend on the order"),
            Self::Join(label) => {
                write!(f, "what is joined at {label} has different numbers of features per channel")
            }
            Self::Shared(tensor) => {
                write!(f, "{tensor} is used twice, with different numbers of columns per channel")
            }
        }
    }
}

impl Space {
    /// The layers whose inputs these channels are, in the order of the steps.
    pub fn layers(&self) -> &[String] {
        &self.layers
    }

    /// How many channels there are: the length of a permutation.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Columns that each channel takes in the readers' weights seen as matrices: kernel height ×
    /// width, times flattened positions. `None` if the readers disagree.
    pub fn columns(&self) -> Option<usize> {
        self.columns
    }

    /// Why the channels keep their order; `None` if they can be reordered.
    pub fn fixed(&self) -> Option<&Reason> {
        self.fixed.as_ref()
    }

    /// The tensors that a permutation changes, by name and axis.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, usize)> {
        self.moves.iter().map(|m| (m.tensor.as_str(), m.axis))
    }

    /// The new tensors after a permutation asked for at `layer`. Nothing is changed.
    pub(super) fn moved(
        &self,
        layer: &str,
        permutation: &[usize],
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>, NnError> {
        if let Some(reason) = &self.fixed {
            return Err(NnError::Fixed { layer: layer.to_owned(), reason: reason.clone() });
        }
        if !is_permutation(permutation, self.channels) {
            let (layer, channels) = (layer.to_owned(), self.channels);
            return Err(NnError::Permutation { layer, channels });
        }
        let mut moved: BTreeMap<String, Tensor> = BTreeMap::new();
        for Move { tensor: name, axis, repeat } in &self.moves {
            // A weight whose outputs are its own inputs is reordered along both.
            let tensor = moved
                .get(name)
                .or_else(|| tensors.get(name))
                .ok_or_else(|| NnError::MissingTensor(name.clone()))?;
            let width = self.channels * repeat;
            if tensor.dims().get(*axis) != Some(&width) {
                let found = tensor.dims().to_vec();
                let mut expected = found.clone();
                expected.resize(expected.len().max(axis + 1), width);
                expected[*axis] = width;
                return Err(NnError::Shape { name: name.clone(), found, expected });
            }
            let order: Vec<i64> = permutation
                .iter()
                .flat_map(|old| (0..*repeat).map(move |i| (old * repeat + i) as i64))
                .collect();
            let order = Tensor::from_vec(order, width, tensor.device())?;
            let new = tensor.detach().contiguous()?.index_select(&order, *axis)?;
            moved.insert(name.clone(), new);
        }
        Ok(moved)
    }

    /// The readers' scores, one above the other; `None` if they disagree in columns.
    pub(super) fn scores(
        &self,
        criterion: &dyn Criterion,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<Option<Scores<'static>>, NnError> {
        let Some(columns) = self.columns else { return Ok(None) };
        let mut values = Vec::new();
        for layer in &self.layers {
            let name = weight_name(layer);
            let weight = tensors.get(&name).ok_or_else(|| NnError::MissingTensor(name.clone()))?;
            values
                .extend_from_slice(criterion.checked_scores(&Layer::new(&name, weight))?.values());
        }
        let rows = values.len() / (self.channels * columns).max(1);
        let shape = [rows, self.channels, columns];
        let shape = if columns == 1 { &shape[..2] } else { &shape };
        Ok(Some(Scores::new(values, shape)?))
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} channels, ", self.layers.join(", "), self.channels)?;
        match &self.fixed {
            Some(reason) => write!(f, "fixed: {reason}"),
            None if self.columns.is_none() => {
                f.write_str("free, but its readers differ in columns per channel")
            }
            None => f.write_str("free"),
        }
    }
}

/// Whether `order` names each of `0..len` once.
fn is_permutation(order: &[usize], len: usize) -> bool {
    order.len() == len && secateur_mask::permute::check(order).is_ok()
}
