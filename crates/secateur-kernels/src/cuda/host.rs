//! How do f32 activations of the host come to a device and back? Rounded to the weight's type, a token at a
//! multiple of 16 bytes.

use super::{
    CudaKernel, Device, DeviceBuffer, DeviceEpilogue, DeviceView, DeviceViewMut, DeviceWeight,
    element::Element, multiply,
};
use crate::{Activation, Epilogue, KernelError, View, ViewMut};
use half::{bf16, f16};
use rayon::prelude::*;

/// Activations, bias and outputs of one product, on a device.
pub(super) struct OnDevice {
    pub x: DeviceBuffer,
    pub x_stride: usize,
    pub scales: Option<DeviceBuffer>,
    pub bias: Option<DeviceBuffer>,
    pub activation: Activation,
    pub y: DeviceBuffer,
    pub y_stride: usize,
}

impl OnDevice {
    /// Uploads `x` and the bias, and makes room for outputs. The caller has checked lengths.
    pub fn upload(
        weight: &DeviceWeight,
        x: View<'_>,
        epilogue: &Epilogue<'_>,
    ) -> Result<Self, KernelError> {
        let ([rows, cols], tokens, device) = (weight.shape, x.tokens, weight.device());
        let too_large = KernelError::TooLarge { rows, cols, tokens };
        let (x_stride, y_stride) = weight.strides();
        let lengths = tokens.checked_mul(x_stride).zip(tokens.checked_mul(2 * y_stride));
        let (x_len, y_bytes) = lengths.ok_or(too_large)?;
        let (x, scales) = round(weight.element, x, [x_len, x_stride, cols], device)?;
        let bias = epilogue.bias.map(|bias| device.upload(bias)).transpose()?;
        let (activation, y) = (epilogue.activation, device.zeros(y_bytes)?);
        Ok(Self { x, x_stride, scales, bias, activation, y, y_stride })
    }

    /// Launches a kernel on them.
    pub fn multiply(
        &mut self,
        kernel: CudaKernel,
        weight: &DeviceWeight,
        tokens: usize,
    ) -> Result<(), KernelError> {
        let Self { x, x_stride, scales, bias, activation, y, y_stride } = self;
        let x = DeviceView { buffer: x, tokens, stride: *x_stride, scales: scales.as_ref() };
        let epilogue = DeviceEpilogue { bias: bias.as_ref(), activation: *activation };
        let mut y = DeviceViewMut { buffer: y, stride: *y_stride };
        multiply(kernel, weight, &x, &epilogue, &mut y)
    }

    /// Downloads the outputs.
    pub fn download(
        &self,
        element: Element,
        rows: usize,
        y: ViewMut<'_>,
    ) -> Result<(), KernelError> {
        let mut bits = vec![0_u16; self.y.bytes() / 2];
        self.y.read(&mut bits)?;
        let widen: fn(u16) -> f32 = match element {
            Element::F16 => |bits| f16::from_bits(bits).to_f32(),
            Element::Bf16 | Element::I8 => |bits| bf16::from_bits(bits).to_f32(),
        };
        for (token, bits) in bits.chunks_exact(self.y_stride.max(1)).enumerate() {
            let to = &mut y.data[token * y.stride..][..rows];
            to.iter_mut().zip(bits).for_each(|(to, bits)| *to = widen(*bits));
        }
        Ok(())
    }
}

/// Rounds activations to the weight's type; those of I8 by a scale for each token, `max |x| / 127`. A token with a NaN
/// or an infinity has the scale NaN, and so becomes NaN altogether.
fn round(
    element: Element,
    x: View<'_>,
    [len, stride, cols]: [usize; 3],
    device: &Device,
) -> Result<(DeviceBuffer, Option<DeviceBuffer>), KernelError> {
    let token = |token: usize| &x.data[token * x.stride..][..cols];
    let half = |round: fn(f32) -> u16| {
        let mut bits = vec![0_u16; len];
        bits.par_chunks_exact_mut(stride.max(1)).enumerate().for_each(|(at, to)| {
            to.iter_mut().zip(token(at)).for_each(|(to, x)| *to = round(*x));
        });
        device.upload(&bits)
    };
    match element {
        Element::F16 => Ok((half(|x| f16::from_f32(x).to_bits())?, None)),
        Element::Bf16 => Ok((half(|x| bf16::from_f32(x).to_bits())?, None)),
        Element::I8 => {
            let (mut bytes, mut scales) = (vec![0_i8; len], vec![0_f32; x.tokens]);
            let lines = bytes.par_chunks_exact_mut(stride.max(1)).zip(&mut scales);
            lines.enumerate().for_each(|(at, (to, scale))| {
                let most = token(at).iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                let finite = token(at).iter().all(|x| x.is_finite());
                *scale = if finite { most / 127.0 } else { f32::NAN };
                // By division: the inverse of a tiny scale is infinite.
                let round =
                    |x: f32| if *scale > 0.0 { (x / *scale).round_ties_even() } else { 0.0 };
                to.iter_mut().zip(token(at)).for_each(|(to, x)| *to = round(*x) as i8);
            });
            Ok((device.upload(&bytes)?, Some(device.upload(&scales)?)))
        }
    }
}
