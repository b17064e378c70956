//! *How much* of each layer goes? A target for the network becomes a budget per layer.

mod global;
mod uniform;

pub use global::Global;
pub use uniform::Uniform;

use crate::CriterionError;
use secateur_mask::{Pattern, Scores, Sparsity};
use std::{collections::BTreeMap, fmt::Debug};

/// The share that each layer, by name, has to give up.
pub type Budgets = BTreeMap<String, Sparsity>;

/// The scores of one layer, by name.
#[derive(Debug, Clone)]
pub struct LayerScores<'a> {
    /// The parameter's name, such as `fc1.weight`.
    pub name: &'a str,
    /// One score per weight.
    pub scores: Scores<'a>,
}

/// Shares a network's target out among its layers. Object safe, like
/// [`Criterion`](crate::Criterion).
pub trait Allocation: Debug + Send + Sync {
    /// The name used in recipes and reports.
    fn name(&self) -> &str;

    /// A budget for every layer, such that `target` of the network goes.
    ///
    /// Layers come sorted by name. A pattern that fixes its own sparsity (`N:M`) leaves nothing to
    /// share out: allocations return that sparsity for every layer, or refuse another target.
    fn allocate(
        &self,
        layers: &[LayerScores<'_>],
        pattern: Pattern,
        target: Sparsity,
    ) -> Result<Budgets, CriterionError>;
}
