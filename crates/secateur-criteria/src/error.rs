//! What can go wrong while weights are scored and budgets are shared out.

use secateur_mask::{MaskError, Pattern, Sparsity};

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
    /// A criterion needs what nobody observed of the layer.
    #[error(
        "layer {layer}: the criterion needs {what}, and it was not observed; give the layer its \
         statistics, or leave it out"
    )]
    Missing {
        /// The layer.
        layer: String,
        /// What is missing.
        what: &'static str,
    },
    /// What was observed does not fit the weight.
    #[error("layer {layer}: the {what} has shape {found:?}, the weight needs {expected:?}")]
    StatisticShape {
        /// The layer.
        layer: String,
        /// Which statistic.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape needed.
        expected: Vec<usize>,
    },
    /// What an accumulator is shown has another number of features.
    #[error("{found:?} was shown where the last side should be {expected}")]
    Features {
        /// The shape shown.
        found: Vec<usize>,
        /// The features needed.
        expected: usize,
    },
    /// NaN or an infinity in what data gave.
    #[error("the {0} hold NaN or infinity; look for the layer that diverged")]
    NotFinite(&'static str),
    /// A weight that is no number, or that a repair has made none.
    #[error(
        "layer {layer}: the weight at flat index {index} is NaN, infinite or beyond its dtype; look for \
         what diverged, or leave the layer out"
    )]
    WeightNotFinite {
        /// The layer.
        layer: String,
        /// Row-major position of the weight.
        index: usize,
    },
    /// A matrix that should be positive definite is not.
    #[error(
        "layer {layer}: the damped Gram matrix is not positive definite; show it more tokens, or \
         raise the damping"
    )]
    NotPositiveDefinite {
        /// The layer.
        layer: String,
    },
    /// A method cannot cut in that shape.
    #[error("layer {layer}: {reason}")]
    Unsupported {
        /// The layer.
        layer: String,
        /// Why.
        reason: String,
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
    /// A setting that means nothing.
    #[error("{setting} is {value}; it needs {needs}")]
    Setting {
        /// Whose, and which.
        setting: &'static str,
        /// What it was set to.
        value: f64,
        /// What it may be.
        needs: &'static str,
    },
    /// A quality that cannot be compared.
    #[error(
        "layer {layer}, cut to sparsity {sparsity}: the quality is {quality}; measure a finite \
         number that is higher for the better, such as an accuracy or a negated loss"
    )]
    Quality {
        /// The layer that was cut.
        layer: String,
        /// How far.
        sparsity: Sparsity,
        /// What was measured.
        quality: f64,
    },
    /// A layer is to be pruned by a sensitivity scan that does not know it.
    #[error("layer {layer} was not scanned; give it to Sensitivity::scan with the others")]
    NotScanned {
        /// The layer.
        layer: String,
    },
    /// A sensitivity scan of one pattern is used for another.
    #[error("the sensitivity of {scanned} says nothing of {asked}; scan with {asked}")]
    ScannedPattern {
        /// The pattern that was scanned.
        scanned: Pattern,
        /// The pattern to be cut.
        asked: Pattern,
    },
    /// The target lies beyond the last points of a sensitivity scan.
    #[error(
        "the scan ends at a sparsity of {reached} of the network, and {target} was asked for; \
         scan higher sparsities"
    )]
    ScanTooShort {
        /// The sparsity at which every layer is cut to its last point.
        reached: Sparsity,
        /// What was asked for.
        target: Sparsity,
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
