//! What do these tests multiply, and what should come out? Weights and activations from a seed, and sums in f64.

use crate::common::{self, numbers, yardstick::erf};
use half::{bf16, f16};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{
    Activation, KernelError,
    cuda::{
        CudaKernel, Device, DeviceBuffer, DeviceEpilogue, DeviceView, DeviceViewMut, DeviceWeight,
        multiply,
    },
    reference,
};
use secateur_storage::{Dtype, Packed};

/// What the kernels take.
pub const DTYPES: [Dtype; 3] = [Dtype::F16, Dtype::BF16, Dtype::I8];

/// What stands where no output belongs.
pub const UNTOUCHED: u16 = 0x7BAD;

/// A 2:4 weight at random; I8 with a scale for each row.
pub fn weight(dtype: Dtype, shape: [usize; 2]) -> Packed {
    common::weight(&mut rng(shape), shape, ("2:4", "2:4", 0.5), dtype)
}

/// Numbers in -1 to 1, others for every shape.
pub fn activations([tokens, features]: [usize; 2]) -> Vec<f32> {
    numbers(&mut rng([features, tokens]), tokens * features)
}

fn rng([a, b]: [usize; 2]) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64((a * 1_000_003 + b) as u64)
}

/// Elements of a type from a token to the next, as kernels want them.
pub fn stride(dtype: Dtype, cols: usize) -> usize {
    cols.next_multiple_of(128 / dtype.bitsize())
}

/// Activations as they are for the device: rounded, as bytes, a token at a multiple of 16 of them; the scales of I8;
/// and the numbers that both stand for.
pub fn rounded(dtype: Dtype, x: &[f32], cols: usize) -> (Vec<u8>, Option<Vec<f32>>, Vec<f32>) {
    let (mut bytes, mut scales, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for token in x.chunks_exact(cols) {
        let most = token.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let scale = most / 127.0;
        for x in token {
            match dtype {
                Dtype::F16 => {
                    let x = f16::from_f32(*x);
                    bytes.extend(x.to_le_bytes());
                    seen.push(x.to_f32());
                }
                Dtype::BF16 => {
                    let x = bf16::from_f32(*x);
                    bytes.extend(x.to_le_bytes());
                    seen.push(x.to_f32());
                }
                _ => {
                    let x = if scale > 0.0 { (x / scale).round_ties_even() } else { 0.0 };
                    bytes.push(x as i8 as u8);
                    seen.push(x * scale);
                }
            }
        }
        // NaN, or the largest i8, between tokens.
        let end = bytes.len().next_multiple_of(16);
        bytes.resize(end, if dtype == Dtype::I8 { 0x7F } else { 0xFF });
        scales.push(scale);
    }
    (bytes, (dtype == Dtype::I8).then_some(scales), seen)
}

/// A product whose operands lie on a device.
#[derive(Debug)]
pub struct There {
    pub dtype: Dtype,
    pub weight: DeviceWeight,
    pub x: DeviceBuffer,
    pub x_stride: usize,
    pub scales: Option<DeviceBuffer>,
    pub bias: Option<DeviceBuffer>,
    pub y: DeviceBuffer,
    pub y_stride: usize,
    pub tokens: usize,
}

impl There {
    /// A weight and as many tokens, with a bias if there is one.
    pub fn new(
        device: &Device,
        packed: &Packed,
        x: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        let ((rows, cols), dtype) = (packed.matrix(), packed.dtype());
        let (bytes, scales, _) = rounded(dtype, x, cols);
        let (tokens, y_stride) = (x.len() / cols, (rows + 5).next_multiple_of(4));
        Ok(Self {
            dtype,
            weight: DeviceWeight::upload(packed, device)?,
            x: device.upload(&bytes)?,
            x_stride: stride(dtype, cols),
            scales: scales.map(|scales| device.upload(&scales)).transpose()?,
            bias: bias.map(|bias| device.upload(bias)).transpose()?,
            y: device.upload(&vec![UNTOUCHED; tokens * y_stride + 16])?,
            y_stride,
            tokens,
        })
    }

    /// Runs a kernel.
    pub fn multiply(
        &mut self,
        kernel: CudaKernel,
        activation: Activation,
    ) -> Result<(), KernelError> {
        let Self { x, x_stride, scales, bias, y, y_stride, tokens, .. } = self;
        let x =
            DeviceView { buffer: x, tokens: *tokens, stride: *x_stride, scales: scales.as_ref() };
        let epilogue = DeviceEpilogue { bias: bias.as_ref(), activation };
        let mut y = DeviceViewMut { buffer: y, stride: *y_stride };
        multiply(kernel, &self.weight, &x, &epilogue, &mut y)
    }

    /// All that lies where outputs go.
    pub fn bits(&self) -> Vec<u16> {
        let mut bits = vec![0; self.y.bytes() / 2];
        self.y.read(&mut bits).unwrap();
        bits
    }

    /// The outputs, `[tokens, rows]`. Panics if anything lies beside them.
    pub fn outputs(&self) -> Vec<f32> {
        let (rows, bits) = (self.weight.shape()[0], self.bits());
        let lines = bits.chunks(self.y_stride).enumerate();
        let mut outputs = Vec::new();
        for (token, line) in lines {
            let (own, beside) = line.split_at(if token < self.tokens { rows } else { 0 });
            assert!(beside.iter().all(|bits| *bits == UNTOUCHED), "beside token {token}");
            outputs.extend(own.iter().map(|bits| match self.dtype {
                Dtype::F16 => f16::from_bits(*bits).to_f32(),
                _ => bf16::from_bits(*bits).to_f32(),
            }));
        }
        outputs
    }
}

/// Holds outputs against f64 sums over the numbers that the device saw.
#[track_caller]
pub fn hold(
    packed: &Packed,
    x: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    found: &[f32],
    about: &str,
) {
    let (rows, cols) = packed.matrix();
    let tokens = x.len() / cols;
    let (_, _, seen) = rounded(packed.dtype(), x, cols);
    let wanted = reference::product(packed, &seen, tokens);
    assert_eq!(found.len(), wanted.len(), "{about}");
    let half_ulp = if packed.dtype() == Dtype::F16 { 2.0_f64.powi(-11) } else { 2.0_f64.powi(-8) };
    for (at, (found, sum)) in found.iter().zip(wanted).enumerate() {
        let value = sum + bias.map_or(0.0, |bias| f64::from(bias[at % rows]));
        let value = match activation {
            Activation::Relu => value.max(0.0),
            Activation::Gelu => 0.5 * value * (1.0 + erf(value / std::f64::consts::SQRT_2)),
            _ => value,
        };
        // A few hundred products of numbers below one, summed in f32.
        let off = (f64::from(*found) - value).abs();
        let (token, row) = (at / rows, at % rows);
        assert!(
            off <= value.abs() * half_ulp + 2e-5,
            "{about}: token {token}, row {row} is {found}, not {value}"
        );
    }
}
