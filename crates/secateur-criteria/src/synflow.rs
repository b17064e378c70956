//! Which weights matter? Those on strong paths from input to output, whatever the data (Tanaka 2020).

use crate::{Criterion, CriterionError, Layer, Needs, snip::weight_times};
use candle_core::{DType, Tensor};

/// Score `|∂R/∂θ ⊙ θ|` with `R = Σ net(|θ|; 1)`: the synaptic flow through the weight (Tanaka et al.
/// 2020). In 100 steps with an exponentially falling density, and with the
/// [`Global`](crate::Global) allocation, no layer collapses before the others.
///
/// Statistics hold ∂R/∂|θ| as their gradient; [`chain_flow`] computes it for fully connected layers.
/// R grows exponentially with depth, so use f64.
#[derive(Debug, Clone, Copy)]
pub struct SynFlow {
    /// Steps of prune and score again; the paper takes 100.
    pub steps: usize,
}

impl Default for SynFlow {
    fn default() -> Self {
        Self { steps: 100 }
    }
}

impl Criterion for SynFlow {
    fn name(&self) -> &str {
        "synflow"
    }

    fn needs(&self) -> Needs {
        Needs::FLOW
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        Ok(weight_times(layer, layer.gradient()?)?.abs()?)
    }
}

/// ∂R/∂|θ| of each layer of a chain of matrices `[out, in]`, every one reading the outputs of the
/// one before, in f64 and scaled by a common factor.
///
/// Biases and positive activations in between (ReLU) change nothing: the flow is that of `|θ|` and
/// an input of ones. Each layer's magnitudes are divided by their largest row sum, which keeps R
/// from overflowing and multiplies all scores `∂R/∂|θ| · |θ|` by the same number.
pub fn chain_flow(weights: &[&Tensor]) -> Result<Vec<Tensor>, CriterionError> {
    if let Some(other) = weights.iter().find(|weight| weight.rank() != 2) {
        return Err(CriterionError::Other(format!(
            "synflow needs a chain of matrices [out, in]; {:?} is none",
            other.dims()
        )));
    }
    for (before, after) in weights.iter().zip(weights.iter().skip(1)) {
        if !matches!((before.dims(), after.dims()), (&[out, _], &[_, inputs]) if out == inputs) {
            let (found, expected) = (before.dims(), after.dims());
            return Err(CriterionError::Other(format!(
                "synflow needs a chain of matrices [out, in]; {found:?} does not feed {expected:?}"
            )));
        }
    }
    let mut layers = Vec::new();
    for weight in weights {
        let magnitudes = weight.to_dtype(DType::F64)?.abs()?;
        let largest = magnitudes.sum(1)?.max_all()?.to_scalar::<f64>()?;
        let scale = if largest > 0.0 { largest } else { 1.0 };
        layers.push(((magnitudes / scale)?, scale));
    }
    let ones = |len: usize, like: &Tensor| Tensor::ones((len, 1), DType::F64, like.device());
    let mut forward = Vec::new();
    for (magnitudes, _) in &layers {
        let into = match forward.last() {
            None => ones(magnitudes.dims()[1], magnitudes)?,
            Some(Flow { out, .. }) => Tensor::clone(out),
        };
        let out = magnitudes.matmul(&into)?;
        forward.push(Flow { into, out });
    }
    let mut flows = Vec::new();
    let mut back: Option<Tensor> = None;
    for ((magnitudes, scale), flow) in layers.iter().zip(&forward).rev() {
        let from_above = match back {
            None => ones(magnitudes.dims()[0], magnitudes)?,
            Some(back) => back,
        };
        // ∂/∂θ is ∂/∂(θ / scale) / scale; the other layers' scales are common to all scores.
        flows.push((from_above.matmul(&flow.into.t()?)? / *scale)?);
        back = Some(magnitudes.t()?.matmul(&from_above)?);
    }
    flows.reverse();
    Ok(flows)
}

/// What goes into a layer and comes out of it.
struct Flow {
    into: Tensor,
    out: Tensor,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Statistics;
    use candle_core::Device;

    /// Σ θ·∂R/∂θ is R itself for every layer: flow is conserved (Tanaka et al. 2020, theorem 1).
    #[test]
    fn flow_is_conserved_through_every_layer() {
        let a = Tensor::new(&[[1_f32, -2.], [0.5, 0.], [3., 1.]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[[1_f32, 2., -1.]], &Device::Cpu).unwrap();
        let flows = chain_flow(&[&a, &b]).unwrap();
        let scores = |weight: &Tensor, flow: &Tensor| {
            let statistics = Statistics { gradient: Some(flow.clone()), ..Statistics::default() };
            let layer = Layer::new("w", weight).with_statistics(Some(&statistics));
            let score = SynFlow::default().score(&layer).unwrap();
            score.flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        let (a, b) = (scores(&a, &flows[0]), scores(&b, &flows[1]));
        // By hand: into b flow 3, 0.5 and 4, so R = 3 + 1 + 4; all scores share one factor.
        let factor = b[0] / 3.0;
        let close = |found: &[f64], expected: &[f64]| {
            found.iter().zip(expected).all(|(f, e)| (f - e * factor).abs() < 1e-12)
        };
        assert!(close(&b, &[3., 1., 4.]), "{b:?}");
        assert!(close(&a, &[1., 2., 1., 0., 3., 1.]), "{a:?}");
        assert!(
            chain_flow(&[
                &Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap(),
                &Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap()
            ])
            .is_err()
        );
    }
}
