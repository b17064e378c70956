//! How much of each layer goes? The more, the larger it is: the Erdős–Rényi kernel.

use super::{Allocation, Budgets, LayerScores, exact::Pool};
use crate::CriterionError;
use secateur_mask::{Pattern, Sparsity};

/// Density `ε · Σ dims / Π dims` for each layer (Evci et al. 2020, "RigL", section 3; after the
/// Erdős–Rényi graphs of Mocanu et al. 2018).
///
/// A layer of `[out, in]` keeps in proportion to `(out + in) / (out · in)`, a convolution to
/// `(out + in + kh + kw) / (out · in · kh · kw)`: the number of weights kept grows with the sum of a
/// layer's sides, not with their product, so small layers stay dense and large ones pay. ε is solved
/// so that the target is met; layers whose density exceeds 1 stay dense and ε is solved for the
/// others, until none exceeds. (RigL makes one such layer dense at a time. As ε only grows by that,
/// it ends at the same densities.)
///
/// It looks at shapes alone, never at scores. Counts add up to the target's share of all units
/// (entries, blocks or channels) exactly; rows that lose equally many are rounded on their own.
/// `N:M` leaves no choice.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use secateur_criteria::{Erk, Layer, Magnitude, prune};
/// use secateur_mask::{Pattern, Sparsity};
///
/// let large = Tensor::ones((100, 100), DType::F32, &Device::Cpu)?; // 0.02 ε
/// let small = Tensor::ones((10, 100), DType::F32, &Device::Cpu)?; // 0.11 ε
/// let layers = [Layer::new("fc1", &large), Layer::new("fc2", &small)];
/// let target = Sparsity::new(0.9)?;
/// let cuts = prune(&layers, &Magnitude, Pattern::Unstructured, &Erk, target)?;
/// // 1100 of 11,000 stay: 200 and 110 parts of 310.
/// assert_eq!(cuts["fc1"].mask.count_kept(), 710);
/// assert_eq!(cuts["fc2"].mask.count_kept(), 390);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Erk;

impl Allocation for Erk {
    fn name(&self) -> &str {
        "erk"
    }

    fn allocate(
        &self,
        layers: &[LayerScores<'_>],
        pattern: Pattern,
        target: Sparsity,
    ) -> Result<Budgets, CriterionError> {
        if pattern.fixed_sparsity().is_some() {
            return super::Uniform.allocate(layers, pattern, target);
        }
        let pool = Pool::new(layers, pattern, target)?;
        let raw: Vec<f64> = layers.iter().map(|layer| sides_over_len(layer.shape())).collect();
        pool.of_densities(&densities(&raw, pool.sizes(), pool.kept()))
    }
}

/// `Σ dims / Π dims`; a layer without weights, or a single number, has none of its own: 1.
fn sides_over_len(shape: &[usize]) -> f64 {
    let len: usize = shape.iter().product();
    if len == 0 || shape.is_empty() {
        return 1.0;
    }
    shape.iter().sum::<usize>() as f64 / len as f64
}

/// `ε · raw`, at most 1, with which `kept` of all units stay.
fn densities(raw: &[f64], sizes: &[usize], kept: usize) -> Vec<f64> {
    let mut dense = vec![false; raw.len()];
    loop {
        let sum = |of_dense: bool, value: &dyn Fn(usize) -> f64| -> f64 {
            (0..raw.len()).filter(|&index| dense[index] == of_dense).map(value).sum()
        };
        let left = kept as f64 - sum(true, &|index| sizes[index] as f64);
        let parts = sum(false, &|index| raw[index] * sizes[index] as f64);
        let epsilon = if parts > 0.0 { left / parts } else { 0.0 };
        let exceeds = |index: usize| !dense[index] && epsilon * raw[index] > 1.0;
        let more: Vec<usize> = (0..raw.len()).filter(|&index| exceeds(index)).collect();
        if more.is_empty() {
            let density = |index: usize| if dense[index] { 1.0 } else { epsilon * raw[index] };
            return (0..raw.len()).map(density).collect();
        }
        for index in more {
            dense[index] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(shapes: [&[usize]; 2], target: f64) -> [f64; 2] {
        let unseen = || Err(CriterionError::Other("shapes alone should do".to_owned()));
        let layers =
            [LayerScores::new("a", shapes[0], unseen), LayerScores::new("b", shapes[1], unseen)];
        let target = Sparsity::new(target).unwrap();
        let budgets = Erk.allocate(&layers, Pattern::Unstructured, target).unwrap();
        ["a", "b"].map(|name| budgets[name].share())
    }

    #[test]
    fn kept_weights_follow_the_sum_of_the_sides() {
        // 2 × 2 keeps 4 parts, 8 × 4 keeps 12: of 36 weights 8 stay, 2 and 6.
        assert_eq!(cuts([&[2, 2], &[8, 4]], 28. / 36.), [0.5, 26. / 32.]);
        // A convolution's kernel counts as sides: 2 + 2 + 1 + 1 and 12 parts; 6 of 36 stay.
        assert_eq!(cuts([&[2, 2, 1, 1], &[8, 4]], 30. / 36.), [0.5, 28. / 32.]);
    }

    #[test]
    fn what_exceeds_one_stays_dense_and_the_others_pay() {
        // 18 of 36 stay: 4.5 of the 4, so all 4, and 14 of 32.
        assert_eq!(cuts([&[2, 2], &[8, 4]], 0.5), [0.0, 18. / 32.]);
    }

    #[test]
    fn extremes() {
        assert_eq!(cuts([&[2, 2], &[8, 4]], 0.0), [0.0, 0.0]);
        assert_eq!(cuts([&[2, 2], &[8, 4]], 1.0), [1.0, 1.0]);
        assert_eq!(cuts([&[0, 2], &[8, 4]], 0.5), [0.0, 0.5]);
        assert_eq!(cuts([&[0, 2], &[0]], 0.5), [0.0, 0.0]);
        assert_eq!(cuts([&[], &[3]], 0.5), [0.0, 2. / 3.]); // a tie: the earlier stays
    }

    #[test]
    fn n_of_m_leaves_no_choice() {
        let unseen = || Err(CriterionError::Other("shapes alone should do".to_owned()));
        let layers =
            [LayerScores::new("a", &[2, 4], unseen), LayerScores::new("b", &[9, 4], unseen)];
        let half = Sparsity::new(0.5).unwrap();
        let budgets = Erk.allocate(&layers, Pattern::TWO_OF_FOUR, half).unwrap();
        assert!(budgets.values().all(|&budget| budget == half) && budgets.len() == 2);
    }
}
