//! How do activations get under the lanes? Tokens are transposed into panels and back.
//!
//! A kernel runs many tokens at once, one per lane. So `x` `[tokens, cols]` is packed once per panel
//! into `[col][token]`, and the result `[row][token]` is transposed back into `y` `[tokens, rows]`,
//! with the bias added on the way. Inputs in another order cost nothing: a column is written where
//! the weight expects it.

use super::simd::Simd;

/// Packs `tokens ≤ width` rows of `x`, `stride` apart, into `panel`, `[cols][width]`; column `c` goes
/// to `order[c]`, or to `c` if `order` is null. Missing tokens become zeros.
///
/// # Safety
///
/// `S` runs here. Each of the rows of `x` is readable for `cols`; `order`, if not null, holds `cols`
/// numbers; `panel` is writable for `width` numbers at each column's place times `width`; `width` is a multiple of
/// `S::LANES`.
#[inline(always)]
pub(super) unsafe fn pack<S: Simd>(
    x: *const f32,
    stride: usize,
    cols: usize,
    tokens: usize,
    order: *const u32,
    panel: *mut f32,
    width: usize,
) {
    // SAFETY: whole tiles read the tokens that are there from t0 and LANES columns from c0, both within
    // bounds by the loop conditions; the rest goes number by number. Writes go to the places of columns alone.
    unsafe {
        let place = |col: usize| if order.is_null() { col } else { *order.add(col) as usize };
        let whole_cols = cols / S::LANES * S::LANES;
        let mut tile = [S::zero(); 16];
        for t0 in (0..width).step_by(S::LANES) {
            let left = S::LANES.min(tokens.saturating_sub(t0));
            for c0 in (0..whole_cols).step_by(S::LANES) {
                for t in 0..left {
                    tile[t] = S::load(x.add((t0 + t) * stride + c0));
                }
                for missing in &mut tile[left..] {
                    *missing = S::zero();
                }
                S::transpose(&mut tile[..S::LANES]);
                for c in 0..S::LANES {
                    S::store(panel.add(place(c0 + c) * width + t0), tile[c]);
                }
            }
            for col in whole_cols..cols {
                for t in t0..t0 + S::LANES {
                    let value = if t < tokens { *x.add(t * stride + col) } else { 0.0 };
                    *panel.add(place(col) * width + t) = value;
                }
            }
        }
    }
}

/// Transposes `sums` `[rows][width]` into `tokens` rows of `y`, `stride` apart, adding `bias`.
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
    // SAFETY: whole tiles read LANES rows of a whole vector, and write the tokens that are there, all
    // within bounds by the loop conditions; what is left goes number by number.
    unsafe {
        let whole_rows = rows / S::LANES * S::LANES;
        let mut tile = [S::zero(); 16];
        for t0 in (0..tokens).step_by(S::LANES) {
            let left = S::LANES.min(tokens - t0);
            for r0 in (0..whole_rows).step_by(S::LANES) {
                for r in 0..S::LANES {
                    tile[r] = S::load(sums.add((r0 + r) * width + t0));
                }
                S::transpose(&mut tile[..S::LANES]);
                if !bias.is_null() {
                    let add = S::load(bias.add(r0));
                    for t in 0..left {
                        tile[t] = S::add(tile[t], add);
                    }
                }
                for t in 0..left {
                    S::store(y.add((t0 + t) * stride + r0), tile[t]);
                }
            }
            for t in t0..t0 + left {
                for r in whole_rows..rows {
                    let sum = *sums.add(r * width + t);
                    *y.add(t * stride + r) = if bias.is_null() { sum } else { sum + *bias.add(r) };
                }
            }
        }
    }
}
