//! What is a fully connected layer, before, during and after pruning? One type, three states.

use crate::{NnError, VarBuilder, observe::Watch, packed::PackedWeight};
use candle_core::{Device, Module, Tensor, Var};
use rand::RngExt;
use secateur_criteria::seed;
use secateur_kernels::Dispatcher;
use secateur_mask::{Mask, MaskError};
use secateur_storage::{Checkpoint, Format, Packed};

/// `y = x · Wᵀ + b`, with `W` `[out, in]` dense, masked or packed.
///
/// - *dense*: an ordinary trainable layer;
/// - *masked*: still trainable and still dense in memory; cut weights are zero, and
///   `secateur_train::Masked` keeps them so;
/// - *packed*: only the survivors are stored and multiplied; inference only.
#[derive(Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Var>,
    pub(crate) watch: Option<Watch>,
}

#[derive(Debug)]
enum Weight {
    Trainable { weight: Var, mask: Option<Mask> },
    Packed(Box<PackedWeight>),
}

/// The state a [`Linear`] is in.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Every weight is free.
    Dense,
    /// Some weights are held at zero.
    Masked,
    /// Only the survivors are stored.
    Packed {
        /// The storage format.
        format: Format,
        /// The kernel that runs one token.
        kernel: String,
    },
}

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
        let bound = 1.0 / (inputs.max(1) as f32).sqrt();
        let draw = |what: &str, shape: &[usize]| -> Result<Var, NnError> {
            let mut stream = seed::stream(seed, &format!("init/{name}.{what}"));
            let count = shape.iter().product();
            let values: Vec<f32> =
                (0..count).map(|_| (stream.random::<f32>() * 2.0 - 1.0) * bound).collect();
            Ok(Var::from_vec(values, shape, device)?)
        };
        Ok(Self {
            weight: Weight::Trainable { weight: draw("weight", &[outputs, inputs])?, mask: None },
            bias: Some(draw("bias", &[outputs])?),
            watch: None,
        })
    }

    /// A dense layer of given variables: `weight` `[out, in]`, `bias` `[out]`; errors on others.
    pub fn new(weight: Var, bias: Option<Var>) -> Result<Self, NnError> {
        let &[outputs, _] = weight.dims() else {
            return Err(NnError::Rank { name: "weight".into(), found: weight.dims().to_vec() });
        };
        if let Some(bias) = &bias
            && bias.dims() != [outputs]
        {
            let (found, expected) = (bias.dims().to_vec(), vec![outputs]);
            return Err(NnError::Shape { name: "bias".into(), found, expected });
        }
        Ok(Self { weight: Weight::Trainable { weight, mask: None }, bias, watch: None })
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

    /// A layer of parts that were checked against each other.
    pub(crate) fn of(
        weight: Packed,
        bias: Option<Vec<f32>>,
        dispatcher: &Dispatcher,
        device: &Device,
    ) -> Result<Self, NnError> {
        let var = |values: Vec<f32>, shape: &[usize]| Var::from_vec(values, shape, device);
        let held = bias.clone().map(|bias| var(bias, &[weight.matrix().0])).transpose()?;
        let weight = if weight.format() == Format::Dense {
            let dense = weight.unpack();
            let weight = var(dense.to_f32()?.into_owned(), dense.shape())?;
            Weight::Trainable { weight, mask: None }
        } else {
            Weight::Packed(Box::new(PackedWeight::new(&weight, bias, dispatcher)?))
        };
        Ok(Self { weight, bias: held, watch: None })
    }

    /// Cuts what `mask` cuts, and remembers it. An earlier mask is replaced.
    pub fn set_mask(&mut self, mask: Mask) -> Result<(), NnError> {
        let Weight::Trainable { weight, mask: held } = &mut self.weight else {
            return Err(NnError::Packed("masked"));
        };
        if mask.shape() != weight.dims() {
            let (left, right) = (mask.shape().to_vec(), weight.dims().to_vec());
            return Err(MaskError::ShapeMismatch { left, right }.into());
        }
        let mut values = weight.flatten_all()?.to_vec1::<f32>()?;
        mask.apply(&mut values)?;
        weight.set(&Tensor::from_vec(values, weight.shape(), weight.device())?)?;
        *held = Some(mask);
        Ok(())
    }

    /// Stores only what `packed` holds from now on, and multiplies only that.
    pub fn pack(&mut self, packed: &Packed, dispatcher: &Dispatcher) -> Result<(), NnError> {
        let (inputs, outputs) = self.dims();
        if packed.shape() != [outputs, inputs] {
            return Err(NnError::Shape {
                name: "weight".into(),
                found: packed.shape().to_vec(),
                expected: vec![outputs, inputs],
            });
        }
        let bias = match &self.bias {
            Some(bias) => Some(bias.to_vec1::<f32>()?),
            None => None,
        };
        self.weight = Weight::Packed(Box::new(PackedWeight::new(packed, bias, dispatcher)?));
        Ok(())
    }

    /// The state that the layer is in.
    pub fn state(&self) -> State {
        match &self.weight {
            Weight::Trainable { mask: None, .. } => State::Dense,
            Weight::Trainable { mask: Some(_), .. } => State::Masked,
            Weight::Packed(packed) => State::Packed {
                format: packed.format,
                kernel: packed.product.plan(1).kernel().to_owned(),
            },
        }
    }

    /// The trainable weight `[out, in]`; `None` once packed.
    pub fn weight(&self) -> Option<&Var> {
        match &self.weight {
            Weight::Trainable { weight, .. } => Some(weight),
            Weight::Packed(_) => None,
        }
    }

    /// The bias `[out]`.
    pub fn bias(&self) -> Option<&Var> {
        self.bias.as_ref()
    }

    /// The mask, in the masked state.
    pub fn mask(&self) -> Option<&Mask> {
        match &self.weight {
            Weight::Trainable { mask, .. } => mask.as_ref(),
            Weight::Packed(_) => None,
        }
    }

    /// For a packed layer: which kernel runs `tokens` rows of activations, and why.
    pub fn explain(&self, tokens: usize) -> Option<secateur_kernels::Plan> {
        match &self.weight {
            Weight::Packed(packed) => Some(packed.product.plan(tokens)),
            Weight::Trainable { .. } => None,
        }
    }

    /// Inputs and outputs.
    pub fn dims(&self) -> (usize, usize) {
        match &self.weight {
            Weight::Trainable { weight, .. } => (weight.dims()[1], weight.dims()[0]),
            Weight::Packed(packed) => (packed.product.cols(), packed.product.rows()),
        }
    }

    /// Bytes that the weight takes in memory in this state, kernel layouts included.
    pub fn weight_bytes(&self) -> usize {
        match &self.weight {
            Weight::Trainable { weight, .. } => {
                weight.elem_count() * weight.dtype().size_in_bytes()
            }
            Weight::Packed(packed) => packed.product.bytes(),
        }
    }

    /// Weights that are not zero.
    pub fn count_nonzero(&self) -> Result<usize, NnError> {
        match &self.weight {
            Weight::Trainable { weight, .. } => {
                let values = weight.flatten_all()?.to_vec1::<f32>()?;
                Ok(values.iter().filter(|value| **value != 0.0).count())
            }
            Weight::Packed(packed) => Ok(packed.nonzero),
        }
    }
}

impl Module for Linear {
    /// `[.., in]` → `[.., out]`.
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let weight = match &self.weight {
            Weight::Packed(packed) => return packed.forward(xs),
            Weight::Trainable { weight, .. } => weight,
        };
        if let Some(watch) = &self.watch {
            watch.see(xs).map_err(candle_core::Error::wrap)?;
        }
        let ys = match xs.rank() {
            2 => xs.matmul(&weight.t()?)?,
            _ => xs.broadcast_matmul(&weight.t()?)?,
        };
        match &self.bias {
            Some(bias) => ys.broadcast_add(bias),
            None => Ok(ys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secateur_mask::{Pattern, Scores, Sparsity};
    use secateur_storage::Dense;

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
