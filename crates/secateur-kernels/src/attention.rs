//! How does every token look at every other one of its sequence? Softmax(Q Kᵀ / √d) V, head by head.
//!
//! A head's keys are transposed once and its values copied once, so that both products run with
//! vectors along their longer side; the scores of four queries at a time never leave the first cache.

use crate::{
    Dispatcher, KernelError,
    cpu::attention::{Head, run},
    cpu::drive::PARALLEL_WORK,
};
use rayon::prelude::*;

/// Scaled dot-product attention (Vaswani et al. 2017) of whole sequences that lie one after the other.
///
/// `heads` is how many there are and how many features each has; `lengths` the tokens of each sequence.
/// Of `[q, k, v]` each is `[tokens, heads · features]`, row-major, and so is `out`, which is
/// overwritten. Nothing is masked: tokens that nobody may see are left out. Errors on any other length.
///
/// ```
/// use secateur_kernels::{Dispatcher, attention};
///
/// let (q, k, v) = ([1.0, 0.0], [0.0, 0.0], [2.0, 4.0]);
/// let mut out = [0.0; 2];
/// // One head of one feature, one sequence of two tokens; equal keys, so both see the mean.
/// attention(&Dispatcher::probe()?, (1, 1), &[2], [&q, &k, &v], &mut out)?;
/// assert_eq!(out, [3.0, 3.0]);
/// # Ok::<(), secateur_kernels::KernelError>(())
/// ```
pub fn attention(
    dispatcher: &Dispatcher,
    heads: (usize, usize),
    lengths: &[usize],
    qkv: [&[f32]; 3],
    out: &mut [f32],
) -> Result<(), KernelError> {
    let (count, features) = heads;
    let tokens = lengths.iter().try_fold(0_usize, |sum, length| sum.checked_add(*length));
    let stride = count.checked_mul(features);
    let expected = tokens.zip(stride).and_then(|(tokens, stride)| tokens.checked_mul(stride));
    let (Some(expected), Some(stride)) = (expected, stride) else {
        let tokens = tokens.unwrap_or(usize::MAX);
        return Err(KernelError::TooLarge { rows: count, cols: features, tokens });
    };
    let found = [("q", qkv[0].len()), ("k", qkv[1].len()), ("v", qkv[2].len()), ("out", out.len())];
    for (what, found) in found {
        if found != expected {
            return Err(KernelError::Length { what, found, expected });
        }
    }
    if expected == 0 {
        return Ok(());
    }
    let mut tasks = Vec::with_capacity(lengths.len().saturating_mul(count));
    let (mut first, mut work) = (0, 0_usize);
    for length in lengths.iter().copied().filter(|length| *length > 0) {
        for head in 0..count {
            tasks.push(Head { at: first * stride + head * features, tokens: length });
        }
        first += length;
        work = work.saturating_add(length.saturating_mul(length).saturating_mul(stride * 2));
    }
    let (tier, shape, out) = (dispatcher.tier(), (features, stride), Output(out.as_mut_ptr()));
    // SAFETY: the tier is one that the dispatcher found; a head's rows lie within each of the slices,
    // whose lengths were checked above; and no two heads share a number of `out`.
    let each = |head: &Head| unsafe { run(tier, *head, shape, qkv, out.get()) };
    if rayon::current_num_threads() > 1 && work >= PARALLEL_WORK {
        tasks.par_iter().for_each(each);
    } else {
        tasks.iter().for_each(each);
    }
    Ok(())
}

/// Where results go; heads write disjoint parts of it.
#[derive(Clone, Copy)]
struct Output(*mut f32);

impl Output {
    /// A method, so that closures take the whole of it and not the bare pointer.
    fn get(self) -> *mut f32 {
        self.0
    }
}

// SAFETY: the pointer comes from one `&mut [f32]` that outlives all tasks, and each task writes the rows
// of its own head; `attention` upholds both.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}
