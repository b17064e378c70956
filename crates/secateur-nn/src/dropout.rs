//! How are units dropped reproducibly? By a seeded stream (Srivastava et al. 2014).

use candle_core::Tensor;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use secateur_criteria::seed;

/// Zeroes each number with a probability and scales the rest up, so that the expectation stays.
#[derive(Debug, Clone)]
pub struct Dropout {
    probability: f32,
    stream: ChaCha8Rng,
    seed: u64,
    purpose: String,
}

impl Dropout {
    /// Drops with `probability` (clamped to `0..=0.99`), from a stream of its own.
    pub fn new(probability: f64, seed: u64, purpose: &str) -> Self {
        Self {
            probability: probability.clamp(0.0, 0.99) as f32,
            stream: seed::stream(seed, &format!("dropout/{purpose}/0")),
            seed,
            purpose: purpose.to_owned(),
        }
    }

    /// Goes to the stream of training step `step`.
    pub fn at(&mut self, step: u64) {
        self.stream = seed::stream(self.seed, &format!("dropout/{}/{step}", self.purpose));
    }

    /// Drops from `xs`; with probability zero it returns `xs` as it is.
    pub fn forward(&mut self, xs: &Tensor) -> candle_core::Result<Tensor> {
        if self.probability <= 0.0 {
            return Ok(xs.clone());
        }
        let threshold = (f64::from(self.probability) * f64::from(u32::MAX)) as u32;
        let scale = 1.0 / (1.0 - self.probability);
        let factors: Vec<f32> = (0..xs.elem_count())
            .map(|_| if self.stream.next_u32() < threshold { 0.0 } else { scale })
            .collect();
        xs * Tensor::from_vec(factors, xs.shape(), xs.device())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn drops_the_share_it_should_and_keeps_the_mean() {
        let xs = Tensor::ones(10_000, DType::F32, &Device::Cpu).unwrap();
        let ys = Dropout::new(0.3, 1, "test").forward(&xs).unwrap().to_vec1::<f32>().unwrap();
        let dropped = ys.iter().filter(|y| **y == 0.0).count();
        assert!((2800..3200).contains(&dropped), "{dropped}");
        let mean = ys.iter().sum::<f32>() / 10_000.0;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        let again = Dropout::new(0.3, 1, "test").forward(&xs).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(ys, again);
    }
}
