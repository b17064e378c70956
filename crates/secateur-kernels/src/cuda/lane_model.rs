//! What does `mma.sp` compute? A 2:4 matrix times a dense one, spread over the registers of 32 lanes.
//!
//! NVIDIA's sparse tensor core takes, in one instruction of one warp, `D = A · B + C` with `A` 16 rows high and 32
//! columns wide (16-bit elements) or 64 (bytes), of which every four columns keep two. `A` comes without its zeros,
//! beside a nibble per four columns that says where the two belong: `first | second << 2`, `first < second`. `B`
//! is dense and has 8 columns. No lane holds a matrix; each holds four registers of every operand. With
//! `g = lane / 4` and `t = lane % 4`:
//!
//! | operand | 16-bit, `m16n8k32` | bytes, `m16n8k64` |
//! | --- | --- | --- |
//! | `A`, register `i` | row `g + 8 (i % 2)`, kept values `2t + 8 (i / 2)`, +1 | same row, `4t + 16 (i / 2)`, +1, +2, +3 |
//! | `B`, register `i` | rows `8i + 2t`, +1 of column `g` | rows `16i + 4t`, +1, +2, +3 of column `g` |
//! | `C`, `D` | (`g`, `2t`), (`g`, `2t + 1`), (`g + 8`, `2t`), (`g + 8`, `2t + 1`) | same |
//! | metadata | lane `4g + 2 · selector + h`: columns `16h..16h + 16` of row `g` (low half), `g + 8` (high half) | columns `32 (t / 2)..` of row `g + 8 (t % 2)`; the selector is 0 |
//!
//! So with 16-bit elements only half of the lanes supply metadata, and the selector says which half: a register
//! loaded once feeds two instructions. What the other lanes hold does not matter.
//!
//! The model decodes nothing but registers, so it is the test of every layout that is made for the instruction.
//! It sums in f64 and rounds once to f32; in which order and with how many bits the hardware sums is not modelled.
//!
//! ```
//! use secateur_kernels::cuda::lane_model::{Float, mma_sp_float};
//!
//! // A keeps the first and the last of every four columns (nibble 0xC) and holds ones; so does B (0x3C00 is 1.0).
//! let (ones, metadata) = ([[0x3C00_3C00; 4]; 32], [0xCCCC_CCCC; 32]);
//! let d = mma_sp_float(Float::F16, &ones, &ones, &[[0.5; 4]; 32], &metadata, 0)?;
//! assert_eq!(d, [[16.5; 4]; 32]); // 32 columns, of which 16 are kept
//!
//! // A nibble whose first place is not below its second means nothing, and is refused.
//! assert!(mma_sp_float(Float::F16, &ones, &ones, &[[0.5; 4]; 32], &[0xCCCC_CCC0; 32], 0).is_err());
//! # Ok::<(), secateur_kernels::cuda::CudaError>(())
//! ```

use super::CudaError;
use half::{bf16, f16};

/// `N` registers of each of the 32 lanes of a warp.
pub type Lanes<T, const N: usize> = [[T; N]; 32];

/// The 16-bit elements that a tensor core multiplies, two in a register, the first in its low half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Float {
    /// IEEE binary16.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl Float {
    /// The number that sixteen bits mean.
    pub fn to_f32(self, bits: u16) -> f32 {
        match self {
            Self::F16 => f16::from_bits(bits).to_f32(),
            Self::Bf16 => bf16::from_bits(bits).to_f32(),
        }
    }
}

/// `mma.sp.sync.aligned.m16n8k32.row.col.f32.{f16,bf16}.{f16,bf16}.f32`: `A · B + C`.
///
/// Errors when the selector is not 0 or 1, and when a nibble of the selected lanes does not name two ascending
/// places.
pub fn mma_sp_float(
    float: Float,
    a: &Lanes<u32, 4>,
    b: &Lanes<u32, 4>,
    c: &Lanes<f32, 4>,
    metadata: &[u32; 32],
    selector: u32,
) -> Result<Lanes<f32, 4>, CudaError> {
    if selector > 1 {
        return Err(CudaError::Selector { selector, most: 1 });
    }
    let element = |word: u32, at: usize| f64::from(float.to_f32((word >> (16 * at)) as u16));
    let mut dense = [[0.0_f64; 8]; 32];
    for (lane, registers) in b.iter().enumerate() {
        for (i, word) in registers.iter().enumerate() {
            let row = 8 * i + 2 * (lane % 4);
            dense[row][lane / 4] = element(*word, 0);
            dense[row + 1][lane / 4] = element(*word, 1);
        }
    }
    let mut sums = [[0.0_f64; 8]; 16];
    for (lane, registers) in a.iter().enumerate() {
        let (g, t) = (lane / 4, lane % 4);
        for (i, word) in registers.iter().enumerate() {
            // The register's two values are the two of one group of four columns.
            let (row, group) = (g + 8 * (i % 2), t + 4 * (i / 2));
            let source = 4 * g + 2 * selector as usize + group / 4;
            let places = places(metadata[source], source, 4 * (i % 2) + group % 4)?;
            for (at, place) in places.into_iter().enumerate() {
                let value = element(*word, at);
                add(&mut sums[row], value, &dense[4 * group + place]);
            }
        }
    }
    Ok(collect(c, |c, row, column| (f64::from(c) + sums[row][column]) as f32))
}

