//! Where does the device have a word of metadata? Where the lane that supplies it looks.

use super::{block, has_blocks};
use crate::{
    StorageError,
    semi_structured::{MetadataWord, has_length, verify},
    shape::checked_len,
};

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
