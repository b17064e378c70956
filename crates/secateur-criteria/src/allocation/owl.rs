//! How much of each layer goes? The less, the more of its scores are outliers.

use super::{Allocation, Budgets, LayerScores, exact::Pool};
use crate::CriterionError;
use secateur_mask::{Pattern, Scores, Sparsity};

/// Densities around the target's, shifted by each layer's share of outliers (Yin et al. 2023,
/// "OWL", section 3).
///
/// With `A` the scores of a layer, its outlier share is `D = 100 · frac(A > m · mean(A))`. Over the
/// layers, `D` is normalised to `D' = 2λ · (D − min D) / (max D − min D)`, and the density of a layer
/// is `D' − mean(D') + target density`: all within 2λ of each other. The mean is weighted by the
/// layers' sizes, so that the target is met. Where that would leave `[0, 1]` the density is clamped
/// and the others share the rest alike. Layers that are all alike, or one layer, get the target's
/// share each.
///
/// The paper's scores are [`Wanda`](crate::Wanda)'s, and its layers whole transformer blocks; here
/// each weight is a layer of its own. Negative scores, and what an earlier pruning cut, count as 0.
/// Counts add up to the target's share of all units (entries, blocks or channels) exactly; rows that
/// lose equally many are rounded on their own. `N:M` leaves no choice.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use secateur_criteria::{Layer, Magnitude, Owl, prune};
/// use secateur_mask::{Pattern, Sparsity};
///
/// let even = Tensor::new(&[1_f32, 1., 1., 1.], &Device::Cpu)?;
/// let outlier = Tensor::new(&[9_f32, 1., 1., 1.], &Device::Cpu)?; // 9 > 2 · 3
/// let layers = [Layer::new("even", &even), Layer::new("outlier", &outlier)];
/// let owl = Owl { m: 2.0, lambda: 0.25 };
/// let cuts = prune(&layers, &Magnitude, Pattern::Unstructured, &owl, Sparsity::new(0.5)?)?;
/// assert_eq!(cuts["even"].mask.count_kept(), 1);
/// assert_eq!(cuts["outlier"].mask.count_kept(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Owl {
    /// A score is an outlier above `m` times its layer's mean: 3 (the paper also uses 5 and 10).
    pub m: f64,
    /// How far a density may be from the target's, about: 0.08, at most 1.
    pub lambda: f64,
}

impl Default for Owl {
    fn default() -> Self {
        Self { m: 3.0, lambda: 0.08 }
    }
}

impl Allocation for Owl {
    fn name(&self) -> &str {
        "owl"
    }

