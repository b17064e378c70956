//! Where does the device have a value? In the register of the lane that multiplies it.

use super::{block, has_blocks};
use crate::{
    StorageError,
    semi_structured::{MetadataWord, has_length},
    shape::checked_len,
};

/// Row-major values `[m, k / 2]` of a weight `[m, k]` in the device's order.
///
/// `T` is the element, or its bare bits; the word `W` of its metadata says how wide it is: `u16` beside
/// elements of two bytes, `u32` beside bytes.
///
/// Errors when `m` or `k` is not a multiple of [`block`]'s, and when the count of values is not `m · k / 2`.
pub fn values_to_device_order<T: Copy, W: MetadataWord>(
    values: &[T],
    shape: [usize; 2],
) -> Result<Vec<T>, StorageError> {
    has_values::<W>(values.len(), shape)?;
    Ok((0..values.len()).map(|position| values[source::<W>(position, shape)]).collect())
}

/// Row-major values `[m, k / 2]` from the device's order.
///
/// Errors as [`values_to_device_order`] does.
pub fn values_from_device_order<T: Copy, W: MetadataWord>(
    device: &[T],
    shape: [usize; 2],
) -> Result<Vec<T>, StorageError> {
    has_values::<W>(device.len(), shape)?;
    // Every place is written once: this is a permutation.
    let mut values = device.to_vec();
    for (position, value) in device.iter().enumerate() {
        values[source::<W>(position, shape)] = *value;
    }
    Ok(values)
}

fn has_values<W: MetadataWord>(found: usize, shape: [usize; 2]) -> Result<(), StorageError> {
    has_blocks::<W>(shape)?;
    has_length("the values of a 2:4 weight", found, checked_len(&shape)? / 2)
}

/// Where in row-major values the one lies that the device has at `position`.
///
/// A block has 512 values, whatever their width: two instructions' of 16 bits, or one's of bytes. An instruction has
/// 16 rows, 32 lanes of four registers each.
fn source<W: MetadataWord>(position: usize, [rows, cols]: [usize; 2]) -> usize {
    let [block_rows, block_cols] = block::<W>();
    let (block, within) = (position / 512, position % 512);
    let (column_block, row_block) = (block / (rows / block_rows), block % (rows / block_rows));
    let per_register = W::COLUMNS / 8;
    let (register, element) = (within / per_register, within % per_register);
    let (lane, i) = (register / 4 % 32, register % 4);
    let row = row_block * block_rows + 16 * (register / 128) + lane / 4 + 8 * (i % 2);
    let column = column_block * block_cols / 2 + per_register * (lane % 4 + 4 * (i / 2)) + element;
    row * (cols / 2) + column
}
