//! How much of each layer goes? The same share everywhere.

use super::{Allocation, Budgets, LayerScores};
use crate::CriterionError;
use secateur_mask::{Pattern, Sparsity};

/// Every layer gives up the target's share.
#[derive(Debug, Clone, Copy, Default)]
pub struct Uniform;

impl Allocation for Uniform {
    fn name(&self) -> &str {
        "uniform"
    }

    fn allocate(
        &self,
        layers: &[LayerScores<'_>],
        _: Pattern,
        target: Sparsity,
    ) -> Result<Budgets, CriterionError> {
        Ok(layers.iter().map(|layer| (layer.name().to_owned(), target)).collect())
    }
}
