//! Many tokens: tokens along the lanes, a pair of rows at a time.

use super::{NOfM, UNIT, UNITS, WORD};
use crate::cpu::{
    drive::BLOCK_ROWS,
    element::{Bf16, Element, F16, I8, Number},
    simd::{Code, Four, Job, Simd, Two},
};
use std::marker::PhantomData;

/// Pairs of rows whose weights are widened at once.
const WIDENED: usize = 8;
/// How far ahead of their use weights are asked for, in bytes.
const AHEAD: usize = 2048;
/// Weights of fewer bytes are found in a cache from call to call, and need not be asked for: with 16
/// tokens, asking costs 4 %. Larger ones gain 40 %.
const CACHED: usize = 16 << 20;

/// What one pass multiplies: a word of columns, for some pairs of rows. Several words at a time would
/// save sums' way to L1 and back, and were slower: weights are read best in one stream.
#[derive(Clone, Copy)]
struct Pass {
    values: *const f32,
    indices: *const u8,
    pairs: usize,
    /// Whether to ask for what comes next.
    ahead: bool,
}

/// Sums of one block of rows over all columns: `sums[row][width]`, `width = V · LANES` tokens.
///
/// # Safety
///
/// `S` runs here. `panel` is `[words · 64][width]`, readable; `sums` is writable for the block's
/// padded rows times `width`.
#[inline(always)]
pub(in crate::cpu) unsafe fn block<S: Simd, const V: usize>(
    weight: &NOfM,
    block: usize,
    panel: *const f32,
    sums: *mut f32,
) {
    let block = Block { weight, block, panel, sums };
    // SAFETY: handed on to the caller.
    unsafe {
        match (weight.bits, weight.kept) {
            (2, _) => S::enter(&Coded::<Two, V>(block, PhantomData)),
            (_, 8) => S::enter(&Coded::<Four<4>, V>(block, PhantomData)),
            (_, 4) => S::enter(&Coded::<Four<2>, V>(block, PhantomData)),
            _ => S::enter(&Coded::<Four<1>, V>(block, PhantomData)),
        }
    }
}

/// A block of rows of a weight, and where its activations and sums are.
struct Block<'a> {
    weight: &'a NOfM,
    block: usize,
    panel: *const f32,
    sums: *mut f32,
}

/// A block whose code, and whose panel's width, is known to the compiler.
struct Coded<'a, C, const V: usize>(Block<'a>, PhantomData<C>);

impl<C: Code, const V: usize> Job for Coded<'_, C, V> {
    #[inline(always)]
    unsafe fn on<S: Simd>(&self) {
        let Block { weight, block, panel, sums } = self.0;
        // SAFETY: handed on to the caller.
        unsafe { coded::<S, C, V>(weight, block, panel, sums) }
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
    let ahead = weight.bytes() > CACHED;
    let mut widened = [[0.0_f32; UNIT]; WIDENED * UNITS];
    for word in 0..weight.words {
        let unit = weight.unit(block * BLOCK_ROWS, word);
        // SAFETY: the units of this word lie in the weight, which `new` sized; the word's activations
        // lie in the panel and the sums are writable by the caller's promise.
        unsafe {
            let x = panel.add(word * WORD * width);
            if weight.number == Number::F32 {
                let (values, indices) = (weight.values(unit), weight.indices(unit));
                tile::<S, C, V>(Pass { values, indices, pairs, ahead }, x, sums, word == 0);
                continue;
            }
            // A few rows at a time are widened into L1, where the pass then reads them.
            for pair in (0..pairs).step_by(WIDENED) {
                let some = WIDENED.min(pairs - pair);
                let (row, units) = (block * BLOCK_ROWS + 2 * pair, some / C::PAIRS * UNITS);
                let from = unit + pair / C::PAIRS * UNITS;
                let to = widened.as_mut_ptr().cast::<f32>();
                match weight.number {
                    Number::Bf16 => widen::<S, Bf16>(weight, row, from, units, to),
                    Number::F16 => widen::<S, F16>(weight, row, from, units, to),
                    _ => widen::<S, I8>(weight, row, from, units, to),
                }
                let (values, indices) = (to.cast_const(), weight.indices(from));
                let pass = Pass { values, indices, pairs: some, ahead: false };
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
        // Sums for 16 vectors in AVX-512, 8 in AVX2: as many as multiply-adds are under way at once.
        match S::MOST / V {
            1 => rows::<S, C, V, 1, 1>(pass, x, sums, first),
            2 => rows::<S, C, V, 2, 1>(pass, x, sums, first),
            4 => rows::<S, C, V, 2, 2>(pass, x, sums, first),
            _ => rows::<S, C, V, 4, 2>(pass, x, sums, first),
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
        for unit in 0..UNITS {
            // SAFETY: the unit lies in the pass, and in it the pair's quads and their indices. A column
            // is below 16, and its V vectors lie in its row of `x`.
            unsafe {
                let x = x.add(unit * UNIT * width);
                let (mut values, mut bits) = ([pass.values; P], [0; P]);
                for p in 0..P {
                    let at = (pair + p) / C::PAIRS * UNITS + unit;
                    let in_unit = (pair + p) % C::PAIRS;
                    values[p] = pass.values.add(at * UNIT + in_unit * 4 * C::QUADS);
                    let index = (at * C::PAIRS + in_unit) * C::BYTES;
                    bits[p] = index_bits::<C>(pass.indices.add(index));
                }
                if pass.ahead {
                    for values in values {
                        S::prefetch(values.wrapping_byte_add(AHEAD));
                    }
                }
                // Written out, with constants for indices: a loop would keep the sums in memory.
                macro_rules! pairs {
                    ($q:literal: $($p:literal)*) => {$(
                        if P > $p {
                            let p = $p % P;
                            quad::<S, C, V, E, $q>(&mut acc[p], values[p], bits[p], x);
                        }
                    )*};
                }
                macro_rules! quads {
                    ($($q:literal)*) => {$(
                        if C::QUADS > $q {
                            pairs!($q: 0 1 2 3);
                        }
                    )*};
                }
                quads!(0 1 2 3);
            }
        }
        // SAFETY: 2 · P rows of `sums`, within it by the count of pairs.
        unsafe {
            for p in 0..P {
                for r in 0..2 {
                    for v in 0..V {
                        let (sum, to) = (acc[p][r][0][v], sums.add(v * S::LANES));
                        let sum = if E > 1 { S::add(sum, acc[p][r][E - 1][v]) } else { sum };
                        S::store(to, if first { sum } else { S::add(sum, S::load(to)) });
                    }
                    sums = sums.add(width);
                }
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
