//! Who runs what on which thread? Work is cut into tasks, each one call into a tier's compiled text.

use super::{
    n_of_m::{self, NOfM},
    pairs::Rounding,
    panel,
    runs::{self, Runs},
    simd::{Job, Portable, Simd},
};
use crate::{Activation, Epilogue, Tier, lines::Lines};
use rayon::prelude::*;
use std::{cell::RefCell, ops::Range, ptr::null};

/// Rows of a block: what shares a tile of activations, and what a thread takes at least.
pub(crate) const BLOCK_ROWS: usize = 128;
/// Below this many multiply-adds a second thread costs more than it brings.
pub(crate) const PARALLEL_WORK: usize = 1 << 20;
/// Up to this many tokens the kernels for few tokens run.
pub(crate) const FEW: usize = 4;

/// A weight that these kernels multiply.
#[derive(Debug)]
pub(crate) enum Weight {
    NOfM(NOfM),
    Runs(Runs),
}

impl Weight {
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::NOfM(weight) => (weight.rows, weight.cols),
            Self::Runs(weight) => (weight.rows, weight.cols),
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::NOfM(weight) => weight.bytes(),
            Self::Runs(weight) => weight.bytes(),
        }
    }

    /// Multiply-adds for one token, for deciding whether a second thread pays.
    fn work(&self) -> usize {
        match self {
            Self::NOfM(weight) => weight.rows * weight.words * n_of_m::WORD * weight.kept / 16,
            Self::Runs(weight) => weight.held(),
        }
    }
}

/// Rows of a panel: the columns, filled up to whole words, and one row of zeros at the end.
pub(crate) fn panel_rows(cols: usize) -> usize {
    cols.next_multiple_of(n_of_m::WORD) + 1
}

/// How a tier cuts tokens into panels.
#[derive(Clone, Copy)]
pub(crate) struct Tiling {
    lanes: usize,
    most: usize,
}

/// The tokens of a panel; `width` is a power of two of vectors.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    pub first: usize,
    pub tokens: usize,
    pub width: usize,
}

impl Tiling {
    pub fn of(tier: Tier) -> Self {
        fn of<S: Simd>() -> Tiling {
            Tiling { lanes: S::LANES, most: S::MOST }
        }
        match tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 => of::<super::avx512::Avx512>(),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => of::<super::avx2::Avx2>(),
            _ => of::<Portable>(),
        }
    }

    /// The same, with panels of at most so many tokens.
    pub fn at_most(self, tokens: usize) -> Self {
        Self { most: self.most.min(tokens / self.lanes), ..self }
    }

    /// Tokens of the widest panel.
    pub fn widest(self) -> usize {
        self.lanes * self.most
    }

    /// The widest panels that are full, then ever narrower ones: 200 tokens are 128, 64 and 8.
    pub fn panels(self, tokens: usize) -> impl Iterator<Item = Cut> {
        let mut first = 0;
        std::iter::from_fn(move || {
            let left = tokens - first;
            let vectors = (left / self.lanes).max(1);
            let width = self.lanes * self.most.min(1 << vectors.ilog2());
            let cut = Cut { first, tokens: left.min(width), width };
            first += cut.tokens;
            (left > 0).then_some(cut)
        })
    }

    /// Lanes of all panels.
    pub fn lanes(self, tokens: usize) -> usize {
        tokens.next_multiple_of(self.lanes)
    }
}

/// Where activations come from.
#[derive(Clone, Copy)]
pub(crate) enum Input {
    /// Token after token, `stride` numbers apart.
    Tokens { x: *const f32, stride: usize },
    /// In panels of `panel_rows(cols)`.
    Panels(*const f32),
}

// SAFETY: inputs are only read, and outlive all tasks, as `run` is promised.
unsafe impl Send for Input {}
// SAFETY: as above.
unsafe impl Sync for Input {}

/// Where results go; tasks write disjoint parts of it.
#[derive(Clone, Copy)]
pub(crate) enum Output {
    /// Token after token, `stride` numbers apart.
    Tokens { y: *mut f32, stride: usize },
    /// In panels of `panel_rows(rows)`.
    Panels(*mut f32),
}

// SAFETY: the pointer comes from one `&mut` that outlives all tasks, and tasks cover disjoint (token,
// row) ranges of it. `run` upholds both.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// What a product is asked for, whatever kernel runs it.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub tier: Tier,
    pub x: Input,
    pub y: Output,
    pub tokens: usize,
    pub epilogue: Epilogue<'a>,
    /// Where each column of the input goes, if not to its own place.
    pub order: Option<&'a [u32]>,
    /// What activations are rounded to, if this machine multiplies those faster.
    pub rounding: Option<Rounding>,
}

/// A part of a product: a panel of tokens and some blocks of rows.
pub(super) struct Task<'a> {
    pub weight: &'a Weight,
    pub call: &'a Call<'a>,
    pub cut: Cut,
    pub blocks: Range<usize>,
}

