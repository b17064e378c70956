//! The loops over runs: one row at a time, or those that share their columns; and for a few tokens.

use super::Runs;
use crate::cpu::{
    drive::BLOCK_ROWS,
    simd::{Code, Job, Simd},
};

/// Sixteen bits tell the row of the panel.
#[derive(Clone, Copy)]
struct Sixteen;

impl Code for Sixteen {
    const BITS: usize = 16;
    const QUADS: usize = 1;
    const STEP: usize = 0;
}

/// Sums of one block of rows over all columns: `sums[row][width]`, `width = V · LANES` tokens.
///
/// # Safety
///
/// `S` runs here. `panel` is `[panel_rows(cols)][width]`, readable, its last row zeros; `sums` is
/// writable for the block's rows, rounded up to whole groups, times `width`.
#[inline(always)]
pub(in crate::cpu) unsafe fn block<S: Simd, const V: usize>(
    weight: &Runs,
    block: usize,
    panel: *const f32,
    sums: *mut f32,
) {
    // SAFETY: handed on to the caller.
    unsafe { S::enter(&Block::<V> { weight, block, panel, sums }) }
}

/// A block of rows of a weight, and where its activations and sums are.
struct Block<'a, const V: usize> {
    weight: &'a Runs,
    block: usize,
    panel: *const f32,
    sums: *mut f32,
}

impl<const V: usize> Job for Block<'_, V> {
    #[inline(always)]
    unsafe fn on<S: Simd>(&self) {
        let Self { weight, block, panel, sums } = *self;
        // SAFETY: handed on to the caller; the group is the weight's.
        unsafe {
            match weight.group {
                1 if V >= 8 => single::<S, V, 1>(weight, block, panel, sums),
                1 if V >= 4 => single::<S, V, 2>(weight, block, panel, sums),
                1 => single::<S, V, 4>(weight, block, panel, sums),
                2 => grouped::<S, V, 2>(weight, block, panel, sums),
                _ => grouped::<S, V, 4>(weight, block, panel, sums),
            }
        }
    }
}

/// Runs of single rows, with `E` sums of `V` vectors that do not wait for each other.
///
/// # Safety
///
/// As for [`block`].
#[inline(always)]
unsafe fn single<S: Simd, const V: usize, const E: usize>(
    weight: &Runs,
    block: usize,
    panel: *const f32,
    sums: *mut f32,
) {
    for (first, runs, mut quad) in weight.tiles(block) {
        // SAFETY: a column of a quad is a row of the panel, counted from the tile's first, by
        // construction; quads and values are as many as the runs say.
        unsafe {
            let x = panel.add(first * V * S::LANES);
            for run in runs {
                let mut acc = [[S::zero(); V]; E];
                macro_rules! products {
                    ($weights:ident, $bits:ident, $($lane:literal)*) => {
                        $(products!(@ $weights, $bits, $lane: 0 1 2 3 4 5 6 7);)*
                    };
                    (@ $weights:ident, $bits:ident, $lane:literal: $($v:literal)*) => {
                        let row = S::row::<Sixteen, V, 0, $lane>($bits);
                        let acc = &mut acc[$lane % E];
                        $(if V > $v {
                            let (w, sum) = ($weights[$lane], acc[$v % V]);
                            acc[$v % V] = S::mul_add_at::<Sixteen, V, 0, $v>(w, x, row, sum);
                        })*
                    };
                }
                macro_rules! next {
                    ($weights:ident, $bits:ident) => {
                        let $weights = S::splat4(weight.values.as_ptr().add(4 * quad));
                        let $bits = weight.columns.as_ptr().add(quad).cast::<u64>();
                        let $bits = $bits.read_unaligned().to_le();
                        S::prefetch(weight.values.as_ptr().wrapping_add(4 * quad + 256));
                        quad += 1;
                    };
                }
                for _ in 0..run.quads - u16::from(run.filled > 0) {
                    next!(weights, bits);
                    products!(weights, bits, 0 1 2 3);
                }
                if run.filled > 0 {
                    next!(weights, bits);
                    products!(weights, bits, 0);
                    if run.filled < 3 {
                        products!(weights, bits, 1);
                    }
                    if run.filled < 2 {
                        products!(weights, bits, 2);
                    }
                }
                let to = sums.add(run.row as usize * V * S::LANES);
                for v in 0..V {
                    let mut sum = acc[0][v];
                    for acc in &acc[1..] {
                        sum = S::add(sum, acc[v]);
                    }
                    let to = to.add(v * S::LANES);
                    S::store(to, if first == 0 { sum } else { S::add(sum, S::load(to)) });
                }
            }
        }
    }
}

