//! One task of a product that rounds its activations: pack, multiply, scale, unpack.

use super::{LANES, MOST, Rounding, kernel, pack, panel_len};
use crate::{
    Activation,
    cpu::{
        avx512::Avx512,
        drive::{BLOCK_ROWS, Output, Task, finish, panel_rows},
        n_of_m::NOfM,
        panel::unpack,
    },
    lines::Lines,
};
use std::{arch::x86_64::*, cell::RefCell, ptr::null};

thread_local! {
    /// Pairs and sums, kept from call to call.
    static SCRATCH: RefCell<(Lines, Lines)> = RefCell::default();
}

/// All tokens of the task, whose f32 panel is `[panel_rows][width]`.
///
/// # Safety
///
/// As for [`Job::on`](crate::cpu::drive::Job::on); the machine has the instructions of `rounding`, and
/// the weight is 2:4 of the matching kind.
pub(in crate::cpu) unsafe fn run(
    task: &Task<'_>,
    rounding: Rounding,
    weight: &NOfM,
    panel: *const f32,
    width: usize,
) {
    for from in (0..width).step_by(MOST * LANES) {
        // SAFETY: handed on to the caller; the vectors from `from` on lie in the panel.
        unsafe {
            match (rounding, (width - from) / LANES) {
                (Rounding::Bf16, 1) => vectors::<1, true>(task, weight, panel, width, from),
                (Rounding::Bf16, 2) => vectors::<2, true>(task, weight, panel, width, from),
                (Rounding::Bf16, _) => vectors::<4, true>(task, weight, panel, width, from),
                (Rounding::I8, 1) => vectors::<1, false>(task, weight, panel, width, from),
                (Rounding::I8, 2) => vectors::<2, false>(task, weight, panel, width, from),
                (Rounding::I8, _) => vectors::<4, false>(task, weight, panel, width, from),
            }
        }
    }
}

/// `V` vectors of tokens, from token `from` of the panel on.
///
/// # Safety
///
/// As for [`run`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,fma")]
unsafe fn vectors<const V: usize, const BF16: bool>(
    task: &Task<'_>,
    weight: &NOfM,
    panel: *const f32,
    width: usize,
    from: usize,
) {
    let (rows, cols, of) = (weight.rows, weight.cols, V * LANES);
    let tokens = task.cut.tokens.saturating_sub(from).min(of);
    let (mut pair_lines, mut sum_lines) = SCRATCH.take();
    pair_lines.grow(panel_len(cols, V));
    sum_lines.grow(BLOCK_ROWS * of);
    let (pairs, sums) = (pair_lines.as_mut_ptr::<i32>(), sum_lines.as_mut_ptr::<f32>());
    let mut scales = [1.0_f32; MOST * LANES];
    // SAFETY: pairs and sums were grown; the panel has whole words of columns; rows of `y` are the task's.
    unsafe {
        let padded = panel_rows(cols) - 1;
        pack::<V, BF16>(panel.add(from), width, padded, pairs, scales.as_mut_ptr());
        for block in task.blocks.clone() {
            let first = block * BLOCK_ROWS;
            let in_block = BLOCK_ROWS.min(rows - first);
            kernel::block::<V, BF16>(weight, block, pairs, sums);
            if !BF16 {
                scale::<V>(sums, weight, first, in_block, &scales);
            }
            let mut bias = task.call.epilogue.bias.map_or(null(), |bias| bias[first..].as_ptr());
            let activation = task.call.epilogue.activation;
            match task.call.y {
                Output::Panels(y) => {
                    finish::<Avx512>(task.call.tier, sums, in_block, of, bias, activation);
                    let y = y.add(task.cut.first * panel_rows(rows) + first * width + from);
                    for row in 0..in_block {
                        y.add(row * width).copy_from_nonoverlapping(sums.add(row * of), of);
                    }
                }
                Output::Tokens { y, stride } => {
                    if activation != Activation::None {
                        finish::<Avx512>(task.call.tier, sums, in_block, of, bias, activation);
                        bias = null();
                    }
                    let y = y.wrapping_add((task.cut.first + from) * stride + first);
                    unpack::<Avx512>(sums, in_block, of, bias, y, stride, tokens);
                }
            }
        }
    }
    SCRATCH.set((pair_lines, sum_lines));
}

/// Sums of whole numbers to f32: times the scale of the row and that of the token.
///
/// # Safety
///
/// `sums` holds i32 for `rows` rows of `V · 16`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn scale<const V: usize>(
    sums: *mut f32,
    weight: &NOfM,
    first: usize,
    rows: usize,
    scales: &[f32; MOST * LANES],
) {
    for row in 0..rows {
        let of_row = weight.scales.as_ref().map_or(1.0, |scales| scales[first + row]);
        for v in 0..V {
            // SAFETY: the row's vector, and whole vectors of the scales.
            unsafe {
                let at = sums.add((row * V + v) * LANES);
                let sum = _mm512_cvtepi32_ps(_mm512_loadu_si512(at.cast()));
                let scale = _mm512_loadu_ps(scales.as_ptr().add(v * LANES));
                let scale = _mm512_mul_ps(scale, _mm512_set1_ps(of_row));
                _mm512_storeu_ps(at, _mm512_mul_ps(sum, scale));
            }
        }
    }
}
