//! What is a fully connected layer? `y = x · Wᵀ + b`, its weight dense, masked or packed.

use crate::{NnError, PrunableLayer, VarBuilder, layer::Kind};
use candle_core::{Device, Module, Tensor, Var};
use secateur_kernels::Dispatcher;
use secateur_storage::Checkpoint;
use std::ops::{Deref, DerefMut};

/// `y = x · Wᵀ + b`, with `W` `[out, in]` dense, masked or packed: see [`PrunableLayer`], which it
/// dereferences to.
#[derive(Debug)]
pub struct Linear(PrunableLayer);

impl Linear {
    /// A dense layer, weight `[out, in]` and bias `[out]` drawn uniformly from `±1/√in`, as
    /// PyTorch's `Linear` does. Equal seeds and names give equal layers.
    pub fn init(
        inputs: usize,
        outputs: usize,
        seed: u64,
        name: &str,
        device: &Device,
    ) -> Result<Self, NnError> {
        Ok(Self(PrunableLayer::init(&[outputs, inputs], Kind::Linear, seed, name, device)?))
    }

    /// A dense layer of given variables: `weight` `[out, in]`, `bias` `[out]`; errors on others.
    pub fn new(weight: Var, bias: Option<Var>) -> Result<Self, NnError> {
        if weight.rank() != 2 {
            return Err(NnError::Rank { name: "weight".into(), found: weight.dims().to_vec() });
        }
        Ok(Self(PrunableLayer::new(weight, bias, Kind::Linear)?))
    }

    /// The layer that a checkpoint stores under `name.weight` and `name.bias`: packed if the weight
    /// is packed there, dense otherwise. Its shape is the one stored; where it is known, ask
    /// [`VarBuilder::linear`].
    pub fn load(
        checkpoint: &Checkpoint,
        name: &str,
        dispatcher: &Dispatcher,
        device: &Device,
    ) -> Result<Self, NnError> {
        let vb = VarBuilder::from_checkpoint(checkpoint, dispatcher, device).pp(name);
        let weight = vb.full_name("weight");
        match vb.shape("weight") {
            None => Err(NnError::MissingTensor(weight)),
            Some(&[outputs, inputs]) => vb.linear(inputs, outputs),
            Some(found) => Err(NnError::Rank { name: weight, found: found.to_vec() }),
        }
    }

    /// The layer under the prefix of `vb`, of a known shape.
    pub(crate) fn from_vb(
        vb: &VarBuilder<'_>,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, NnError> {
        let weight = vb.get_packed((outputs, inputs), "weight")?;
        let (bias, kind) = (vb.bias(outputs)?, Kind::Linear);
        Ok(Self(PrunableLayer::of(&weight, bias, kind, vb.dispatcher(), vb.device())?))
    }

    /// Inputs and outputs.
    pub fn dims(&self) -> (usize, usize) {
        (self.shape()[1], self.shape()[0])
    }
}

impl Deref for Linear {
    type Target = PrunableLayer;

    fn deref(&self) -> &PrunableLayer {
        &self.0
    }
}

impl DerefMut for Linear {
    fn deref_mut(&mut self) -> &mut PrunableLayer {
        &mut self.0
    }
}

impl Module for Linear {
    /// `[.., in]` → `[.., out]`.
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.0.forward(xs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;
    use secateur_mask::{Pattern, Scores, Sparsity};
    use secateur_storage::{Dense, Format, Packed};

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn all_states_compute_the_same_function() {
        let mut layer = Linear::init(20, 6, 1, "fc", &Device::Cpu).unwrap();
        assert_eq!(layer.state(), State::Dense);
        let weight = values(layer.weight().unwrap());
        let scores: Vec<f32> = weight.iter().map(|w| w.abs()).collect();
        let pattern = Pattern::TWO_OF_FOUR;
        let mask = pattern
            .select(Scores::new(scores, &[6, 20]).unwrap(), Sparsity::new(0.5).unwrap())
            .unwrap();
        layer.set_mask(mask.clone()).unwrap();
        assert_eq!(layer.state(), State::Masked);
        assert_eq!(layer.count_nonzero().unwrap(), 60);

        let xs = Tensor::rand(-1_f32, 1., (2, 3, 20), &Device::Cpu).unwrap();
        let masked = values(&layer.forward(&xs).unwrap());
        let dense = Dense::new(values(layer.weight().unwrap()), &[6, 20]).unwrap();
        let packed = Packed::pack(&dense, &mask, pattern).unwrap();
        layer.pack(&packed, &Dispatcher::probe().unwrap()).unwrap();
        assert!(matches!(layer.state(), State::Packed { format: Format::TWO_OF_FOUR, .. }));
        let ys = layer.forward(&xs).unwrap();
        assert_eq!(ys.dims(), [2, 3, 6]);
        for (packed, masked) in values(&ys).iter().zip(&masked) {
            assert!((packed - masked).abs() < 1e-6, "{packed} {masked}");
        }
        assert!(layer.set_mask(mask).is_err());
        let other = Packed::from(Dense::new(vec![0.0; 120], &[20, 6]).unwrap());
        assert!(layer.pack(&other, &Dispatcher::probe().unwrap()).is_err());
        let vector = Var::zeros(6, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(Linear::new(vector, None).is_err());
        assert!(
            layer
                .forward(&Tensor::zeros((2, 21), candle_core::DType::F32, &Device::Cpu).unwrap())
                .is_err()
        );
    }

    #[test]
    fn equal_seeds_give_equal_layers() {
        let weight = |seed, name| {
            values(Linear::init(4, 4, seed, name, &Device::Cpu).unwrap().weight().unwrap())
        };
        assert_eq!(weight(1, "a"), weight(1, "a"));
        assert_ne!(weight(1, "a"), weight(2, "a"));
        assert_ne!(weight(1, "a"), weight(1, "b"));
        assert!(weight(1, "a").iter().all(|w| w.abs() <= 0.5));
    }
}
