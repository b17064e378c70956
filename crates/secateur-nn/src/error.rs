//! What can go wrong in a layer.

use crate::permute::Reason;
use secateur_criteria::CriterionError;
use secateur_kernels::{Conv2dGeometry, KernelError};
use secateur_mask::MaskError;
use secateur_storage::StorageError;
use std::path::PathBuf;

/// Errors of layers and models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NnError {
    /// A tensor operation failed.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A mask does not fit.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// A weight cannot be packed or unpacked.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A packed weight cannot be multiplied.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A packed layer was asked for what only a trainable one has.
    #[error("a packed layer cannot be {0}; load the dense weights for that")]
    Packed(&'static str),
    /// A checkpoint lacks a tensor.
    #[error("the checkpoint has no tensor {0}; is it a checkpoint of this model?")]
    MissingTensor(String),
    /// A checkpoint of no known network.
    #[error(
        "the checkpoint is of no network known here: bn1.weight would be a ConvNet's, conv1.weight a \
         LeNet5's, fc1.weight an Mlp's; load it as the network that it is"
    )]
    UnknownNetwork,
    /// A network whose layers do not follow one on the other.
    #[error(
        "the network is no chain of layers: {0}; only in a chain can dead units be told, so describe it \
         in Network::chain or leave them"
    )]
    NotAChain(String),
    /// A configuration that no model can have, or none that is known here.
    #[error("config.json describes no model that can be loaded here: {0}; correct it")]
    Config(String),
    /// A file of a model folder cannot be read.
    #[error("cannot read {}: {source}; is it a complete model folder?", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A tokenizer that cannot be used, or a text that it cannot take.
    #[error("the tokenizer failed: {0}; is tokenizer.json the one of this model?")]
    Tokenizer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A token, segment or position that the model does not know.
    #[error(
        "{what} {number} is outside the model's {count}; do tokenizer and model belong together?"
    )]
    Token {
        /// What it is.
        what: &'static str,
        /// Its number.
        number: u32,
        /// How many there are.
        count: usize,
    },
    /// Token numbers that are no whole numbers.
    #[error("token numbers must be u8, u32 or i64, not {found:?}; convert them with to_dtype")]
    Numbers {
        /// The dtype found.
        found: candle_core::DType,
    },
    /// A weight that is no matrix.
    #[error("tensor {name} has shape {found:?}, a fully connected layer needs [out, in]")]
    Rank {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A tensor of the checkpoint has the wrong shape.
    #[error("tensor {name} has shape {found:?}, the model needs {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape needed.
        expected: Vec<usize>,
    },
    /// A criterion could not score a layer.
    #[error(transparent)]
    Criterion(#[from] CriterionError),
    /// A weight that is no stack of kernels.
    #[error("tensor {name} has shape {found:?}, a 2-d convolution needs [out, in, kh, kw]")]
    ConvRank {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A convolution that cannot be.
    #[error(
        "a convolution of {inputs} to {outputs} channels cannot have {geometry:?}; a kernel has taps, \
         stride and dilation are at least 1, and the groups share the channels evenly"
    )]
    Geometry {
        /// Channels in.
        inputs: usize,
        /// Channels out.
        outputs: usize,
        /// How it was to step.
        geometry: Conv2dGeometry,
    },
    /// Inputs that cannot be observed.
    #[error(
        "the inputs of a convolution in {groups} groups cannot be observed yet; use a criterion that \
         does not look at them, such as magnitude"
    )]
    GroupedInputs {
        /// The groups.
        groups: usize,
    },
    /// A convolution does not take the channels that come to it.
    #[error(
        "tensor {name} takes {inputs} channels in each of {groups} groups, but {channels} channels \
         come to it; describe every step before it, and a grouped convolution as GroupedConv2d"
    )]
    Groups {
        /// The tensor.
        name: String,
        /// Input channels of one group.
        inputs: usize,
        /// Groups.
        groups: usize,
        /// Channels of the activations.
        channels: usize,
    },
    /// A flatten does not fit what comes after it.
    #[error(
        "tensor {name} takes {width} features, which is no multiple of the {spatial} positions that \
         were flattened before it; set spatial to height times width"
    )]
    Flatten {
        /// The tensor.
        name: String,
        /// Its features.
        width: usize,
        /// Positions per channel.
        spatial: usize,
    },
    /// A layer has a tensor that its step knows nothing of.
    #[error(
        "tensor {name} belongs to {layer}, but that step does not know it and could not reorder it; \
         describe {layer} as Opaque, or remove the tensor if the layer does not use it"
    )]
    UnknownTensor {
        /// The tensor.
        name: String,
        /// The layer.
        layer: String,
    },
    /// Activations are asked for that nothing saved.
    #[error("no activations were saved as {label}; put a Save before this Add or Load")]
    UnknownLabel {
        /// The label.
        label: String,
    },
    /// Activations of different widths are joined.
    #[error("{saved} features were saved as {label} and are joined with {now}; they must be equal")]
    Join {
        /// The label.
        label: String,
        /// Features of the saved activations.
        saved: usize,
        /// Features of the present activations.
        now: usize,
    },
    /// A layer that no step describes.
    #[error(
        "no Linear or convolution named {layer} is among the steps; add it, or ask by its name"
    )]
    NotInGraph {
        /// The layer asked for.
        layer: String,
    },
    /// Channels that must keep their order.
    #[error("the inputs of {layer} cannot be reordered: {reason}; leave them as they are")]
    Fixed {
        /// The layer asked for.
        layer: String,
        /// Why.
        reason: Reason,
    },
    /// An order that is none.
    #[error(
        "an order of the inputs of {layer} must name each of its {channels} channels (0 to \
         {channels} exclusive) exactly once"
    )]
    Permutation {
        /// The layer asked for.
        layer: String,
        /// How many channels there are.
        channels: usize,
    },
}
