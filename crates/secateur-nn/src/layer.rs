//! What is a layer that can be pruned, before, during and after? A weight in one of three states, a bias,
//! and what is done with them.
//!
//! [`Linear`](crate::Linear) and [`Conv2d`](crate::Conv2d) are such layers and dereference to this one:
//! whoever prunes, stores or measures sees no difference between them.

use crate::{
    NnError,
    affine::affine,
    conv2d,
    observe::Watch,
    packed::{PackedConv, PackedWeight, Survivors},
};
use candle_core::{Device, Module, Tensor, Var};
use rand::RngExt;
use secateur_criteria::seed;
use secateur_kernels::{Conv2dGeometry, Dispatcher, Plan};
use secateur_mask::{Mask, MaskError};
use secateur_storage::{Format, Packed};

/// A layer whose weight may be pruned, in one of three states:
///
/// - *dense*: an ordinary trainable layer;
/// - *masked*: still trainable and still dense in memory; cut weights are zero, and
///   `secateur_train::Masked` keeps them so;
/// - *packed*: only the survivors are stored and multiplied; inference only.
#[derive(Debug)]
pub struct PrunableLayer {
    weight: Weight,
    bias: Option<Var>,
    kind: Kind,
    pub(crate) watch: Option<Watch>,
}

#[derive(Debug)]
enum Weight {
    Trainable { weight: Var, mask: Option<Mask> },
    Packed(Box<dyn Survivors>),
}

/// What a layer does with its weight.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Linear,
    Conv2d(Conv2dGeometry),
}

/// The state a [`PrunableLayer`] is in.
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
        /// The kernel that runs one token, or one image.
        kernel: String,
    },
}

impl PrunableLayer {
    /// A dense layer, weight of `shape` and a bias drawn uniformly from `±1/√(numbers in a row)`.
    pub(crate) fn init(
        shape: &[usize],
        kind: Kind,
        seed: u64,
        name: &str,
        device: &Device,
    ) -> Result<Self, NnError> {
        let row: usize = shape[1..].iter().product();
        let bound = 1.0 / (row.max(1) as f32).sqrt();
        let draw = |what: &str, shape: &[usize]| -> Result<Var, NnError> {
            let mut stream = seed::stream(seed, &format!("init/{name}.{what}"));
            let count = shape.iter().product();
            let values: Vec<f32> =
                (0..count).map(|_| (stream.random::<f32>() * 2.0 - 1.0) * bound).collect();
            Ok(Var::from_vec(values, shape, device)?)
        };
        Self::new(draw("weight", shape)?, Some(draw("bias", &shape[..1])?), kind)
    }

    /// A dense layer of given variables; errors unless `bias` has a number for each output.
    pub(crate) fn new(weight: Var, bias: Option<Var>, kind: Kind) -> Result<Self, NnError> {
        if let Some(bias) = &bias
            && bias.dims() != &weight.dims()[..1]
        {
            let (found, expected) = (bias.dims().to_vec(), weight.dims()[..1].to_vec());
            return Err(NnError::Shape { name: "bias".into(), found, expected });
        }
        Ok(Self { weight: Weight::Trainable { weight, mask: None }, bias, kind, watch: None })
    }

    /// A layer of parts that were checked against each other: packed if `weight` is.
    pub(crate) fn of(
        weight: &Packed,
        bias: Option<Vec<f32>>,
        kind: Kind,
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
            Weight::Packed(kind.pack(weight, bias, dispatcher)?)
        };
        Ok(Self { weight, bias: held, kind, watch: None })
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
        if packed.shape() != self.shape() {
            return Err(NnError::Shape {
                name: "weight".into(),
                found: packed.shape().to_vec(),
                expected: self.shape().to_vec(),
            });
        }
        let bias = match &self.bias {
            Some(bias) => Some(bias.to_vec1::<f32>()?),
            None => None,
        };
        self.weight = Weight::Packed(self.kind.pack(packed, bias, dispatcher)?);
        Ok(())
    }

    /// The state that the layer is in.
    pub fn state(&self) -> State {
        match &self.weight {
            Weight::Trainable { mask: None, .. } => State::Dense,
            Weight::Trainable { mask: Some(_), .. } => State::Masked,
            Weight::Packed(packed) => {
                State::Packed { format: packed.format(), kernel: packed.kernel() }
            }
        }
    }

    /// The trainable weight, `[out, in]` or `[out, in / groups, kh, kw]`; `None` once packed.
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

    /// For a packed layer: which kernel runs `tokens` rows of activations, and why. `None` for
    /// convolutions too, which have one kernel each: see [`Self::state`].
    pub fn explain(&self, tokens: usize) -> Option<Plan> {
        match &self.weight {
            Weight::Packed(packed) => packed.plan(tokens),
            Weight::Trainable { .. } => None,
        }
    }

    /// The weight's shape: `[out, in]` or `[out, in / groups, kh, kw]`.
    pub fn shape(&self) -> &[usize] {
        match &self.weight {
            Weight::Trainable { weight, .. } => weight.dims(),
            Weight::Packed(packed) => packed.shape(),
        }
    }

    /// What it does with its weight.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes that the weight takes in memory in this state, kernel layouts included.
    pub fn weight_bytes(&self) -> usize {
        match &self.weight {
            Weight::Trainable { weight, .. } => {
                weight.elem_count() * weight.dtype().size_in_bytes()
            }
            Weight::Packed(packed) => packed.bytes(),
        }
    }

    /// Weights that are not zero.
    pub fn count_nonzero(&self) -> Result<usize, NnError> {
        match &self.weight {
            Weight::Trainable { weight, .. } => {
                let values = weight.flatten_all()?.to_vec1::<f32>()?;
                Ok(values.iter().filter(|value| **value != 0.0).count())
            }
            Weight::Packed(packed) => Ok(packed.nonzero()),
        }
    }
}

impl Kind {
    fn pack(
        self,
        weight: &Packed,
        bias: Option<Vec<f32>>,
        dispatcher: &Dispatcher,
    ) -> Result<Box<dyn Survivors>, NnError> {
        Ok(match self {
            Self::Linear => Box::new(PackedWeight::new(weight, bias, dispatcher)?),
            Self::Conv2d(geometry) => {
                Box::new(PackedConv::new(weight, bias, geometry, dispatcher)?)
            }
        })
    }
}

impl Module for PrunableLayer {
    /// What the layer computes: see [`Linear`](crate::Linear) and [`Conv2d`](crate::Conv2d).
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let weight = match &self.weight {
            Weight::Packed(packed) => return packed.forward(xs),
            Weight::Trainable { weight, .. } => weight,
        };
        match self.kind {
            Kind::Linear => {
                if let Some(watch) = &self.watch {
                    watch.see(xs).map_err(candle_core::Error::wrap)?;
                }
                affine(xs, weight, self.bias.as_deref())
            }
            Kind::Conv2d(geometry) => {
                if let Some(watch) = &self.watch {
                    let patches = conv2d::patches(xs, weight.dims(), geometry)?;
                    watch.see(&patches).map_err(candle_core::Error::wrap)?;
                }
                let Conv2dGeometry { stride, padding, dilation, groups } = geometry;
                let ys = xs.conv2d(weight, padding, stride, dilation, groups)?;
                match &self.bias {
                    Some(bias) => ys.broadcast_add(&bias.reshape((1, bias.elem_count(), 1, 1))?),
                    None => Ok(ys),
                }
            }
        }
    }
}
