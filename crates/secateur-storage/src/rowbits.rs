//! How is a mask written in a file? As compressed-tensors does: whole bytes per row.
//!
//! Column `c` is bit `c % 8` of byte `c / 8` of its row, little-endian within the byte; padding bits
//! are zero.

use crate::{StorageError, dense::matrix_view};
use secateur_mask::Mask;

/// The mask as `rows × ceil(cols / 8)` bytes.
pub(crate) fn to_bytes(mask: &Mask) -> Result<Vec<u8>, StorageError> {
    let (rows, cols) = matrix_view(mask.shape())?;
    let stride = cols.div_ceil(8);
    let mut bytes = vec![0; rows * stride];
    for (index, _) in mask.iter().enumerate().filter(|(_, kept)| *kept) {
        let (row, col) = (index / cols, index % cols);
        bytes[row * stride + col / 8] |= 1 << (col % 8);
    }
    Ok(bytes)
}

/// The mask of `shape` that [`to_bytes`] wrote. Errors on a wrong count or dirty padding.
pub(crate) fn from_bytes(bytes: &[u8], shape: &[usize]) -> Result<Mask, StorageError> {
    let (rows, cols) = matrix_view(shape)?;
    let stride = cols.div_ceil(8);
    if bytes.len() != rows * stride {
        return Err(StorageError::Length {
            what: "a bitmask",
            found: bytes.len(),
            expected: rows * stride,
        });
    }
    let mut words = vec![0_u64; (rows * cols).div_ceil(64)];
    for row in 0..rows {
        let line = &bytes[row * stride..(row + 1) * stride];
        if let Some(last) = line.last()
            && cols % 8 != 0
            && last >> (cols % 8) != 0
        {
            return Err(StorageError::Padding { row });
        }
        for (byte, bits) in line.iter().enumerate().filter(|(_, bits)| **bits != 0) {
            for bit in (0..8).filter(|bit| bits >> bit & 1 == 1) {
                let index = row * cols + byte * 8 + bit;
                words[index / 64] |= 1 << (index % 64);
            }
        }
    }
    Ok(Mask::from_words(words, shape)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example() {
        let kept = [0., 5., 0., -3., 1., 0., 0., 2.].map(|v| v != 0.0);
        let mask = Mask::from_bools(&kept, &[1, 8]).unwrap();
        assert_eq!(to_bytes(&mask).unwrap(), [0x9A]);
        assert_eq!(from_bytes(&[0x9A], &[1, 8]).unwrap(), mask);
    }

    #[test]
    fn rows_begin_on_whole_bytes_and_padding_is_checked() {
        let mask = Mask::full(&[2, 9]).unwrap();
        assert_eq!(to_bytes(&mask).unwrap(), [0xFF, 1, 0xFF, 1]);
        assert!(matches!(
            from_bytes(&[0xFF, 1, 0xFF, 3], &[2, 9]),
            Err(StorageError::Padding { row: 1 })
        ));
        assert!(from_bytes(&[0xFF], &[2, 9]).is_err());
    }
}
