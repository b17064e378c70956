//! How do criterion, pattern and allocation come together? Score all, share out, cut each.

use crate::{
    Allocation, Criterion, CriterionError, Cut, Layer, LayerScores, criterion::check_shape,
};
use secateur_mask::{Pattern, Sparsity};
use std::collections::BTreeMap;

/// Prunes a network's `layers` to `target`: one [`Cut`] per layer, by name.
///
/// Each layer is scored, the allocation shares the target out, and the criterion cuts each layer to
/// its budget. Every mask is proved to have the pattern before it is returned. What an earlier
/// pruning cut stays cut as long as the target does not shrink.
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
    let scored: Vec<LayerScores<'_>> = sorted
        .iter()
        .map(|layer| {
            Ok(LayerScores { name: layer.name(), scores: criterion.checked_scores(layer)? })
        })
        .collect::<Result<_, CriterionError>>()?;
    let budgets = allocation.allocate(&scored, pattern, target)?;

    let mut cuts = BTreeMap::new();
    for layer in sorted {
        let name = layer.name();
        let amount = *budgets.get(name).ok_or_else(|| CriterionError::NoBudget {
            allocation: allocation.name().to_owned(),
            layer: name.to_owned(),
        })?;
        let cut = criterion.prune(layer, pattern, amount)?;
        check_shape(layer, &cut.mask)?;
        cut.mask.verify(&pattern).map_err(CriterionError::at(name))?;
        cuts.insert(name.to_owned(), cut);
    }
    Ok(cuts)
}
