//! How much of each layer goes? As much as the network bears, measured one layer at a time.

use super::{Budgets, Uniform, exact::units};
use crate::{Criterion, CriterionError, Cut, Layer, prune};
use secateur_mask::{Pattern, Sparsity};
use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
};

/// How the quality of a network falls as one layer at a time is pruned (Li et al. 2017, section 3.2;
/// Han et al. 2015 chose their thresholds so).
///
/// For each layer it holds the quality (higher is better) measured at a few sparsities, all other
/// layers being dense. Between points quality is interpolated linearly, and it is taken
/// pessimistically: at a sparsity it is the lowest quality up to there, so a lucky point beyond a bad
/// one buys nothing. Beyond its last point a layer is not pruned.
///
/// As an [`Allocation`](crate::Allocation) it finds, by bisection, the quality that all layers can
/// keep alone when together they give up the target, and prunes each as far as that. Where a curve is
/// level the target may lie within the step: then every layer goes the same part of its step. Counts
/// add up to the target's share of all units (entries, blocks or channels) exactly; rows that lose
/// equally many are rounded on their own. `N:M` leaves no choice.
///
/// [`Self::prune_to`] asks the other way round: how far may each layer go if its quality alone has
/// to stay at a threshold?
///
/// ```
/// use candle_core::{Device, Tensor};
/// use secateur_criteria::{CriterionError, Layer, Magnitude, Sensitivity, prune};
/// use secateur_mask::{Pattern, Sparsity};
///
/// let a = Tensor::new(&[1_f32, 2., 3., 4.], &Device::Cpu)?;
/// let b = Tensor::new(&[1_f32, 2., 3., 4.], &Device::Cpu)?;
/// let layers = [Layer::new("a", &a), Layer::new("b", &b)];
/// let steps = [0.25, 0.5, 0.75].map(|share| Sparsity::new(share).unwrap());
///
/// // Here one would evaluate the network with `cut` applied to `layer`: it minds the loss of a.
/// let quality = |layer: &str, cut: &secateur_criteria::Cut| {
///     let lost = 1.0 - cut.mask.count_kept() as f64 / 4.0;
///     Ok::<_, CriterionError>(1.0 - if layer == "a" { lost } else { lost / 3.0 })
/// };
/// let pattern = Pattern::Unstructured;
/// let scan = Sensitivity::scan(&layers, &Magnitude, pattern, &steps, 1.0, quality)?;
/// let cuts = prune(&layers, &Magnitude, pattern, &scan, Sparsity::new(0.5)?)?;
/// assert_eq!(cuts["a"].mask.to_string(), "0111"); // quality 0.75
/// assert_eq!(cuts["b"].mask.to_string(), "0001"); // quality 0.75
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sensitivity {
    pub(super) pattern: Pattern,
    pub(super) dense_quality: f64,
    pub(super) curves: BTreeMap<String, Vec<(Sparsity, f64)>>,
}

