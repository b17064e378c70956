//! Which weights matter, and how do the others make up for the rest? By the curvature of the loss.

use crate::{
    Criterion, CriterionError, Cut, Fisher, Layer, Needs, hessian::cholesky, wanda::by_place,
};
use candle_core::Tensor;
use faer::{
    Mat, Par,
    linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place},
};
use rayon::prelude::*;
use secateur_mask::{Pattern, Sparsity};

/// Optimal brain surgery (Hassibi & Stork 1993) with the empirical Fisher matrix for the Hessian, in
/// blocks along its diagonal (Singh & Alistarh 2020; Kurtic et al. 2022). Score `w² / (2 [F⁻¹]_qq)`.
///
/// The survivors of a block make up for all that is cut from it at once: with Q what is cut,
/// `δw = −F⁻¹_{:,Q} ([F⁻¹]_QQ)⁻¹ w_Q`. For one weight that is `−w_q F⁻¹e_q / [F⁻¹]_qq`; for several it
/// is where cutting them one after the other, each with its update, ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Obs;

impl Criterion for Obs {
    fn name(&self) -> &str {
        "obs"
    }

    fn needs(&self) -> Needs {
        Needs::SAMPLE_GRADIENTS
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        let (fisher, (_, cols)) = (layer.fisher()?, layer.matrix());
        by_place(layer, |w, row, col| w * w / (2.0 * fisher.diagonal(row * cols + col)))
    }

    fn prune(
        &self,
        layer: &Layer<'_>,
        pattern: Pattern,
        amount: Sparsity,
    ) -> Result<Cut, CriterionError> {
        let scores = self.checked_scores(layer)?;
        let mask = pattern.select(scores, amount).map_err(CriterionError::at(layer.name()))?;
        let mut weight = layer.values()?;
        let size = Fisher::block();
        let blocks: Vec<(usize, &[f64])> = layer.fisher()?.blocks().collect();
        weight.par_chunks_mut(size).zip(blocks).try_for_each(|(weight, (start, inverse))| {
            let cut: Vec<usize> =
                (0..weight.len()).filter(|i| mask.get(start + i) == Some(false)).collect();
            make_up(weight, &cut, |i, j| inverse[i * size + j]).map_err(|()| {
                CriterionError::NotPositiveDefinite { layer: layer.name().to_owned() }
            })
        })?;
        Ok(Cut { mask, weight: Some(layer.tensor(weight)?) })
    }
}

/// Sets `weight` at `cut` to zero and updates the rest: `w −= F⁻¹_{:,Q} ([F⁻¹]_QQ)⁻¹ w_Q`.
fn make_up(
    weight: &mut [f64],
    cut: &[usize],
    inverse: impl Fn(usize, usize) -> f64,
) -> Result<(), ()> {
    let mut factor = Mat::from_fn(cut.len(), cut.len(), |i, j| inverse(cut[i], cut[j]));
    cholesky(factor.as_mut(), Par::Seq)?;
    let mut solution = Mat::from_fn(cut.len(), 1, |i, _| weight[cut[i]]);
    solve_lower_triangular_in_place(factor.as_ref(), solution.as_mut(), Par::Seq);
    solve_upper_triangular_in_place(factor.transpose(), solution.as_mut(), Par::Seq);
    for (i, w) in weight.iter_mut().enumerate() {
        *w -= cut.iter().enumerate().map(|(q, &j)| inverse(i, j) * solution[(q, 0)]).sum::<f64>();
    }
    cut.iter().for_each(|&i| weight[i] = 0.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Statistics;
    use candle_core::Device;

    #[test]
    fn the_score_weighs_by_curvature_and_the_survivor_makes_up() {
        // g = ±(1, 1): only the sum of the two weights matters to the loss.
        let weight = Tensor::new(&[1_f32, 2., 3.], &Device::Cpu).unwrap();
        let mut fisher = Fisher::new(3, 2);
        for sign in [1_f32, -1.] {
            let gradient = Tensor::new(&[sign, sign, 0.], &Device::Cpu).unwrap();
            fisher.update(&gradient).unwrap();
        }
        let statistics = Statistics { fisher: Some(fisher), ..Statistics::default() };
        let layer = Layer::new("w", &weight).with_statistics(Some(&statistics));
        let third = Sparsity::new(1. / 3.).unwrap();
        let cut = Obs.prune(&layer, Pattern::Unstructured, third).unwrap();
        // One of the first two can make up for the other, so the smaller of them goes first.
        assert_eq!(cut.mask.to_string(), "011");
        let survivors = cut.weight.unwrap().to_vec1::<f32>().unwrap();
        assert!((survivors[1] - 3.0).abs() < 1e-3, "{survivors:?}"); // 2 + 1
        assert_eq!((survivors[0], survivors[2]), (0.0, 3.0));
    }
}
