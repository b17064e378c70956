//! In which order does the sparse tensor core load a 2:4 weight? As its 32 lanes lie, block by block.
//!
//! A warp multiplies a block of 32 rows × 32 columns (16-bit elements, `u16` words) or 16 × 64 (i8,
//! `u32` words). Of its metadata lane `l` takes the block's `l`-th `u32`: one coalesced read of 128 bytes.
//! With `g = l / 4` and `t = l % 4`, that lane holds
//!
//! - 16-bit: the words of rows `g + 16 (t / 2)` (low half) and 8 below (high half), at the block's
//!   columns `16 (t % 2)..`. `mma.sp.m16n8k32` with selector 0 multiplies rows 0 to 15 by lanes
//!   `t = 0, 1`, with selector 1 rows 16 to 31 by lanes `t = 2, 3`; a single read feeds both.
//! - i8: the word of row `g + 8 (t % 2)` at the block's columns `32 (t / 2)..`, for
//!   `mma.sp.m16n8k64` with selector 0.
//!
//! Of its values lane `l` takes the block's `l`-th 16 bytes, four registers as the instruction wants them,
//! 32 lanes for each instruction: one coalesced read of 512 bytes, and nothing to shuffle. Register `i` holds
//!
//! - 16-bit: row `g + 8 (i % 2)`, kept values `2 t + 8 (i / 2)` and the next; the 16 bytes of the second
//!   instruction, rows 16 to 31, follow those of the first one's last lane.
//! - i8: row `g + 8 (i % 2)`, kept values `4 t + 16 (i / 2)` and the next three.
//!
//! Blocks of both follow each other down the rows, then across the columns. PyTorch keeps its metadata in
//! this order, which is CUTLASS's: rows dealt out by eights, two-by-two blocks of words transposed,
//! pairs of columns together. Whole blocks are all the order needs; CUTLASS's kernels ask for twice
//! the columns, 32 × 64 and 16 × 128, because their tiles are that wide.
//!
//! ```
//! use secateur_storage::device_order::{from_device_order, to_device_order};
//! use secateur_storage::device_order::{values_from_device_order, values_to_device_order};
//!
//! // At the left, rows 8 to 15 and 24 to 31 have another word than those above them.
//! let metadata: Vec<u16> = (0..32).flat_map(|row| [[0x4444, 0x8888][row / 8 % 2], 0xEEEE]).collect();
//! let device = to_device_order(&metadata, [32, 32])?;
//! assert_eq!(device[..4], [0x8888_4444, 0xEEEE_EEEE, 0x8888_4444, 0xEEEE_EEEE]);
//! assert_eq!(from_device_order::<u16>(&device, [32, 32])?, metadata);
//!
//! // The first lane has the first two values of rows 0 and 8, then those eight further on.
//! let values: Vec<u16> = (0..32 * 16).collect(); // [m, k / 2]
//! let device = values_to_device_order::<_, u16>(&values, [32, 32])?;
//! assert_eq!(device[..8], [0, 1, 128, 129, 8, 9, 136, 137]);
//! assert_eq!(values_from_device_order::<_, u16>(&device, [32, 32])?, values);
//! # Ok::<(), secateur_storage::StorageError>(())
//! ```

mod metadata;
mod values;

pub use metadata::{from_device_order, to_device_order};
pub use values::{values_from_device_order, values_to_device_order};

use crate::{
    StorageError,
    semi_structured::{MetadataWord, is_multiple},
};

/// Rows and columns of the dense weight that one warp's `u32`s describe, the least that has a
/// device order: 32 × 32 for `u16` words (f16, bf16), 16 × 64 for `u32` words (i8).
pub const fn block<W: MetadataWord>() -> [usize; 2] {
    [512 / W::COLUMNS, 2 * W::COLUMNS]
}

fn has_blocks<W: MetadataWord>([rows, cols]: [usize; 2]) -> Result<(), StorageError> {
    let [block_rows, block_cols] = block::<W>();
    is_multiple("the rows of a weight in the device's order", rows, block_rows)?;
    is_multiple("the columns of a weight in the device's order", cols, block_cols)
}
