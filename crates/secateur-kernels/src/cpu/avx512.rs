//! The kernels' vocabulary in AVX-512: sixteen lanes, thirty-two registers.
//!
//! Three lines are assembly, because the compiler knows better than to do what is asked: it turns a
//! load and four splats into four loads, on the ports that the products keep busy; it computes an
//! address apart that fits a product's memory operand; and it takes three instructions for an index
//! where two do (`docs/kernel-cpu.md` has the differences).

use super::simd::{Code, Job, Simd};
use std::arch::{asm, x86_64::*};

/// AVX-512 F and DQ.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

// SAFETY, for every block below: the instructions exist because callers of `Simd` run inside
// `#[target_feature(enable = "avx512f,avx512dq,…")]`; the pointers are valid for the lanes named in
// `Simd` by the caller's promise, and only unaligned loads and stores are used.
impl Simd for Avx512 {
    const LANES: usize = 16;
    const MOST: usize = 8;
    type V = __m512;

    unsafe fn enter<J: Job>(job: &J) {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512dq,bmi2,fma")]
        unsafe fn enabled<J: Job>(job: &J) {
            // SAFETY: this function has the instructions; the rest is the caller's promise.
            unsafe { job.on::<Avx512>() }
        }
        // SAFETY: the caller has found the instructions.
        unsafe { enabled(job) }
    }
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
                permute::<0x00>(four),
                permute::<0x55>(four),
                permute::<0xAA>(four),
                permute::<0xFF>(four),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
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
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }
    /// `vmaxps` returns its second operand when one is NaN.
    #[inline(always)]
    unsafe fn relu(a: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), a) }
    }
    #[inline(always)]
    unsafe fn prefetch<T>(from: *const T) {
        // SAFETY: a prefetch may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn mul_add_at<C: Code, const V: usize, const Q: usize, const N: usize>(
        w: __m512,
        x: *const f32,
        row: usize,
        mut c: __m512,
    ) -> __m512 {
        // SAFETY: reads one vector, which the caller's panel holds; writes one register.
        unsafe {
            asm!(
                "vfmadd231ps {c}, {w}, zmmword ptr [{x} + {row} + {at}]",
                c = inout(zmm_reg) c,
                w = in(zmm_reg) w,
                x = in(reg) x,
                row = in(reg) row,
                at = const (C::STEP * Q * V + N) * 64,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        c
    }
    #[inline]
    #[target_feature(enable = "bmi2")]
    unsafe fn row<C: Code, const V: usize, const Q: usize, const L: usize>(bits: u64) -> usize {
        let row;
        // SAFETY: arithmetic on registers.
        unsafe {
            asm!(
                "rorx {row}, {bits}, {rotate}",
                "and {row:e}, {mask}",
                row = out(reg) row,
                bits = in(reg) bits,
                rotate = const (C::BITS * (4 * Q + L) + 64 - (V * 64).trailing_zeros() as usize) % 64,
                mask = const ((1 << C::BITS) - 1) << (V * 64).trailing_zeros(),
                options(pure, nomem, nostack)
            );
        }
        row
    }
    /// `vpermilps` looks at the low two bits of each lane only, so a shift is the whole decoding.
    #[inline(always)]
    unsafe fn pick4(x: *const f32, bits: u32) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let shifts =
                _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let places = _mm512_srlv_epi32(_mm512_set1_epi32(bits.cast_signed()), shifts);
            _mm512_permutevar_ps(_mm512_loadu_ps(x), places)
        }
    }
    /// `vpermps` looks at the low four bits; the lower eight lanes shift the lower half of `bits`.
    #[inline(always)]
    unsafe fn pick16(x: *const f32, bits: u64) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let shifts =
                _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
            let low = _mm512_set1_epi32(bits as i32);
            let both = _mm512_mask_set1_epi32(low, 0xFF00, (bits >> 32) as i32);
            _mm512_permutexvar_ps(_mm512_srlv_epi32(both, shifts), _mm512_loadu_ps(x))
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

/// `vpermilps`, by name: see the head of the file.
///
/// # Safety
///
/// AVX-512 exists here.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn permute<const ORDER: u8>(four: __m512) -> __m512 {
    let splat;
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!(
            "vpermilps {splat}, {four}, {order}",
            splat = out(zmm_reg) splat,
            four = in(zmm_reg) four,
            order = const ORDER,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    splat
}