/// Runs of `R` rows that share their columns.
///
/// # Safety
///
/// As for [`block`].
#[inline(always)]
unsafe fn grouped<S: Simd, const V: usize, const R: usize>(
    weight: &Runs,
    block: usize,
    panel: *const f32,
    sums: *mut f32,
) {
    let width = V * S::LANES;
    for (first, runs, mut quad) in weight.tiles(block) {
        for run in runs {
            // So many vectors at once that their sums stay in registers.
            let step = V.min((2 * S::MOST / R).max(1));
            for from in (0..V).step_by(step) {
                // SAFETY: as in `single`; vectors `from..from + step` are below V.
                unsafe {
                    let x = panel.add(first * width + from * S::LANES);
                    let to = sums.add(run.row as usize * width + from * S::LANES);
                    match step {
                        8 => run_of::<S, V, R, 8>(weight, quad, run.quads, x, to, first == 0),
                        4 => run_of::<S, V, R, 4>(weight, quad, run.quads, x, to, first == 0),
                        2 => run_of::<S, V, R, 2>(weight, quad, run.quads, x, to, first == 0),
                        _ => run_of::<S, V, R, 1>(weight, quad, run.quads, x, to, first == 0),
                    }
                }
            }
            quad += run.quads as usize;
        }
    }
}

/// One run of `R` rows for `N` of the `V` vectors of tokens.
///
/// # Safety
///
/// As for [`block`]; `quads` from `quad` on belong to the run, `x` and `to` begin at its vectors.
#[inline(always)]
unsafe fn run_of<S: Simd, const V: usize, const R: usize, const N: usize>(
    weight: &Runs,
    quad: usize,
    quads: u16,
    x: *const f32,
    to: *mut f32,
    first: bool,
) {
    let width = V * S::LANES;
    // SAFETY: see `grouped`.
    unsafe {
        let mut acc = [[S::zero(); N]; R];
        for quad in quad..quad + quads as usize {
            let values = weight.values.as_ptr().add(4 * R * quad);
            let columns = *weight.columns.as_ptr().add(quad);
            for (i, column) in columns.into_iter().enumerate() {
                let x = x.add(column as usize * width);
                let mut xs = [S::zero(); N];
                for (v, held) in xs.iter_mut().enumerate() {
                    *held = S::load(x.add(v * S::LANES));
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let w = S::splat(*values.add(i * R + r));
                    for (acc, x) in acc.iter_mut().zip(xs) {
                        *acc = S::mul_add(w, x, *acc);
                    }
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (v, acc) in acc.iter().enumerate() {
                let to = to.add(r * width + v * S::LANES);
                S::store(to, if first { *acc } else { S::add(*acc, S::load(to)) });
            }
        }
    }
}

/// One block of rows for `T` tokens: `y[token · stride + row]`, `row` counted from the block's first.
///
/// # Safety
///
/// `x` is `T` rows of `padded` numbers, at least `panel_rows(cols)`, zeros from `cols` on; each of the
/// `T` rows of `y` is writable for the rows of the block.
#[inline(always)]
pub(in crate::cpu) unsafe fn few<const T: usize>(
    weight: &Runs,
    block: usize,
    x: *const f32,
    padded: usize,
    y: *mut f32,
    stride: usize,
) {
    let rows = (weight.rows - block * BLOCK_ROWS).min(BLOCK_ROWS);
    let mut sums = [[0.0_f32; BLOCK_ROWS + 3]; T];
    for (first, runs, mut quad) in weight.tiles(block) {
        for run in runs {
            for in_group in 0..weight.group {
                let mut acc = [[0.0_f32; 4]; T];
                for quad in quad..quad + run.quads as usize {
                    // SAFETY: as in `single`: columns are rows of the panel, and so below `padded`.
                    unsafe {
                        let columns = *weight.columns.as_ptr().add(quad);
                        let values = weight.values.as_ptr().add(4 * weight.group * quad + in_group);
                        for (t, acc) in acc.iter_mut().enumerate() {
                            let x = x.add(t * padded + first);
                            for i in 0..4 {
                                acc[i] +=
                                    *values.add(i * weight.group) * *x.add(columns[i] as usize);
                            }
                        }
                    }
                }
                for (sums, acc) in sums.iter_mut().zip(acc) {
                    sums[run.row as usize + in_group] += (acc[0] + acc[1]) + (acc[2] + acc[3]);
                }
            }
            quad += run.quads as usize;
        }
    }
    for (t, sums) in sums.iter().enumerate() {
        // SAFETY: the rows of the block, by the caller's promise.
        unsafe { y.add(t * stride).copy_from_nonoverlapping(sums.as_ptr(), rows) };
    }
}
