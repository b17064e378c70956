//! The loop over pairs: one word of columns, two rows and four tokens' vectors at a time.

use super::{LANES, SLOTS};
use crate::cpu::{
    avx512::permute,
    drive::BLOCK_ROWS,
    n_of_m::{NOfM, WORD},
};
use std::arch::{asm, x86_64::*};

/// Units of 16 values in a word, of two rows.
const UNITS: usize = 4;
/// How far ahead of their use weights are asked for, in bytes.
const AHEAD: usize = 2048;

/// Sums of one block of rows: `sums[row][V · 16]`, f32 or, for i8, i32.
///
/// # Safety
///
/// The machine has AVX-512 F, BW, DQ and VL, BMI2, and the instruction. `pairs` is a pair panel for the
/// weight's columns, `sums` writable for the block's padded rows. The weight is 2:4, of bf16 or i8.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,fma")]
pub(super) unsafe fn block<const V: usize, const BF16: bool>(
    weight: &NOfM,
    block: usize,
    pairs: *const i32,
    sums: *mut f32,
) {
    let count = weight.pairs(block);
    for word in 0..weight.words {
        let unit = weight.unit(block * BLOCK_ROWS, word);
        let indices = weight.indices(unit);
        // SAFETY: the word's units lie in the weight, its groups in the panel. Pairs of rows are a
        // multiple of 4.
        unsafe {
            let values =
                if BF16 { weight.values::<u16>(unit).cast() } else { weight.values::<u8>(unit) };
            let x = pairs.add(word * WORD / 4 * SLOTS * V * LANES);
            // Sums for 16 vectors, as many as multiply-adds are under way at once.
            match V {
                4 => rows::<V, 2, BF16>(count, values, indices, x, sums, word == 0),
                _ => rows::<V, 4, BF16>(count, values, indices, x, sums, word == 0),
            }
        }
    }
}

/// One word of columns, `P` pairs of rows at a time.
///
/// # Safety
///
/// As for [`block`]; `count` pairs of rows, a multiple of `P`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,fma")]
unsafe fn rows<const V: usize, const P: usize, const BF16: bool>(
    count: usize,
    values: *const u8,
    indices: *const u8,
    x: *const i32,
    mut sums: *mut f32,
    first: bool,
) {
    let bytes = if BF16 { 2 } else { 1 };
    for pair in (0..count).step_by(P) {
        let mut acc = [[[_mm512_setzero_ps(); V]; 2]; P];
        for unit in 0..UNITS {
            let x = x.wrapping_add(unit * 4 * SLOTS * V * LANES);
            // SAFETY: the unit lies in the weight; two indices name a slot in their group.
            unsafe {
                macro_rules! product {
                    ($w:ident, $p:ident, $bits:ident, $lane:literal, $quad:literal, $row:literal) => {
                        let w = permute::<{ $lane * 0x55 }>($w);
                        let row = slot::<V, { 8 * $quad + 4 * $row }>($bits);
                        let acc = &mut acc[$p][$row];
                        acc[0] = dot::<BF16, V, $quad, 0>(w, x, row, acc[0]);
                        if V > 1 {
                            acc[1 % V] = dot::<BF16, V, $quad, 1>(w, x, row, acc[1 % V]);
                        }
                        if V > 2 {
                            acc[2 % V] = dot::<BF16, V, $quad, 2>(w, x, row, acc[2 % V]);
                            acc[3 % V] = dot::<BF16, V, $quad, 3>(w, x, row, acc[3 % V]);
                        }
                    };
                }
                // Written out, with constants for indices: a loop would keep the sums in memory.
                macro_rules! pairs {
                    ($($p:literal)*) => {$(
                        if P > $p {
                            let p = $p % P;
                            let of = (pair + p) * UNITS + unit;
                            let values = values.add(of * 16 * bytes);
                            let bits = indices.add(of * 4).cast::<u32>().read_unaligned().into();
                            _mm_prefetch::<_MM_HINT_T0>(values.wrapping_add(AHEAD).cast());
                            let w = four_pairs::<BF16>(values);
                            product!(w, p, bits, 0, 0, 0);
                            product!(w, p, bits, 1, 0, 1);
                            product!(w, p, bits, 2, 1, 0);
                            product!(w, p, bits, 3, 1, 1);
                            let w = four_pairs::<BF16>(values.add(8 * bytes));
                            product!(w, p, bits, 0, 2, 0);
                            product!(w, p, bits, 1, 2, 1);
                            product!(w, p, bits, 2, 3, 0);
                            product!(w, p, bits, 3, 3, 1);
                        }
                    )*};
                }
                pairs!(0 1 2 3);
            }
        }
        for p in 0..P {
            for r in 0..2 {
                for v in 0..V {
                    // SAFETY: the rows of `sums`, by the count of pairs.
                    unsafe {
                        let to = sums.add(v * LANES);
                        let old = if first { _mm512_setzero_ps() } else { _mm512_loadu_ps(to) };
                        let sum = acc[p][r][v];
                        let whole =
                            _mm512_add_epi32(_mm512_castps_si512(sum), _mm512_castps_si512(old));
                        let sum =
                            if BF16 { _mm512_add_ps(sum, old) } else { _mm512_castsi512_ps(whole) };
                        _mm512_storeu_ps(to, sum);
                    }
                }
                // SAFETY: as above.
                sums = unsafe { sums.add(V * LANES) };
            }
        }
    }
}