/// `y = activation(x · Wᵀ + bias)`, overwriting `y`.
///
/// # Safety
///
/// `x` is readable and `y` writable for `tokens` tokens of as many features as the weight has columns
/// and rows, each as its layout says, and nothing else touches `y` meanwhile; panels were cut for
/// `tier`, and input panels end in zeros. The machine has the instructions of `rounding`, and then the
/// weight is 2:4 of that kind. `bias` holds a number for each row, `order` one below `cols` for each
/// column, all different. `tier` is one that this machine has.
pub(crate) unsafe fn run(weight: &Weight, call: &Call<'_>) {
    let Call { tier, x, y, tokens, .. } = *call;
    let blocks = weight.shape().0.div_ceil(BLOCK_ROWS);
    let mut tiling = Tiling::of(tier);
    if let (Weight::Runs(_), Input::Tokens { .. }, Output::Tokens { .. }) = (weight, x, y) {
        // Tiles of more columns, and so fewer tokens.
        tiling = tiling.at_most(runs::TOKENS);
    }
    let threads = rayon::current_num_threads();
    let cuts = tiling.panels(tokens);
    let task = |cut, blocks| Task { weight, call, cut, blocks };
    if threads == 1 || weight.work().saturating_mul(tokens) < PARALLEL_WORK {
        // SAFETY: the caller's promise, of which this is a part.
        return cuts.for_each(|cut| unsafe { on_tier(tier, &task(cut, 0..blocks)) });
    }
    // Enough panels: each is a task. Too few to go round: every panel is cut along the rows as well.
    let cuts: Vec<Cut> = cuts.collect();
    let parts = if cuts.len() >= 4 * threads { 1 } else { threads.min(blocks).max(1) };
    let all = (0..cuts.len() * parts).into_par_iter().with_max_len(1);
    all.for_each(|at| {
        let (cut, part) = (cuts[at / parts], at % parts);
        let share = |part: usize| blocks * part / parts;
        // SAFETY: as above; parts are disjoint.
        unsafe { on_tier(tier, &task(cut, share(part)..share(part + 1))) };
    });
}

/// Runs a job in the text compiled for `tier`.
///
/// # Safety
///
/// This machine has `tier`, and what the job was promised holds.
pub(super) unsafe fn on_tier<J: Job>(tier: Tier, job: &J) {
    // SAFETY: the machine has these features by the caller's promise; plain Rust needs none.
    unsafe {
        match tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 => super::avx512::Avx512::enter(job),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => super::avx2::Avx2::enter(job),
            _ => Portable::enter(job),
        }
    }
}

thread_local! {
    /// Packed activations and sums, kept from call to call: fresh pages cost more than packing.
    static SCRATCH: RefCell<(Lines, Lines)> = RefCell::default();
}

impl Job for Task<'_> {
    #[inline(always)]
    unsafe fn on<S: Simd>(&self) {
        // SAFETY: handed on to the caller; the task is part of what `run` was promised.
        unsafe {
            if let (Input::Tokens { x, stride }, Output::Tokens { y, stride: out }) =
                (self.call.x, self.call.y)
                && self.cut.tokens <= FEW
                && self.call.rounding.is_none()
            {
                let x = x.add(self.cut.first * stride);
                let y = y.add(self.cut.first * out);
                return match self.cut.tokens {
                    1 => few::<S, 1>(self, x, stride, y, out),
                    2 => few::<S, 2>(self, x, stride, y, out),
                    3 => few::<S, 3>(self, x, stride, y, out),
                    _ => few::<S, FEW>(self, x, stride, y, out),
                };
            }
            match self.cut.width / S::LANES {
                1 => many::<S, 1>(self),
                2 => many::<S, 2>(self),
                4 => many::<S, 4>(self),
                _ => many::<S, 8>(self),
            }
        }
    }
}

