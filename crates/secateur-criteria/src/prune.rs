//! How do criterion, pattern and allocation come together? Share out, then cut each.

use crate::{
    Allocation, Criterion, CriterionError, Cut, Layer, LayerScores, Statistics,
    criterion::check_shape,
};
use candle_core::Tensor;
use secateur_mask::{Mask, Pattern, Scores, Sparsity};
use std::collections::BTreeMap;

/// Prunes a network's `layers` to `target`: one [`Cut`] per layer, by name.
///
/// The allocation shares the target out, looking at the layers' scores if it wants to, and the
/// criterion cuts each layer to its budget. Every mask is proved to have the pattern before it is
/// returned. What an earlier pruning cut stays cut as long as the target does not shrink.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use secateur_criteria::{Global, Layer, Magnitude, prune};
/// use secateur_mask::{Pattern, Sparsity};
///
/// let a = Tensor::new(&[[9_f32, 8.], [7., 6.]], &Device::Cpu)?;
/// let b = Tensor::new(&[[1_f32, 2.], [3., 10.]], &Device::Cpu)?;
/// let layers = [Layer::new("a", &a), Layer::new("b", &b)];
/// let cuts = prune(&layers, &Magnitude, Pattern::Unstructured, &Global, Sparsity::new(0.375)?)?;
/// assert_eq!(cuts["a"].mask.to_string(), "11\n11");
/// assert_eq!(cuts["b"].mask.to_string(), "00\n01");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn prune(
    layers: &[Layer<'_>],
    criterion: &dyn Criterion,
    pattern: Pattern,
    allocation: &dyn Allocation,
    target: Sparsity,
) -> Result<BTreeMap<String, Cut>, CriterionError> {
    if layers.is_empty() {
        return Err(CriterionError::NoLayers);
    }
    let mut sorted: Vec<&Layer<'_>> = layers.iter().collect();
    sorted.sort_by_key(|layer| layer.name());
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0].name() == pair[1].name()) {
        return Err(CriterionError::SameName(twice[0].name().to_owned()));
    }
    for layer in &sorted {
        layer.check_finite(layer.weight())?;
    }
    let scored: Vec<LayerScores<'_>> = sorted
        .iter()
        .map(|layer| {
            let dims = layer.weight().dims();
            // There is nothing to observe of a weight without entries, nor to score.
            LayerScores::new(layer.name(), dims, move || match layer.weight().elem_count() {
                0 => Scores::new(Vec::new(), dims).map_err(CriterionError::at(layer.name())),
                _ => criterion.checked_scores(layer),
            })
        })
        .collect();
    let budgets = allocation.allocate(&scored, pattern, target)?;

    let mut cuts = BTreeMap::new();
    for layer in &sorted {
        let name = layer.name();
        let amount = *budgets.get(name).ok_or_else(|| CriterionError::NoBudget {
            allocation: allocation.name().to_owned(),
            layer: name.to_owned(),
        })?;
        let cut = match layer.weight().elem_count() {
            0 => {
                let mask = Mask::empty(layer.weight().dims()).map_err(CriterionError::at(name))?;
                Cut { mask, weight: None }
            }
            _ => criterion.prune(layer, pattern, amount)?,
        };
        check_shape(layer, &cut.mask)?;
        cut.mask.verify(&pattern).map_err(CriterionError::at(name))?;
        cuts.insert(name.to_owned(), cut);
    }
    Ok(cuts)
}

/// Prunes as [`prune`] does, in as many steps as the criterion wants, each on statistics that
/// `observe` collects with the weights that the step before left.
///
/// Step k of n cuts to the sparsity whose density is `density^(k/n)` (Tanaka et al. 2020, section
/// 6), by score; [`Criterion::finish`] ends it. A pattern that fixes its own sparsity is cut in one
/// step. `observe` is given the weights, cut ones zero, by name; it returns statistics for each name
/// it can.
pub fn prune_in_steps<E: From<CriterionError>>(
    before: &BTreeMap<String, Tensor>,
    masks: &BTreeMap<String, Mask>,
    criterion: &dyn Criterion,
    (pattern, target): (Pattern, Sparsity),
    allocation: &dyn Allocation,
    mut observe: impl FnMut(&BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Statistics>, E>,
) -> Result<BTreeMap<String, Cut>, E> {
    let steps = if pattern.fixed_sparsity().is_some() { 1 } else { criterion.steps().max(1) };
    let (mut weights, mut masks) = (before.clone(), masks.clone());
    for step in 1..steps {
        let density = target.density().powf(step as f64 / steps as f64);
        let amount =
            Sparsity::new(1.0 - density).map_err(CriterionError::at("of the whole network"))?;
        let statistics = observe(&weights)?;
        let layers = layers(&weights, &masks, &statistics);
        for (name, cut) in prune(&layers, &ByScore(criterion), pattern, allocation, amount)? {
            weights.insert(name.clone(), cut.apply(&before[&name])?);
            masks.insert(name, cut.mask);
        }
    }
    let statistics = observe(&weights)?;
    let layers = layers(&weights, &masks, &statistics);
    if steps == 1 {
        return Ok(prune(&layers, criterion, pattern, allocation, target)?);
    }
    let mut cuts = prune(&layers, &ByScore(criterion), pattern, allocation, target)?;
    for (name, cut) in &mut cuts {
        let layer = Layer::new(name, &before[name]).with_statistics(statistics.get(name));
        cut.weight = criterion.finish(&layer, &cut.mask)?;
    }
    Ok(cuts)
}

fn layers<'a>(
    weights: &'a BTreeMap<String, Tensor>,
    masks: &'a BTreeMap<String, Mask>,
    statistics: &'a BTreeMap<String, Statistics>,
) -> Vec<Layer<'a>> {
    let layer = |(name, weight): (&'a String, &'a Tensor)| {
        let layer = Layer::new(name, weight).with_mask(masks.get(name));
        layer.with_statistics(statistics.get(name))
    };
    weights.iter().map(layer).collect()
}

/// A criterion that only chooses: steps on the way repair nothing.
#[derive(Debug)]
struct ByScore<'a>(&'a dyn Criterion);

impl Criterion for ByScore<'_> {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        self.0.score(layer)
    }
}
