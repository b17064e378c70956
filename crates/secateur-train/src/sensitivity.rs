//! How much does each layer bear? A network's accuracy with one layer at a time pruned.

use crate::{Split, TrainError, calibrate, evaluate};
use candle_core::{Tensor, Var};
use secateur_criteria::{Criterion, Cut, Layer, Sensitivity};
use secateur_mask::{Pattern, Sparsity};
use secateur_nn::{Network, weight_name};
use std::collections::BTreeMap;

/// Prunes each layer alone to each of `sparsities` and measures accuracy on the validation samples.
///
/// Statistics that the criterion needs come from the training samples, seen by the dense network;
/// the test samples are not looked at. The network's weights are as before afterwards. What comes
/// back is an [`Allocation`](secateur_criteria::Allocation) for pruning all layers, and
/// [`Sensitivity::prune_to`] says how far each goes while accuracy stays above a threshold.
///
/// ```
/// use candle_core::Device;
/// use secateur_criteria::Magnitude;
/// use secateur_mask::{Pattern, Sparsity};
/// use secateur_nn::Mlp;
/// use secateur_train::{data::digits, sensitivity};
///
/// let split = digits(&Device::Cpu)?.split(200, 1)?;
/// let mut network = Mlp::digits(1, &Device::Cpu)?; // untrained here
/// let steps = [0.5, 0.9].map(|share| Sparsity::new(share).unwrap());
/// let scan = sensitivity(&mut network, &split, &Magnitude, Pattern::Unstructured, &steps)?;
/// assert_eq!(scan.curves()["fc1.weight"].len(), 3); // dense, 0.5, 0.9
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sensitivity<N: Network>(
    network: &mut N,
    split: &Split,
    criterion: &dyn Criterion,
    pattern: Pattern,
    sparsities: &[Sparsity],
) -> Result<Sensitivity, TrainError> {
    let statistics = calibrate(network, &split.train, criterion.needs())?;
    let dense = evaluate(network, &split.validation)?.accuracy;
    let mut weights: BTreeMap<String, (Var, Tensor)> = BTreeMap::new();
    for (name, layer) in network.layers() {
        if let Some(var) = layer.weight() {
            weights.insert(weight_name(&name), (var.clone(), var.copy()?.detach()));
        }
    }
    let layers: Vec<Layer<'_>> = weights
        .iter()
        .map(|(name, (_, weight))| Layer::new(name, weight).with_statistics(statistics.get(name)))
        .collect();
    let quality = |name: &str, cut: &Cut| -> Result<f64, TrainError> {
        let (var, weight) = &weights[name];
        var.set(&cut.apply(weight)?)?;
        let judged = evaluate(network, &split.validation);
        var.set(weight)?;
        Ok(judged?.accuracy)
    };
    Sensitivity::scan(&layers, criterion, pattern, sparsities, dense, quality)
}
