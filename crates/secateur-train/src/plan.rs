//! How do masks come and go while a stretch of training runs? Who makes them, when, and who holds them.

use crate::{Schedule, SparseTraining, pruner::Pruner};
use secateur_mask::Sparsity;

/// How masks come and go while a stretch runs.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub pruner: Pruner<'a>,
    pub schedule: &'a dyn Schedule,
    pub aim: Sparsity,
    /// The sparsity that the stretch begins with.
    pub now: Sparsity,
    pub sparse: SparseTraining,
}
