//! How does a batch normalisation learn, through the statistics of the batch too?
//!
//! With x̂ = (x − mean) / √(var + ε) over the N numbers of a channel, the gradient of x is
//! γ / √(var + ε) · (g − Σg / N − x̂ · Σ(g · x̂) / N) (Ioffe & Szegedy 2015, section 3). candle's reductions over
//! batch and pixels go number by number; these go plane by plane.

use super::{is_ours, slice, sum, sum_of, with_slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

/// Images `[batch, channels, height, width]` normalised over all but the channels, times `weight` and plus
/// `bias` `[channels]`; also the mean and the (biased) variance that were found, `[channels]`.
pub(crate) fn batch_norm(
    xs: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    epsilon: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (_, channels, high, wide) = xs.dims4()?;
    if !is_ours(xs) {
        return by_candle(xs, weight, bias, epsilon);
    }
    let xs = xs.contiguous()?;
    let (mean, variance) = with_slice(&xs, |xs| Ok(statistics(xs, channels, high * wide)))?;
    let inverse = variance.iter().map(|var| (1.0 / (f64::from(*var) + epsilon).sqrt()) as f32);
    let op = BatchNorm { mean: mean.clone(), inverse: inverse.collect() };
    let ys = xs.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?;
    let tensor = |values| Tensor::from_vec(values, channels, ys.device());
    Ok((ys.clone(), tensor(mean)?, tensor(variance)?))
}

/// The same of plain expressions, for other devices and dtypes.
pub(super) fn by_candle(
    xs: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    epsilon: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let channel = |of: &Tensor| of.reshape((1, (), 1, 1));
    let mean = xs.mean_keepdim((0, 2, 3))?;
    let centred = xs.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim((0, 2, 3))?;
    let normal = centred.broadcast_div(&(&variance + epsilon)?.sqrt()?)?;
    let ys = normal.broadcast_mul(&channel(weight)?)?.broadcast_add(&channel(bias)?)?;
    Ok((ys, mean.flatten_all()?.detach(), variance.flatten_all()?.detach()))
}

/// Mean and biased variance of each channel.
fn statistics(xs: &[f32], channels: usize, pixels: usize) -> (Vec<f32>, Vec<f32>) {
    let count = (xs.len() / channels.max(1)) as f64;
    (0..channels)
        .map(|channel| {
            let total: f64 = planes(xs, channel, channels, pixels).map(|x| f64::from(sum(x))).sum();
            let mean = (total / count) as f32;
            let square = |x, _| (x - mean) * (x - mean);
            let squares = planes(xs, channel, channels, pixels).map(|x| sum_of(x, x, square));
            (mean, (squares.map(f64::from).sum::<f64>() / count) as f32)
        })
        .unzip()
}

/// What a channel has in each image.
fn planes(
    xs: &[f32],
    channel: usize,
    channels: usize,
    pixels: usize,
) -> impl Iterator<Item = &[f32]> {
    xs.chunks_exact(pixels.max(1)).skip(channel).step_by(channels)
}

struct BatchNorm {
    mean: Vec<f32>,
    /// One over the standard deviation.
    inverse: Vec<f32>,
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_at: &Layout,
        weight: &CpuStorage,
        weight_at: &Layout,
        bias: &CpuStorage,
        bias_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, channels, high, wide) = xs_at.shape().dims4()?;
        let (weight, bias) = (slice(weight, weight_at)?, slice(bias, bias_at)?);
        let mut ys = slice(xs, xs_at)?.to_vec();
        for (at, plane) in ys.chunks_exact_mut((high * wide).max(1)).enumerate() {
            let channel = at % channels;
            let (mean, bias) = (self.mean[channel], bias[channel]);
            let scale = weight[channel] * self.inverse[channel];
            plane.iter_mut().for_each(|x| *x = (*x - mean) * scale + bias);
        }
        Ok((CpuStorage::F32(ys), xs_at.shape().clone()))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let ((_, channels, high, wide), device) = (xs.dims4()?, xs.device());
        let (pixels, count) = (high * wide, (xs.elem_count() / channels.max(1)) as f64);
        let (gradient, weights) = (gradient.contiguous()?, weight.to_vec1::<f32>()?);
        let (mut of_weight, mut of_bias) = (Vec::new(), Vec::new());
        let mut of_xs = vec![0.0; xs.elem_count()];
        with_slice(xs, |xs| {
            with_slice(&gradient, |gradient| {
                for channel in 0..channels {
                    let (mean, inverse) = (self.mean[channel], self.inverse[channel]);
                    let (mut of_one, mut of_normal) = (0.0, 0.0);
                    let xs_of = planes(xs, channel, channels, pixels);
                    for (x, g) in xs_of.zip(planes(gradient, channel, channels, pixels)) {
                        of_one += f64::from(sum(g));
                        of_normal += f64::from(sum_of(x, g, |x, g| (x - mean) * inverse * g));
                    }
                    of_bias.push(of_one as f32);
                    of_weight.push(of_normal as f32);
                }
                let to = of_xs.chunks_exact_mut(pixels.max(1));
                let from = xs.chunks_exact(pixels.max(1)).zip(gradient.chunks_exact(pixels.max(1)));
                for (at, (to, (x, g))) in to.zip(from).enumerate() {
                    let channel = at % channels;
                    let (mean, inverse) = (self.mean[channel], self.inverse[channel]);
                    let of_one = (f64::from(of_bias[channel]) / count) as f32;
                    let of_normal = (f64::from(of_weight[channel]) / count) as f32;
                    let scale = weights[channel] * inverse;
                    for ((to, x), g) in to.iter_mut().zip(x).zip(g) {
                        *to = scale * (g - of_one - (x - mean) * inverse * of_normal);
                    }
                }
                Ok(())
            })
        })?;
        let tensor = |values| Tensor::from_vec(values, channels, device);
        let of_xs = Tensor::from_vec(of_xs, xs.shape(), device)?;
        Ok((Some(of_xs), Some(tensor(of_weight)?), Some(tensor(of_bias)?)))
    }
}
