//! How does a packed weight run inside candle? As an operation whose argument is the activations.

use crate::NnError;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use secateur_kernels::{
    Activation, Conv2dGeometry, Conv2dProduct, Dispatcher, Epilogue, KernelKind, Panels, Plan,
    Product, ViewMut,
};
use secateur_storage::{Format, Packed};
use std::fmt;

/// What a layer keeps of its weight once it is packed. Inference only: no gradient flows through it.
pub(crate) trait Survivors: fmt::Debug + Send + Sync {
    /// The shape of the dense weight.
    fn shape(&self) -> &[usize];
    fn format(&self) -> Format;
    /// The kernel that runs one token, or one image.
    fn kernel(&self) -> String;
    /// Why that one, where there is a choice.
    fn plan(&self, tokens: usize) -> Option<Plan>;
    fn bytes(&self) -> usize;
    fn nonzero(&self) -> usize;
    fn forward(&self, xs: &Tensor) -> Result<Tensor>;
}

fn count_nonzero(weight: &Packed) -> std::result::Result<usize, NnError> {
    Ok(weight.values().to_f32()?.iter().filter(|value| **value != 0.0).count())
}

/// Tokens that are many to every kernel.
const MANY: usize = 128;

/// A matrix laid out for this machine, with its bias.
#[derive(Debug)]
pub(crate) struct PackedWeight {
    shape: Vec<usize>,
    pub product: Product,
    bias: Option<Vec<f32>>,
    format: Format,
    nonzero: usize,
}

impl PackedWeight {
    pub fn new(
        weight: &Packed,
        bias: Option<Vec<f32>>,
        dispatcher: &Dispatcher,
    ) -> std::result::Result<Self, NnError> {
        Ok(Self {
            shape: weight.shape().to_vec(),
            product: Product::new(weight, dispatcher)?,
            bias,
            format: weight.format(),
            nonzero: count_nonzero(weight)?,
        })
    }

    /// `x` `[tokens, in]` → `y` `[tokens, out]`, overwritten; how many tokens, `x` says.
    pub fn run(&self, x: &[f32], y: &mut [f32]) -> std::result::Result<(), NnError> {
        let tokens = x.len().checked_div(self.product.cols()).unwrap_or(0);
        Ok(self.product.run(x, tokens, self.bias.as_deref(), y)?)
    }

    /// The same, from panels to panels, and an activation on the way.
    pub fn run_panels(
        &self,
        x: &Panels,
        activation: Activation,
        y: &mut Panels,
    ) -> std::result::Result<(), NnError> {
        y.resize(x.tokens())?;
        let epilogue = Epilogue { bias: self.bias.as_deref(), activation };
        Ok(self.product.run_panels(x, &epilogue, y)?)
    }

    /// The same, from panels to `y` `[tokens, out]`.
    pub fn leave_panels(&self, x: &Panels, y: &mut [f32]) -> std::result::Result<(), NnError> {
        let epilogue = Epilogue { bias: self.bias.as_deref(), ..Epilogue::default() };
        let y = ViewMut { data: y, tokens: x.tokens(), stride: self.product.rows() };
        Ok(self.product.run_panels_to_tokens(x, &epilogue, y)?)
    }

    /// Whether many tokens run by a kernel that transposes them into panels anyway. The dense product
    /// prefers tokens as they are, and all of them at once.
    pub fn prefers_panels(&self) -> bool {
        self.product.plan(MANY).kind() != KernelKind::Dense
    }
}

impl Survivors for PackedWeight {
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn format(&self) -> Format {
        self.format
    }
    fn kernel(&self) -> String {
        self.product.plan(1).kernel().to_owned()
    }
    fn plan(&self, tokens: usize) -> Option<Plan> {
        Some(self.product.plan(tokens))
    }
    fn bytes(&self) -> usize {
        self.product.bytes()
    }
    fn nonzero(&self) -> usize {
        self.nonzero
    }
    /// `[.., in]` → `[.., out]`.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs.contiguous()?.apply_op1_no_bwd(self)
    }
}

impl CustomOp1 for PackedWeight {
    fn name(&self) -> &'static str {
        "packed-linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, cols) = (self.product.rows(), self.product.cols());
        let mut dims = layout.dims().to_vec();
        match dims.last_mut() {
            Some(last) if *last == cols => *last = rows,
            _ => candle_core::bail!("a packed layer of {cols} inputs got activations {dims:?}"),
        }
        let (start, end) = layout.contiguous_offsets().ok_or_else(|| {
            candle_core::Error::msg("a packed layer needs contiguous activations")
        })?;
        let x = &storage.as_slice::<f32>()?[start..end];
        let tokens = dims[..dims.len() - 1].iter().product();
        let mut y = vec![0.0; tokens * rows];
        self.product
            .run(x, tokens, self.bias.as_deref(), &mut y)
            .map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }
}

/// Kernels laid out for this machine, with their bias.
#[derive(Debug)]
pub(crate) struct PackedConv {
    shape: [usize; 4],
    product: Conv2dProduct,
    bias: Option<Vec<f32>>,
    format: Format,
    nonzero: usize,
}

impl PackedConv {
    pub fn new(
        weight: &Packed,
        bias: Option<Vec<f32>>,
        geometry: Conv2dGeometry,
        dispatcher: &Dispatcher,
    ) -> std::result::Result<Self, NnError> {
        let product = Conv2dProduct::new(weight, geometry, dispatcher)?;
        let (shape, format, nonzero) = (product.shape(), weight.format(), count_nonzero(weight)?);
        Ok(Self { shape, product, bias, format, nonzero })
    }
}

impl Survivors for PackedConv {
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn format(&self) -> Format {
        self.format
    }
    fn kernel(&self) -> String {
        self.product.kernel()
    }
    fn plan(&self, _: usize) -> Option<Plan> {
        None
    }
    fn bytes(&self) -> usize {
        self.product.bytes()
    }
    fn nonzero(&self) -> usize {
        self.nonzero
    }
    /// `[batch, in, height, width]` → `[batch, out, …]`.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs.contiguous()?.apply_op1_no_bwd(self)
    }
}

impl CustomOp1 for PackedConv {
    fn name(&self) -> &'static str {
        "packed-conv2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = layout.shape().dims4()?;
        if channels != self.product.inputs() {
            let inputs = self.product.inputs();
            candle_core::bail!("a packed convolution of {inputs} channels got {channels}");
        }
        let (start, end) = layout.contiguous_offsets().ok_or_else(|| {
            candle_core::Error::msg("a packed convolution needs contiguous activations")
        })?;
        let x = &storage.as_slice::<f32>()?[start..end];
        let size = (height, width);
        let (high, wide) = self.product.output(size).map_err(candle_core::Error::wrap)?;
        let shape = Shape::from((batch, self.shape[0], high, wide));
        let mut y = vec![0.0; shape.elem_count()];
        self.product
            .run(x, batch, size, self.bias.as_deref(), false, &mut y)
            .map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(y), shape))
    }
}
