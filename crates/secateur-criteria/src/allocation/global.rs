//! How much of each layer goes? Whatever the weakest units of the whole network leave it.

use super::{Allocation, Budgets, LayerScores, exact::Pool};
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
        let units = |layer: &LayerScores<'_>| {
            Ok(pattern.unit_scores(layer.scores()?).into_iter().map(f64::from).collect())
        };
        let ranks = layers.iter().map(units).collect::<Result<Vec<_>, CriterionError>>()?;
        highest(&Pool::new(layers, pattern, target)?, &ranks)
    }
}

/// Budgets with which the highest `ranks` of all layers stay, one rank per unit of each layer; among
/// equals those of the earlier layer. No rank may be NaN.
pub(super) fn highest(pool: &Pool<'_>, ranks: &[Vec<f64>]) -> Result<Budgets, CriterionError> {
    // The lowest rank that stays, and how many stay of those that have it.
    let mut all: Vec<f64> = ranks.concat();
    let Some(last) = pool.kept().checked_sub(1) else {
        return pool.of_kept(&vec![0; ranks.len()]);
    };
    let (above, &mut bar, _) = all.select_nth_unstable_by(last, |a, b| b.total_cmp(a));
    let mut ties = pool.kept() - above.iter().filter(|&&rank| rank > bar).count();
    let mut kept = Vec::with_capacity(ranks.len());
    for ranks in ranks {
        let above = ranks.iter().filter(|&&rank| rank > bar).count();
        let tied = ranks.iter().filter(|&&rank| rank == bar).count().min(ties);
        ties -= tied;
        kept.push(above + tied);
    }
    pool.of_kept(&kept)
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
    fn nothing_everything_and_both_zeros() {
        let unstructured = |a: &[f32], b: &[f32], target| cuts(a, b, Pattern::Unstructured, target);
        assert_eq!(unstructured(&[1., 2.], &[3., 4.], 0.0), [0.0, 0.0]);
        assert_eq!(unstructured(&[1., 2.], &[3., 4.], 1.0), [1.0, 1.0]);
        assert_eq!(unstructured(&[-0., -0.], &[0., 0.], 0.5), [0.0, 1.0]);
        assert_eq!(unstructured(&[f32::NEG_INFINITY, 1.], &[0., 0.], 0.25), [0.5, 0.0]);
        assert_eq!(unstructured(&[], &[1., 2.], 0.5), [0.0, 0.5]);
    }

    #[test]
    fn n_of_m_leaves_no_choice() {
        assert_eq!(cuts(&[9.; 4], &[1.; 4], Pattern::TWO_OF_FOUR, 0.5), [0.5, 0.5]);
    }
}
