//! The kernels' vocabulary in AVX2 and FMA: eight lanes, sixteen registers.

use super::simd::{Code, Job, Simd};
use std::arch::{asm, x86_64::*};

/// AVX2 with FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

// SAFETY, for every block below: the instructions exist because callers of `Simd` run inside
// `#[target_feature(enable = "avx2,fma,…")]`; the pointers are valid for the lanes named in `Simd`
// by the caller's promise, and only unaligned loads and stores are used.
impl Simd for Avx2 {
    const LANES: usize = 8;
    const MOST: usize = 4;
    type V = __m256;

    unsafe fn enter<J: Job>(job: &J) {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,bmi2,f16c")]
        unsafe fn enabled<J: Job>(job: &J) {
            // SAFETY: this function has the instructions; the rest is the caller's promise.
            unsafe { job.on::<Avx2>() }
        }
        // SAFETY: the caller has found the instructions.
        unsafe { enabled(job) }
    }
    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn splat4(from: *const f32) -> [__m256; 4] {
        // SAFETY: see above.
        unsafe {
            [
                _mm256_set1_ps(*from),
                _mm256_set1_ps(*from.add(1)),
                _mm256_set1_ps(*from.add(2)),
                _mm256_set1_ps(*from.add(3)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m256) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_mul_ps(a, b) }
    }
    /// `vmaxps` returns its second operand when one is NaN.
    #[inline(always)]
    unsafe fn relu(a: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_max_ps(_mm256_setzero_ps(), a) }
    }
    #[inline(always)]
    unsafe fn prefetch<T>(from: *const T) {
        // SAFETY: a prefetch may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
    /// As in `avx512.rs`: with the load as its operand, by name.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn mul_add_at<C: Code, const V: usize, const Q: usize, const N: usize>(
        w: __m256,
        x: *const f32,
        row: usize,
        mut c: __m256,
    ) -> __m256 {
        // SAFETY: reads one vector, which the caller's panel holds; writes one register.
        unsafe {
            asm!(
                "vfmadd231ps {c}, {w}, ymmword ptr [{x} + {row} + {at}]",
                c = inout(ymm_reg) c,
                w = in(ymm_reg) w,
                x = in(reg) x,
                row = in(reg) row,
                at = const (C::STEP * Q * V + N) * 32,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        c
    }
    #[inline(always)]
    unsafe fn pick4(x: *const f32, bits: u32) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let shifts = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
            let places = _mm256_srlv_epi32(_mm256_set1_epi32(bits.cast_signed()), shifts);
            _mm256_permutevar_ps(_mm256_loadu_ps(x), places)
        }
    }
    /// Eight lanes pick from either half of the sixteen; the index's highest bit says which.
    #[inline(always)]
    unsafe fn pick16(x: *const f32, bits: u64) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
            let places = _mm256_srlv_epi32(_mm256_set1_epi32(bits as i32), shifts);
            let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(x), places);
            let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(x.add(8)), places);
            let which = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(places));
            _mm256_blendv_ps(low, high, which)
        }
    }
    #[inline(always)]
    unsafe fn transpose(r: &mut [__m256]) {
        // SAFETY: see above; the caller hands eight rows.
        unsafe {
            for i in (0..8).step_by(2) {
                let (a, b) = (r[i], r[i + 1]);
                r[i] = _mm256_unpacklo_ps(a, b);
                r[i + 1] = _mm256_unpackhi_ps(a, b);
            }
            for i in (0..8).step_by(4) {
                let (a, b) = (_mm256_castps_pd(r[i]), _mm256_castps_pd(r[i + 1]));
                let (c, d) = (_mm256_castps_pd(r[i + 2]), _mm256_castps_pd(r[i + 3]));
                r[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
                r[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
                r[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
                r[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
            }
            for i in 0..4 {
                let (a, b) = (r[i], r[i + 4]);
                r[i] = _mm256_permute2f128_ps::<0x20>(a, b);
                r[i + 4] = _mm256_permute2f128_ps::<0x31>(a, b);
            }
        }
    }
}
