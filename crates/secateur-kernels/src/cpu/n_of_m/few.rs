//! A few tokens: there is nothing to put along the lanes but the weight itself.

use super::{NOfM, UNIT, UNITS, WORD};
use crate::cpu::{
    drive::BLOCK_ROWS,
    element::{Bf16, Element, F16, F32, I8, Number},
    simd::{Job, Simd},
};
use std::marker::PhantomData;

/// How far ahead of their use weights are asked for, in bytes: they come from memory, once.
const AHEAD: usize = 8192;

/// One block of rows for `T` tokens: `y[token · stride + row]`, `row` counted from the block's first.
///
/// # Safety
///
/// `S` runs here. `x` is `T` rows of `padded` numbers, at least `words · 64` (zeros beyond `cols`), and each of the `T`
/// rows of `y` is writable for the rows of the block.
#[inline(always)]
pub(in crate::cpu) unsafe fn few<S: Simd, const T: usize>(
    weight: &NOfM,
    block: usize,
    x: *const f32,
    padded: usize,
    y: *mut f32,
    stride: usize,
) {
    let few = Few { weight, block, x, padded, y, stride };
    // SAFETY: handed on to the caller; the element and the bits are the weight's.
    unsafe {
        match (weight.number, weight.bits) {
            (Number::F32, 2) => S::enter(&Sums::<F32, 2, T>(few, PhantomData)),
            (Number::Bf16, 2) => S::enter(&Sums::<Bf16, 2, T>(few, PhantomData)),
            (Number::F16, 2) => S::enter(&Sums::<F16, 2, T>(few, PhantomData)),
            (Number::I8, 2) => S::enter(&Sums::<I8, 2, T>(few, PhantomData)),
            (Number::F32, _) => S::enter(&Sums::<F32, 4, T>(few, PhantomData)),
            (Number::Bf16, _) => S::enter(&Sums::<Bf16, 4, T>(few, PhantomData)),
            (Number::F16, _) => S::enter(&Sums::<F16, 4, T>(few, PhantomData)),
            (Number::I8, _) => S::enter(&Sums::<I8, 4, T>(few, PhantomData)),
        }
    }
}

/// A block of rows of a weight, and where its activations and outputs are.
struct Few<'a> {
    weight: &'a NOfM,
    block: usize,
    x: *const f32,
    padded: usize,
    y: *mut f32,
    stride: usize,
}

/// A block whose element, bits and tokens are known to the compiler.
struct Sums<'a, E, const BITS: usize, const T: usize>(Few<'a>, PhantomData<E>);

impl<E: Element, const BITS: usize, const T: usize> Job for Sums<'_, E, BITS, T> {
    #[inline(always)]
    unsafe fn on<S: Simd>(&self) {
        let Few { weight, block, x, padded, y, stride } = self.0;
        // SAFETY: handed on to the caller.
        unsafe { sums::<S, E, BITS, T>(weight, block, x, padded, y, stride) }
    }
}

/// # Safety
///
/// As for [`few`]; the weight holds `E` and indices of `BITS` bits.
#[inline(always)]
unsafe fn sums<S: Simd, E: Element, const BITS: usize, const T: usize>(
    weight: &NOfM,
    block: usize,
    x: *const f32,
    padded: usize,
    y: *mut f32,
    stride: usize,
) {
    let sets = weight.word_units(block) / UNITS;
    let mut sums = [[[0.0_f32; UNIT]; T]; BLOCK_ROWS / 2];
    let sums = &mut sums[..sets];
    for word in 0..weight.words {
        let first = weight.unit(block * BLOCK_ROWS, word);
        for (set, sums) in sums.iter_mut().enumerate() {
            let values = weight.values::<E::Raw>(first + set * UNITS);
            let indices = weight.indices(first + set * UNITS);
            for at in (0..UNIT).step_by(S::LANES) {
                // SAFETY: the set's units lie in the weight, the activations in `x`, and each entry
                // of `sums` holds 16 numbers, a whole number of vectors.
                unsafe {
                    let mut acc = [S::zero(); T];
                    for (t, acc) in acc.iter_mut().enumerate() {
                        *acc = S::load(sums[t].as_ptr().add(at));
                    }
                    for u in 0..UNITS {
                        let w = E::load::<S>(values.add(u * UNIT + at));
                        for (t, acc) in acc.iter_mut().enumerate() {
                            let x = x.add(t * padded + word * WORD + u * UNIT);
                            let picked = if BITS == 2 {
                                let bits = *indices.cast::<u32>().add(u) >> (2 * at);
                                S::pick4(x.add(at), bits)
                            } else {
                                let bits = *indices.cast::<u64>().add(u) >> (4 * at);
                                S::pick16(x, bits)
                            };
                            *acc = S::mul_add(w, picked, *acc);
                        }
                    }
                    for (t, acc) in acc.iter().enumerate() {
                        S::store(sums[t].as_mut_ptr().add(at), *acc);
                    }
                }
            }
            for line in 0..UNITS * UNIT * size_of::<E::Raw>() / 64 {
                // SAFETY: a prefetch may name any address.
                unsafe { S::prefetch(values.wrapping_byte_add(AHEAD + 64 * line)) };
            }
        }
    }
    for (set, sums) in sums.iter().enumerate() {
        for (t, lanes) in sums.iter().enumerate() {
            for in_set in 0..weight.set_rows() {
                let in_block = set * weight.set_rows() + in_set;
                let row = block * BLOCK_ROWS + in_block;
                if row < weight.rows {
                    let sum = row_sum(lanes, in_set, weight.kept);
                    let scale = weight.scales.as_ref().map_or(1.0, |scales| scales[row]);
                    // SAFETY: `row` is below the weight's rows, `t` below T.
                    unsafe { *y.add(t * stride + in_block) = sum * scale };
                }
            }
        }
    }
}

/// The sum of the lanes that belong to one row of a unit, halves first.
fn row_sum(lanes: &[f32; UNIT], in_set: usize, kept: usize) -> f32 {
    let first = in_set / 2 * 2 * kept + in_set % 2 * 2;
    let quad = |quad: usize| lanes[first + quad * 4] + lanes[first + quad * 4 + 1];
    match kept {
        8 => (quad(0) + quad(1)) + (quad(2) + quad(3)),
        4 => quad(0) + quad(1),
        _ => quad(0),
    }
}
