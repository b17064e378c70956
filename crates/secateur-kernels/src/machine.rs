//! What can this machine do at most? Multiply-adds on registers, and reading from memory: the two lines
//! that no kernel crosses.
//!
//! Both are the best of many short runs on one thread: a shared machine slows some of them down, none
//! runs faster than the hardware. They say what a product could reach, not what a plan assumes
//! (`dispatch/` has constants for that).

use crate::{Dispatcher, KernelError, Tier};
use std::{hint::black_box, time::Instant};

/// Short enough that many runs fall between two interruptions.
const RUNS: usize = 40;
/// Rounds of a run, each one multiply-add on every chain.
const ROUNDS: usize = 20_000;
/// Sums that do not wait for each other: more than latency times units, at most the registers there are.
const CHAINS: usize = 12;
/// Far more than the caches of this decade's servers give to one core.
const BUFFER: usize = 256 << 20;

/// f32 GFLOP/s of one core with the vectors of `tier`: independent multiply-adds, nothing loaded.
///
/// Errors where this processor lacks the tier. Takes some milliseconds.
pub fn peak(tier: Tier) -> Result<f64, KernelError> {
    Dispatcher::with_tier(tier)?;
    let lanes = match tier {
        Tier::Avx512 => 16,
        Tier::Avx2 | Tier::Portable => 8,
    };
    let flops = (2 * lanes * CHAINS * ROUNDS) as f64;
    let seconds = best(|| match tier {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `with_tier` above found the instructions of this tier.
        Tier::Avx512 => unsafe { x86::multiply_add_avx512(black_box(0.5)) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `with_tier` above found the instructions of this tier.
        Tier::Avx2 => unsafe { x86::multiply_add_avx2(black_box(0.5)) },
        _ => multiply_add(black_box(0.5)),
    });
    Ok(flops / seconds / 1e9)
}

/// GB/s at which one core reads memory: a buffer larger than any cache, front to back.
///
/// Takes 256 MiB for the time, and some tenths of a second.
pub fn bandwidth() -> f64 {
    // Ones, not zeros: untouched zeros may all be one and the same page.
    let buffer = vec![1_u64; BUFFER / size_of::<u64>()];
    let wide = Dispatcher::with_tier(Tier::Avx2).is_ok();
    let mut seconds = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        let sum = match wide {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `with_tier` above found AVX2.
            true => unsafe { x86::sum_avx2(&buffer) },
            _ => sum(&buffer),
        };
        seconds = seconds.min(start.elapsed().as_secs_f64());
        black_box(sum);
    }
    BUFFER as f64 / seconds / 1e9
}

/// The shortest of many runs, in seconds.
fn best(run: impl Fn() -> f32) -> f64 {
    let time = |_| {
        let start = Instant::now();
        black_box(run());
        start.elapsed().as_secs_f64()
    };
    (0..RUNS).map(time).fold(f64::INFINITY, f64::min)
}

/// The portable peak: what the compiler makes of a multiplication and an addition on eight lanes.
fn multiply_add(factor: f32) -> f32 {
    let mut sums = [[1.0_f32; 8]; CHAINS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            for lane in sum {
                *lane = *lane * factor + 1.0;
            }
        }
    }
    sums.iter().flatten().sum()
}

/// Four vectors of sums, so that additions do not wait for each other.
#[inline(always)]
fn sum(buffer: &[u64]) -> u64 {
    let mut sums = [0_u64; 32];
    for line in buffer.chunks_exact(32) {
        for (sum, value) in sums.iter_mut().zip(line) {
            *sum = sum.wrapping_add(*value);
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, ROUNDS};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub fn multiply_add_avx512(factor: f32) -> f32 {
        let (factor, one) = (_mm512_set1_ps(factor), _mm512_set1_ps(1.0));
        let mut sums = [one; CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, one);
            }
        }
        sums.iter().map(|sum| _mm512_reduce_add_ps(*sum)).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn multiply_add_avx2(factor: f32) -> f32 {
        let (factor, one) = (_mm256_set1_ps(factor), _mm256_set1_ps(1.0));
        let mut sums = [one; CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, one);
            }
        }
        sums.iter().map(|sum| _mm_cvtss_f32(_mm256_castps256_ps128(*sum))).sum()
    }

    #[target_feature(enable = "avx2")]
    pub fn sum_avx2(buffer: &[u64]) -> u64 {
        super::sum(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop that the compiler threw away would be faster than any processor, one whose calls were not
    /// inlined far slower.
    #[test]
    fn peaks_are_those_of_a_processor() {
        let peaks = [Tier::Portable, Tier::Avx2, Tier::Avx512].map(peak);
        for peak in peaks.into_iter().flatten() {
            assert!((0.5..2000.0).contains(&peak), "{peak} GFLOP/s");
        }
    }

    #[test]
    fn memory_is_read_at_some_speed() {
        let bandwidth = bandwidth();
        assert!((0.2..2000.0).contains(&bandwidth), "{bandwidth} GB/s");
    }
}
