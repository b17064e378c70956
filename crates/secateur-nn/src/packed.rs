//! How does a packed weight run inside candle? As an operation whose argument is the activations.

use crate::NnError;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use secateur_kernels::{Dispatcher, Product};
use secateur_storage::{Format, Packed};

/// A weight laid out for this machine, with its bias.
#[derive(Debug)]
pub(crate) struct PackedWeight {
    pub product: Product,
    pub bias: Option<Vec<f32>>,
    pub format: Format,
    pub nonzero: usize,
}

impl PackedWeight {
    pub fn new(
        weight: &Packed,
        bias: Option<Vec<f32>>,
        dispatcher: &Dispatcher,
    ) -> std::result::Result<Self, NnError> {
        Ok(Self {
            product: Product::new(weight, dispatcher)?,
            bias,
            format: weight.format(),
            nonzero: weight.values().to_f32()?.iter().filter(|value| **value != 0.0).count(),
        })
    }

    /// `x` `[tokens, in]` → `y` `[tokens, out]`, overwritten; how many tokens, `x` says.
    pub fn run(&self, x: &[f32], y: &mut [f32]) -> std::result::Result<(), NnError> {
        let tokens = x.len().checked_div(self.product.cols()).unwrap_or(0);
        Ok(self.product.run(x, tokens, self.bias.as_deref(), y)?)
    }

    /// `[.., in]` → `[.., out]`. Inference only: no gradient flows through a packed weight.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
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
