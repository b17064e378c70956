//! What happens to activations between two products? The softmax, the layer norm and GELU, so cheap that
//! products stay what a transformer spends its time on.
//!
//! Plain loops over sixteen lanes, compiled once per tier: the compiler makes vectors of them. No
//! function here calls the mathematical library, which works number by number.

use crate::{Dispatcher, KernelError, Tier};
use rayon::prelude::*;

/// Lanes of a partial sum: one AVX-512 register, two of AVX2, four of SSE2.
const LANES: usize = 16;
/// Numbers below which a second thread costs more than it brings.
const PARALLEL: usize = 1 << 16;

/// Compiles `$on` for every tier and hands `$name` to the one that the dispatcher found.
macro_rules! per_tier {
    ($name:ident = $on:ident($($arg:ident: $type:ty),*)) => {
        pub(crate) fn $name(tier: Tier, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,bmi2,fma")]
            fn avx512($($arg: $type),*) {
                $on::<true>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi2")]
            fn avx2($($arg: $type),*) {
                $on::<true>($($arg),*);
            }
            match tier {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: tiers come from a dispatcher, which has one only where it was detected.
                Tier::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Tier::Avx2 => unsafe { avx2($($arg),*) },
                _ => $on::<false>($($arg),*),
            }
        }
    };
}

per_tier!(gelu_tier = gelu_on(xs: &mut [f32]));
per_tier!(softmax_tier = softmax_on(rows: &mut [f32], width: usize));
per_tier!(norm_tier = norm_on(x: &mut [f32], residual: Option<&[f32]>, norm: Norm<'_>));

/// Replaces each number by `x · Φ(x) = x / 2 · (1 + erf(x / √2))` (Hendrycks & Gimpel 2016), the exact
/// GELU: within 1e-6 for all `x`, or half a unit in the last place.
///
/// ```
/// use secateur_kernels::{Dispatcher, elementwise};
///
/// let mut x = [-1.0, 0.0, 1.0];
/// elementwise::gelu(&Dispatcher::probe()?, &mut x);
/// assert!((x[0] + 0.158655).abs() < 1e-6 && x[1] == 0.0 && (x[2] - 0.841345).abs() < 1e-6);
/// # Ok::<(), secateur_kernels::KernelError>(())
/// ```
pub fn gelu(dispatcher: &Dispatcher, xs: &mut [f32]) {
    let tier = dispatcher.tier();
    let chunk = share(xs.len(), LANES);
    if chunk >= xs.len() {
        return gelu_tier(tier, xs);
    }
    xs.par_chunks_mut(chunk).for_each(|xs| gelu_tier(tier, xs));
}

/// Replaces each row of `width` numbers by its softmax; what lies 87 or more below the largest, minus
/// infinity too, counts as if it lay 87 below (1.6e-38 of it). Errors unless `rows` is whole rows.
pub fn softmax_rows(
    dispatcher: &Dispatcher,
    rows: &mut [f32],
    width: usize,
) -> Result<(), KernelError> {
    whole("rows", rows.len(), width)?;
    let tier = dispatcher.tier();
    let chunk = share(rows.len(), width);
    if chunk >= rows.len() {
        softmax_tier(tier, rows, width);
    } else {
        rows.par_chunks_mut(chunk).for_each(|rows| softmax_tier(tier, rows, width));
    }
    Ok(())
}

/// `x = (x + residual - mean) / √(variance + epsilon) · weight + bias` for each row as wide as `weight`
/// (Ba et al. 2016): mean and variance (of the population) are the row's own.
///
/// Errors unless `bias` is as long as `weight`, `x` whole rows, and `residual` as long as `x`.
pub fn layer_norm(
    dispatcher: &Dispatcher,
    x: &mut [f32],
    residual: Option<&[f32]>,
    weight: &[f32],
    bias: &[f32],
    epsilon: f32,
) -> Result<(), KernelError> {
    let width = weight.len();
    whole("x", x.len(), width)?;
    length("bias", bias.len(), width)?;
    length("residual", residual.map_or(x.len(), <[f32]>::len), x.len())?;
    let (tier, norm) = (dispatcher.tier(), Norm { weight, bias, epsilon });
    let chunk = share(x.len(), width);
    if chunk >= x.len() {
        norm_tier(tier, x, residual, norm);
        return Ok(());
    }
    x.par_chunks_mut(chunk).enumerate().for_each(|(i, x)| {
        let from = i * chunk;
        norm_tier(tier, x, residual.map(|residual| &residual[from..from + x.len()]), norm);
    });
    Ok(())
}

/// Numbers of a thread's share, whole rows of `width`; all of them where one thread is enough.
fn share(len: usize, width: usize) -> usize {
    let threads = rayon::current_num_threads();
    if threads == 1 || len < PARALLEL {
        return len;
    }
    (len / width.max(1)).div_ceil(threads).max(1) * width.max(1)
}

fn length(what: &'static str, found: usize, expected: usize) -> Result<(), KernelError> {
    if found == expected {
        return Ok(());
    }
    Err(KernelError::Length { what, found, expected })
}

/// Errors unless `found` numbers are whole rows of `width`.
fn whole(what: &'static str, found: usize, width: usize) -> Result<(), KernelError> {
    length(what, found, found.checked_div(width).unwrap_or(0) * width)
}

/// The learned part of a layer norm.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
    epsilon: f32,
}

/// `a · b + c`, fused where the processor fuses: elsewhere that would be a call for each number.
#[inline(always)]
fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `c[0] + c[1] x + c[2] x² + …`.
#[inline(always)]
fn polynomial<const FMA: bool, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut sum = c[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = mul_add::<FMA>(sum, x, c[i]);
    }
    sum
}

/// `eˣ` for `x ≤ 0`, within two units in the last place; below -87, where it is 1.6e-38, it stays that.
///
/// `x = n ln 2 + r`: the polynomial gives `eʳ`, and `n`, rounded by adding 1.5 · 2²³ so that it lies in
/// the low bits, is added to the exponent.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts: the first has few enough bits that `n` times it is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Not `max`, which would turn NaN into a number.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = mul_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<FMA>(n, -LN_2[1], mul_add::<FMA>(n, -LN_2[0], x));
    // Of least error on ± ln 2 / 2 (Cephes, Moshier 1989).
    let tail = [0.5, 1.666_666_5e-1, 4.166_579_6e-2, 8.333_452e-3, 1.398_2e-3, 1.987_569_2e-4];
    let p = mul_add::<FMA>(polynomial::<FMA, 6>(r, tail), r * r, r) + 1.0;
    let scaled = f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23));
    // Adding to a NaN's bits could make a number of it.
    if x.is_nan() { x } else { scaled }
}