impl Sensitivity {
    /// Prunes one of `layers` at a time to each of `sparsities` and asks `quality` (of the layer's
    /// name and its cut) how good the network then is; `dense_quality` is how good it was before.
    ///
    /// Sparsities are rounded to whole units of the layer, and a cut is measured once. A pattern
    /// that fixes its own sparsity is scanned with that one. Qualities have to be finite.
    pub fn scan<E: From<CriterionError>>(
        layers: &[Layer<'_>],
        criterion: &dyn Criterion,
        pattern: Pattern,
        sparsities: &[Sparsity],
        dense_quality: f64,
        mut quality: impl FnMut(&str, &Cut) -> Result<f64, E>,
    ) -> Result<Self, E> {
        if layers.is_empty() {
            return Err(CriterionError::NoLayers.into());
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = layers.iter().find(|layer| !names.insert(layer.name())) {
            return Err(CriterionError::SameName(twice.name().to_owned()).into());
        }
        let mut curves = BTreeMap::new();
        for layer in layers {
            let mut curve = Vec::new();
            for sparsity in whole_units(layer, pattern, sparsities)? {
                let cuts = prune(slice::from_ref(layer), criterion, pattern, &Uniform, sparsity)?;
                for cut in cuts.into_values() {
                    let quality = quality(layer.name(), &cut)?;
                    check_quality(layer.name(), sparsity, quality)?;
                    curve.push((sparsity, quality));
                }
            }
            curves.insert(layer.name().to_owned(), curve);
        }
        Ok(Self::new(pattern, dense_quality, curves)?)
    }

    /// A scan that was made before: for each layer the qualities measured with `pattern`, in any
    /// order. Sparsity 0 has `dense_quality` in every curve. Errors on a quality that is not finite.
    pub fn new(
        pattern: Pattern,
        dense_quality: f64,
        mut curves: BTreeMap<String, Vec<(Sparsity, f64)>>,
    ) -> Result<Self, CriterionError> {
        check_quality("of the whole network", Sparsity::DENSE, dense_quality)?;
        for (name, curve) in &mut curves {
            for &(sparsity, quality) in &*curve {
                check_quality(name, sparsity, quality)?;
            }
            curve.push((Sparsity::DENSE, dense_quality));
            curve.sort_by(|a, b| a.0.share().total_cmp(&b.0.share()));
            curve.dedup();
        }
        Ok(Self { pattern, dense_quality, curves })
    }

    /// The pattern that was scanned.
    pub fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// For each layer the points measured, by rising sparsity from 0 on.
    pub fn curves(&self) -> &BTreeMap<String, Vec<(Sparsity, f64)>> {
        &self.curves
    }

    /// For each layer scanned, how far it may be pruned alone before quality falls below
    /// `threshold`.
    ///
    /// Under a pattern that fixes its own sparsity that is all or nothing, and layers at 0 are to be
    /// left out of the pruning. If even the dense network is below the threshold, or
    /// the threshold is NaN, nothing goes.
    pub fn prune_to(&self, threshold: f64) -> Budgets {
        let budget = |(name, curve): (&String, &Vec<(Sparsity, f64)>)| {
            let reached = sparsest(curve, threshold);
            let whole = match self.pattern.fixed_sparsity() {
                Some(fixed) if reached < fixed.share() => 0.0,
                _ => reached,
            };
            // Points and what lies between them are shares.
            (name.clone(), Sparsity::new(whole).unwrap_or(Sparsity::DENSE))
        };
        self.curves.iter().map(budget).collect()
    }
}

/// The largest sparsity up to which a curve stays at or above `threshold`; 0 if it never is.
pub(super) fn sparsest(curve: &[(Sparsity, f64)], threshold: f64) -> f64 {
    if threshold.is_nan() {
        return 0.0;
    }
    let mut reached: Option<(f64, f64)> = None;
    for &(sparsity, quality) in curve {
        let sparsity = sparsity.share();
        let Some((before, lowest)) = reached else {
            if quality < threshold {
                return 0.0;
            }
            reached = Some((sparsity, quality));
            continue;
        };
        let quality = quality.min(lowest);
        if quality < threshold {
            let part = (lowest - threshold) / (lowest - quality);
            return before + part * (sparsity - before);
        }
        reached = Some((sparsity, quality));
    }
    reached.map_or(0.0, |(sparsity, _)| sparsity)
}

/// The sparsities at which `layer` can be cut, each once, without 0.
fn whole_units(
    layer: &Layer<'_>,
    pattern: Pattern,
    sparsities: &[Sparsity],
) -> Result<Vec<Sparsity>, CriterionError> {
    let len = match pattern {
        Pattern::UnstructuredRow => layer.matrix().1,
        _ => units(pattern, layer.name(), layer.weight().dims())?,
    };
    let whole = |&sparsity: &Sparsity| match pattern.fixed_sparsity() {
        Some(_) => Ok(sparsity),
        None => Sparsity::of_counts(sparsity.cut_of(len), len),
    };
    let mut all = sparsities
        .iter()
        .map(whole)
        .collect::<Result<Vec<_>, _>>()
        .map_err(CriterionError::at(layer.name()))?;
    all.retain(|&sparsity| sparsity != Sparsity::DENSE);
    all.sort_by(|a, b| a.share().total_cmp(&b.share()));
    all.dedup();
    Ok(all)
}

fn check_quality(layer: &str, sparsity: Sparsity, quality: f64) -> Result<(), CriterionError> {
    if quality.is_finite() {
        return Ok(());
    }
    Err(CriterionError::Quality { layer: layer.to_owned(), sparsity, quality })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::{Allocation, LayerScores};
    use candle_core::{Device, Tensor};

    const UNSTRUCTURED: Pattern = Pattern::Unstructured;

    fn share(share: f64) -> Sparsity {
        Sparsity::new(share).unwrap()
    }

    #[test]
    fn a_curve_is_interpolated_and_taken_pessimistically() {
        let points = [(0.75, 0.9), (0.25, 0.8), (0.5, 1.2), (1.0, 0.0)];
        let curve = points.map(|(sparsity, quality)| (share(sparsity), quality)).to_vec();
        let scan = Sensitivity::new(UNSTRUCTURED, 1.0, [("a".to_owned(), curve)].into()).unwrap();
        let reached = |threshold| scan.prune_to(threshold)["a"].share();
        assert_eq!(reached(0.9), 0.125); // half way to 0.8; that 1.2 and 0.9 follow buys nothing
        assert_eq!(reached(0.8), 0.75); // level from 0.25 on
        assert_eq!(reached(0.4), 0.875);
        assert_eq!([1.0, 1.1, f64::INFINITY, f64::NAN].map(reached), [0.0; 4]);
        assert_eq!([0.0, -1.0, f64::NEG_INFINITY].map(reached), [1.0; 3]);
    }

    #[test]
    fn a_scan_cuts_one_layer_at_a_time_and_measures_no_cut_twice() {
        let a = Tensor::new(&[4_f32, 3., 2., 1.], &Device::Cpu).unwrap();
        let b = Tensor::new(&[1_f32, 2.], &Device::Cpu).unwrap();
        let layers = [Layer::new("b", &b), Layer::new("a", &a)];
        let mut seen = Vec::new();
        let quality = |layer: &str, cut: &Cut| {
            seen.push(format!("{layer} {}", cut.mask));
            Ok::<_, CriterionError>(cut.mask.count_kept() as f64)
        };
        let sparsities = [0.5, 0.25, 0.0, 0.2].map(share);
        let scan =
            Sensitivity::scan(&layers, &crate::Magnitude, UNSTRUCTURED, &sparsities, 9., quality);
        let scan = scan.unwrap();
        assert_eq!(seen, ["b 01", "a 1110", "a 1100"]);
        let point = |sparsity, quality| (share(sparsity), quality);
        assert_eq!(scan.curves()["a"], [point(0., 9.), point(0.25, 3.), point(0.5, 2.)]);
        assert_eq!(scan.curves()["b"], [point(0., 9.), point(0.5, 1.)]);
    }

    #[test]
    fn rows_that_lose_alike_are_scanned_in_whole_columns() {
        let w = Tensor::new(&[[4_f32, 3.], [2., 1.]], &Device::Cpu).unwrap();
        let measured = |_: &str, _: &Cut| Ok::<_, CriterionError>(0.5);
        let rows = Pattern::UnstructuredRow;
        let amounts = [0.25, 0.5].map(share);
        let layer = [Layer::new("w", &w)];
        let scan =
            Sensitivity::scan(&layer, &crate::Magnitude, rows, &amounts, 1.0, measured).unwrap();
        assert_eq!(scan.curves()["w"], [(Sparsity::DENSE, 1.0), (share(0.5), 0.5)]);
    }

    #[test]
    fn a_scan_refuses_what_it_cannot_use() {
        let w = Tensor::new(&[4_f32, 3., 2., 1.], &Device::Cpu).unwrap();
        let mut evaluations = 0;
        let mut scan = |layers: &[Layer<'_>], quality: f64| {
            let measured = |_: &str, _: &Cut| {
                evaluations += 1;
                Ok::<_, CriterionError>(quality)
            };
            let amounts = [0.5, 0.75].map(share);
            Sensitivity::scan(layers, &crate::Magnitude, UNSTRUCTURED, &amounts, 1.0, measured)
                .unwrap_err()
                .to_string()
        };
        let layer = Layer::new("w", &w);
        assert!(scan(&[], 1.).contains("no layer to prune"));
        assert!(scan(&[layer, layer], 1.).contains("two layers are named w"));
        let error = scan(&[layer], f64::NAN);
        assert!(error.starts_with("layer w, cut to sparsity 0.5: the quality is NaN"), "{error}");
        assert_eq!(evaluations, 1); // evaluations are dear: the first that is wrong ends it
    }

    #[test]
    fn n_of_m_is_scanned_at_its_own_sparsity_and_goes_whole_or_not() {
        let w = Tensor::new(&[4_f32, 3., 2., 1.], &Device::Cpu).unwrap();
        let layers = [Layer::new("w", &w)];
        let pattern = Pattern::TWO_OF_FOUR;
        let scan = |sparsity| {
            let measured = |_: &str, _: &Cut| Ok::<_, CriterionError>(0.5);
            let magnitude = &crate::Magnitude;
            Sensitivity::scan(&layers, magnitude, pattern, &[share(sparsity)], 1.0, measured)
        };
        assert!(scan(0.6).is_err());
        let scan = scan(0.5).unwrap();
        assert_eq!(scan.prune_to(0.5)["w"], share(0.5));
        assert_eq!(scan.prune_to(0.6)["w"], Sparsity::DENSE);
        let unseen = || Err(CriterionError::Other("nothing to look at".to_owned()));
        let layers = [LayerScores::new("not scanned", &[1, 4], unseen)];
        let budgets = scan.allocate(&layers, pattern, share(0.5)).unwrap();
        assert_eq!(budgets["not scanned"], share(0.5)); // it has no choice either
    }
}
