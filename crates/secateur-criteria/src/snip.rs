//! Which weights matter? Those whose removal the loss would feel first (Lee et al. 2019, "SNIP").

use crate::{Criterion, CriterionError, Layer, Needs};
use candle_core::{DType, Tensor};

/// Score `|g ⊙ w|`, meant for a network at initialisation and the
/// [`Global`](crate::Global) allocation.
///
/// The paper divides by the sum over the network, which changes no rank: it is left out, so that
/// layers can be scored one by one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snip;

impl Criterion for Snip {
    fn name(&self) -> &str {
        "snip"
    }

    fn needs(&self) -> Needs {
        Needs::GRADIENT
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        Ok(weight_times(layer, layer.gradient()?)?.abs()?)
    }
}

/// `w ⊙ other`, in f64.
pub(crate) fn weight_times(layer: &Layer<'_>, other: &Tensor) -> Result<Tensor, CriterionError> {
    Ok((layer.weight().to_dtype(DType::F64)? * other.to_dtype(DType::F64)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Statistics;
    use candle_core::Device;

    #[test]
    fn the_score_is_weight_times_gradient() {
        let weight = Tensor::new(&[1_f32, -2., 0., 4.], &Device::Cpu).unwrap();
        let gradient = Tensor::new(&[0.5_f32, 3., 9., -1.], &Device::Cpu).unwrap();
        let statistics = Statistics { gradient: Some(gradient), ..Statistics::default() };
        let layer = Layer::new("w", &weight).with_statistics(Some(&statistics));
        assert_eq!(Snip.score(&layer).unwrap().to_vec1::<f64>().unwrap(), [0.5, 6., 0., 4.]);
        assert!(matches!(
            Snip.score(&Layer::new("w", &weight)),
            Err(CriterionError::Missing { .. })
        ));
    }
}
