//! The kernels' vocabulary in AVX-512: sixteen lanes, thirty-two registers.

use super::simd::Simd;
use std::arch::x86_64::*;

/// AVX-512 F and DQ.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

// SAFETY, for every block below: the instructions exist because callers of `Simd` run inside
// `#[target_feature(enable = "avx512f,avx512dq,…")]`; the pointers are valid for the lanes named in
// `Simd` by the caller's promise, and only unaligned loads and stores are used.
impl Simd for Avx512 {
    const LANES: usize = 16;
    const MOST: usize = 8;
    type V = __m512;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(value) }
    }
    /// One load for four weights: the splats run on the shuffle port, not on the load ports, which
    /// the products keep busy.
    #[inline(always)]
    unsafe fn splat4(from: *const f32) -> [__m512; 4] {
        // SAFETY: see above.
        unsafe {
            let four = _mm512_broadcast_f32x4(_mm_loadu_ps(from));
            [
                _mm512_permute_ps::<0x00>(four),
                _mm512_permute_ps::<0x55>(four),
                _mm512_permute_ps::<0xAA>(four),
                _mm512_permute_ps::<0xFF>(four),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }
    /// `vpermilps` looks at the low two bits of each lane only, so a shift is the whole decoding.
    #[inline(always)]
    unsafe fn pick(x: __m512, bits: u32) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let shifts =
                _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let places = _mm512_srlv_epi32(_mm512_set1_epi32(bits.cast_signed()), shifts);
            _mm512_permutevar_ps(x, places)
        }
    }
    /// Four rounds: interleave singles, pairs, then quarters of registers twice.
    #[inline(always)]
    unsafe fn transpose(r: &mut [__m512]) {
        // SAFETY: see above; the caller hands sixteen rows.
        unsafe {
            for i in (0..16).step_by(2) {
                let (a, b) = (r[i], r[i + 1]);
                r[i] = _mm512_unpacklo_ps(a, b);
                r[i + 1] = _mm512_unpackhi_ps(a, b);
            }
            for i in (0..16).step_by(4) {
                let (a, b) = (_mm512_castps_pd(r[i]), _mm512_castps_pd(r[i + 1]));
                let (c, d) = (_mm512_castps_pd(r[i + 2]), _mm512_castps_pd(r[i + 3]));
                r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
                r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
                r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
                r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
            }
            for i in [0, 1, 2, 3, 8, 9, 10, 11] {
                let (a, b) = (r[i], r[i + 4]);
                r[i] = _mm512_shuffle_f32x4::<0x88>(a, b);
                r[i + 4] = _mm512_shuffle_f32x4::<0xDD>(a, b);
            }
            for i in 0..8 {
                let (a, b) = (r[i], r[i + 8]);
                r[i] = _mm512_shuffle_f32x4::<0x88>(a, b);
                r[i + 8] = _mm512_shuffle_f32x4::<0xDD>(a, b);
            }
        }
    }
}
