//! How does 2:4 become time? Half the products, their columns decoded by a shift and a mask.
//!
//! # The layout
//!
//! Two rows share a *unit*: 16 columns (four groups of four) of both, 16 values and one `u32` of
//! 2-bit indices. Lane `4·g + 2·r + e` is value `e` of row `r` in group `g`, its index at bits
//! `2·lane`. Four units make a *word* of 64 columns. Words lie in traversal order,
//!
//! ```text
//! [block of 128 rows][word of 64 columns][pair of rows][unit 0..4][lane 0..16]
//! ```
//!
//! so that either kernel reads the weight front to back, once:
//!
//! - [`tile`] (many tokens): tokens along the lanes. A 64-column tile of activations stays in L1
//!   while a whole block of rows passes over it; two rows × V vectors of sums stay in registers.
//!   A 2-bit index picks which of four rows of the tile a weight multiplies.
//! - [`few`] (1 to 4 tokens): a unit along the lanes. The index picks within a vector of 16
//!   activations; the sums of a block lie in L1.
//!
//! Rows are padded to whole groups of pairs and columns to whole words, with zeros.

use super::simd::Simd;
use crate::lines::Lines;
use secateur_storage::Indices;

/// Rows of a block.
pub(super) const BLOCK_ROWS: usize = 128;
/// Columns of a word.
pub(super) const WORD: usize = 64;
/// Rows are padded to a multiple of this, so that kernels may take up to four pairs at once.
const ROW_QUANTUM: usize = 8;
/// Units of a word.
const UNITS: usize = WORD / 16;

/// A 2:4 weight in traversal order.
#[derive(Debug)]
pub(crate) struct TwoFour {
    pub rows: usize,
    pub cols: usize,
    pub words: usize,
    values: Lines,
    indices: Vec<u32>,
}

impl TwoFour {
    /// `indices` and `values` (two per group, row by row) of a `rows × cols` weight.
    pub fn new((rows, cols): (usize, usize), indices: &Indices, values: &[f32]) -> Self {
        let words = cols.div_ceil(WORD);
        let units = rows.next_multiple_of(ROW_QUANTUM) / 2 * words * UNITS;
        let mut packed =
            Self { rows, cols, words, values: Lines::zeros(units * 16), indices: vec![0; units] };
        for row in 0..rows {
            let mut slots = [0_u8; 16]; // entries stored so far in each group of the word
            let mut word = 0;
            // Slots beyond the row's end too: they point at padding, which is zero, while index 0
            // would point at a column that may hold an infinity.
            let values = values[row * indices.slots()..].iter();
            for (col, value) in indices.columns(row).zip(values) {
                if col / WORD != word {
                    (word, slots) = (col / WORD, [0; 16]);
                }
                let slot = &mut slots[col % WORD / 4];
                let unit = packed.unit(row / 2, word) + col % WORD / 16;
                let lane = col % 16 / 4 * 4 + row % 2 * 2 + usize::from(*slot);
                *slot += 1;
                packed.values.set(unit * 16 + lane, *value);
                packed.indices[unit] |= ((col % 4) as u32) << (2 * lane);
            }
        }
        packed
    }

    pub fn bytes(&self) -> usize {
        self.values.len() * size_of::<f32>() + size_of_val(self.indices.as_slice())
    }

    /// Pairs of rows in a block, padding included.
    fn pairs(&self, block: usize) -> usize {
        let padded = self.rows.next_multiple_of(ROW_QUANTUM);
        (padded - block * BLOCK_ROWS).min(BLOCK_ROWS) / 2
    }

    /// The first unit of a pair of rows in a word.
    fn unit(&self, pair: usize, word: usize) -> usize {
        let (block, in_block) = (pair / (BLOCK_ROWS / 2), pair % (BLOCK_ROWS / 2));
        let before = block * (BLOCK_ROWS / 2) * self.words;
        (before + word * self.pairs(block) + in_block) * UNITS
    }
}

/// Sums of one block of rows over all columns: `sums[row][width]`, `width = V · LANES` tokens.
///
/// # Safety
///
/// `S` runs here. `panel` is `[words · 64][width]`, readable; `sums` is writable for the block's
/// padded rows times `width`.
#[inline(always)]
pub(super) unsafe fn block<S: Simd, const V: usize>(
    weight: &TwoFour,
    block: usize,
    panel: *const f32,
    sums: *mut f32,
) {
    let pairs = weight.pairs(block);
    for word in 0..weight.words {
        let unit = weight.unit(block * BLOCK_ROWS / 2, word);
        // SAFETY: `unit` and the pairs · UNITS units from it lie in the weight, which `new` sized;
        // the word's 64 · width activations lie in the panel by the caller's promise.
        unsafe {
            let values = weight.values.as_ptr().add(unit * 16);
            let indices = weight.indices.as_ptr().add(unit);
            let x = panel.add(word * WORD * V * S::LANES);
            tile::<S, V>(pairs, values, indices, x, sums, word == 0);
        }
    }
}

