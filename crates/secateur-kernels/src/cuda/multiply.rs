//! How are activations on a device multiplied with a weight there? One launch, lengths and alignment checked first.

use super::{
    CudaError, DeviceBuffer, DeviceWeight,
    device::{Argument, Launch},
    element::{Element, STAGE_BYTES},
    kernels::{GEMM, SMALL_BATCH},
    weight::aligned,
};
use crate::{Activation, KernelError, view::extent};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kernels for sparse tensor cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CudaKernel {
    /// Streams a weight for up to sixteen tokens (`kernels/small_batch.cu`).
    SmallBatch,
    /// Tiles of 128 × 128, for many tokens (`kernels/gemm.cu`).
    Gemm,
}

impl CudaKernel {
    /// Every kernel, in the order in which plans name them.
    pub const ALL: &'static [Self] = &[Self::SmallBatch, Self::Gemm];

    /// Tokens that it takes at most.
    pub const fn most_tokens(self) -> usize {
        match self {
            Self::SmallBatch => 16,
            Self::Gemm => i32::MAX as usize,
        }
    }
}

impl fmt::Display for CudaKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SmallBatch => "mma.sp small-batch",
            Self::Gemm => "mma.sp gemm",
        })
    }
}

/// Activations on a device, `[tokens, cols]`, of the weight's type.
#[derive(Debug, Clone, Copy)]
pub struct DeviceView<'a> {
    /// The numbers, the first token's first feature first; its address is a multiple of 16.
    pub buffer: &'a DeviceBuffer,
    /// How many tokens.
    pub tokens: usize,
    /// Elements from a token to the next: at least the features, and a multiple of 16 bytes
    /// ([`DeviceWeight::strides`]). What lies between a
    /// token's features and the next token is never used.
    pub stride: usize,
    /// One f32 for each token, which its products are multiplied by: what I8 activations need, and others may have.
    pub scales: Option<&'a DeviceBuffer>,
}

/// Where outputs go, `[tokens, rows]`: F16 of F16 (beyond 65 504 an infinity), else BF16.
#[derive(Debug)]
pub struct DeviceViewMut<'a> {
    /// The numbers, the first token's first feature first; its address is a multiple of 8. What lies between
    /// tokens is left alone.
    pub buffer: &'a mut DeviceBuffer,
    /// Elements from a token to the next: at least the rows, and a multiple of 4.
    pub stride: usize,
}

/// `activation(sum · scales + bias)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeviceEpilogue<'a> {
    /// One f32 for each row of the weight, or none.
    pub bias: Option<&'a DeviceBuffer>,
    /// Applied last.
    pub activation: Activation,
}

