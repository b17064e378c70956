//! What is a convolution? A weight of kernels that slides over images, dense, masked or packed.
//!
//! A kernel is a row of `in / groups · kh · kw` weights, for patterns, criteria and files alike. Packed,
//! it runs directly (`secateur_kernels::Conv2dProduct`); trainable, as products with patches.

use crate::{NnError, PrunableLayer, VarBuilder, layer::Kind};
use candle_core::{Device, Module, Tensor, Var};
use secateur_kernels::Conv2dGeometry;
use std::ops::{Deref, DerefMut};

/// A 2-d convolution with a weight `[out, in / groups, kh, kw]`, dense, masked or packed: see
/// [`PrunableLayer`], which it dereferences to.
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use secateur_nn::{Conv2d, Conv2dGeometry};
///
/// let geometry = Conv2dGeometry { padding: 1, stride: 2, ..Conv2dGeometry::default() };
/// let layer = Conv2d::init(3, 8, (3, 3), geometry, 0, "conv1", &Device::Cpu)?;
/// let images = Tensor::zeros((5, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(layer.forward(&images)?.dims(), [5, 8, 16, 16]);
/// # Ok::<(), secateur_nn::NnError>(())
/// ```
#[derive(Debug)]
pub struct Conv2d(PrunableLayer);

impl Conv2d {
    /// A dense layer, weight and bias drawn uniformly from `±1/√(in / groups · kh · kw)`, as PyTorch's
    /// `Conv2d` does. Equal seeds and names give equal layers. Errors when the groups cannot share the
    /// channels.
    pub fn init(
        inputs: usize,
        outputs: usize,
        kernel: (usize, usize),
        geometry: Conv2dGeometry,
        seed: u64,
        name: &str,
        device: &Device,
    ) -> Result<Self, NnError> {
        let shape = shape(inputs, outputs, kernel, geometry)?;
        Ok(Self(PrunableLayer::init(&shape, Kind::Conv2d(geometry), seed, name, device)?))
    }

    /// A dense layer of given variables: `weight` `[out, in / groups, kh, kw]`, `bias` `[out]`; errors
    /// on others.
    pub fn new(weight: Var, bias: Option<Var>, geometry: Conv2dGeometry) -> Result<Self, NnError> {
        let &[outputs, inputs, height, width] = weight.dims() else {
            return Err(NnError::ConvRank { name: "weight".into(), found: weight.dims().to_vec() });
        };
        let inputs = inputs.saturating_mul(geometry.groups);
        shape(inputs, outputs, (height, width), geometry)?;
        Ok(Self(PrunableLayer::new(weight, bias, Kind::Conv2d(geometry))?))
    }

    /// The layer under the prefix of `vb`.
    pub(crate) fn from_vb(
        vb: &VarBuilder<'_>,
        (inputs, outputs): (usize, usize),
        kernel: (usize, usize),
        geometry: Conv2dGeometry,
    ) -> Result<Self, NnError> {
        let shape = shape(inputs, outputs, kernel, geometry)?;
        let weight = vb.get_packed(shape.to_vec(), "weight")?;
        let (bias, kind) = (vb.bias(outputs)?, Kind::Conv2d(geometry));
        Ok(Self(PrunableLayer::of(&weight, bias, kind, vb.dispatcher(), vb.device())?))
    }
}

/// The shape of a weight, if there can be such a layer.
fn shape(
    inputs: usize,
    outputs: usize,
    (height, width): (usize, usize),
    geometry: Conv2dGeometry,
) -> Result<[usize; 4], NnError> {
    let Conv2dGeometry { stride, dilation, groups, .. } = geometry;
    let shares = groups > 0 && inputs.is_multiple_of(groups) && outputs.is_multiple_of(groups);
    if !shares || stride == 0 || dilation == 0 || height == 0 || width == 0 {
        return Err(NnError::Geometry { inputs, outputs, geometry });
    }
    Ok([outputs, inputs / groups, height, width])
}

impl Deref for Conv2d {
    type Target = PrunableLayer;

    fn deref(&self) -> &PrunableLayer {
        &self.0
    }
}

impl DerefMut for Conv2d {
    fn deref_mut(&mut self) -> &mut PrunableLayer {
        &mut self.0
    }
}