/// `mma.sp.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32`: `A · B + C`, exact; sums wrap around.
///
/// Errors when a nibble does not name two ascending places.
pub fn mma_sp_s8(
    a: &Lanes<u32, 4>,
    b: &Lanes<u32, 4>,
    c: &Lanes<i32, 4>,
    metadata: &[u32; 32],
) -> Result<Lanes<i32, 4>, CudaError> {
    let mut dense = [[0_i32; 8]; 64];
    for (lane, registers) in b.iter().enumerate() {
        for (i, word) in registers.iter().enumerate() {
            for (at, byte) in word.to_le_bytes().into_iter().enumerate() {
                dense[16 * i + 4 * (lane % 4) + at][lane / 4] = i32::from(byte as i8);
            }
        }
    }
    let mut sums = [[0_i32; 8]; 16];
    for (lane, registers) in a.iter().enumerate() {
        let (g, t) = (lane / 4, lane % 4);
        for (i, word) in registers.iter().enumerate() {
            // The register's four values are those of two groups of four columns.
            for (pair, values) in word.to_le_bytes().as_chunks::<2>().0.iter().enumerate() {
                let (row, group) = (g + 8 * (i % 2), 2 * t + 8 * (i / 2) + pair);
                let source = 4 * g + i % 2 + 2 * (group / 8);
                for (value, place) in
                    values.iter().zip(places(metadata[source], source, group % 8)?)
                {
                    add_integers(
                        &mut sums[row],
                        i32::from(*value as i8),
                        &dense[4 * group + place],
                    );
                }
            }
        }
    }
    Ok(collect(c, |c: i32, row, column| c.wrapping_add(sums[row][column])))
}

/// `mma.sync.aligned.m16n8k16.row.col.f32.{f16,bf16}.{f16,bf16}.f32`, the dense instruction: `A · B + C`, `A` 16 × 16.
///
/// `A` lies as the kept values of the sparse one do, `B` has two registers instead of four.
pub fn mma_float(
    float: Float,
    a: &Lanes<u32, 4>,
    b: &Lanes<u32, 2>,
    c: &Lanes<f32, 4>,
) -> Lanes<f32, 4> {
    let element = |word: u32, at: usize| f64::from(float.to_f32((word >> (16 * at)) as u16));
    let mut dense = [[0.0_f64; 8]; 16];
    for (lane, registers) in b.iter().enumerate() {
        for (i, word) in registers.iter().enumerate() {
            let row = 8 * i + 2 * (lane % 4);
            dense[row][lane / 4] = element(*word, 0);
            dense[row + 1][lane / 4] = element(*word, 1);
        }
    }
    let mut sums = [[0.0_f64; 8]; 16];
    for (lane, registers) in a.iter().enumerate() {
        for (i, word) in registers.iter().enumerate() {
            for at in 0..2 {
                let (row, k) = (lane / 4 + 8 * (i % 2), 2 * (lane % 4) + 8 * (i / 2) + at);
                let value = element(*word, at);
                add(&mut sums[row], value, &dense[k]);
            }
        }
    }
    collect(c, |c, row, column| (f64::from(c) + sums[row][column]) as f32)
}

/// `mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32`, the dense instruction on bytes: exact; sums wrap around.
pub fn mma_s8(a: &Lanes<u32, 4>, b: &Lanes<u32, 2>, c: &Lanes<i32, 4>) -> Lanes<i32, 4> {
    let bytes = |word: u32| word.to_le_bytes().map(|byte| i32::from(byte as i8));
    let mut dense = [[0_i32; 8]; 32];
    for (lane, registers) in b.iter().enumerate() {
        for (i, word) in registers.iter().enumerate() {
            for (at, value) in bytes(*word).into_iter().enumerate() {
                dense[16 * i + 4 * (lane % 4) + at][lane / 4] = value;
            }
        }
    }
    let mut sums = [[0_i32; 8]; 16];
    for (lane, registers) in a.iter().enumerate() {
        for (i, word) in registers.iter().enumerate() {
            let (row, k) = (lane / 4 + 8 * (i % 2), 4 * (lane % 4) + 16 * (i / 2));
            for (at, value) in bytes(*word).into_iter().enumerate() {
                add_integers(&mut sums[row], value, &dense[k + at]);
            }
        }
    }
    collect(c, |c: i32, row, column| c.wrapping_add(sums[row][column]))
}

/// One value of A times its row of B, onto a row of sums.
fn add(sums: &mut [f64; 8], value: f64, row: &[f64; 8]) {
    sums.iter_mut().zip(row).for_each(|(sum, other)| *sum += value * other);
}

/// The same of integers, which wrap around.
fn add_integers(sums: &mut [i32; 8], value: i32, row: &[i32; 8]) {
    let add = |sum: i32, other: i32| sum.wrapping_add(value.wrapping_mul(other));
    sums.iter_mut().zip(row).for_each(|(sum, other)| *sum = add(*sum, *other));
}

/// The accumulators of all lanes, from those before and a function of row and column.
fn collect<T: Copy>(c: &Lanes<T, 4>, sum: impl Fn(T, usize, usize) -> T) -> Lanes<T, 4> {
    std::array::from_fn(|lane| {
        std::array::from_fn(|i| sum(c[lane][i], lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2))
    })
}

/// The two places of four that a nibble names.
fn places(word: u32, lane: usize, nibble: usize) -> Result<[usize; 2], CudaError> {
    let bits = word >> (4 * nibble) & 0xF;
    let places = [(bits & 3) as usize, (bits >> 2) as usize];
    if places[0] < places[1] { Ok(places) } else { Err(CudaError::Metadata { lane, nibble, bits }) }
}
