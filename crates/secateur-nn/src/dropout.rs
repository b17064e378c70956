//! How are units dropped reproducibly? By a stream of each step's own (Srivastava et al. 2014).
//!
//! What is dropped follows from seed, purpose and step alone, so that a run that was interrupted goes on
//! as if it had not been, and no state has to be kept. Dropout and ReLU are one pass each way: written as
//! tensor expressions they would be eight.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, bail,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use secateur_criteria::seed;
use std::sync::Arc;

/// Zeroes each number with a probability and scales the rest up, so that the expectation stays.
#[derive(Debug, Clone)]
pub struct Dropout {
    /// How many of 2¹⁶ equally likely draws drop a number.
    dropping: u16,
    scale: f32,
    seed: u64,
    purpose: String,
    stream: ChaCha8Rng,
}

/// The probabilities are multiples of one in this many.
const DRAWS: f64 = 65_536.0;

impl Dropout {
    /// Drops with `probability`, clamped to `0..=0.99` and rounded to a multiple of 2⁻¹⁶, as in the
    /// first step (0) of a run with this `seed`.
    pub fn new(probability: f64, seed: u64, purpose: &str) -> Self {
        let dropping = (probability.clamp(0.0, 0.99) * DRAWS).round();
        let stream = stream(seed, purpose, 0);
        let scale = (DRAWS / (DRAWS - dropping)) as f32;
        Self { dropping: dropping as u16, scale, seed, purpose: purpose.to_owned(), stream }
    }

    /// Goes to training step `step`, to be called before each: what is dropped from then on depends on
    /// seed, purpose and step, not on what was dropped before.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use secateur_nn::Dropout;
    ///
    /// let xs = Tensor::ones(100, DType::F32, &Device::Cpu)?;
    /// let mut dropout = Dropout::new(0.5, 7, "train");
    /// dropout.at(3);
    /// let dropped = dropout.forward(&xs)?.to_vec1::<f32>()?;
    /// dropout.at(3);
    /// assert_eq!(dropout.forward(&xs)?.to_vec1::<f32>()?, dropped);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn at(&mut self, step: u64) {
        self.stream = stream(self.seed, &self.purpose, step);
    }

    /// Drops from `xs`; with probability zero it returns `xs` as it is.
    pub fn forward(&mut self, xs: &Tensor) -> Result<Tensor> {
        if self.dropping == 0 {
            return Ok(xs.clone());
        }
        let drop = self.draw(xs.elem_count());
        if simple(xs) {
            return xs.contiguous()?.apply_op1(drop);
        }
        let ones = Tensor::ones(xs.shape(), DType::F32, &Device::Cpu)?;
        let factors = ones.apply_op1_no_bwd(&drop)?;
        xs * factors.to_dtype(xs.dtype())?.to_device(xs.device())?
    }

    /// The same after a ReLU: `forward(max(xs, 0))`, in one pass. The gradient at zero is zero, as in
    /// PyTorch.
    pub fn relu(&mut self, xs: &Tensor) -> Result<Tensor> {
        if !simple(xs) {
            return self.forward(&xs.relu()?);
        }
        let count = if self.dropping == 0 { 0 } else { xs.elem_count() };
        xs.contiguous()?.apply_op1(DropRelu(self.draw(count)))
    }

    /// Decides about `count` numbers: by a byte each, and where that says "perhaps", one time in 256,
    /// by another.
    fn draw(&mut self, count: usize) -> Drop {
        let [most, rest] = self.dropping.to_be_bytes();
        let mut draws = vec![0; count];
        self.stream.fill_bytes(&mut draws);
        for draws in draws.chunks_mut(64) {
            if draws.iter().fold(false, |found, draw| found | (*draw == most)) {
                for draw in draws.iter_mut().filter(|draw| **draw == most) {
                    // `most` is at most 253: the probability is.
                    let drops = (self.stream.next_u32() as u8) < rest;
                    *draw = if drops { most } else { u8::MAX };
                }
            }
        }
        Drop { draws: draws.into(), most, scale: self.scale }
    }
}

fn stream(seed: u64, purpose: &str, step: u64) -> ChaCha8Rng {
    seed::stream(seed, &format!("dropout/{purpose}/{step}"))
}

/// Whether there is an operation of ours for it.
fn simple(xs: &Tensor) -> bool {
    xs.device().is_cpu() && xs.dtype() == DType::F32
}

/// Zeroes the numbers whose draw is at most `most`, and scales the rest.
#[derive(Debug, Clone)]
struct Drop {
    draws: Arc<[u8]>,
    most: u8,
    scale: f32,
}

impl CustomOp1 for Drop {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (xs, Self { draws, most, scale }) = (slice(xs, layout)?, self);
        let ys =
            xs.iter().zip(&**draws).map(|(&x, &draw)| if draw > *most { x * scale } else { 0.0 });
        Ok((CpuStorage::F32(ys.collect()), layout.shape().clone()))
    }

    /// What was dropped has no gradient, and the rest is scaled: the same operation again.
    fn bwd(&self, _: &Tensor, _: &Tensor, slope: &Tensor) -> Result<Option<Tensor>> {
        slope.contiguous()?.apply_op1_no_bwd(self).map(Some)
    }
}

