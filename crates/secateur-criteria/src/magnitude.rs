//! Which weights matter? The large ones (Han et al. 2015, section 3).

use crate::{Criterion, CriterionError, Layer};
use candle_core::Tensor;

/// Score `|w|`. Over blocks and channels the pattern averages it, which is their L1 norm.
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_score_is_the_absolute_value() {
        let weight = Tensor::new(&[-3_f32, 0.5, -0., 2.], &Device::Cpu).unwrap();
        let score = Magnitude.score(&Layer::new("w", &weight)).unwrap();
        assert_eq!(score.to_vec1::<f32>().unwrap(), [3., 0.5, 0., 2.]);
    }
}
