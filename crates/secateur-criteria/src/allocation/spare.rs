//! Which layers are left alone? Those named; the others share the target out as another allocation says.

use super::{Allocation, Budgets, LayerScores};
use crate::CriterionError;
use secateur_mask::{Pattern, Sparsity};
use std::collections::BTreeSet;

/// Leaves some layers dense, and the target to the others: `target` is the share of *their* weights that goes.
/// (A search that goes by what the whole network has lost, such as `MinAccuracy`, asks for less than it thinks.)
///
/// Filter pruning spares the output layer, whose units are the classes; many papers spare the first layer, which
/// has few weights and feeds all others (Li et al. 2017, section 3.2; Zhu & Gupta 2017, section 4).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use secateur_criteria::{Layer, Magnitude, Spare, Uniform, prune};
/// use secateur_mask::{Pattern, Sparsity};
///
/// let hidden = Tensor::new(&[[1_f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let output = Tensor::new(&[[5_f32, 6.]], &Device::Cpu)?;
/// let layers = [Layer::new("fc1.weight", &hidden), Layer::new("fc2.weight", &output)];
/// let allocation = Spare::new(["fc2.weight"], Box::new(Uniform));
/// let cuts = prune(&layers, &Magnitude, Pattern::Unstructured, &allocation, Sparsity::new(0.5)?)?;
/// assert_eq!(cuts["fc1.weight"].mask.to_string(), "00\n11");
/// assert_eq!(cuts["fc2.weight"].mask.to_string(), "11");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Spare {
    names: BTreeSet<String>,
    others: Box<dyn Allocation>,
}

impl Spare {
    /// Spares the weights of these names, such as `fc3.weight`; `others` allocates the rest.
    pub fn new<S: Into<String>>(
        names: impl IntoIterator<Item = S>,
        others: Box<dyn Allocation>,
    ) -> Self {
        Self { names: names.into_iter().map(Into::into).collect(), others }
    }
}

impl Allocation for Spare {
    /// The name of what allocates the others.
    fn name(&self) -> &str {
        self.others.name()
    }

    /// Errors on a name that no layer has, when nothing is left to prune, and on a pattern that fixes its own
    /// sparsity: no share of it is dense.
    fn allocate(
        &self,
        layers: &[LayerScores<'_>],
        pattern: Pattern,
        target: Sparsity,
    ) -> Result<Budgets, CriterionError> {
        let known: BTreeSet<&str> = layers.iter().map(LayerScores::name).collect();
        if let Some(layer) = self.names.iter().find(|name| !known.contains(name.as_str())) {
            let names = known.into_iter().collect::<Vec<_>>().join(", ");
            let reason = format!("there is no such layer to spare; there are {names}");
            return Err(CriterionError::Unsupported { layer: layer.clone(), reason });
        }
        if let (Some(layer), Some(fixed)) = (self.names.first(), pattern.fixed_sparsity()) {
            let reason = format!("{pattern} fixes the sparsity at {fixed}; no layer can be spared");
            return Err(CriterionError::Unsupported { layer: layer.clone(), reason });
        }
        let others: Vec<LayerScores<'_>> = layers
            .iter()
            .filter(|layer| !self.names.contains(layer.name()))
            .map(|layer| LayerScores::new(layer.name(), layer.shape(), || layer.scores().cloned()))
            .collect();
        if others.is_empty() {
            return Err(CriterionError::NoLayers);
        }
        let mut budgets = self.others.allocate(&others, pattern, target)?;
        budgets.extend(self.names.iter().map(|name| (name.clone(), Sparsity::DENSE)));
        Ok(budgets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Global, Uniform, allocation::layer};

    fn half() -> Sparsity {
        Sparsity::new(0.5).unwrap()
    }

    #[test]
    fn the_others_share_the_target_by_their_own_scores() {
        let layers = [
            layer("a", &[1, 4], &[1.0, 2.0, 3.0, 4.0]),
            layer("b", &[1, 4], &[0.1, 0.2, 0.3, 0.4]),
            layer("c", &[1, 4], &[5.0, 6.0, 7.0, 8.0]),
        ];
        let spare = Spare::new(["b"], Box::new(Global));
        let budgets = spare.allocate(&layers, Pattern::Unstructured, half()).unwrap();
        let shares: Vec<f64> = budgets.values().map(|budget| budget.share()).collect();
        assert_eq!(shares, [1.0, 0.0, 0.0]);
        assert_eq!(spare.name(), "global");
    }

    #[test]
    fn what_cannot_be_spared_is_refused() {
        let layers = [layer("a", &[1, 4], &[1.0, 2.0, 3.0, 4.0])];
        let refused = |name: &str, pattern| {
            let spare = Spare::new([name], Box::new(Uniform));
            spare.allocate(&layers, pattern, half()).unwrap_err().to_string()
        };
        let unknown = refused("z", Pattern::Unstructured);
        assert_eq!(unknown, "layer z: there is no such layer to spare; there are a");
        let fixed = refused("a", Pattern::TWO_OF_FOUR);
        assert_eq!(fixed, "layer a: 2:4 fixes the sparsity at 0.5; no layer can be spared");
        assert!(refused("a", Pattern::Unstructured).starts_with("there is no layer to prune"));
    }
}
