//! Does a kernel multiply as the CPU does? Bit patterns in, every sum again in f64, and an error that rounding
//! explains or does not.

use super::Verdict;
use crate::{
    Activation, KernelError,
    cuda::{
        CudaKernel, Device, DeviceEpilogue, DeviceView, DeviceViewMut, DeviceWeight,
        element::Element, multiply, random::Random,
    },
};
use half::{bf16, f16};
use rayon::prelude::*;
use secateur_storage::{Dense, Format, Packed, Values};
use std::fmt;

/// One product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProductCheck {
    pub(super) kernel: CudaKernel,
    pub(super) element: Element,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) tokens: usize,
    pub(super) bias: bool,
    pub(super) activation: Activation,
    /// Elements between tokens beyond those that alignment asks for.
    pub(super) apart: usize,
}

impl fmt::Display for ProductCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, cols, tokens, bias, activation, apart, .. } = self;
        let bias = if *bias { ", bias" } else { "" };
        let activation = format!("{activation:?}").to_lowercase();
        write!(
            f,
            "{} {rows}x{cols}, {tokens} tokens{bias}, {activation}, {apart} apart",
            self.name()
        )
    }
}

/// What stands where no output belongs. As bf16 and f16 both a number that no check computes.
const UNTOUCHED: u16 = 0x7BAD;

impl ProductCheck {
    /// The kernel of the product.
    pub fn kernel(&self) -> CudaKernel {
        self.kernel
    }

    pub(super) fn name(&self) -> String {
        format!("{} {}", self.kernel, self.element.name())
    }

    pub(super) fn run(&self, device: &Device) -> Result<Verdict, KernelError> {
        let Self { element, rows, cols, tokens, .. } = *self;
        let mut random = Random((rows * 1_000_003 + cols * 1009 + tokens) as u64);
        let numbers = Numbers::new(self, &mut random)?;
        let weight = DeviceWeight::upload(&numbers.packed, device)?;

        let too_large = KernelError::TooLarge { rows, cols, tokens };
        let stride = element.stride(cols + self.apart).ok_or(too_large)?;
        let y_stride = (rows + self.apart).next_multiple_of(4);
        // Between tokens lie NaN, or the largest i8: nothing that a product would forgive.
        let bits = element.bytes();
        let mut x = vec![if bits == 1 { 0x7F } else { 0xFF_u8 }; tokens * stride * bits];
        for (token, line) in x.chunks_exact_mut(stride * bits).enumerate() {
            let from = &numbers.x_bits[token * cols * bits..][..cols * bits];
            line[..cols * bits].copy_from_slice(from);
        }
        let x = device.upload(&x)?;
        let scales =
            (element == Element::I8).then(|| device.upload(&numbers.token_scales)).transpose()?;
        let bias = self.bias.then(|| device.upload(&numbers.bias)).transpose()?;
        let mut y = device.upload(&vec![UNTOUCHED; tokens * y_stride + 64])?;
        let view = DeviceView { buffer: &x, tokens, stride, scales: scales.as_ref() };
        let epilogue = DeviceEpilogue { bias: bias.as_ref(), activation: self.activation };
        let mut out = DeviceViewMut { buffer: &mut y, stride: y_stride };
        multiply(self.kernel, &weight, &view, &epilogue, &mut out)?;
        let mut found = vec![0_u16; tokens * y_stride + 64];
        y.read(&mut found)?;
        Ok(numbers.compare(self, &found, y_stride))
    }
}

/// The operands, as bits for the device and as numbers for the CPU.
struct Numbers {
    packed: Packed,
    /// Kept columns and their weights, row after row.
    entries: Vec<Vec<(usize, f64)>>,
    x: Vec<f64>,
    x_bits: Vec<u8>,
    row_scales: Vec<f32>,
    token_scales: Vec<f32>,
    bias: Vec<f32>,
}

impl Numbers {
    fn new(check: &ProductCheck, random: &mut Random) -> Result<Self, KernelError> {
        let ProductCheck { element, rows, cols, tokens, .. } = *check;
        let (weights, _) = draw(element, rows * cols, random);
        // Two of every four columns at most, now and then fewer.
        let mut keep = vec![false; rows * cols];
        for row in keep.chunks_exact_mut(cols) {
            for group in row.chunks_mut(4) {
                for _ in 0..2 {
                    group[random.below(group.len())] = true;
                }
            }
        }
        let (weights, dense) = cut(element, weights, &keep);
        let row_scales: Vec<f32> = (0..rows).map(|_| 0.004 + 0.003 * random.symmetric()).collect();
        let dense =
            if element == Element::I8 { dense.with_scales(row_scales.clone())? } else { dense };
        let dense = Dense::new(dense, &[rows, cols])?;
        let packed = Packed::pack_as(&dense, &dense.nonzero()?, Format::TWO_OF_FOUR)?;
        let kept = |row: &[f64]| {
            row.iter().copied().enumerate().filter(|(_, weight)| *weight != 0.0).collect()
        };
        let entries = weights.chunks_exact(cols).map(kept).collect();
        let (x, x_bits) = draw(element, tokens * cols, random);
        let token_scales = (0..tokens).map(|_| 0.01 + 0.005 * random.symmetric()).collect();
        let bias = (0..rows).map(|_| random.symmetric()).collect();
        Ok(Self { packed, entries, x, x_bits, row_scales, token_scales, bias })
    }

