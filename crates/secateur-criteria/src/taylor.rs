//! Which weights matter? Those whose removal changes the loss most, to first order.

use crate::{Criterion, CriterionError, Layer, Needs, snip::weight_times};
use candle_core::Tensor;

/// Score `|w · g|`, the first-order Taylor expansion of the loss around a trained network
/// (Molchanov et al. 2019, equation 8 without the square).
///
/// The same product as [`Snip`](crate::Snip), asked at another time: g is the gradient after
/// training. Over blocks and channels the pattern averages it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taylor;

impl Criterion for Taylor {
    fn name(&self) -> &str {
        "taylor"
    }

    fn needs(&self) -> Needs {
        Needs::GRADIENT
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        Ok(weight_times(layer, layer.gradient()?)?.abs()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Statistics;
    use candle_core::Device;

    #[test]
    fn a_large_weight_without_gradient_goes() {
        let weight = Tensor::new(&[8_f32, -2.], &Device::Cpu).unwrap();
        let gradient = Tensor::new(&[0_f32, 0.25], &Device::Cpu).unwrap();
        let statistics = Statistics { gradient: Some(gradient), ..Statistics::default() };
        let layer = Layer::new("w", &weight).with_statistics(Some(&statistics));
        assert_eq!(Taylor.score(&layer).unwrap().to_vec1::<f64>().unwrap(), [0., 0.5]);
    }
}