    fn allocate(
        &self,
        layers: &[LayerScores<'_>],
        pattern: Pattern,
        target: Sparsity,
    ) -> Result<Budgets, CriterionError> {
        self.check()?;
        if pattern.fixed_sparsity().is_some() {
            return super::Uniform.allocate(layers, pattern, target);
        }
        let pool = Pool::new(layers, pattern, target)?;
        let outliers = |layer: &LayerScores<'_>| Ok(outlier_share(layer.scores()?, self.m));
        let shares = layers.iter().map(outliers).collect::<Result<Vec<_>, CriterionError>>()?;
        let known = || shares.iter().flatten().copied();
        let (min, max) = (known().fold(f64::MAX, f64::min), known().fold(f64::MIN, f64::max));
        if max <= min {
            return pool.evenly();
        }
        let normalised = |share: &Option<f64>| match share {
            Some(share) => 2.0 * self.lambda * (share - min) / (max - min),
            None => 0.0,
        };
        let shifts: Vec<f64> = shares.iter().map(normalised).collect();
        pool.of_densities(&shifted(&shifts, pool.sizes(), pool.kept()))
    }
}

impl Owl {
    fn check(&self) -> Result<(), CriterionError> {
        let refuse = |setting, value, needs| CriterionError::Setting { setting, value, needs };
        if !(self.m.is_finite() && self.m >= 0.0) {
            return Err(refuse("owl's m", self.m, "a factor of at least 0, such as 3"));
        }
        if !(0.0..=1.0).contains(&self.lambda) {
            return Err(refuse(
                "owl's lambda",
                self.lambda,
                "a share between 0 and 1, such as 0.08",
            ));
        }
        Ok(())
    }
}

/// `D` of a layer, in percent; a layer without weights has none.
fn outlier_share(scores: &Scores<'_>, m: f64) -> Option<f64> {
    let len = scores.values().len();
    if len == 0 {
        return None;
    }
    let values = || scores.values().iter().map(|&score| f64::from(score.max(0.0)));
    let bar = m * (values().sum::<f64>() / len as f64);
    Some(100.0 * values().filter(|&score| score > bar).count() as f64 / len as f64)
}

/// `shift + c` clamped to `[0, 1]`, with the `c` at which `kept` of all units stay. Where nothing is
/// clamped, `c` is the target density less the weighted mean of the shifts.
fn shifted(shifts: &[f64], sizes: &[usize], kept: usize) -> Vec<f64> {
    let at = |c: f64| shifts.iter().map(move |shift| (shift + c).clamp(0.0, 1.0));
    let stay = |c: f64| at(c).zip(sizes).map(|(density, &size)| density * size as f64).sum::<f64>();
    let highest = shifts.iter().copied().fold(0.0, f64::max);
    let (mut low, mut high) = (-highest, 1.0); // nothing stays; everything does, as no shift is < 0
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return at(high).collect();
        }
        if stay(middle) < kept as f64 {
            low = middle;
        } else {
            high = middle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::layer;

    const EVEN: [f32; 4] = [1.; 4];
    const OUTLIER: [f32; 4] = [9., 1., 1., 1.];

    fn cuts(owl: Owl, a: &[f32], b: &[f32], pattern: &str, target: f64) -> [f64; 2] {
        let shapes = [[1, a.len()], [1, b.len()]];
        let layers = [layer("a", &shapes[0], a), layer("b", &shapes[1], b)];
        let target = Sparsity::new(target).unwrap();
        let budgets = owl.allocate(&layers, pattern.parse().unwrap(), target).unwrap();
        ["a", "b"].map(|name| budgets[name].share())
    }

    #[test]
    fn an_outlier_is_above_m_times_the_mean() {
        let share = |values: &[f32], m| outlier_share(&Scores::new(values, &[4]).unwrap(), m);
        assert_eq!(share(&OUTLIER, 2.), Some(25.));
        assert_eq!(share(&OUTLIER, 3.), Some(0.)); // 9 is not above 9
        assert_eq!(share(&EVEN, 0.5), Some(100.));
        assert_eq!(share(&[f32::NEG_INFINITY, -9., 1., 0.], 3.), Some(25.)); // 1 > 3 · 1/4
        assert_eq!(share(&[f32::INFINITY, 0., 0., 0.], 0.), Some(0.));
    }

    #[test]
    fn the_layer_with_outliers_keeps_more_and_the_total_stays() {
        let owl = Owl { m: 2.0, lambda: 0.25 };
        assert_eq!(cuts(owl, &EVEN, &OUTLIER, "unstructured", 0.5), [0.75, 0.25]);
        // Twice the size weighs twice: 8 entries at 1/3, 4 at 1/3 + 1/2.
        assert_eq!(cuts(owl, &[1.; 8], &OUTLIER, "unstructured", 0.5), [5. / 8., 1. / 4.]);
        assert_eq!(cuts(owl, &EVEN, &OUTLIER, "unstructured-row", 0.5), [0.75, 0.25]);
    }

    #[test]
    fn what_is_clamped_is_redistributed() {
        // 1/8 ± 1/4 is not to be had below 0: all of the one, and 1/4 of the other stays.
        let owl = Owl { m: 2.0, lambda: 0.25 };
        assert_eq!(cuts(owl, &EVEN, &OUTLIER, "unstructured", 0.875), [1.0, 0.75]);
        assert_eq!(cuts(owl, &EVEN, &OUTLIER, "unstructured", 0.125), [0.25, 0.0]);
    }

    #[test]
    fn layers_all_alike_get_the_same() {
        let owl = Owl::default();
        assert_eq!(cuts(owl, &EVEN, &[2.; 4], "unstructured", 0.5), [0.5, 0.5]);
        assert_eq!(cuts(owl, &OUTLIER, &[0.; 4], "unstructured", 0.5), [0.5, 0.5]);
        assert_eq!(cuts(owl, &OUTLIER, &[], "unstructured", 0.25), [0.25, 0.0]);
        assert_eq!(cuts(owl, &[], &[], "unstructured", 0.25), [0.0, 0.0]);
    }

    #[test]
    fn extremes() {
        let owl = Owl { m: 2.0, lambda: 0.25 };
        assert_eq!(cuts(owl, &EVEN, &OUTLIER, "unstructured", 0.0), [0.0, 0.0]);
        assert_eq!(cuts(owl, &EVEN, &OUTLIER, "unstructured", 1.0), [1.0, 1.0]);
        assert_eq!(cuts(owl, &EVEN, &OUTLIER, "2:4", 0.5), [0.5, 0.5]);
    }

    #[test]
    fn settings_are_checked() {
        for (m, lambda) in [(-1., 0.1), (f64::NAN, 0.1), (3., -0.1), (3., f64::NAN), (3., 1.1)] {
            let half = Sparsity::new(0.5).unwrap();
            let error = Owl { m, lambda }.allocate(&[], Pattern::Unstructured, half).unwrap_err();
            assert!(matches!(error, CriterionError::Setting { .. }), "{error}");
        }
    }
}
