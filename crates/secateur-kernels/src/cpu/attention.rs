//! How does one head run? Four queries at a time: scores, softmax, weighted values.
//!
//! ```text
//!   q [4][d]  ×  kᵀ [d][tokens]  →  p [4][tokens]  ×  v [tokens][d]  →  out [4][d]
//! ```
//!
//! Both products are one micro-kernel: R rows times C vectors of sums, a splat of the left side times
//! vectors of the right. What pads a vector is computed and never read.

use super::simd::{Portable, Simd};
use crate::{Tier, elementwise::exp_row, lines::Lines};
use std::cell::RefCell;

/// One head of one sequence: where its first number is in `[tokens, stride]`, and its tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub at: usize,
    pub tokens: usize,
}

/// Queries that share each load of a key or value.
const ROWS: usize = 4;

/// Attention of one head of `(features, stride)`.
///
/// # Safety
///
/// The machine has `tier`. From `head.at` on, `head.tokens` rows of `features` numbers, `stride` apart,
/// lie in each slice and at `out`, where nobody else writes or reads them.
pub(crate) unsafe fn run(
    tier: Tier,
    head: Head,
    shape: (usize, usize),
    qkv: [&[f32]; 3],
    out: *mut f32,
) {
    match tier {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the tier; the rest is the caller's promise.
        Tier::Avx512 => unsafe { avx512(head, shape, qkv, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Tier::Avx2 => unsafe { avx2(head, shape, qkv, out) },
        // SAFETY: plain Rust needs no feature.
        _ => unsafe { head_on::<Portable, false>(head, shape, qkv, out) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,bmi2,fma")]
unsafe fn avx512(head: Head, shape: (usize, usize), qkv: [&[f32]; 3], out: *mut f32) {
    // SAFETY: this function has the features.
    unsafe { head_on::<super::avx512::Avx512, true>(head, shape, qkv, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi2")]
unsafe fn avx2(head: Head, shape: (usize, usize), qkv: [&[f32]; 3], out: *mut f32) {
    // SAFETY: this function has the features.
    unsafe { head_on::<super::avx2::Avx2, true>(head, shape, qkv, out) }
}

thread_local! {
    /// Keys, values, and scores with results, kept from call to call.
    static SCRATCH: RefCell<[Lines; 3]> = RefCell::default();
}

/// # Safety
///
/// As [`run`], and the instructions of `S` are enabled in the caller.
#[inline(always)]
unsafe fn head_on<S: Simd, const FMA: bool>(
    Head { at, tokens }: Head,
    (features, stride): (usize, usize),
    [q, k, v]: [&[f32]; 3],
    out: *mut f32,
) {
    let wide_tokens = tokens.next_multiple_of(S::LANES);
    let wide_features = features.next_multiple_of(S::LANES);
    // Taken and put back, not borrowed in a closure: a closure would be compiled without `S`.
    let mut scratch = SCRATCH.take();
    let [keys, values, rows] = &mut scratch;
    keys.grow(wide_features * wide_tokens);
    values.grow(tokens * wide_features);
    rows.grow(ROWS * (wide_tokens + wide_features));
    let (keys, values, scores) =
        (keys.as_mut_ptr::<f32>(), values.as_mut_ptr::<f32>(), rows.as_mut_ptr::<f32>());
    let scale = 1.0 / (features as f32).sqrt();
    // SAFETY: `k` and `v` hold the head's rows by the caller's promise. The scratch was grown to kᵀ
    // [wide_features][wide_tokens], v [tokens][wide_features], ROWS rows of scores and then ROWS of
    // results; rows `first..first + count` are below `tokens`.
    unsafe {
        transpose::<S>(k.as_ptr().add(at), stride, (tokens, features), keys, wide_tokens);
        for token in 0..tokens {
            let to = values.add(token * wide_features);
            to.copy_from_nonoverlapping(v.as_ptr().add(at + token * stride), features);
            to.add(features).write_bytes(0, wide_features - features);
        }
        let results = scores.add(ROWS * wide_tokens);
        for first in (0..tokens).step_by(ROWS) {
            let count = ROWS.min(tokens - first);
            let queries = q.as_ptr().add(at + first * stride);
            let keys = (keys.cast_const(), wide_tokens);
            product::<S>(queries, stride, count, features, keys, scores);
            let mut scales = [0.0; ROWS];
            for row in 0..count {
                let scores = std::slice::from_raw_parts_mut(scores.add(row * wide_tokens), tokens);
                scales[row] = 1.0 / exp_row::<FMA>(scores, scale);
            }
            let values = (values.cast_const(), wide_features);
            product::<S>(scores, wide_tokens, count, tokens, values, results);
            for row in 0..count {
                let from = std::slice::from_raw_parts(results.add(row * wide_features), features);
                let to = out.add(at + (first + row) * stride);
                for (i, value) in from.iter().enumerate() {
                    *to.add(i) = value * scales[row];
                }
            }
        }
    }
    SCRATCH.set(scratch);
}

/// `out[row][..width] = Σ a[row · stride + i] · b[i][..width]` for `count` rows, `i` up to `depth`.
///
/// # Safety
///
/// `S` runs here; `a` holds the rows, `b` `[depth][width]`, and `out` is writable for `count · width`;
/// `width`, the second part of `b`, is a multiple of `S::LANES`.
#[inline(always)]
unsafe fn product<S: Simd>(
    a: *const f32,
    stride: usize,
    count: usize,
    depth: usize,
    (b, width): (*const f32, usize),
    out: *mut f32,
) {
    // SAFETY: tiles cover vectors below `width` and rows below `count`.
    unsafe {
        let mut column = 0;
        while column < width {
            let left = (width - column) / S::LANES;
            let (b, out) = (b.add(column), out.add(column));
            // Four vectors of four rows want more than sixteen registers.
            let vectors = match left {
                1 => 1,
                2 | 3 => 2,
                _ if S::LANES == 16 => 4,
                _ => 2,
            };
            if count == ROWS {
                match vectors {
                    1 => tile::<S, ROWS, 1>(a, stride, depth, b, width, out),
                    2 => tile::<S, ROWS, 2>(a, stride, depth, b, width, out),
                    _ => tile::<S, ROWS, 4>(a, stride, depth, b, width, out),
                }
            } else {
                for row in 0..count {
                    let (a, out) = (a.add(row * stride), out.add(row * width));
                    match vectors {
                        1 => tile::<S, 1, 1>(a, stride, depth, b, width, out),
                        2 => tile::<S, 1, 2>(a, stride, depth, b, width, out),
                        _ => tile::<S, 1, 4>(a, stride, depth, b, width, out),
                    }
                }
            }
            column += vectors * S::LANES;
        }
    }
}

/// R rows and C vectors of [`product`].
///
/// # Safety
///
/// As there, with `R` rows and `C` vectors at `a`, `b` and `out`.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const C: usize>(
    a: *const f32,
    stride: usize,
    depth: usize,
    b: *const f32,
    width: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promise, number for number.
    unsafe {
        let mut sums = [[S::zero(); C]; R];
        for i in 0..depth {
            let mut vectors = [S::zero(); C];
            for c in 0..C {
                vectors[c] = S::load(b.add(i * width + c * S::LANES));
            }
            for r in 0..R {
                let splat = S::splat(*a.add(r * stride + i));
                for c in 0..C {
                    sums[r][c] = S::mul_add(splat, vectors[c], sums[r][c]);
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                S::store(out.add(r * width + c * S::LANES), sums[r][c]);
            }
        }
    }
}

/// `to[feature][token] = from[token · stride + feature]`, tokens padded with anything.
///
/// # Safety
///
/// `S` runs here; `from` holds `tokens` rows of `features`; `to` is writable for `features · width`,
/// and `width` is `tokens` rounded up to whole vectors.
#[inline(always)]
unsafe fn transpose<S: Simd>(
    from: *const f32,
    stride: usize,
    (tokens, features): (usize, usize),
    to: *mut f32,
    width: usize,
) {
    // SAFETY: whole tiles read LANES rows below `tokens` and LANES columns below `features`; what is
    // left goes number by number.
    unsafe {
        let whole = features / S::LANES * S::LANES;
        for t in (0..tokens).step_by(S::LANES) {
            let mut ragged = 0;
            if t + S::LANES <= tokens {
                let mut tile = [S::zero(); 16];
                for f in (0..whole).step_by(S::LANES) {
                    for i in 0..S::LANES {
                        tile[i] = S::load(from.add((t + i) * stride + f));
                    }
                    S::transpose(&mut tile[..S::LANES]);
                    for i in 0..S::LANES {
                        S::store(to.add((f + i) * width + t), tile[i]);
                    }
                }
                ragged = whole;
            }
            for f in ragged..features {
                for t in t..tokens.min(t + S::LANES) {
                    *to.add(f * width + t) = *from.add(t * stride + f);
                }
            }
        }
    }
}