/// One word of columns for all pairs of a block.
///
/// # Safety
///
/// As for [`block`]; `values` and `indices` are readable for `pairs` words.
#[inline(always)]
unsafe fn tile<S: Simd, const V: usize>(
    pairs: usize,
    mut values: *const f32,
    mut indices: *const u32,
    x: *const f32,
    mut sums: *mut f32,
    first: bool,
) {
    let width = V * S::LANES;
    for _ in 0..pairs {
        // SAFETY: `S` runs here by the caller's promise.
        let mut acc = [[unsafe { S::zero() }; V]; 2];
        for unit in 0..UNITS {
            // SAFETY: `values` and `indices` point at this pair's word, which holds UNITS units. A
            // column picked is unit · 16 + group · 4 + two bits, below 64, and its V vectors lie in
            // its row of `x`.
            unsafe {
                let bits = u64::from(*indices.add(unit));
                let x = x.add(unit * 16 * width);
                group::<S, V, 0>(&mut acc, values.add(unit * 16), bits, x);
                group::<S, V, 1>(&mut acc, values.add(unit * 16), bits, x);
                group::<S, V, 2>(&mut acc, values.add(unit * 16), bits, x);
                group::<S, V, 3>(&mut acc, values.add(unit * 16), bits, x);
            }
        }
        // SAFETY: two rows of `sums`, within the block by the count of pairs.
        unsafe {
            for (row, acc) in acc.iter().enumerate() {
                for (v, acc) in acc.iter().enumerate() {
                    let to = sums.add(row * width + v * S::LANES);
                    S::store(to, if first { *acc } else { S::add(*acc, S::load(to)) });
                }
            }
            values = values.add(UNITS * 16);
            indices = indices.add(UNITS);
            sums = sums.add(2 * width);
        }
    }
}

/// The four products of group `G`: two rows, two values each.
///
/// # Safety
///
/// As for [`tile`].
#[inline(always)]
unsafe fn group<S: Simd, const V: usize, const G: usize>(
    acc: &mut [[S::V; V]; 2],
    values: *const f32,
    bits: u64,
    x: *const f32,
) {
    // SAFETY: see `tile`.
    unsafe {
        let weights = S::splat4(values.add(4 * G));
        for lane in [0, 2, 1, 3] {
            let column = 4 * G + (bits >> (2 * (4 * G + lane)) & 3) as usize;
            let from = x.add(column * V * S::LANES);
            for v in 0..V {
                let x = S::load(from.add(v * S::LANES));
                acc[lane / 2][v] = S::mul_add(weights[lane], x, acc[lane / 2][v]);
            }
        }
    }
}

/// One block of rows for `T` tokens (1 to 4): `y[token · stride + row]`, bias added.
///
/// # Safety
///
/// `S` runs here. `x` is `T` rows of `words · 64` numbers (zeros beyond `cols`); `bias`, if not null,
/// holds a number for each row of the weight, and each of the `T` rows of `y` is writable for them.
#[inline(always)]
pub(super) unsafe fn few<S: Simd, const T: usize>(
    weight: &TwoFour,
    block: usize,
    x: *const f32,
    bias: *const f32,
    y: *mut f32,
) {
    let (padded, pairs) = (weight.words * WORD, weight.pairs(block));
    let mut sums = [[[0.0_f32; 16]; T]; BLOCK_ROWS / 2];
    let sums = &mut sums[..pairs];
    for word in 0..weight.words {
        let unit = weight.unit(block * BLOCK_ROWS / 2, word);
        for (pair, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as in `block`: the units lie in the weight, the activations in `x`, and each
            // entry of `sums` holds 16 numbers, a whole number of vectors.
            unsafe {
                let first = unit + pair * UNITS;
                let values = weight.values.as_ptr().add(first * 16);
                for half in 0..16 / S::LANES {
                    let at = half * S::LANES;
                    let mut acc = [S::zero(); T];
                    for (t, acc) in acc.iter_mut().enumerate() {
                        *acc = S::load(sums[t].as_ptr().add(at));
                    }
                    for u in 0..UNITS {
                        let bits = *weight.indices.as_ptr().add(first + u) >> (2 * at);
                        let w = S::load(values.add(u * 16 + at));
                        for (t, acc) in acc.iter_mut().enumerate() {
                            let x = S::load(x.add(t * padded + word * WORD + u * 16 + at));
                            *acc = S::mul_add(w, S::pick(x, bits), *acc);
                        }
                    }
                    for (t, acc) in acc.iter().enumerate() {
                        S::store(sums[t].as_mut_ptr().add(at), *acc);
                    }
                }
            }
        }
    }
    for (pair, sums) in sums.iter().enumerate() {
        for (t, lanes) in sums.iter().enumerate() {
            for in_pair in 0..2 {
                let row = block * BLOCK_ROWS + pair * 2 + in_pair;
                if row < weight.rows {
                    let lane = |group: usize| {
                        lanes[group * 4 + in_pair * 2] + lanes[group * 4 + in_pair * 2 + 1]
                    };
                    let sum = (lane(0) + lane(1)) + (lane(2) + lane(3));
                    // SAFETY: `row` is below the weight's rows, `t` below T.
                    unsafe {
                        let add = if bias.is_null() { 0.0 } else { *bias.add(row) };
                        *y.add(t * weight.rows + row) = sum + add;
                    }
                }
            }
        }
    }
}
