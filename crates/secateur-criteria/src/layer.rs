//! What does a criterion see of a layer? Its name, its weight, and what was already cut.

use candle_core::Tensor;
use secateur_mask::Mask;

/// One prunable weight, as a criterion sees it.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    name: &'a str,
    weight: &'a Tensor,
    mask: Option<&'a Mask>,
}

impl<'a> Layer<'a> {
    /// A layer that was not pruned before. `weight` is `[out, in]` or `[out, in, kh, kw]`.
    pub fn new(name: &'a str, weight: &'a Tensor) -> Self {
        Self { name, weight, mask: None }
    }

    /// The same layer with the mask of an earlier pruning: what that cut stays cut.
    pub fn with_mask(self, mask: Option<&'a Mask>) -> Self {
        Self { mask, ..self }
    }

    /// The parameter's name in the checkpoint, such as `fc1.weight`.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The weight, `[out, in]` or `[out, in, kh, kw]`.
    pub fn weight(&self) -> &'a Tensor {
        self.weight
    }

    /// The mask of an earlier pruning, if there was one.
    pub fn mask(&self) -> Option<&'a Mask> {
        self.mask
    }
}