/// The same of what is above zero; without draws nothing is dropped.
#[derive(Debug)]
struct DropRelu(Drop);

impl CustomOp1 for DropRelu {
    fn name(&self) -> &'static str {
        "relu-dropout"
    }

    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (xs, Drop { draws, most, scale }) = (slice(xs, layout)?, &self.0);
        let ys = if draws.is_empty() {
            xs.iter().map(|x| x.max(0.0)).collect()
        } else {
            let ys = xs.iter().zip(&**draws);
            ys.map(|(&x, &draw)| if draw > *most { x.max(0.0) * scale } else { 0.0 }).collect()
        };
        Ok((CpuStorage::F32(ys), layout.shape().clone()))
    }

    /// A result is above zero just where its input was and stayed.
    fn bwd(&self, _: &Tensor, ys: &Tensor, slope: &Tensor) -> Result<Option<Tensor>> {
        ys.apply_op2_no_bwd(&slope.contiguous()?, &Gate(self.0.scale)).map(Some)
    }
}

/// `scale · slope` where `y` is above zero.
struct Gate(f32);

impl CustomOp2 for Gate {
    fn name(&self) -> &'static str {
        "relu-dropout-gradient"
    }

    fn cpu_fwd(
        &self,
        ys: &CpuStorage,
        ys_layout: &Layout,
        slopes: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (ys, slopes) = (slice(ys, ys_layout)?, slice(slopes, layout)?);
        let gated = ys.iter().zip(slopes).map(|(&y, &s)| if y > 0.0 { s * self.0 } else { 0.0 });
        Ok((CpuStorage::F32(gated.collect()), layout.shape().clone()))
    }
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("dropout wants contiguous numbers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.to_dtype(DType::F32).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn drops_the_share_it_should_and_keeps_the_mean() {
        let xs = Tensor::ones(1_000_000, DType::F32, &Device::Cpu).unwrap();
        // The last three have bytes below one in 256, or just beside it: the second byte decides.
        for probability in [0.3, 0.99, 0.4, 0.001, 1.0 / 256.0, 1.5 / 256.0] {
            let ys = values(&Dropout::new(probability, 1, "test").forward(&xs).unwrap());
            let dropped = ys.iter().filter(|y| **y == 0.0).count() as f64 / 1e6;
            let spread = (probability * (1.0 - probability) / 1e6).sqrt();
            assert!((dropped - probability).abs() < 4.0 * spread + 8e-6, "{dropped}");
            let mean = ys.iter().map(|y| f64::from(*y)).sum::<f64>() / 1e6;
            assert!((mean - 1.0).abs() < 4.0 * spread / (1.0 - probability) + 1e-3, "{mean}");
        }
    }

    #[test]
    fn a_step_drops_the_same_whatever_came_before() {
        let xs = Tensor::ones(1000, DType::F32, &Device::Cpu).unwrap();
        let mut dropout = Dropout::new(0.3, 1, "test");
        let first = values(&dropout.forward(&xs).unwrap());
        let more = values(&dropout.forward(&xs).unwrap());
        assert_ne!(first, more);
        dropout.at(1);
        assert_ne!(values(&dropout.forward(&xs).unwrap()), first);
        dropout.at(0);
        assert_eq!(values(&dropout.forward(&xs).unwrap()), first);
        assert_eq!(values(&dropout.forward(&xs).unwrap()), more);
        // f64 goes another way, and drops the same.
        dropout.at(0);
        assert_eq!(values(&dropout.forward(&xs.to_dtype(DType::F64).unwrap()).unwrap()), first);
    }

    /// Against candle's own ReLU (whose gradient at zero is one, so there is no zero), times the factors that dropout has for ones.
    #[test]
    fn outputs_and_gradients_are_those_of_the_expressions() {
        let xs: Vec<f32> = (1..300).map(|i| (i as f32 * 0.7).sin()).collect();
        let slope: Vec<f32> = (1..300).map(|i| (i as f32 * 0.3).cos()).collect();
        let slope = Tensor::new(slope, &Device::Cpu).unwrap();
        let xs = Var::new(xs, &Device::Cpu).unwrap();
        for probability in [0.0, 0.4] {
            let mut dropout = Dropout::new(probability, 3, "test");
            let factors = dropout.forward(&xs.ones_like().unwrap()).unwrap();
            let both = |ys: Tensor| {
                let loss = (&ys * &slope).unwrap().sum_all().unwrap();
                (values(&ys), values(loss.backward().unwrap().get(&xs).unwrap()))
            };
            dropout.at(0);
            let found = both(dropout.forward(&xs).unwrap());
            assert_eq!(found, both((xs.as_tensor() * &factors).unwrap()));
            dropout.at(0);
            let found = both(dropout.relu(&xs).unwrap());
            assert_eq!(found, both((xs.relu().unwrap() * &factors).unwrap()));
        }
    }
}
