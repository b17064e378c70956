//! How does a fully connected layer compute while it trains? As one candle operation with its own gradients.
//!
//! Written as tensor expressions, `x · Wᵀ + b` computes a gradient for inputs that nobody trains, the
//! weight's as `[in, out]`, which the optimizer must then copy, and the bias's by index arithmetic.

use candle_core::{
    CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, backend::BackendStorage, bail,
};

/// `x · Wᵀ + b` of `x` `[.., in]`, `W` `[out, in]` and `b` `[out]`.
pub(crate) fn affine(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let simple = |t: &Tensor| t.device().is_cpu() && t.dtype() == DType::F32;
    match bias {
        Some(bias) if xs.rank() == 2 && [xs, weight, bias].into_iter().all(simple) => {
            xs.apply_op3(weight, bias, Affine)
        }
        _ => {
            let ys = match xs.rank() {
                2 => xs.matmul(&weight.t()?)?,
                _ => xs.broadcast_matmul(&weight.t()?)?,
            };
            bias.map_or(Ok(ys.clone()), |bias| ys.broadcast_add(bias))
        }
    }
}

struct Affine;

impl CustomOp3 for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, features) = xs_layout.shape().dims2()?;
        let (outputs, inputs) = weight_layout.shape().dims2()?;
        // Here, since candle's storage takes the sizes it is told.
        if features != inputs || bias_layout.dims() != [outputs] {
            let (xs, bias) = (xs_layout.shape(), bias_layout.shape());
            bail!("inputs {xs:?} and bias {bias:?} do not fit a weight of {outputs} x {inputs}");
        }
        let Some((start, end)) = bias_layout.contiguous_offsets() else {
            bail!("a bias is contiguous");
        };
        let bias = &bias.as_slice::<f32>()?[start..end];
        let turned = weight_layout.transpose(0, 1)?;
        let mut ys = xs.matmul(weight, (1, batch, outputs, inputs), xs_layout, &turned)?;
        if let CpuStorage::F32(ys) = &mut ys {
            for ys in ys.chunks_exact_mut(outputs.max(1)) {
                ys.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        }
        Ok((ys, (batch, outputs).into()))
    }

    /// `dX = dY · W` if somebody wants it, `dW = dYᵀ · X`, `db` the sum of `dY` over the batch.
    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        slope: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let inputs = xs.track_op().then(|| slope.matmul(weight)).transpose()?;
        let ones = Tensor::ones((1, slope.dim(0)?), slope.dtype(), slope.device())?;
        let bias = ones.matmul(slope)?.squeeze(0)?;
        Ok((inputs, Some(slope.t()?.matmul(xs)?), Some(bias)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Against the expressions, outputs and all gradients, whatever the inputs' strides.
    #[test]
    fn is_what_candle_computes_with_its_gradients() {
        let rand = |shape: &[usize]| Tensor::rand(-1_f32, 1.0, shape, &Device::Cpu).unwrap();
        let var = |shape| Var::from_tensor(&rand(shape)).unwrap();
        let (weight, bias, inputs) = (var(&[5, 7]), var(&[5]), var(&[7, 4]));
        let (xs, slope) = (inputs.t().unwrap(), rand(&[4, 5]));
        let all = |ys: Tensor| {
            let store = (&ys * &slope).unwrap().sum_all().unwrap().backward().unwrap();
            let gradient = |var: &Var| store.get(var).unwrap();
            assert!(gradient(&bias).is_contiguous());
            [
                values(&ys),
                values(gradient(&weight)),
                values(gradient(&bias)),
                values(gradient(&inputs)),
            ]
        };
        let expected = xs.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
        let (found, expected) = (all(affine(&xs, &weight, Some(&bias)).unwrap()), all(expected));
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn the_weights_gradient_is_contiguous_and_untracked_inputs_have_none() {
        let var = |shape: &[usize]| Var::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let (weight, bias) = (var(&[3, 2]), var(&[3]));
        let xs = Tensor::ones((4, 2), DType::F32, &Device::Cpu).unwrap();
        let ys = affine(&xs, &weight, Some(&bias)).unwrap();
        let store = ys.sum_all().unwrap().backward().unwrap();
        assert!(store.get(&weight).unwrap().is_contiguous());
        assert!(store.get(&xs).is_none());
        for (xs, bias) in [((4, 3), 3), ((4, 2), 2)] {
            let xs = Tensor::ones(xs, DType::F32, &Device::Cpu).unwrap();
            assert!(affine(&xs, &weight, Some(&var(&[bias]))).is_err());
        }
    }
}
