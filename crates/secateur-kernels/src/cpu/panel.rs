//! How do activations get under the lanes? Tokens are transposed into panels and back.
//!
//! A kernel runs many tokens at once, one per lane. So `x` `[tokens, cols]` is packed once per panel
//! into `[col][token]`, and the result `[row][token]` is transposed back into `y` `[tokens, rows]`,
//! with the bias added on the way.

use super::simd::Simd;

/// Packs `tokens ≤ width` rows of `x` (row stride `cols`) into `panel`, `[cols][width]`; missing
/// tokens become zeros.
///
/// # Safety
///
/// `S` runs here. `x` is readable for `tokens · cols` and `panel` writable for `cols · width`;
/// `width` is a multiple of `S::LANES`.
#[inline(always)]
pub(super) unsafe fn pack<S: Simd>(
    x: *const f32,
    cols: usize,
    tokens: usize,
    panel: *mut f32,
    width: usize,
) {
    // SAFETY: whole tiles read LANES tokens from t0 and LANES columns from c0, both within bounds by
    // the loop conditions; the rest goes number by number. Writes stay below cols · width.
    unsafe {
        let whole_cols = cols / S::LANES * S::LANES;
        for t0 in (0..width).step_by(S::LANES) {
            let ragged_from = if t0 + S::LANES <= tokens {
                let mut tile = [S::zero(); 16];
                for c0 in (0..whole_cols).step_by(S::LANES) {
                    for (t, row) in tile[..S::LANES].iter_mut().enumerate() {
                        *row = S::load(x.add((t0 + t) * cols + c0));
                    }
                    S::transpose(&mut tile[..S::LANES]);
                    for (c, col) in tile[..S::LANES].iter().enumerate() {
                        S::store(panel.add((c0 + c) * width + t0), *col);
                    }
                }
                whole_cols
            } else {
                0
            };
            for col in ragged_from..cols {
                for t in t0..t0 + S::LANES {
                    let value = if t < tokens { *x.add(t * cols + col) } else { 0.0 };
                    *panel.add(col * width + t) = value;
                }
            }
        }
    }
}

/// Transposes `sums` `[rows][width]` into `tokens` rows of `y` (row stride `stride`), adding `bias`.
///
/// # Safety
///
/// `S` runs here. `sums` is readable for `rows · width`, `bias` (if not null) for `rows`, and row
/// `t` of `y` writable for `rows`, for each `t < tokens ≤ width`.
#[inline(always)]
pub(super) unsafe fn unpack<S: Simd>(
    sums: *const f32,
    rows: usize,
    width: usize,
    bias: *const f32,
    y: *mut f32,
    stride: usize,
    tokens: usize,
) {
    // SAFETY: whole tiles cover LANES rows and LANES tokens within bounds by the loop conditions;
    // what is left goes number by number.
    unsafe {
        let whole_rows = rows / S::LANES * S::LANES;
        let whole_tokens = tokens / S::LANES * S::LANES;
        let mut tile = [S::zero(); 16];
        for t0 in (0..whole_tokens).step_by(S::LANES) {
            for r0 in (0..whole_rows).step_by(S::LANES) {
                for (r, row) in tile[..S::LANES].iter_mut().enumerate() {
                    *row = S::load(sums.add((r0 + r) * width + t0));
                }
                S::transpose(&mut tile[..S::LANES]);
                let add = if bias.is_null() { S::zero() } else { S::load(bias.add(r0)) };
                for (t, token) in tile[..S::LANES].iter().enumerate() {
                    S::store(y.add((t0 + t) * stride + r0), S::add(*token, add));
                }
            }
        }
        for t in 0..tokens {
            for r in if t < whole_tokens { whole_rows } else { 0 }..rows {
                let add = if bias.is_null() { 0.0 } else { *bias.add(r) };
                *y.add(t * stride + r) = *sums.add(r * width + t) + add;
            }
        }
    }
}