/// `x Φ(x)` as `max(x, 0)` less a tail that is the same on both sides, `|x| / 2 · erfc(|x| / √2)`, so that
/// nothing cancels.
///
/// erfc is `e^(-z²)` times a polynomial in `1 / (1 + p z)` (Abramowitz & Stegun 7.1.26, within 1.5e-7).
#[inline(always)]
fn gelu_of<const FMA: bool>(x: f32) -> f32 {
    const P: f32 = 0.327_591_1;
    /// Half the published coefficients, for half the tail.
    const HALVES: [f32; 5] = [0.127_414_8, -0.142_248_37, 0.710_706_9, -0.726_576, 0.530_702_7];
    let size = x.abs();
    // Beyond 12 the tail is below 1e-30, and infinity times zero would be NaN. Not `min`, see above.
    let size = if size > 12.0 { 12.0 } else { size };
    let t = 1.0 / mul_add::<FMA>(P * std::f32::consts::FRAC_1_SQRT_2, size, 1.0);
    let tail = t * polynomial::<FMA, 5>(t, HALVES) * exp::<FMA>(-0.5 * size * size);
    let above = if x > 0.0 { x } else { 0.0 };
    mul_add::<FMA>(-size, tail, above)
}

#[inline(always)]
fn gelu_on<const FMA: bool>(xs: &mut [f32]) {
    for x in xs {
        *x = gelu_of::<FMA>(*x);
    }
}

#[inline(always)]
fn softmax_on<const FMA: bool>(rows: &mut [f32], width: usize) {
    for row in rows.chunks_exact_mut(width.max(1)) {
        let scale = 1.0 / exp_row::<FMA>(row, 1.0);
        for x in row {
            *x *= scale;
        }
    }
}

/// Replaces `x` by `e^(scale (x - max))`, for a scale above zero, and returns the sum: a softmax, but
/// for the division.
#[inline(always)]
pub(crate) fn exp_row<const FMA: bool>(row: &mut [f32], scale: f32) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            most[i] = if chunk[i] > most[i] { chunk[i] } else { most[i] };
        }
    }
    let most = most.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let offset = -most * scale;
    for x in &mut *row {
        *x = exp::<FMA>(mul_add::<FMA>(*x, scale, offset));
    }
    // A pass of its own: sums in a loop as long as the one above would be kept in memory.
    sum_of(row, |x| x)
}

/// The sum of all lanes, pairwise.
#[inline(always)]
fn total(lanes: [f32; LANES]) -> f32 {
    let (mut eight, mut four) = ([0.0; 8], [0.0; 4]);
    for i in 0..8 {
        eight[i] = lanes[i] + lanes[i + 8];
    }
    for i in 0..4 {
        four[i] = eight[i] + eight[i + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

#[inline(always)]
fn norm_on<const FMA: bool>(x: &mut [f32], residual: Option<&[f32]>, norm: Norm<'_>) {
    let width = norm.weight.len().max(1);
    let count = width as f32;
    for (row, x) in x.chunks_exact_mut(width).enumerate() {
        if let Some(residual) = residual {
            for (x, add) in x.iter_mut().zip(&residual[row * width..(row + 1) * width]) {
                *x += add;
            }
        }
        let mean = sum_of(x, |x| x) / count;
        let variance = sum_of(x, |x| (x - mean) * (x - mean)) / count;
        let scale = 1.0 / (variance + norm.epsilon).sqrt();
        for ((x, weight), bias) in x.iter_mut().zip(norm.weight).zip(norm.bias) {
            *x = mul_add::<FMA>((*x - mean) * scale, *weight, *bias);
        }
    }
}

/// The sum of `of(x)` over a row, sixteen partial sums at a time.
#[inline(always)]
fn sum_of(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            sums[i] += of(chunk[i]);
        }
    }
    for (i, x) in rest.iter().enumerate() {
        sums[i] += of(*x);
    }
    total(sums)
}
