//! Which weights matter? None more than another: the control that every criterion must beat.

use crate::{Criterion, CriterionError, Layer, seed};
use candle_core::Tensor;
use rand::RngExt;

/// Scores drawn uniformly from `[0, 1)`, from a stream of their own per layer name.
#[derive(Debug, Clone, Copy)]
pub struct Random {
    /// Equal seeds give equal scores.
    pub seed: u64,
}

impl Criterion for Random {
    fn name(&self) -> &str {
        "random"
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        let mut stream = seed::stream(self.seed, &format!("criterion/random/{}", layer.name()));
        let scores: Vec<f32> =
            (0..layer.weight().elem_count()).map(|_| stream.random::<f32>()).collect();
        Ok(Tensor::from_vec(scores, layer.weight().shape(), layer.weight().device())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn equal_seeds_and_names_give_equal_scores() {
        let weight = Tensor::zeros((4, 4), DType::F32, &Device::Cpu).unwrap();
        let scores = |seed, name: &str| {
            let score = Random { seed }.score(&Layer::new(name, &weight)).unwrap();
            score.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(scores(1, "a"), scores(1, "a"));
        assert_ne!(scores(1, "a"), scores(2, "a"));
        assert_ne!(scores(1, "a"), scores(1, "b"));
    }
}