    fn compare(&self, check: &ProductCheck, found: &[u16], y_stride: usize) -> Verdict {
        let ProductCheck { element, rows, cols, tokens, .. } = *check;
        let scaled = element == Element::I8;
        let lines = found.par_chunks_exact(y_stride).take(tokens).enumerate();
        let verdicts = lines.map(|(token, line)| {
            let x = &self.x[token * cols..][..cols];
            let mut worst = 0.0_f64;
            for (row, bits) in line[..rows].iter().enumerate() {
                let products = self.entries[row].iter().map(|(col, weight)| weight * x[*col]);
                let (sum, size) = products.fold((0.0, 0.0), |(sum, size), product: f64| {
                    (sum + product, size + product.abs())
                });
                let scale = match scaled {
                    true => f64::from(self.row_scales[row]) * f64::from(self.token_scales[token]),
                    false => 1.0,
                };
                let bias = if check.bias { f64::from(self.bias[row]) } else { 0.0 };
                let value = sum * scale + bias;
                // f32 sums: an ulp of all there is to add for each instruction of 32 columns; i8 adds exactly.
                let steps = if scaled { 0 } else { cols.div_ceil(32) + 1 };
                let ulp = f64::from(f32::EPSILON);
                let summed = (steps as f64 * size * scale + 4.0 * (value.abs() + bias.abs())) * ulp;
                worst = worst.max(share(element, check.activation, *bits, value, summed));
            }
            let stray = line[rows..].iter().filter(|bits| **bits != UNTOUCHED).count();
            Verdict { compared: rows, worst, stray }
        });
        let sum = verdicts.reduce(Verdict::default, |a, b| Verdict {
            compared: a.compared + b.compared,
            // A NaN is an error, and the larger one.
            worst: if a.worst >= b.worst { a.worst } else { b.worst },
            stray: a.stray + b.stray,
        });
        let behind = found[tokens * y_stride..].iter().filter(|bits| **bits != UNTOUCHED).count();
        Verdict { stray: sum.stray + behind, ..sum }
    }
}

/// The error of an output as a share of what rounding explains: `summed` before the activation, whose slope is at
/// most 1.13, then half a unit in the last place of the output.
fn share(element: Element, activation: Activation, bits: u16, value: f64, summed: f64) -> f64 {
    let (found, half_ulp, least) = match element {
        Element::F16 => (f16::from_bits(bits).to_f64(), 2.0_f64.powi(-11), 2.0_f64.powi(-25)),
        _ => (bf16::from_bits(bits).to_f64(), 2.0_f64.powi(-8), f64::from(f32::MIN_POSITIVE)),
    };
    let expected = match activation {
        Activation::None => value,
        Activation::Relu => value.max(0.0),
        Activation::Gelu => 0.5 * value * (1.0 + erf(value / std::f64::consts::SQRT_2)),
    };
    let gelu = if activation == Activation::Gelu { 4.0 * f64::from(f32::EPSILON) } else { 0.0 };
    let explained = 1.13 * summed + gelu * value.abs();
    let error = (found - expected).abs();
    let share = error / (explained + (expected.abs() + explained) * half_ulp + least);
    // max() would lose it.
    if share.is_nan() { f64::INFINITY } else { share }
}

/// `erf` in f64 from its series (Abramowitz & Stegun 7.1.6), 1 beyond where f64 tells it from 1.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum * (-x * x).exp() * 2.0 / std::f64::consts::PI.sqrt()
}

/// Random numbers that the type holds exactly, and their bits.
fn draw(element: Element, count: usize, random: &mut Random) -> (Vec<f64>, Vec<u8>) {
    let mut bytes = Vec::with_capacity(count * element.bytes());
    let numbers = (0..count).map(|_| match element {
        Element::F16 => {
            let value = f16::from_f32(random.symmetric());
            bytes.extend(value.to_bits().to_le_bytes());
            value.to_f64()
        }
        Element::Bf16 => {
            let value = bf16::from_f32(random.symmetric());
            bytes.extend(value.to_bits().to_le_bytes());
            value.to_f64()
        }
        Element::I8 => {
            let value = random.word() as i8;
            bytes.extend(value.to_le_bytes());
            f64::from(value)
        }
    });
    let numbers = numbers.collect();
    (numbers, bytes)
}

/// The weights that are kept, the others zero, as numbers and as elements.
fn cut(element: Element, mut weights: Vec<f64>, keep: &[bool]) -> (Vec<f64>, Values) {
    weights.iter_mut().zip(keep).filter(|(_, keep)| !**keep).for_each(|(weight, _)| *weight = 0.0);
    let values = match element {
        Element::F16 => weights.iter().map(|w| f16::from_f64(*w)).collect::<Vec<_>>().into(),
        Element::Bf16 => weights.iter().map(|w| bf16::from_f64(*w)).collect::<Vec<_>>().into(),
        Element::I8 => weights.iter().map(|w| *w as i8).collect::<Vec<_>>().into(),
    };
    (weights, values)
}
