//! Which weights matter? The large ones that meet large inputs (Sun et al. 2023, "Wanda").

use crate::{Criterion, CriterionError, Cut, Layer, Needs};
use candle_core::Tensor;
use secateur_mask::{Pattern, Sparsity};

/// Score `|W_ij| · ‖X_j‖₂`, the norm over all calibration tokens.
///
/// Weights compete within an output row: an unstructured share is cut from each row alike, and counts
/// are rounded there. So an allocation's total is met to half a weight per row, not exactly.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanda;

impl Criterion for Wanda {
    fn name(&self) -> &str {
        "wanda"
    }

    fn needs(&self) -> Needs {
        Needs::INPUT_NORMS
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        let norms = layer.input_norms()?;
        by_place(layer, |w, _, col| w.abs() * norms[col])
    }

    fn prune(
        &self,
        layer: &Layer<'_>,
        pattern: Pattern,
        amount: Sparsity,
    ) -> Result<Cut, CriterionError> {
        let pattern = match pattern {
            Pattern::Unstructured => Pattern::UnstructuredRow,
            other => other,
        };
        let scores = self.checked_scores(layer)?;
        let mask = pattern.select(scores, amount).map_err(CriterionError::at(layer.name()))?;
        Ok(Cut { mask, weight: None })
    }
}

/// A score of each weight in its row and column, in f64 and in the weight's shape.
pub(crate) fn by_place(
    layer: &Layer<'_>,
    score: impl Fn(f64, usize, usize) -> f64,
) -> Result<Tensor, CriterionError> {
    let (_, cols) = layer.matrix();
    let values = layer.values()?.into_iter().enumerate();
    let values = values.map(|(i, w)| score(w, i / cols, i % cols)).collect();
    Ok(Tensor::from_vec::<_, f64>(values, layer.weight().shape(), layer.weight().device())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InputNorms, Statistics};
    use candle_core::Device;

    #[test]
    fn a_small_weight_on_a_large_input_is_kept_and_rows_lose_alike() {
        let weight = Tensor::new(&[[3_f32, -1.], [30., 20.]], &Device::Cpu).unwrap();
        let mut norms = InputNorms::new(2);
        norms.update(&Tensor::new(&[[1_f32, 4.], [0., 3.]], &Device::Cpu).unwrap()).unwrap();
        let statistics = Statistics { input_norms: Some(norms), ..Statistics::default() };
        let layer = Layer::new("w", &weight).with_statistics(Some(&statistics));
        let score = Wanda.score(&layer).unwrap();
        assert_eq!(score.to_vec2::<f64>().unwrap(), [[3., 5.], [30., 100.]]);
        let half = Sparsity::new(0.5).unwrap();
        let cut = Wanda.prune(&layer, Pattern::Unstructured, half).unwrap();
        assert_eq!(cut.mask.to_string(), "01\n01");
        let error = Wanda.score(&Layer::new("w", &weight)).unwrap_err().to_string();
        assert!(error.contains("layer w: the criterion needs the norms of its inputs"), "{error}");
    }
}
