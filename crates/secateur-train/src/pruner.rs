//! How does a network get its masks? Observed, scored, shared out and cut, as the run's choices say.

use crate::{Samples, TrainError, calibrate};
use candle_core::{Tensor, Var};
use secateur_criteria::{Allocation, Criterion, Cut, Layer, Needs, prune, prune_in_steps};
use secateur_mask::{Mask, Pattern, Sparsity};
use secateur_nn::{Network, weight_name};
use std::collections::BTreeMap;

/// Masks by parameter name.
pub(crate) type Masks = BTreeMap<String, Mask>;

/// The three choices that make masks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pruner<'a> {
    pub criterion: &'a dyn Criterion,
    pub pattern: Pattern,
    pub allocation: &'a dyn Allocation,
}

impl Pruner<'_> {
    /// Cuts the network's weights to `target`, on statistics of training `samples` if the criterion wants
    /// any, and returns the new masks. What `masks` cut stays cut. The weights that stay are repaired where the
    /// method repairs them; nothing is set to zero yet.
    pub fn cut<N: Network + ?Sized>(
        &self,
        network: &mut N,
        masks: &Masks,
        target: Sparsity,
        samples: &Samples,
    ) -> Result<Masks, TrainError> {
        let vars = weights(network);
        let copies = vars
            .iter()
            .map(|(name, var)| Ok((name.clone(), var.copy()?.detach())))
            .collect::<Result<BTreeMap<String, Tensor>, TrainError>>()?;
        let needs = self.criterion.needs();
        let observe = |weights: &BTreeMap<String, Tensor>| {
            for (name, weight) in weights {
                vars[name].set(weight)?;
            }
            calibrate(network, samples, needs)
        };
        let asked = (self.pattern, target);
        let cuts = prune_in_steps(&copies, masks, self.criterion, asked, self.allocation, observe)?;
        for (name, cut) in &cuts {
            if let Some(repaired) = &cut.weight {
                vars[name].set(repaired)?;
            }
        }
        Ok(masks_of(cuts))
    }

    /// The masks that these weights alone would get: nothing is observed, nothing was cut before.
    pub fn choose(
        &self,
        weights: &BTreeMap<String, Tensor>,
        target: Sparsity,
    ) -> Result<Masks, TrainError> {
        let layers: Vec<Layer<'_>> =
            weights.iter().map(|(name, weight)| Layer::new(name, weight)).collect();
        Ok(masks_of(prune(&layers, self.criterion, self.pattern, self.allocation, target)?))
    }

    /// Errors unless masks can be chosen anew at every step.
    pub fn check_weights_suffice(&self) -> Result<(), TrainError> {
        if self.criterion.needs() == Needs::WEIGHT && self.criterion.steps() == 1 {
            return Ok(());
        }
        Err(TrainError::Combination(format!(
            "straight-through training chooses masks from the weights alone, and {} looks at data; take \
             magnitude",
            self.criterion.name()
        )))
    }
}

/// The prunable weights that can be trained, by parameter name.
pub(crate) fn weights<N: Network + ?Sized>(network: &N) -> BTreeMap<String, Var> {
    let layers = network.layers().into_iter();
    layers.filter_map(|(name, layer)| Some((weight_name(&name), layer.weight()?.clone()))).collect()
}

/// The share of masked entries that are cut; 0 without masks.
pub(crate) fn sparsity(masks: &Masks) -> f64 {
    let (total, kept) = masks
        .values()
        .fold((0, 0), |(total, kept), mask| (total + mask.len(), kept + mask.count_kept()));
    if total == 0 { 0.0 } else { (total - kept) as f64 / total as f64 }
}

fn masks_of(cuts: BTreeMap<String, Cut>) -> Masks {
    cuts.into_iter().map(|(name, cut)| (name, cut.mask)).collect()
}
