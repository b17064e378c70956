//! What can go wrong while weights are scored and budgets are shared out.

use secateur_mask::MaskError;

/// Errors of criteria and allocations.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CriterionError {
    /// A tensor operation failed.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A selection or an amount was refused, in the layer named.
    #[error("layer {layer}: {source}")]
    Mask {
        /// The layer at which it happened.
        layer: String,
        /// What was refused.
        source: MaskError,
    },
    /// The scores do not fit the weight.
    #[error(
        "layer {layer}: {criterion} gave scores of shape {scores:?} for a weight of {weight:?}"
    )]
    ScoreShape {
        /// The layer scored.
        layer: String,
        /// The criterion's name.
        criterion: String,
        /// The shape it returned.
        scores: Vec<usize>,
        /// The shape it should have returned.
        weight: Vec<usize>,
    },
    /// There is nothing to prune.
    #[error("there is no layer to prune; the network's layers_mut() handed out none")]
    NoLayers,
    /// Two layers go by one name.
    #[error("two layers are named {0}; give every layer a name of its own")]
    SameName(String),
    /// An allocation left a layer out.
    #[error(
        "the allocation {allocation} gave no budget to layer {layer}; it must name every layer"
    )]
    NoBudget {
        /// The allocation's name.
        allocation: String,
        /// The layer without a budget.
        layer: String,
    },
    /// A criterion or allocation of a user's own has a reason of its own.
    #[error("{0}")]
    Other(String),
}

impl CriterionError {
    /// A mask error, with the layer it happened at.
    pub(crate) fn at(layer: &str) -> impl Fn(MaskError) -> Self + '_ {
        move |source| Self::Mask { layer: layer.to_owned(), source }
    }
}