impl Module for Conv2d {
    /// `[batch, in, height, width]` → `[batch, out, …]`.
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.0.forward(xs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{State, ops::patches};
    use secateur_criteria::Needs;
    use secateur_kernels::Dispatcher;
    use secateur_mask::{Pattern, Scores, Sparsity};
    use secateur_storage::{Dense, Packed};

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn all_states_compute_the_same_function() {
        let dispatcher = Dispatcher::probe().unwrap();
        for (stride, padding, dilation, groups) in
            [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2), (3, 2, 1, 4)]
        {
            let geometry = Conv2dGeometry { stride, padding, dilation, groups };
            let mut layer = Conv2d::init(4, 8, (3, 5), geometry, 1, "conv", &Device::Cpu).unwrap();
            let shape = layer.shape().to_vec();
            assert_eq!(shape, [8, 4 / groups, 3, 5]);
            let xs = Tensor::rand(-1_f32, 1., (2, 4, 13, 17), &Device::Cpu).unwrap();
            let free = layer.forward(&xs).unwrap();
            let scores: Vec<f32> =
                values(layer.weight().unwrap()).iter().map(|w| w.abs()).collect();
            let (pattern, half) = (Pattern::Unstructured, Sparsity::new(0.6).unwrap());
            let mask = pattern.select(Scores::new(scores, &shape).unwrap(), half).unwrap();
            layer.set_mask(mask.clone()).unwrap();
            assert_eq!(layer.state(), State::Masked);
            let masked = layer.forward(&xs).unwrap();
            assert_ne!(values(&masked), values(&free));
            let dense = Dense::new(values(layer.weight().unwrap()), &shape).unwrap();
            layer.pack(&Packed::pack(&dense, &mask, pattern).unwrap(), &dispatcher).unwrap();
            assert!(
                matches!(layer.state(), State::Packed { kernel, .. } if kernel.contains("direct"))
            );
            assert_eq!(layer.count_nonzero().unwrap(), mask.count_kept());
            let packed = layer.forward(&xs).unwrap();
            assert_eq!(packed.dims(), masked.dims());
            for (packed, masked) in values(&packed).iter().zip(values(&masked)) {
                assert!((packed - masked).abs() < 1e-5, "{geometry:?}: {packed} {masked}");
            }
            let wrong = Tensor::zeros((2, 5, 13, 17), candle_core::DType::F32, &Device::Cpu);
            assert!(layer.forward(&wrong.unwrap()).is_err());
        }
    }

    /// Patches times the weight are the convolution: what is observed is what is multiplied.
    #[test]
    fn patches_are_the_inputs() {
        let geometry = Conv2dGeometry { stride: 2, padding: 1, dilation: 2, groups: 1 };
        let mut layer = Conv2d::init(3, 4, (3, 2), geometry, 1, "conv", &Device::Cpu).unwrap();
        let xs = Tensor::rand(-1_f32, 1., (2, 3, 9, 8), &Device::Cpu).unwrap();
        let patches = patches(&xs, layer.shape(), geometry).unwrap();
        let weight = layer.weight().unwrap().flatten_from(1).unwrap();
        let products = patches.matmul(&weight.t().unwrap()).unwrap();
        let products = products.broadcast_add(layer.bias().unwrap()).unwrap();
        layer.observe(Needs::INPUT_NORMS).unwrap();
        let (b, o, h, w) = layer.forward(&xs).unwrap().dims4().unwrap();
        let products = products.reshape((b, h, w, o)).unwrap().permute((0, 3, 1, 2)).unwrap();
        let ys = layer.forward(&xs).unwrap();
        for (a, b) in values(&ys).iter().zip(values(&products)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        let norms = layer.observed().unwrap().input_norms.unwrap();
        let square: f32 = values(&patches).iter().skip(5).step_by(18).map(|x| x * x).sum();
        assert!((norms.squares()[5] - 2.0 * f64::from(square)).abs() < 1e-3);
    }

    #[test]
    fn layers_that_cannot_be_are_refused() {
        let init = |inputs, outputs, geometry| {
            Conv2d::init(inputs, outputs, (3, 3), geometry, 0, "conv", &Device::Cpu)
        };
        let plain = Conv2dGeometry::default();
        assert!(init(4, 8, Conv2dGeometry { groups: 4, ..plain }).is_ok());
        for (inputs, outputs, geometry) in [
            (4, 8, Conv2dGeometry { groups: 3, ..plain }),
            (8, 4, Conv2dGeometry { groups: 8, ..plain }),
            (4, 8, Conv2dGeometry { groups: 0, ..plain }),
            (4, 8, Conv2dGeometry { stride: 0, ..plain }),
            (4, 8, Conv2dGeometry { dilation: 0, ..plain }),
        ] {
            assert!(matches!(init(inputs, outputs, geometry), Err(NnError::Geometry { .. })));
        }
        let matrix = Var::zeros((4, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(Conv2d::new(matrix, None, plain), Err(NnError::ConvRank { .. })));
        let mut grouped = init(4, 8, Conv2dGeometry { groups: 2, ..plain }).unwrap();
        assert!(grouped.observe(Needs::INPUT_NORMS).is_err());
        assert!(grouped.observe(Needs::GRADIENT).is_ok());
    }
}
