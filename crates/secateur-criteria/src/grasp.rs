//! Which weights matter? Those that keep the gradient flowing (Wang et al. 2020, "GraSP").

use crate::{Criterion, CriterionError, Layer, Needs, snip::weight_times};
use candle_core::{Tensor, Var};

/// The temperature that the paper divides logits by, for a loss that is smooth at initialisation.
pub const TEMPERATURE: f64 = 200.0;

/// Score `θ ⊙ Hg`: what cutting the weight would take from the gradient's norm, meant for a network
/// at initialisation and the [`Global`](crate::Global) allocation.
///
/// The sign matters. Cutting δ = −θ changes gᵀg by −2·θᵀHg; the paper calls `−θ ⊙ Hg` the score and
/// removes the highest. Here the higher score is kept, so it is the same with the other sign. The
/// loss is that of logits divided by [`TEMPERATURE`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Grasp;

impl Criterion for Grasp {
    fn name(&self) -> &str {
        "grasp"
    }

    fn needs(&self) -> Needs {
        Needs::HESSIAN_GRADIENT
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        weight_times(layer, layer.hessian_gradient()?)
    }
}

/// How far the finite difference steps along the gradient, relative to the weights' norm.
const STEP: f64 = 1e-3;

/// `Hg`, the Hessian of the loss times its gradient, for each of `weights`, by central differences:
/// `(∇L(θ + εg) − ∇L(θ − εg)) / 2ε`, with ε so that the step is a thousandth of ‖θ‖.
///
/// `gradients` computes ∇L for all of `weights`, in their order, where they are. The weights are put
/// back before this returns, on errors too.
pub fn hessian_gradient<E: From<CriterionError>>(
    weights: &[Var],
    mut gradients: impl FnMut() -> Result<Vec<Tensor>, E>,
) -> Result<Vec<Tensor>, E> {
    let wrap = |error: candle_core::Error| E::from(CriterionError::Tensor(error));
    let copies: candle_core::Result<Vec<Tensor>> =
        weights.iter().map(|weight| Ok(weight.copy()?.detach())).collect();
    let copies = copies.map_err(wrap)?;
    let gradient = gradients()?;
    let epsilon = STEP * (norm(&copies).map_err(wrap)? / norm(&gradient).map_err(wrap)?);
    if !epsilon.is_finite() || epsilon == 0.0 {
        return Err(CriterionError::NotFinite("gradients (or they are zero)").into());
    }
    let mut at = |distance: f64| -> Result<Vec<Tensor>, E> {
        for ((weight, copy), gradient) in weights.iter().zip(&copies).zip(&gradient) {
            let moved = (gradient * distance).and_then(|step| copy + step).map_err(wrap)?;
            weight.set(&moved).map_err(wrap)?;
        }
        gradients()
    };
    let ends = at(epsilon).and_then(|ahead| Ok((ahead, at(-epsilon)?)));
    for (weight, copy) in weights.iter().zip(&copies) {
        weight.set(copy).map_err(wrap)?;
    }
    let (ahead, behind) = ends?;
    let product = |(ahead, behind): (&Tensor, &Tensor)| (ahead - behind)? / (2.0 * epsilon);
    ahead.iter().zip(&behind).map(product).collect::<candle_core::Result<_>>().map_err(wrap)
}

fn norm(tensors: &[Tensor]) -> candle_core::Result<f64> {
    let mut squares = 0.0;
    for tensor in tensors {
        squares +=
            tensor.to_dtype(candle_core::DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
    }
    Ok(squares.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// L = ½ θᵀAθ has g = Aθ and Hg = A·Aθ.
    #[test]
    fn the_product_is_exact_for_a_quadratic_loss() {
        let a = Tensor::new(&[[2_f64, 1.], [1., 3.]], &Device::Cpu).unwrap();
        let theta = Var::new(&[[1_f64], [-2.]], &Device::Cpu).unwrap();
        let gradients = || -> Result<Vec<Tensor>, CriterionError> { Ok(vec![a.matmul(&theta)?]) };
        let product = hessian_gradient(std::slice::from_ref(&theta), gradients).unwrap();
        // g = (0, -5), A·g = (-5, -15)
        let found = product[0].flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert!((found[0] + 5.0).abs() < 1e-9 && (found[1] + 15.0).abs() < 1e-9, "{found:?}");
        assert_eq!(theta.to_vec2::<f64>().unwrap(), [[1.], [-2.]]);
    }

    #[test]
    fn the_weights_are_put_back_when_a_gradient_fails() {
        let theta = Var::new(&[1_f64, 2.], &Device::Cpu).unwrap();
        let mut calls = 0;
        let gradients = || {
            calls += 1;
            match calls {
                1 => Ok(vec![Tensor::new(&[1_f64, 1.], &Device::Cpu)?]),
                _ => Err(CriterionError::Other("no".into())),
            }
        };
        hessian_gradient(std::slice::from_ref(&theta), gradients).unwrap_err();
        assert_eq!(theta.to_vec1::<f64>().unwrap(), [1., 2.]);
    }
}
