//! How does a fully connected layer learn? Its weight's gradient comes out in the weight's own layout.
//!
//! candle differentiates `x · Wᵀ` into a transposed view that it adds up and optimizers copy, both number by
//! number.

use super::{Matrix, is_ours, is_tracked, slice, with_slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};

/// `x · Wᵀ + b`: activations `[.., in]`, weight `[out, in]` and bias `[out]` to `[.., out]`.
pub(crate) fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if !is_ours(xs) {
        let ys = xs.broadcast_matmul(&weight.t()?)?;
        return match bias {
            Some(bias) => ys.broadcast_add(bias),
            None => Ok(ys),
        };
    }
    let none = Tensor::zeros(weight.dim(0)?, weight.dtype(), weight.device());
    let bias = bias.cloned().map_or(none, Ok)?;
    let op = Linear { through: is_tracked(xs) };
    xs.contiguous()?.apply_op3(&weight.contiguous()?, &bias, op)
}

struct Linear {
    /// Whether the activations' gradient is wanted.
    through: bool,
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        let (outputs, inputs) = weight_at.shape().dims2()?;
        let mut dims = xs_at.dims().to_vec();
        match dims.last_mut() {
            Some(last) if *last == inputs => *last = outputs,
            _ => bail!("a layer of {inputs} inputs got activations {dims:?}"),
        }
        let tokens = dims[..dims.len() - 1].iter().product();
        let x = Matrix::new(xs, tokens, inputs, xs_at.start_offset());
        let weight = Matrix::new(weight, outputs, inputs, weight_at.start_offset());
        let mut ys = x.times(&weight.transposed()?)?;
        let bias = slice(bias, bias_at)?;
        for row in ys.chunks_exact_mut(outputs.max(1)) {
            row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
        }
        Ok((CpuStorage::F32(ys), Shape::from(dims)))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let ((outputs, inputs), device) = (weight.dims2()?, xs.device());
        let tokens = gradient.elem_count() / outputs.max(1);
        let gradient = gradient.contiguous()?;
        let mut of_bias = vec![0.0; outputs];
        with_slice(&gradient, |gradient| {
            for row in gradient.chunks_exact(outputs.max(1)) {
                of_bias.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
            }
            Ok(())
        })?;
        let (g, g_at) = gradient.storage_and_layout();
        let (x, x_at) = xs.storage_and_layout();
        let (w, w_at) = weight.storage_and_layout();
        let (Storage::Cpu(g), Storage::Cpu(x), Storage::Cpu(w)) = (&*g, &*x, &*w) else {
            bail!("a custom operation needs tensors in main memory")
        };
        let g = || Matrix::new(g, tokens, outputs, g_at.start_offset());
        let of_weight =
            g().transposed()?.times(&Matrix::new(x, tokens, inputs, x_at.start_offset()))?;
        let of_weight = Tensor::from_vec(of_weight, (outputs, inputs), device)?;
        let of_xs = if self.through {
            let product = g().times(&Matrix::new(w, outputs, inputs, w_at.start_offset()))?;
            Some(Tensor::from_vec(product, xs.shape(), device)?)
        } else {
            None
        };
        Ok((of_xs, Some(of_weight), Some(Tensor::from_vec(of_bias, outputs, device)?)))
    }
}