/// One panel of `V` vectors of tokens.
///
/// # Safety
///
/// As for [`Job::on`].
#[inline(always)]
unsafe fn many<S: Simd, const V: usize>(task: &Task<'_>) {
    let ((rows, cols), width, cut) = (task.weight.shape(), V * S::LANES, task.cut);
    // Taken and put back, not borrowed in a closure: a closure would be compiled without `S`.
    let (mut panel_lines, mut sum_lines) = SCRATCH.take();
    // SAFETY: the panel was grown to its rows, the sums to a whole block; panels hold `first` tokens
    // times their rows before this one; the rows of `y` of these blocks are this task's own.
    unsafe {
        let panel = match task.call.x {
            Input::Panels(x) => x.add(cut.first * panel_rows(cols)),
            Input::Tokens { x, stride } => {
                panel_lines.grow(panel_rows(cols) * width);
                let panel = panel_lines.as_mut_ptr::<f32>();
                let order = task.call.order.map_or(null(), <[u32]>::as_ptr);
                let x = x.add(cut.first * stride);
                panel::pack::<S>(x, stride, cols, cut.tokens, order, panel, width);
                panel.add(cols * width).write_bytes(0, (panel_rows(cols) - cols) * width);
                panel
            }
        };
        #[cfg(target_arch = "x86_64")]
        if let (Some(rounding), Weight::NOfM(weight)) = (task.call.rounding, task.weight) {
            super::pairs::run(task, rounding, weight, panel, width);
            return SCRATCH.set((panel_lines, sum_lines));
        }
        sum_lines.grow(BLOCK_ROWS * width);
        for block in task.blocks.clone() {
            let first = block * BLOCK_ROWS;
            let in_block = BLOCK_ROWS.min(rows - first);
            let sums = match task.call.y {
                Output::Tokens { .. } => sum_lines.as_mut_ptr::<f32>(),
                Output::Panels(y) => y.add(cut.first * panel_rows(rows) + first * width),
            };
            if cols == 0 {
                sums.write_bytes(0, in_block * width);
            }
            match task.weight {
                Weight::NOfM(weight) => n_of_m::block::<S, V>(weight, block, panel, sums),
                Weight::Runs(weight) => runs::block::<S, V>(weight, block, panel, sums),
            }
            let bias = task.call.epilogue.bias.map_or(null(), |bias| bias[first..].as_ptr());
            let activation = task.call.epilogue.activation;
            match task.call.y {
                Output::Panels(_) => {
                    finish::<S>(task.call.tier, sums, in_block, width, bias, activation)
                }
                Output::Tokens { y, stride } => {
                    let y = y.add(cut.first * stride + first);
                    let mut bias = bias;
                    if activation != Activation::None {
                        finish::<S>(task.call.tier, sums, in_block, width, bias, activation);
                        bias = null();
                    }
                    panel::unpack::<S>(sums, in_block, width, bias, y, stride, cut.tokens);
                }
            }
        }
    }
    SCRATCH.set((panel_lines, sum_lines));
}

/// Bias and activation of `rows` rows of `width` sums, in place. `bias` may be null.
///
/// # Safety
///
/// `S` runs here; `sums` is writable for the rows, `bias` readable for them unless null.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(
    tier: Tier,
    sums: *mut f32,
    rows: usize,
    width: usize,
    bias: *const f32,
    activation: Activation,
) {
    for row in 0..rows {
        // SAFETY: whole vectors of the row, by the caller's promise.
        unsafe {
            let add = if bias.is_null() { S::zero() } else { S::splat(*bias.add(row)) };
            for at in (0..width).step_by(S::LANES) {
                let at = sums.add(row * width + at);
                let sum = S::add(S::load(at), add);
                S::store(at, if activation == Activation::Relu { S::relu(sum) } else { sum });
            }
        }
    }
    if activation != Activation::Relu {
        // SAFETY: the rows, by the caller's promise.
        activation.apply(tier, unsafe { std::slice::from_raw_parts_mut(sums, rows * width) });
    }
}

/// `T` tokens by the kernels for few.
///
/// # Safety
///
/// As for [`Job::on`]; `x` and `y` begin at the first of the `T` tokens.
#[inline(always)]
unsafe fn few<S: Simd, const T: usize>(
    task: &Task<'_>,
    x: *const f32,
    stride: usize,
    y: *mut f32,
    out: usize,
) {
    let (rows, cols) = task.weight.shape();
    let padded = panel_rows(cols).next_multiple_of(16);
    let (mut lines, sums) = SCRATCH.take();
    lines.grow(T * padded);
    // SAFETY: the lines were grown to T rows of `padded ≥ cols` numbers; `y` is writable for T tokens
    // and these rows.
    unsafe {
        let to = lines.as_mut_ptr::<f32>();
        for token in 0..T {
            let (x, to) = (x.add(token * stride), to.add(token * padded));
            match task.call.order {
                None => to.copy_from_nonoverlapping(x, cols),
                Some(order) => {
                    for (col, place) in order.iter().enumerate() {
                        *to.add(*place as usize) = *x.add(col);
                    }
                }
            }
            to.add(cols).write_bytes(0, padded - cols);
        }
        for block in task.blocks.clone() {
            let first = block * BLOCK_ROWS;
            let in_block = BLOCK_ROWS.min(rows - first);
            let y = y.add(first);
            match task.weight {
                Weight::NOfM(weight) => n_of_m::few::<S, T>(weight, block, to, padded, y, out),
                Weight::Runs(weight) => runs::few::<T>(weight, block, to, padded, y, out),
            }
            for token in 0..T {
                let y = std::slice::from_raw_parts_mut(y.add(token * out), in_block);
                if let Some(bias) = task.call.epilogue.bias {
                    y.iter_mut().zip(&bias[first..]).for_each(|(y, bias)| *y += bias);
                }
                task.call.epilogue.activation.apply(task.call.tier, y);
            }
        }
    }
    SCRATCH.set((lines, sums));
}