/// `y = activation(x · Wᵀ + bias)` by one kernel, whether a plan would take it or not; launched, not waited for.
///
/// Errors when a buffer is too short, on another device or badly aligned, and when the kernel does not take so many
/// tokens.
pub fn multiply(
    kernel: CudaKernel,
    weight: &DeviceWeight,
    x: &DeviceView<'_>,
    epilogue: &DeviceEpilogue<'_>,
    y: &mut DeviceViewMut<'_>,
) -> Result<(), KernelError> {
    let DeviceWeight { element, shape: [rows, cols], padded, .. } = *weight;
    let (tokens, size) = (x.tokens, element.bytes());
    let too_large = KernelError::TooLarge { rows, cols, tokens };
    if tokens > kernel.most_tokens() {
        return Err(CudaError::Tokens { kernel, tokens, most: kernel.most_tokens() }.into());
    }
    check("x", weight, x.buffer, (tokens, x.stride, cols, size), 16)?;
    check("y", weight, y.buffer, (tokens, y.stride, rows, 2), 8)?;
    for (what, buffer, numbers) in [
        ("the bias", epilogue.bias, rows),
        ("the rows' scales", weight.scales.as_ref(), rows),
        ("the tokens' scales", x.scales, tokens),
    ] {
        let Some(buffer) = buffer else { continue };
        check(what, weight, buffer, (1, numbers, numbers, 4), 4)?;
    }
    if tokens == 0 || rows == 0 {
        return Ok(());
    }
    let ((ptx, function), blocks) = match kernel {
        CudaKernel::SmallBatch => {
            (SMALL_BATCH.function(small_batch(element, tokens)), padded[0] / 32)
        }
        CudaKernel::Gemm => {
            let tiles = rows.div_ceil(128).checked_mul(tokens.div_ceil(128));
            let tiles = tiles.filter(|tiles| *tiles <= i32::MAX as usize).ok_or(too_large)?;
            (GEMM.function(gemm(element)), tiles)
        }
    };
    let address =
        |buffer: Option<&DeviceBuffer>| Argument::Address(buffer.map_or(0, DeviceBuffer::address));
    let activation = match epilogue.activation {
        Activation::None => 0,
        Activation::Relu => 1,
        Activation::Gelu => 2,
    };
    let launch = Launch {
        ptx,
        function: function.name,
        grid: [blocks as u32, 1, 1],
        threads: function.threads,
        shared_bytes: function.shared_bytes,
        arguments: &[
            address(Some(&weight.values)),
            address(Some(&weight.metadata)),
            address(Some(x.buffer)),
            address(Some(y.buffer)),
            address(epilogue.bias),
            address(weight.scales.as_ref()),
            address(x.scales),
            Argument::U32(rows as u32),
            Argument::U32(padded[0] as u32),
            Argument::U32((cols * size) as u32),
            Argument::U32((padded[1] * size / STAGE_BYTES) as u32),
            Argument::U32(tokens as u32),
            // From one token there is no next: its stride may be anything, and addresses are made of it.
            Argument::U64(if tokens > 1 { (x.stride * size) as u64 } else { 0 }),
            Argument::U64(y.stride as u64),
            Argument::U32(activation),
        ],
    };
    Ok(weight.device().backend().launch(&launch)?)
}

const fn gemm(element: Element) -> &'static str {
    match element {
        Element::F16 => "gemm_f16",
        Element::Bf16 => "gemm_bf16",
        Element::I8 => "gemm_i8",
    }
}

const fn small_batch(element: Element, tokens: usize) -> &'static str {
    match (element, tokens <= 8) {
        (Element::F16, true) => "small_batch_8_f16",
        (Element::F16, false) => "small_batch_16_f16",
        (Element::Bf16, true) => "small_batch_8_bf16",
        (Element::Bf16, false) => "small_batch_16_bf16",
        (Element::I8, true) => "small_batch_8_i8",
        (Element::I8, false) => "small_batch_16_i8",
    }
}

/// Errors unless a buffer lies on the weight's device, begins and has its tokens at multiples of `multiple` bytes,
/// and holds `tokens` of `features`.
fn check(
    what: &'static str,
    weight: &DeviceWeight,
    buffer: &DeviceBuffer,
    (tokens, stride, features, size): (usize, usize, usize, usize),
    multiple: u64,
) -> Result<(), KernelError> {
    if !buffer.device().is(weight.device()) {
        return Err(CudaError::OtherDevice { what }.into());
    }
    aligned(buffer, what, multiple)?;
    let [rows, cols] = weight.shape;
    let too_large = KernelError::TooLarge { rows, cols, tokens };
    let bytes = stride.checked_mul(size).ok_or(too_large.clone())?;
    if tokens > 1 && !(bytes as u64).is_multiple_of(multiple) {
        return Err(CudaError::Alignment { what, multiple }.into());
    }
    let least = extent(tokens, stride, features).and_then(|least| least.checked_mul(size));
    let found = buffer.bytes();
    if found < least.ok_or(too_large)? || (tokens > 1 && stride < features) {
        let found = found / size;
        return Err(KernelError::View { what, found, tokens, stride, features });
    }
    Ok(())
}

impl Element {
    /// Elements from a token to the next of so many features, as kernels want them.
    pub fn stride(self, features: usize) -> Option<usize> {
        features.checked_next_multiple_of(16 / self.bytes())
    }
}
