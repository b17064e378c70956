//! At which quality do all layers of a sensitivity scan together give up the target?

use super::{
    Allocation, Budgets, LayerScores, Sensitivity, Uniform, exact::Pool, sensitivity::sparsest,
};
use crate::CriterionError;
use secateur_mask::{Pattern, Sparsity};

impl Allocation for Sensitivity {
    fn name(&self) -> &str {
        "sensitivity"
    }

    fn allocate(
        &self,
        layers: &[LayerScores<'_>],
        pattern: Pattern,
        target: Sparsity,
    ) -> Result<Budgets, CriterionError> {
        if pattern.fixed_sparsity().is_some() {
            return Uniform.allocate(layers, pattern, target);
        }
        if pattern != self.pattern {
            let scanned = self.pattern;
            return Err(CriterionError::ScannedPattern { scanned, asked: pattern });
        }
        let curve = |layer: &LayerScores<'_>| {
            let missing = || CriterionError::NotScanned { layer: layer.name().to_owned() };
            self.curves.get(layer.name()).map(Vec::as_slice).ok_or_else(missing)
        };
        let curves = layers.iter().map(curve).collect::<Result<Vec<_>, _>>()?;
        let pool = Pool::new(layers, pattern, target)?;
        let cut_at = |threshold: f64| -> Vec<f64> {
            curves.iter().map(|curve| sparsest(curve, threshold)).collect()
        };
        let units = |cut: &[f64]| -> f64 {
            cut.iter().zip(pool.sizes()).map(|(share, &size)| share * size as f64).sum()
        };

        // At `low` enough goes, at `high` too little.
        let goal = (pool.total() - pool.kept()) as f64;
        let qualities = curves.iter().flat_map(|curve| curve.iter().map(|point| point.1));
        let (mut low, mut high) =
            (qualities.fold(self.dense_quality, f64::min), self.dense_quality.next_up());
        let reached = units(&cut_at(low));
        if goal > reached.round() {
            let reached = Sparsity::new(reached / pool.total() as f64)
                .map_err(CriterionError::at("the whole network"))?;
            return Err(CriterionError::ScanTooShort { reached, target });
        }
        loop {
            let middle = f64::midpoint(low, high);
            if middle <= low || middle >= high {
                break;
            }
            if units(&cut_at(middle)) >= goal {
                low = middle;
            } else {
                high = middle;
            }
        }
        // No quality lies between the two; the same part of every layer's step makes up the rest.
        let (more, less) = (cut_at(low), cut_at(high));
        let (most, least) = (units(&more), units(&less));
        let part =
            if most > least { ((goal - least) / (most - least)).clamp(0.0, 1.0) } else { 0.0 };
        let density = |(more, less): (&f64, &f64)| 1.0 - (less + part * (more - less));
        let densities: Vec<f64> = more.iter().zip(&less).map(density).collect();
        pool.of_densities(&densities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const UNSTRUCTURED: Pattern = Pattern::Unstructured;

    fn share(share: f64) -> Sparsity {
        Sparsity::new(share).unwrap()
    }

    /// A scan of layers with the points `(sparsity, quality)` and quality 1 when dense.
    fn scanned(pattern: Pattern, curves: &[(&str, &[(f64, f64)])]) -> Sensitivity {
        let point = |&(sparsity, quality): &(f64, f64)| (share(sparsity), quality);
        let curve = |(name, points): &(&str, &[(f64, f64)])| {
            (name.to_string(), points.iter().map(point).collect())
        };
        Sensitivity::new(pattern, 1.0, curves.iter().map(curve).collect()).unwrap()
    }

    fn allocated(scan: &Sensitivity, lens: [usize; 2], target: f64) -> Result<[f64; 2], String> {
        let unseen = || Err(CriterionError::Other("measurements alone should do".to_owned()));
        let shapes = lens.map(|len| [1, len]);
        let layers =
            [LayerScores::new("a", &shapes[0], unseen), LayerScores::new("b", &shapes[1], unseen)];
        let budgets = scan.allocate(&layers, scan.pattern(), share(target));
        let budgets = budgets.map_err(|error| error.to_string())?;
        Ok(["a", "b"].map(|name| budgets[name].share()))
    }

    #[test]
    fn all_layers_keep_the_same_quality() {
        // 1 - s and 1 - s/3: alike at s and 3s.
        let scan = scanned(UNSTRUCTURED, &[("a", &[(1., 0.)]), ("b", &[(0.75, 0.75)])]);
        assert_eq!(allocated(&scan, [4, 4], 0.5).unwrap(), [0.25, 0.75]);
        // Beyond its last point b is not pruned, so a gives the rest: 5 of 8, 3 of them b's.
        assert_eq!(allocated(&scan, [4, 4], 0.625).unwrap(), [0.5, 0.75]);
        // Sizes count: s of 12 and 3s of 4 are 12 of 16 at s = 3/4 (b has stopped): 9 and 3.
        assert_eq!(allocated(&scan, [12, 4], 0.75).unwrap(), [0.75, 0.75]);
    }

    #[test]
    fn a_level_step_is_shared() {
        // Both fall at once to 0.5 and stay: the target lies within that step.
        let level: &[(f64, f64)] = &[(0.0, 0.5), (1.0, 0.5)];
        let scan = scanned(UNSTRUCTURED, &[("a", level), ("b", level)]);
        assert_eq!(allocated(&scan, [4, 8], 0.25).unwrap(), [0.25, 0.25]);
        // Nothing is lost up to a half: that goes before anything else.
        let free = scanned(UNSTRUCTURED, &[("a", &[(0.5, 1.), (1., 0.)]), ("b", &[(1., 0.)])]);
        assert_eq!(allocated(&free, [4, 4], 0.125).unwrap(), [0.25, 0.0]);
    }

    #[test]
    fn extremes() {
        let scan = scanned(UNSTRUCTURED, &[("a", &[(1., 0.)]), ("b", &[(1., 0.5)])]);
        assert_eq!(allocated(&scan, [4, 4], 0.0).unwrap(), [0.0, 0.0]);
        assert_eq!(allocated(&scan, [4, 4], 1.0).unwrap(), [1.0, 1.0]);
        assert_eq!(allocated(&scan, [0, 4], 0.5).unwrap(), [0.0, 0.5]);
        assert_eq!(allocated(&scan, [0, 0], 0.5).unwrap(), [0.0, 0.0]);
        let rows = scanned(Pattern::UnstructuredRow, &[("a", &[(1., 0.)]), ("b", &[(1., 0.)])]);
        let [a, b] = allocated(&rows, [4, 4], 0.375).unwrap();
        assert!((a - 0.375).abs() < 1e-9 && (b - 0.375).abs() < 1e-9, "{a} {b}");
    }

    #[test]
    fn what_the_scan_does_not_say_is_an_error() {
        let scan = scanned(UNSTRUCTURED, &[("a", &[(0.5, 0.)]), ("b", &[(0.75, 0.)])]);
        let error = allocated(&scan, [4, 4], 0.75).unwrap_err();
        assert!(error.contains("ends at a sparsity of 0.625 of the network, and 0.75"), "{error}");
        let scan = scanned(UNSTRUCTURED, &[("a", &[(0.5, 0.)])]);
        assert!(allocated(&scan, [4, 4], 0.25).unwrap_err().contains("layer b was not scanned"));
        let channel = "channel".parse().unwrap();
        let error = scan.allocate(&[], channel, share(0.5)).unwrap_err().to_string();
        assert_eq!(
            error,
            "the sensitivity of unstructured says nothing of channel; scan with channel"
        );
        let error = Sensitivity::new(UNSTRUCTURED, f64::NAN, BTreeMap::new()).unwrap_err();
        assert!(matches!(error, CriterionError::Quality { .. }));
    }
}
