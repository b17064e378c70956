//! Many tokens: tokens along the lanes, a pair of rows at a time.

use super::{NOfM, UNIT, UNITS, WORD};
use crate::cpu::{
    drive::BLOCK_ROWS,
    element::{Bf16, Element, F16, I8, Number},
    simd::{Code, Four, Simd, Two},
};

/// Bytes of activations that a pass over a block works on: they stay in L1, beside all else.
const TILE_BYTES: usize = 32 << 10;
/// Pairs of rows whose weights are widened at once.
const WIDENED: usize = 8;
/// How far ahead of their use weights are asked for, in bytes.
const AHEAD: usize = 2048;

/// What one pass multiplies: some words of columns, for some pairs of rows.
#[derive(Clone, Copy)]
struct Pass {
    values: *const f32,
    indices: *const u8,
    pairs: usize,
    words: usize,
    /// From a word to the next, in units: of values, and of indices.
    value_units: usize,
    index_units: usize,
}

/// Sums of one block of rows over all columns: `sums[row][width]`, `width = V · LANES` tokens.
///
/// # Safety
///
/// `S` runs here. `panel` is `[words · 64][width]`, readable; `sums` is writable for the block's
/// padded rows times `width`.
#[inline(always)]
pub(crate) unsafe fn block<S: Simd, const V: usize>(
    weight: &NOfM,
    block: usize,
    panel: *const f32,
    sums: *mut f32,
) {
    // SAFETY: handed on to the caller.
    unsafe {
        match (weight.bits, weight.kept) {
            (2, _) => coded::<S, Two, V>(weight, block, panel, sums),
            (_, 8) => coded::<S, Four<4>, V>(weight, block, panel, sums),
            (_, 4) => coded::<S, Four<2>, V>(weight, block, panel, sums),
            _ => coded::<S, Four<1>, V>(weight, block, panel, sums),
        }
    }
}

/// # Safety
///
/// As for [`block`]; `C` is the weight's code.
#[inline(always)]
unsafe fn coded<S: Simd, C: Code, const V: usize>(
    weight: &NOfM,
    block: usize,
    panel: *const f32,
    sums: *mut f32,
) {
    let (width, pairs) = (V * S::LANES, weight.pairs(block));
    let at_once = (TILE_BYTES / (WORD * width * size_of::<f32>())).max(1);
    let stride = weight.word_units(block);
    let mut widened = [[0.0_f32; UNIT]; WIDENED * UNITS * 8];
    for word in (0..weight.words).step_by(at_once) {
        let words = at_once.min(weight.words - word);
        let unit = weight.unit(block * BLOCK_ROWS, word);
        // SAFETY: the units of these words lie in the weight, which `new` sized; the words'
        // activations lie in the panel and the sums are writable by the caller's promise.
        unsafe {
            let x = panel.add(word * WORD * width);
            let indices = weight.indices(unit);
            if weight.number == Number::F32 {
                let values = weight.values(unit);
                let (value_units, index_units) = (stride, stride);
                let pass = Pass { values, indices, pairs, words, value_units, index_units };
                tile::<S, C, V>(pass, x, sums, word == 0);
                continue;
            }
            // A few rows at a time are widened into L1, where the pass then reads them.
            for pair in (0..pairs).step_by(WIDENED) {
                let some = WIDENED.min(pairs - pair);
                let (row, units) = (block * BLOCK_ROWS + 2 * pair, some / C::PAIRS * UNITS);
                for word in 0..words {
                    let from = unit + word * stride + pair / C::PAIRS * UNITS;
                    let to = widened.as_mut_ptr().add(word * units).cast::<f32>();
                    match weight.number {
                        Number::Bf16 => widen::<S, Bf16>(weight, row, from, units, to),
                        Number::F16 => widen::<S, F16>(weight, row, from, units, to),
                        _ => widen::<S, I8>(weight, row, from, units, to),
                    }
                }
                let pass = Pass {
                    values: widened.as_ptr().cast(),
                    indices: weight.indices(unit + pair / C::PAIRS * UNITS),
                    pairs: some,
                    words,
                    value_units: units,
                    index_units: stride,
                };
                tile::<S, C, V>(pass, x, sums.add(2 * pair * width), word == 0);
            }
        }
    }
}

/// `units` units of weights, from those of `row` on, as f32 with their scales applied.
///
/// # Safety
///
/// `S` runs here; the weight holds these units of this element; `to` is writable for them.
#[inline(always)]
unsafe fn widen<S: Simd, T: Element>(
    weight: &NOfM,
    row: usize,
    from: usize,
    units: usize,
    to: *mut f32,
) {
    let from = weight.values::<T::Raw>(from);
    for set in 0..units / UNITS {
        let scales = weight.lane_scales(row + set * weight.set_rows());
        for at in (set * UNITS * UNIT..(set + 1) * UNITS * UNIT).step_by(S::LANES) {
            // SAFETY: `at` is within the units, a whole number of vectors each.
            unsafe {
                let values = T::load::<S>(from.add(at));
                let scale = S::load(scales.as_ptr().add(at % UNIT));
                S::store(to.add(at), S::mul(values, scale));
            }
        }
    }
}

