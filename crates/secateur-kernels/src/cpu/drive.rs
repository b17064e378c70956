//! Who runs what on which thread? Work is cut into tasks, each one call into a tier's compiled text.

use super::{
    csr::{self, Csr},
    panel,
    simd::{Portable, Simd},
    two_four::{self, BLOCK_ROWS, TwoFour, WORD},
};
use crate::{Tier, lines::Lines};
use rayon::prelude::*;
use std::{cell::RefCell, ops::Range};

/// Below this many multiply-adds a second thread costs more than it brings.
pub(crate) const PARALLEL_WORK: usize = 1 << 20;
/// Up to this many tokens the kernels for few tokens run.
pub(crate) const FEW: usize = 4;

/// A weight that these kernels multiply.
#[derive(Debug)]
pub(crate) enum Weight {
    TwoFour(TwoFour),
    Csr(Csr),
}

/// One product, or a part of it: the tokens and the blocks of rows that a task covers.
#[derive(Clone)]
struct Task<'a> {
    weight: &'a Weight,
    x: &'a [f32],
    bias: Option<&'a [f32]>,
    y: Output,
    tokens: Range<usize>,
    blocks: Range<usize>,
}

/// Where results go; tasks write disjoint parts of it.
#[derive(Clone, Copy)]
struct Output(*mut f32);
// SAFETY: the pointer comes from one `&mut [f32]` that outlives all tasks, and tasks cover disjoint
// (token, row) ranges of it; `run` upholds both.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Weight {
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::TwoFour(weight) => (weight.rows, weight.cols),
            Self::Csr(weight) => (weight.rows, weight.cols),
        }
    }

    /// Columns with their padding.
    fn padded_cols(&self) -> usize {
        match self {
            Self::TwoFour(weight) => weight.words * WORD,
            Self::Csr(weight) => weight.cols,
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::TwoFour(weight) => weight.bytes(),
            Self::Csr(weight) => weight.bytes(),
        }
    }

    /// Stored values, for deciding whether a second thread pays.
    fn work(&self) -> usize {
        match self {
            Self::TwoFour(weight) => weight.bytes() / 4,
            Self::Csr(weight) => weight.bytes() / 8,
        }
    }
}

/// `y = x · Wᵀ + bias`, overwriting `y`.
///
/// Panics unless `x` is `[tokens, cols]`, `y` `[tokens, rows]` and `bias` `[rows]`: callers check
/// first. `tier` must be one that this machine has, which only the dispatcher can say.
pub(crate) fn run(
    tier: Tier,
    weight: &Weight,
    x: &[f32],
    tokens: usize,
    bias: Option<&[f32]>,
    y: &mut [f32],
    threads: usize,
) {
    let (rows, cols) = weight.shape();
    assert!(x.len() == tokens * cols && y.len() == tokens * rows);
    assert!(bias.is_none_or(|bias| bias.len() == rows));
    let (blocks, width) = (rows.div_ceil(BLOCK_ROWS), panel_width(tier, tokens));
    let panels = tokens.div_ceil(width);
    let whole =
        Task { weight, x, bias, y: Output(y.as_mut_ptr()), tokens: 0..tokens, blocks: 0..blocks };
    if threads == 1 || weight.work().saturating_mul(tokens) < PARALLEL_WORK {
        return run_task(tier, whole);
    }
    // Enough panels: a run of panels each. Too few: every panel is cut along the rows as well.
    let by_rows = threads.div_ceil(panels).min(blocks).max(1);
    let by_tokens = threads.min(panels);
    (0..by_rows * by_tokens).into_par_iter().for_each(|task| {
        let (row, token) = (task % by_rows, task / by_rows);
        let share = |part: usize, of: usize, n: usize| n * part / of..n * (part + 1) / of;
        let panels = share(token, by_tokens, panels);
        run_task(
            tier,
            Task {
                tokens: panels.start * width..(panels.end * width).min(tokens),
                blocks: share(row, by_rows, blocks),
                ..whole.clone()
            },
        );
    });
}

/// Tokens of a panel: as many as are there, up to eight vectors.
fn panel_width(tier: Tier, tokens: usize) -> usize {
    fn of<S: Simd>(tokens: usize) -> usize {
        S::LANES * tokens.div_ceil(S::LANES).next_power_of_two().min(S::MOST)
    }
    match tier {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512 => of::<super::avx512::Avx512>(tokens),
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2 => of::<super::avx2::Avx2>(tokens),
        _ => of::<Portable>(tokens),
    }
}