/// The weights of two quads, four pairs of 16 bits, repeated in every 128 bits.
///
/// # Safety
///
/// `from` is readable for 16 bytes of bf16, 8 of i8.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn four_pairs<const BF16: bool>(from: *const u8) -> __m512 {
    // SAFETY: handed on to the caller.
    unsafe {
        let four = if BF16 {
            _mm_loadu_si128(from.cast())
        } else {
            _mm_cvtepi8_epi16(_mm_loadl_epi64(from.cast()))
        };
        _mm512_castsi512_ps(_mm512_broadcast_i32x4(four))
    }
}

/// Where the four bits at `PLACE` find their pair: times the bytes of a slot.
#[inline]
#[target_feature(enable = "bmi2")]
fn slot<const V: usize, const PLACE: usize>(bits: u64) -> usize {
    let row;
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!(
            "rorx {row}, {bits}, {rotate}",
            "and {row:e}, {mask}",
            row = out(reg) row,
            bits = in(reg) bits,
            rotate = const (PLACE + 64 - (V * 64).trailing_zeros() as usize) % 64,
            mask = const 15 << (V * 64).trailing_zeros(),
            options(pure, nomem, nostack)
        );
    }
    row
}

/// Both products of a pair with vector `N` of a slot of group `Q`; slots are numbered from 4.
///
/// # Safety
///
/// The slot lies in the panel `x`, whose group 0 is the unit's first.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn dot<const BF16: bool, const V: usize, const Q: usize, const N: usize>(
    w: __m512,
    x: *const i32,
    row: usize,
    mut c: __m512,
) -> __m512 {
    macro_rules! dot {
        ($instruction:literal) => {
            asm!(
                concat!($instruction, " {c}, {w}, zmmword ptr [{x} + {row} + {at}]"),
                c = inout(zmm_reg) c,
                w = in(zmm_reg) w,
                x = in(reg) x,
                row = in(reg) row,
                at = const (Q * SLOTS * V + N) as i64 * 64 - 4 * V as i64 * 64,
                options(pure, readonly, nostack, preserves_flags)
            )
        };
    }
    // SAFETY: reads one vector, which the panel holds; writes one register.
    unsafe {
        if BF16 {
            dot!("vdpbf16ps");
        } else {
            dot!("vpdpwssd");
        }
    }
    c
}
