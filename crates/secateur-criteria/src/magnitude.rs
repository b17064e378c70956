//! Which weights matter? The large ones (Han et al. 2015, section 3).

use crate::{Criterion, CriterionError, Layer};
use candle_core::{DType, Tensor};

/// Score `|w|`. Over blocks and channels the pattern averages it: they rank by their L1 norm (Li et
/// al. 2017 for filters).
#[derive(Debug, Clone, Copy, Default)]
pub struct Magnitude;

impl Criterion for Magnitude {
    fn name(&self) -> &str {
        "magnitude"
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        Ok(layer.weight().abs()?)
    }
}

/// Score `w²`. Over blocks and channels the pattern averages it: they rank by their L2 norm. Single
/// weights rank as under [`Magnitude`], as long as their squares are f32 numbers (from about 1e-19 to
/// 1e19).
#[derive(Debug, Clone, Copy, Default)]
pub struct MagnitudeL2;

impl Criterion for MagnitudeL2 {
    fn name(&self) -> &str {
        "magnitude-l2"
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        Ok(layer.weight().to_dtype(DType::F64)?.sqr()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use secateur_mask::Sparsity;

    #[test]
    fn the_score_is_the_absolute_value() {
        let weight = Tensor::new(&[-3_f32, 0.5, -0., 2.], &Device::Cpu).unwrap();
        let score = Magnitude.score(&Layer::new("w", &weight)).unwrap();
        assert_eq!(score.to_vec1::<f32>().unwrap(), [3., 0.5, 0., 2.]);
    }

    #[test]
    fn norms_of_rows_differ_in_what_one_large_weight_is_worth() {
        let weight = Tensor::new(&[[3_f32, 0.], [2., 2.]], &Device::Cpu).unwrap();
        let (layer, half) = (Layer::new("w", &weight), Sparsity::new(0.5).unwrap());
        let kept = |criterion: &dyn Criterion| {
            let pattern = "channel".parse().unwrap();
            criterion.prune(&layer, pattern, half).unwrap().mask.to_string()
        };
        assert_eq!(kept(&Magnitude), "00\n11"); // 3 < 4
        assert_eq!(kept(&MagnitudeL2), "11\n00"); // 9 > 8
    }
}
