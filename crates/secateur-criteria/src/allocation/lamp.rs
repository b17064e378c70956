//! How much of each layer goes? What the weakest weights of the network leave it, once each weight is
//! measured against what its own layer would have left.

use super::{Allocation, Budgets, LayerScores, exact::Pool, global::highest};
use crate::CriterionError;
use rayon::prelude::*;
use secateur_mask::{Pattern, Sparsity};

/// Ranks the units of all layers together by their LAMP score (Lee et al. 2021, section 3) and cuts
/// the lowest.
///
/// The LAMP score of a unit is its score squared over the sum of the squared scores of all units of
/// its layer that rank at or above it, itself included: the share that it has in what is left when
/// the layer is cut just up to it. Among equal scores the lower index ranks higher. The best unit of
/// every layer has 1, so no layer is cut whole while another can give.
///
/// The paper squares magnitudes: take [`Magnitude`](crate::Magnitude), not
/// [`MagnitudeL2`](crate::MagnitudeL2), for its definition. Any other criterion's unit scores are
/// squared likewise; negative ones count as 0, and what an earlier pruning cut goes first. `N:M`
/// leaves no choice.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use secateur_criteria::{Lamp, Layer, Magnitude, prune};
/// use secateur_mask::{Pattern, Sparsity};
///
/// // The scale of a layer does not count: both lose what is small beside its own.
/// let a = Tensor::new(&[[0.1_f32, 9.0, 0.2, 8.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[[0.09_f32, 0.001, 0.08, 0.002]], &Device::Cpu)?;
/// let layers = [Layer::new("a", &a), Layer::new("b", &b)];
/// let half = Sparsity::new(0.5)?;
/// let cuts = prune(&layers, &Magnitude, Pattern::Unstructured, &Lamp, half)?;
/// assert_eq!(cuts["a"].mask.to_string(), "0101");
/// assert_eq!(cuts["b"].mask.to_string(), "1010");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Lamp;

impl Allocation for Lamp {
    fn name(&self) -> &str {
        "lamp"
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
        let lamp = |layer: &LayerScores<'_>| Ok(lamp_scores(pattern.unit_scores(layer.scores()?)));
        let ranks = layers.iter().map(lamp).collect::<Result<Vec<_>, CriterionError>>()?;
        highest(&Pool::new(layers, pattern, target)?, &ranks)
    }
}

/// The LAMP scores of one layer, best first. Budgets are counts, so nobody asks whose they are.
fn lamp_scores(mut scores: Vec<f32>) -> Vec<f64> {
    scores.par_sort_unstable_by(|a, b| b.total_cmp(a));
    let mut above = 0.0;
    let lamp = |(better, score): (usize, f32)| {
        if score == f32::NEG_INFINITY {
            return f64::NEG_INFINITY;
        }
        let square = f64::from(score.max(0.0)).powi(2);
        above += square;
        match square {
            0.0 => 0.0,
            // As many as are at or above it, all of them alike.
            f64::INFINITY => 1.0 / (better + 1) as f64,
            _ => square / above,
        }
    };
    scores.into_iter().enumerate().map(lamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::layer;

    fn cuts(a: &[f32], b: &[f32], pattern: &str, target: f64) -> [f64; 2] {
        let shapes = [[1, a.len()], [1, b.len()]];
        let layers = [layer("a", &shapes[0], a), layer("b", &shapes[1], b)];
        let target = Sparsity::new(target).unwrap();
        let budgets = Lamp.allocate(&layers, pattern.parse().unwrap(), target).unwrap();
        ["a", "b"].map(|name| budgets[name].share())
    }

    #[test]
    fn each_square_is_measured_against_all_at_or_above_it() {
        assert_eq!(lamp_scores(vec![1., 3., 2., 2.]), [1., 4. / 13., 4. / 17., 1. / 18.]);
    }

    #[test]
    fn cut_negative_and_infinite_scores_are_ranked_too() {
        let cut = f32::NEG_INFINITY;
        assert_eq!(lamp_scores(vec![cut, 2., -5., 0.]), [1., 0., 0., f64::NEG_INFINITY]);
        assert_eq!(lamp_scores(vec![0., -0.]), [0., 0.]);
        assert_eq!(lamp_scores(vec![7., f32::INFINITY, f32::INFINITY]), [1., 0.5, 0.]);
    }

    #[test]
    fn a_layer_of_small_weights_is_not_cut_for_its_scale() {
        assert_eq!(cuts(&[9., 8., 7., 1.], &[0.9, 0.8, 0.7, 0.1], "unstructured", 0.25), [0.25; 2]);
        // 1, 0.5, 0.33, 0.25 against 1, 0.2, 0.16, 0.14: the even layer keeps more.
        assert_eq!(cuts(&[1.; 4], &[2., 1., 1., 1.], "unstructured", 0.375), [0.0, 0.75]);
    }

    #[test]
    fn extremes() {
        assert_eq!(cuts(&[1.; 4], &[1.; 4], "unstructured", 0.0), [0.0, 0.0]);
        assert_eq!(cuts(&[1.; 4], &[1.; 4], "unstructured", 1.0), [1.0, 1.0]);
        // All alike: 1, 1/2, 1/3, 1/4 in both layers, and the earlier wins a tie.
        assert_eq!(cuts(&[1.; 4], &[5.; 4], "unstructured", 0.375), [0.25, 0.5]);
        assert_eq!(cuts(&[], &[1., 2.], "unstructured", 0.5), [0.0, 0.5]);
        assert_eq!(cuts(&[0.; 2], &[0.; 2], "unstructured", 0.5), [0.0, 1.0]);
        assert_eq!(cuts(&[9.; 4], &[1.; 4], "2:4", 0.5), [0.5, 0.5]);
        // Units of blocks: 5 and 1 against 3 and 3, so 1, 1/26 against 1, 1/2.
        assert_eq!(cuts(&[5., 5., 1., 1.], &[3.; 4], "block1x2", 0.25), [0.5, 0.0]);
    }
}
