//! In which order does the sparse tensor core load metadata? As its 32 lanes lie, block by block.
//!
//! A warp multiplies a block of 32 rows × 32 columns (16-bit elements, `u16` words) or 16 × 64 (i8,
//! `u32` words), and lane `l` of it takes the block's `l`-th `u32`: one coalesced read of 128 bytes.
//! With `g = l / 4` and `t = l % 4`, that lane holds
//!
//! - 16-bit: the words of rows `g + 16 (t / 2)` (low half) and 8 below (high half), at the block's
//!   columns `16 (t % 2)..`. `mma.sp.m16n8k32` with selector 0 multiplies rows 0 to 15 by lanes
//!   `t = 0, 1`, with selector 1 rows 16 to 31 by lanes `t = 2, 3`; a single read feeds both.
//! - i8: the word of row `g + 8 (t % 2)` at the block's columns `32 (t / 2)..`, for
//!   `mma.sp.m16n8k64` with selector 0.
//!
//! Blocks follow each other down the rows, then across the columns. PyTorch keeps its metadata in
//! this order, which is CUTLASS's: rows dealt out by eights, two-by-two blocks of words transposed,
//! pairs of columns together. Whole blocks are all the order needs; CUTLASS's kernels ask for twice
//! the columns, 32 × 64 and 16 × 128, because their tiles are that wide.
//!
//! ```
//! use secateur_storage::device_order::{from_device_order, to_device_order};
//!
//! // At the left, rows 8 to 15 and 24 to 31 have another word than those above them.
//! let metadata: Vec<u16> = (0..32).flat_map(|row| [[0x4444, 0x8888][row / 8 % 2], 0xEEEE]).collect();
//! let device = to_device_order(&metadata, [32, 32])?;
//! assert_eq!(device[..4], [0x8888_4444, 0xEEEE_EEEE, 0x8888_4444, 0xEEEE_EEEE]);
//! assert_eq!(from_device_order::<u16>(&device, [32, 32])?, metadata);
//! # Ok::<(), secateur_storage::StorageError>(())
//! ```

use crate::{
    StorageError,
    semi_structured::{MetadataWord, has_length, is_multiple, verify},
    shape::checked_len,
};

/// Rows and columns of the dense weight that one warp's `u32`s describe, the least that has a
/// device order: 32 × 32 for `u16` words (f16, bf16), 16 × 64 for `u32` words (i8).
pub const fn block<W: MetadataWord>() -> [usize; 2] {
    [512 / W::COLUMNS, 2 * W::COLUMNS]
}

/// Row-major metadata of a weight `[m, k]` in the device's order, `m · k / 32` words of 32 bits.
///
/// Errors when `m` or `k` is not a multiple of [`block`]'s, and as [`verify`] does.
pub fn to_device_order<W: MetadataWord>(
    metadata: &[W],
    shape: [usize; 2],
) -> Result<Vec<u32>, StorageError> {
    has_blocks::<W>(shape)?;
    verify(metadata, shape)?;
    let mut device = vec![0; metadata.len() * W::COLUMNS / 32];
    for position in 0..metadata.len() {
        let bit = position * W::COLUMNS;
        device[bit / 32] |= metadata[source::<W>(position, shape)].bits() << (bit % 32);
    }
    Ok(device)
}

/// Row-major metadata, `[m, k / 16]` (`u16`) or `[m, k / 32]` (`u32`), from the device's order.
///
/// Errors as [`to_device_order`] does; rows and groups are named as they are in the weight.
pub fn from_device_order<W: MetadataWord>(
    device: &[u32],
    shape: [usize; 2],
) -> Result<Vec<W>, StorageError> {
    has_blocks::<W>(shape)?;
    let words = checked_len(&shape)? / W::COLUMNS;
    has_length("metadata in the device's order", device.len(), words * W::COLUMNS / 32)?;
    let mut metadata = vec![W::from_bits(0); words];
    for position in 0..words {
        let bit = position * W::COLUMNS;
        metadata[source::<W>(position, shape)] = W::from_bits(device[bit / 32] >> (bit % 32));
    }
    verify(&metadata, shape)?;
    Ok(metadata)
}

/// Row-major values of a 2:4 weight `[m, k]`, themselves `[m, k / 2]`, in the order of the instruction's registers.
///
/// Errors when `m` or `k` is not a multiple of [`block`]'s, or the count of values is not `m · k / 2`.
pub fn values_to_device_order<T: Copy, W: MetadataWord>(
    values: &[T],
    shape: [usize; 2],
) -> Result<Vec<T>, StorageError> {
    has_blocks::<W>(shape)?;
    has_length("the values of a 2:4 weight", values.len(), checked_len(&shape)? / 2)?;
    Ok((0..values.len()).map(|position| values[value_source::<W>(position, shape)]).collect())
}

/// Where in row-major values that one lies that the device has at `position`.
fn value_source<W: MetadataWord>(position: usize, [rows, cols]: [usize; 2]) -> usize {
    // An instruction takes 16 rows of 16 values of two bytes, or of 32 of one: 4 bytes a register.
    let (held, block_rows) = (W::COLUMNS, block::<W>()[0]);
    let each = held / 8;
    let (element, register, lane) =
        (position % each, position / each % 4, position / each / 4 % 32);
    let instruction = position / (16 * held);
    let (g, t) = (lane / 4, lane % 4);
    let row16 = instruction % (rows / 16);
    let _ = block_rows;
    let column_block = instruction / (rows / 16);
    let row = row16 * 16 + g + 8 * (register & 1);
    let column = column_block * held + each * (t + 4 * (register >> 1)) + element;
    row * (cols / 2) + column
}

fn has_blocks<W: MetadataWord>([rows, cols]: [usize; 2]) -> Result<(), StorageError> {
    let [block_rows, block_cols] = block::<W>();
    is_multiple("the rows of metadata in the device's order", rows, block_rows)?;
    is_multiple("the columns of metadata in the device's order", cols, block_cols)
}

/// Where in row-major metadata the word lies that the device has at `position`, both in words.
///
/// The position's lowest bits within a lane group `g` are: 8 rows further, the right of the block's
/// two words, and, where a block has 32 rows, 16 rows further.
fn source<W: MetadataWord>(position: usize, [rows, cols]: [usize; 2]) -> usize {
    let block_rows = block::<W>()[0];
    let (column_block, within) = (position / (2 * rows), position % (2 * rows));
    let (row_block, word) = (within / (2 * block_rows), within % (2 * block_rows));
    let (g, low) = (word / (block_rows / 4), word % (block_rows / 4));
    let row = row_block * block_rows + g + 8 * (low & 1) + 16 * (low >> 2);
    let column = column_block * 2 + (low >> 1 & 1);
    row * (cols / W::COLUMNS) + column
}
