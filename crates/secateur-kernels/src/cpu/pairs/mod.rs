//! How does 2:4 run on instructions that multiply pairs? Both values of a group in one go.
//!
//! `vdpbf16ps` multiplies two bf16 of each lane with two others and adds both products to an f32;
//! `vpdpwssd` does it with i16 and i32. In 2:4 a pair is what a row keeps of a group of four columns, so
//! its activations are one of six pairs of columns. A panel holds all six,
//!
//! ```text
//! [group of 4 columns][which pair][token] of (x[i], x[j])
//! ```
//!
//! and the four bits that a row's two indices make together say which: `i + 4 j` is 4, 8, 9, 12, 13 or
//! 14. Slots are numbered so, less 4; the five in between are left empty, which costs address space
//! and no cache. Half the instructions of the f32 kernel, with activations rounded to bf16, or to i8 by a
//! scale for each token.

mod kernel;
mod task;

use super::n_of_m::WORD;
use std::arch::x86_64::*;
pub(super) use {super::rounding::Rounding, task::run};

/// Vectors of tokens at a time, at most: six pairs of a word's groups then fill half of L1.
const MOST: usize = 4;
/// Tokens in a vector.
const LANES: usize = 16;
/// Slots of a group.
const SLOTS: usize = 11;
/// The pairs of columns, by slot: `(i, j, i + 4 j - 4)`.
const PAIRS: [(usize, usize, usize); 6] =
    [(0, 1, 0), (0, 2, 4), (1, 2, 5), (0, 3, 8), (1, 3, 9), (2, 3, 10)];

/// 4-byte numbers of a pair panel `vectors` wide.
fn panel_len(cols: usize, vectors: usize) -> usize {
    cols.next_multiple_of(WORD) / 4 * SLOTS * vectors * LANES
}

/// Packs `V` vectors of an f32 panel `[cols][width]`, `cols` a multiple of 4, into pairs. If they are i8,
/// `scales` receives a scale for each token.
///
/// # Safety
///
/// The machine has AVX-512 F, BW, DQ and VL, and BF16 if `BF16`. The vectors of each row of `panel` are
/// readable, `pairs` is writable for [`panel_len`], `scales` for `V · 16`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn pack<const V: usize, const BF16: bool>(
    panel: *const f32,
    width: usize,
    cols: usize,
    pairs: *mut i32,
    scales: *mut f32,
) {
    for v in 0..V {
        // SAFETY: column and vector lie in the panel, group, slot and vector in the pairs.
        unsafe {
            let (panel, pairs) = (panel.add(v * LANES), pairs.add(v * LANES));
            let inverse = if BF16 {
                _mm512_setzero_ps()
            } else {
                let most = largest(panel, width, cols);
                _mm512_storeu_ps(scales.add(v * LANES), _mm512_div_ps(most, _mm512_set1_ps(127.0)));
                let some = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(most, _mm512_setzero_ps());
                _mm512_maskz_div_ps(some, _mm512_set1_ps(127.0), most)
            };
            for group in 0..cols / 4 {
                let mut halves = [_mm512_setzero_si512(); 4];
                for i in 0..4 {
                    let x = _mm512_loadu_ps(panel.add((4 * group + i) * width));
                    halves[i] = if BF16 { to_bf16(x) } else { to_i16(_mm512_mul_ps(x, inverse)) };
                }
                for (i, j, slot) in PAIRS {
                    let pair = _mm512_or_si512(halves[i], _mm512_slli_epi32::<16>(halves[j]));
                    let at = (group * SLOTS + slot) * V * LANES;
                    _mm512_storeu_si512(pairs.add(at).cast(), pair);
                }
            }
        }
    }
}

/// The largest magnitude in each lane of a column of vectors; NaN if one is NaN or infinite.
///
/// # Safety
///
/// As for [`pack`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,fma")]
unsafe fn largest(panel: *const f32, width: usize, cols: usize) -> __m512 {
    let (mut most, mut none) = (_mm512_setzero_ps(), _mm512_setzero_ps());
    for col in 0..cols {
        // SAFETY: the row's vector is readable.
        let x = unsafe { _mm512_loadu_ps(panel.add(col * width)) };
        most = _mm512_max_ps(_mm512_abs_ps(x), most);
        // 0, or NaN for what is no number or infinite.
        none = _mm512_fmadd_ps(x, _mm512_setzero_ps(), none);
    }
    _mm512_add_ps(most, none)
}

/// Rounded to the nearest bf16, ties to even, in the low half of each lane; NaN stays.
///
/// `vcvtneps2bf16` would do, but for subnormal numbers, which it takes for zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn to_bf16(x: __m512) -> __m512i {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let round = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
    let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, round));
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7FC0))
}

/// Rounded to the nearest whole number, in the low half of each lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn to_i16(x: __m512) -> __m512i {
    _mm512_and_si512(_mm512_cvtps_epi32(x), _mm512_set1_epi32(0xFFFF))
}