/// One pass, as many rows at a time as the registers hold.
///
/// # Safety
///
/// `S` runs here; what `pass` names is readable, and so are its words of `x`; `sums` is writable for
/// its rows.
#[inline(always)]
unsafe fn tile<S: Simd, C: Code, const V: usize>(
    pass: Pass,
    x: *const f32,
    sums: *mut f32,
    first: bool,
) {
    // SAFETY: handed on to the caller. Pairs are a multiple of 4.
    unsafe {
        if V == S::MOST {
            rows::<S, C, V, 1, 1>(pass, x, sums, first);
        } else if V > 1 {
            rows::<S, C, V, 2, 1>(pass, x, sums, first);
        } else {
            // So few sums would wait for each other: two for each row.
            rows::<S, C, V, 2, 2>(pass, x, sums, first);
        }
    }
}

/// `P` pairs of rows at a time, `E` sums of `V` vectors for each row.
///
/// # Safety
///
/// As for [`tile`].
#[inline(always)]
unsafe fn rows<S: Simd, C: Code, const V: usize, const P: usize, const E: usize>(
    pass: Pass,
    x: *const f32,
    mut sums: *mut f32,
    first: bool,
) {
    let width = V * S::LANES;
    for pair in (0..pass.pairs).step_by(P) {
        // SAFETY: `S` runs here by the caller's promise.
        let mut acc = [[[[unsafe { S::zero() }; V]; E]; 2]; P];
        for word in 0..pass.words {
            for unit in 0..UNITS {
                // SAFETY: the unit lies in the pass, and in it the pair's quads and their indices. A
                // column is below 16, and its V vectors lie in its row of `x`.
                unsafe {
                    let x = x.add((word * UNITS + unit) * UNIT * width);
                    let (mut values, mut bits) = ([pass.values; P], [0; P]);
                    for p in 0..P {
                        let set = (pair + p) / C::PAIRS * UNITS + unit;
                        let in_unit = (pair + p) % C::PAIRS;
                        let value = (word * pass.value_units + set) * UNIT;
                        values[p] = pass.values.add(value + in_unit * 4 * C::QUADS);
                        let index = (word * pass.index_units + set) * C::BYTES * C::PAIRS;
                        bits[p] = index_bits::<C>(pass.indices.add(index + in_unit * C::BYTES));
                        S::prefetch(values[p].wrapping_byte_add(AHEAD));
                    }
                    for p in 0..P {
                        quad::<S, C, V, E, 0>(&mut acc[p], values[p], bits[p], x);
                    }
                    for p in 0..P {
                        if C::QUADS > 1 {
                            quad::<S, C, V, E, 1>(&mut acc[p], values[p], bits[p], x);
                        }
                    }
                    for p in 0..P {
                        if C::QUADS > 2 {
                            quad::<S, C, V, E, 2>(&mut acc[p], values[p], bits[p], x);
                            quad::<S, C, V, E, 3>(&mut acc[p], values[p], bits[p], x);
                        }
                    }
                }
            }
        }
        // SAFETY: 2 · P rows of `sums`, within it by the count of pairs.
        unsafe {
            for acc in acc.iter().flatten() {
                for v in 0..V {
                    let to = sums.add(v * S::LANES);
                    let sum = if E > 1 { S::add(acc[0][v], acc[E - 1][v]) } else { acc[0][v] };
                    S::store(to, if first { sum } else { S::add(sum, S::load(to)) });
                }
                sums = sums.add(width);
            }
        }
    }
}

/// The indices of a pair of rows in one unit.
///
/// # Safety
///
/// `from` is readable for `C::BYTES` bytes.
#[inline(always)]
unsafe fn index_bits<C: Code>(from: *const u8) -> u64 {
    // SAFETY: handed on to the caller.
    unsafe {
        match C::BYTES {
            8 => from.cast::<u64>().read_unaligned(),
            4 => from.cast::<u32>().read_unaligned().into(),
            _ => from.cast::<u16>().read_unaligned().into(),
        }
    }
}

/// The four products of quad `Q`: two rows, two values each.
///
/// # Safety
///
/// As for [`tile`].
#[inline(always)]
unsafe fn quad<S: Simd, C: Code, const V: usize, const E: usize, const Q: usize>(
    acc: &mut [[[S::V; V]; E]; 2],
    values: *const f32,
    bits: u64,
    x: *const f32,
) {
    // SAFETY: see `rows`.
    unsafe {
        let weights = S::splat4(values.add(4 * Q));
        macro_rules! product {
            ($lane:literal: $($v:literal)*) => {
                let row = S::row::<C, V, Q, $lane>(bits);
                let acc = &mut acc[$lane / 2][$lane % E];
                $(if V > $v {
                    acc[$v % V] = S::mul_add_at::<C, V, Q, $v>(weights[$lane], x, row, acc[$v % V]);
                })*
            };
        }
        product!(0: 0 1 2 3 4 5 6 7);
        product!(2: 0 1 2 3 4 5 6 7);
        product!(1: 0 1 2 3 4 5 6 7);
        product!(3: 0 1 2 3 4 5 6 7);
    }
}
