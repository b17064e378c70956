//! How much of each layer goes? Whatever the weakest units of the whole network leave it.

use super::{Allocation, Budgets, LayerScores};
use crate::CriterionError;
use secateur_mask::{Pattern, Sparsity};

/// Ranks the units (weights, blocks or channels) of all layers together and cuts the lowest.
///
/// The target is a share of all units. Among equal scores the earlier layer (by name), then the
/// lower index is kept. Under `N:M` every layer keeps N of every M whatever its scores, so the
/// budget is the pattern's own sparsity everywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Global;

impl Allocation for Global {
    fn name(&self) -> &str {
        "global"
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
        let units: Vec<Vec<f32>> = layers
            .iter()
            .map(|layer| Ok(pattern.unit_scores(layer.scores()?)))
            .collect::<Result<_, CriterionError>>()?;
        // Best first; the sort is stable, so equal scores stay in order of layer and index.
        let mut ranked: Vec<(f32, usize)> = units
            .iter()
            .enumerate()
            .flat_map(|(layer, scores)| scores.iter().map(move |&score| (score + 0.0, layer)))
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));

        let keep = ranked.len() - target.cut_of(ranked.len());
        let mut kept = vec![0; layers.len()];
        for (_, layer) in &ranked[..keep] {
            kept[*layer] += 1;
        }
        let budget = |(index, layer): (usize, &LayerScores<'_>)| {
            let total = units[index].len();
            let sparsity = Sparsity::of_counts(total - kept[index], total)
                .map_err(CriterionError::at(layer.name()))?;
            Ok((layer.name().to_owned(), sparsity))
        };
        layers.iter().enumerate().map(budget).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::layer;

    fn cuts(a: &[f32], b: &[f32], pattern: Pattern, target: f64) -> [f64; 2] {
        let target = Sparsity::new(target).unwrap();
        let (shape_a, shape_b) = ([1, a.len()], [1, b.len()]);
        let layers = [layer("a", &shape_a, a), layer("b", &shape_b, b)];
        let budgets = Global.allocate(&layers, pattern, target).unwrap();
        ["a", "b"].map(|name| budgets[name].share())
    }

    #[test]
    fn the_weaker_layer_gives_more() {
        assert_eq!(
            cuts(&[9., 8., 1., 7.], &[2., 3., 4., 5.], Pattern::Unstructured, 0.5),
            [0.25, 0.75]
        );
    }

    #[test]
    fn ties_favour_the_earlier_layer() {
        assert_eq!(cuts(&[1., 1.], &[1., 1.], Pattern::Unstructured, 0.5), [0.0, 1.0]);
    }

    #[test]
    fn n_of_m_leaves_no_choice() {
        assert_eq!(cuts(&[9.; 4], &[1.; 4], Pattern::TWO_OF_FOUR, 0.5), [0.5, 0.5]);
    }
}
