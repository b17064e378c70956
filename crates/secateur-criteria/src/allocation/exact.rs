//! How do shares become counts that add up? The units of all layers in one pool, by largest remainder.
//!
//! Allocations think in real-valued densities, or in ranks; what is cut are whole units. Rounding
//! each layer on its own would miss the target by up to half a unit per layer, so the pool rounds
//! all layers together.

use super::{Budgets, LayerScores};
use crate::CriterionError;
use secateur_mask::{Pattern, Scores, Sparsity};

/// Remainders that differ by less than this are equal: rounding noise must not decide a tie.
const TIE: f64 = 1e-6;

/// The units (entries, blocks or channels) of a network and how many of them stay.
pub(super) struct Pool<'a> {
    layers: &'a [LayerScores<'a>],
    pattern: Pattern,
    target: Sparsity,
    sizes: Vec<usize>,
    kept: usize,
}

impl<'a> Pool<'a> {
    /// The pool of layers whose units `pattern` defines, without looking at a score.
    pub(super) fn new(
        layers: &'a [LayerScores<'a>],
        pattern: Pattern,
        target: Sparsity,
    ) -> Result<Self, CriterionError> {
        let size = |layer: &LayerScores<'_>| units(pattern, layer.name(), layer.shape());
        let sizes = layers.iter().map(size).collect::<Result<Vec<_>, _>>()?;
        let total: usize = sizes.iter().sum();
        Ok(Self { layers, pattern, target, sizes, kept: total - target.cut_of(total) })
    }

    /// How many units each layer has.
    pub(super) fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// How many units the network has.
    pub(super) fn total(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// How many units stay: all but exactly `target.cut_of(total)`.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// Budgets with which exactly [`Self::kept`] units stay, each layer within one unit of its
    /// density. Who is owed the largest remainder keeps one more; among equals the earlier layer.
    ///
    /// `densities` have to add up, in units, to [`Self::kept`] within half a unit. Rows that lose
    /// equally many round on their own, whatever the total: there the budget is the share itself.
    pub(super) fn of_densities(&self, densities: &[f64]) -> Result<Budgets, CriterionError> {
        if self.pattern == Pattern::UnstructuredRow {
            return self.budgets(|index| Sparsity::new((1.0 - densities[index]).clamp(0.0, 1.0)));
        }
        let due = |index: usize| {
            let size = self.sizes[index] as f64;
            (densities[index] * size).clamp(0.0, size)
        };
        let mut kept: Vec<usize> = (0..self.sizes.len()).map(|index| due(index) as usize).collect();
        let spare = self.kept.saturating_sub(kept.iter().sum());
        let mut order: Vec<usize> =
            (0..kept.len()).filter(|&index| kept[index] < self.sizes[index]).collect();
        // The sort is stable.
        order.sort_by_key(|&index| {
            let remainder = due(index) - kept[index] as f64;
            std::cmp::Reverse((remainder / TIE).round() as u64)
        });
        for index in order.into_iter().take(spare) {
            kept[index] += 1;
        }
        self.of_kept(&kept)
    }

    /// Budgets with which `kept` units of each layer stay.
    pub(super) fn of_kept(&self, kept: &[usize]) -> Result<Budgets, CriterionError> {
        self.budgets(|index| {
            let size = self.sizes[index];
            Sparsity::of_counts(size - kept[index], size)
        })
    }

    /// The target's share of every layer, each within one unit.
    pub(super) fn evenly(&self) -> Result<Budgets, CriterionError> {
        self.of_densities(&vec![self.density(); self.sizes.len()])
    }

    /// The density that the whole network keeps.
    fn density(&self) -> f64 {
        match self.pattern {
            Pattern::UnstructuredRow => self.target.density(),
            _ => self.kept as f64 / self.total().max(1) as f64,
        }
    }

    fn budgets(
        &self,
        sparsity: impl Fn(usize) -> Result<Sparsity, secateur_mask::MaskError>,
    ) -> Result<Budgets, CriterionError> {
        let budget = |(index, layer): (usize, &LayerScores<'_>)| {
            let sparsity = sparsity(index).map_err(CriterionError::at(layer.name()))?;
            Ok((layer.name().to_owned(), sparsity))
        };
        self.layers.iter().enumerate().map(budget).collect()
    }
}

/// How many units `pattern` sees in a weight of `shape`; entries where it knows no others.
pub(super) fn units(
    pattern: Pattern,
    name: &str,
    shape: &[usize],
) -> Result<usize, CriterionError> {
    let len = shape.iter().product();
    if matches!(pattern, Pattern::Unstructured | Pattern::UnstructuredRow)
        || pattern.fixed_sparsity().is_some()
    {
        return Ok(len);
    }
    // The pattern itself is asked, so that no second definition of its units can go astray.
    let any = Scores::new(vec![0.0; len], shape).map_err(CriterionError::at(name))?;
    Ok(pattern.unit_scores(&any).len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::layer;

    fn cuts(pattern: &str, lens: [usize; 2], densities: [f64; 2], target: f64) -> [f64; 2] {
        let scores = [vec![1.0; lens[0]], vec![1.0; lens[1]]];
        let shapes = lens.map(|len| [1, len]);
        let layers = [layer("a", &shapes[0], &scores[0]), layer("b", &shapes[1], &scores[1])];
        let target = Sparsity::new(target).unwrap();
        let pool = Pool::new(&layers, pattern.parse().unwrap(), target).unwrap();
        let budgets = pool.of_densities(&densities).unwrap();
        ["a", "b"].map(|name| budgets[name].share())
    }

    #[test]
    fn the_largest_remainder_keeps_one_more() {
        // 1.2 and 1.8 of four each stay, three in all.
        assert_eq!(cuts("unstructured", [4, 4], [0.3, 0.45], 0.625), [0.75, 0.5]);
    }

    #[test]
    fn among_equals_the_earlier_layer_keeps_one_more() {
        assert_eq!(cuts("unstructured", [4, 4], [0.375, 0.375], 0.625), [0.5, 0.75]);
        // A remainder that is larger by rounding noise only is not larger.
        assert_eq!(cuts("unstructured", [4, 4], [0.375, 0.375 + 1e-12], 0.625), [0.5, 0.75]);
        // Nor does noise take what is owed in full.
        assert_eq!(cuts("unstructured", [4, 4], [0.5 - 1e-12, 0.25], 0.625), [0.5, 0.75]);
    }

    #[test]
    fn rows_round_on_their_own() {
        assert_eq!(cuts("unstructured-row", [4, 4], [0.3, 0.4], 0.65), [0.7, 0.6]);
    }

    #[test]
    fn units_are_those_of_the_pattern() {
        let units =
            |pattern: &str, shape: &[usize]| units(pattern.parse().unwrap(), "w", shape).unwrap();
        assert_eq!(units("unstructured", &[6, 5]), 30);
        assert_eq!(units("block4x2", &[6, 5]), 6);
        assert_eq!(units("channel", &[6, 5, 3, 3]), 6);
        assert_eq!(units("input-channel", &[6, 5, 3, 3]), 5);
        assert_eq!(units("channel", &[0, 5]), 0);
    }
}
