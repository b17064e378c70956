//! Which weights matter? Those that are large for their row and column (Zhang et al. 2024, "RIA").

use crate::{Criterion, CriterionError, Layer, Needs, wanda::by_place};
use candle_core::Tensor;

/// Score `(|W_ij| / Σ_i |W_ij| + |W_ij| / Σ_j |W_ij|) · ‖X_j‖₂^½`: relative importance and
/// activations.
///
/// So that no channel is cut off as a whole. A row or column of zeros has relative importance zero.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ria;

impl Criterion for Ria {
    fn name(&self) -> &str {
        "ria"
    }

    fn needs(&self) -> Needs {
        Needs::INPUT_NORMS
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        let norms = layer.input_norms()?;
        let (rows, cols) = layer.matrix();
        let (mut row_sums, mut column_sums) = (vec![0.0_f64; rows], vec![0.0_f64; cols]);
        let values = layer.values()?;
        for (index, w) in values.iter().enumerate() {
            row_sums[index / cols] += w.abs();
            column_sums[index % cols] += w.abs();
        }
        let share = |w: f64, sum: f64| if sum == 0.0 { 0.0 } else { w.abs() / sum };
        by_place(layer, |w, row, col| {
            (share(w, row_sums[row]) + share(w, column_sums[col])) * norms[col].sqrt()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InputNorms, Statistics};
    use candle_core::Device;

    #[test]
    fn importance_is_relative_to_row_and_column() {
        let weight = Tensor::new(&[[1_f32, 3.], [0., 0.]], &Device::Cpu).unwrap();
        let mut norms = InputNorms::new(2);
        norms.update(&Tensor::new(&[[16_f32, 1.]], &Device::Cpu).unwrap()).unwrap();
        let statistics = Statistics { input_norms: Some(norms), ..Statistics::default() };
        let layer = Layer::new("w", &weight).with_statistics(Some(&statistics));
        let score = Ria.score(&layer).unwrap().to_vec2::<f64>().unwrap();
        // (1/4 + 1/1) · √16 and (3/4 + 3/3) · √1; the row of zeros gets zeros, not NaN.
        assert_eq!(score, [[5., 1.75], [0., 0.]]);
    }
}