fn run_task(tier: Tier, task: Task<'_>) {
    match tier {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the dispatcher offers this tier only where these features were detected.
        Tier::Avx512 => unsafe { task_avx512(task) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Tier::Avx2 => unsafe { task_avx2(task) },
        // SAFETY: plain Rust needs no feature.
        _ => unsafe { task_on::<Portable>(task) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,bmi2,fma")]
unsafe fn task_avx512(task: Task<'_>) {
    // SAFETY: this function has the features.
    unsafe { task_on::<super::avx512::Avx512>(task) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi2")]
unsafe fn task_avx2(task: Task<'_>) {
    // SAFETY: this function has the features.
    unsafe { task_on::<super::avx2::Avx2>(task) }
}

thread_local! {
    /// Packed activations and sums, kept from call to call: fresh pages cost more than packing.
    static SCRATCH: RefCell<(Lines, Lines)> = RefCell::default();
}

/// # Safety
///
/// The instructions of `S` exist and are enabled in the caller.
#[inline(always)]
unsafe fn task_on<S: Simd>(task: Task<'_>) {
    let (rows, cols) = task.weight.shape();
    let mut token = task.tokens.start;
    while token < task.tokens.end {
        let left = task.tokens.end - token;
        let task = Task { x: &task.x[token * cols..], ..task.clone() };
        // SAFETY: `token` is below the tokens of `y`.
        let y = unsafe { task.y.0.add(token * rows) };
        // SAFETY: `S` runs here by the caller's promise; `x` and `y` hold `left` tokens from here on.
        token += unsafe {
            match (left, left.div_ceil(S::LANES).next_power_of_two().min(S::MOST)) {
                (1, _) => few::<S, 1>(&task, y),
                (2, _) => few::<S, 2>(&task, y),
                (3, _) => few::<S, 3>(&task, y),
                (FEW, _) => few::<S, 4>(&task, y),
                (_, 1) => many::<S, 1>(&task, left, y),
                (_, 2) => many::<S, 2>(&task, left, y),
                (_, 4) => many::<S, 4>(&task, left, y),
                _ => many::<S, 8>(&task, left, y),
            }
        };
    }
}

/// Up to one panel of `V` vectors of tokens; returns how many it took.
///
/// # Safety
///
/// `S` runs here; `task.x` and `y` begin at the first of `left` tokens.
#[inline(always)]
unsafe fn many<S: Simd, const V: usize>(task: &Task<'_>, left: usize, y: *mut f32) -> usize {
    let (rows, cols) = task.weight.shape();
    let width = V * S::LANES;
    let tokens = left.min(width);
    let padded = task.weight.padded_cols();
    // Taken and put back, not borrowed in a closure: a closure would be compiled without `S`.
    let (mut panel_lines, mut sum_lines) = SCRATCH.take();
    panel_lines.grow(padded * width);
    sum_lines.grow(BLOCK_ROWS * width);
    let (panel, sums) = (panel_lines.as_mut_ptr(), sum_lines.as_mut_ptr());
    // SAFETY: `x` holds `tokens` rows of `cols`; the panel was grown to padded · width, the sums
    // to a whole block; the rows of `y` from `first` on are this task's own.
    unsafe {
        panel::pack::<S>(task.x.as_ptr(), cols, tokens, panel, width);
        panel.add(cols * width).write_bytes(0, (padded - cols) * width);
        for block in task.blocks.clone() {
            let first = block * BLOCK_ROWS;
            let last = (first + BLOCK_ROWS).min(rows);
            match task.weight {
                Weight::TwoFour(weight) => two_four::block::<S, V>(weight, block, panel, sums),
                Weight::Csr(weight) => csr::block::<S, V>(weight, first..last, panel, sums),
            }
            let bias = bias_from(task.bias, first);
            panel::unpack::<S>(sums, last - first, width, bias, y.add(first), rows, tokens);
        }
    }
    SCRATCH.set((panel_lines, sum_lines));
    tokens
}

/// The bias from row `first` on, or null.
fn bias_from(bias: Option<&[f32]>, first: usize) -> *const f32 {
    bias.map_or(std::ptr::null(), |bias| bias[first..].as_ptr())
}

/// `T` tokens by the kernels for few; returns `T`.
///
/// # Safety
///
/// `S` runs here; `task.x` and `y` begin at the first of at least `T` tokens.
#[inline(always)]
unsafe fn few<S: Simd, const T: usize>(task: &Task<'_>, y: *mut f32) -> usize {
    let (rows, cols) = task.weight.shape();
    match task.weight {
        Weight::TwoFour(weight) => {
            let padded = weight.words * WORD;
            let (mut panel, sums) = SCRATCH.take();
            panel.grow(T * padded);
            for token in 0..T {
                let x = &task.x[token * cols..(token + 1) * cols];
                // SAFETY: the panel was grown to T rows of `padded ≥ cols` numbers.
                unsafe {
                    let to = panel.as_mut_ptr().add(token * padded);
                    to.copy_from_nonoverlapping(x.as_ptr(), cols);
                    to.add(cols).write_bytes(0, padded - cols);
                }
            }
            for block in task.blocks.clone() {
                // SAFETY: T padded rows of activations lie in the panel; `bias` has a number per
                // row (`run` checked) and `y` T rows of them.
                unsafe {
                    let bias = bias_from(task.bias, 0);
                    two_four::few::<S, T>(weight, block, panel.as_ptr(), bias, y);
                }
            }
            SCRATCH.set((panel, sums));
        }
        Weight::Csr(weight) => {
            let first = task.blocks.start * BLOCK_ROWS;
            for row in first..(task.blocks.end * BLOCK_ROWS).min(rows) {
                for token in 0..T {
                    let sum = csr::dot(weight, row, &task.x[token * cols..(token + 1) * cols]);
                    // SAFETY: `row` and `token` are within `y`, and this task's own.
                    unsafe { *y.add(token * rows + row) = sum + task.bias.map_or(0.0, |b| b[row]) }
                }
            }
        }
    }
    T
}
