//! *How much* of each layer goes? A target for the network becomes a budget per layer.
//!
//! | allocation | a layer keeps more, the | looks at |
//! | --- | --- | --- |
//! | [`Uniform`] | (all the same) | nothing |
//! | [`Global`] | higher its scores are among all scores | scores |
//! | [`Lamp`] | higher its scores are, each against the rest of its layer | scores |
//! | [`Owl`] | more outliers its scores have | scores |
//! | [`Erk`] | smaller it is | shapes |
//! | [`Sensitivity`] | more the network's quality suffers from cutting it | measurements |
//! | [`Spare`] | (all, of the layers named; the others as another allocation says) | names |

mod balance;
mod erk;
mod exact;
mod global;
mod lamp;
mod owl;
mod sensitivity;
mod spare;
mod uniform;

pub use erk::Erk;
pub use global::Global;
pub use lamp::Lamp;
pub use owl::Owl;
pub use sensitivity::Sensitivity;
pub use spare::Spare;
pub use uniform::Uniform;

use crate::CriterionError;
use secateur_mask::{Pattern, Scores, Sparsity};
use std::{
    cell::OnceCell,
    collections::BTreeMap,
    fmt::{self, Debug},
};

/// The share that each layer, by name, has to give up.
pub type Budgets = BTreeMap<String, Sparsity>;

/// One layer, as an allocation sees it: its name, its shape and, when asked for, its scores.
///
/// Scores are computed when an allocation first looks at them: one that goes by shapes alone costs
/// no scoring.
pub struct LayerScores<'a> {
    name: &'a str,
    shape: &'a [usize],
    score: Box<dyn Fn() -> Result<Scores<'static>, CriterionError> + 'a>,
    scores: OnceCell<Scores<'static>>,
}

impl<'a> LayerScores<'a> {
    /// The layer `name` of `shape`, whose scores `score` computes.
    pub fn new(
        name: &'a str,
        shape: &'a [usize],
        score: impl Fn() -> Result<Scores<'static>, CriterionError> + 'a,
    ) -> Self {
        Self { name, shape, score: Box::new(score), scores: OnceCell::new() }
    }

    /// The parameter's name, such as `fc1.weight`.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The weight's shape, `[out, in]` or `[out, in, kh, kw]`.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// How many weights the layer has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the layer has no weights.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One score per weight; what an earlier pruning cut ranks below everything else.
    pub fn scores(&self) -> Result<&Scores<'static>, CriterionError> {
        if let Some(scores) = self.scores.get() {
            return Ok(scores);
        }
        let scores = (self.score)()?;
        Ok(self.scores.get_or_init(|| scores))
    }
}

impl Debug for LayerScores<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerScores").field("name", &self.name).field("shape", &self.shape).finish()
    }
}

/// Shares a network's target out among its layers. Object safe, like
/// [`Criterion`](crate::Criterion).
pub trait Allocation: Debug + Send + Sync {
    /// The name used in recipes and reports.
    fn name(&self) -> &str;

    /// A budget for every layer, such that `target` of the network goes: a function of its arguments alone. A run
    /// asks once more before it trains, with the magnitudes of the initial weights, to hear of mistakes early.
    ///
    /// Layers come sorted by name. A pattern that fixes its own sparsity (`N:M` and its kin) leaves
    /// nothing to share out: allocations return that sparsity for every layer, or refuse another
    /// target.
    fn allocate(
        &self,
        layers: &[LayerScores<'_>],
        pattern: Pattern,
        target: Sparsity,
    ) -> Result<Budgets, CriterionError>;
}

#[cfg(test)]
pub(crate) fn layer<'a>(name: &'a str, shape: &'a [usize], scores: &'a [f32]) -> LayerScores<'a> {
    LayerScores::new(name, shape, move || {
        Scores::new(scores.to_vec(), shape).map_err(CriterionError::at(name))
    })
}
