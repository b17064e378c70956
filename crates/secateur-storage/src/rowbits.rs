//! How is a mask written in a file? As compressed-tensors does: whole bytes per row.
//!
//! Column `c` is bit `c % 8` of byte `c / 8` of its row, little-endian within the byte; padding bits
//! are zero. A mask's own words hold the same bits without padding. Rows of whole bytes are
//! therefore copied, all others are shifted, sixty-four columns at a time.

use crate::{StorageError, shape::matrix_view};
use secateur_mask::Mask;

/// The mask as `rows × ceil(cols / 8)` bytes.
pub(crate) fn to_bytes(mask: &Mask) -> Result<Vec<u8>, StorageError> {
    let (rows, cols) = matrix_view(mask.shape())?;
    let (words, stride) = (mask.words(), cols.div_ceil(8));
    let mut bytes = vec![0; rows * stride];
    if bytes.is_empty() {
        return Ok(bytes);
    }
    if cols % 8 == 0 {
        let (whole, rest) = bytes.as_chunks_mut::<8>();
        let (copied, last) = words.split_at(whole.len());
        for (bytes, word) in whole.iter_mut().zip(copied) {
            *bytes = word.to_le_bytes();
        }
        copy_low_bytes(rest, last.first().copied().unwrap_or(0));
        return Ok(bytes);
    }
    for (row, line) in bytes.chunks_mut(stride).enumerate() {
        let mut start = row * cols;
        let (whole, last) = line.split_at_mut(cols / 64 * 8);
        for bytes in whole.as_chunks_mut::<8>().0 {
            *bytes = sixty_four(words, start).to_le_bytes();
            start += 64;
        }
        // What is left of the row, without the beginning of the next.
        let bits = sixty_four(words, start) & low_bits(cols % 64);
        copy_low_bytes(last, bits);
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
    if cols % 8 == 0 {
        let (whole, rest) = bytes.as_chunks::<8>();
        let mut words = Vec::with_capacity(whole.len() + 1);
        words.extend(whole.iter().map(|bytes| u64::from_le_bytes(*bytes)));
        if !rest.is_empty() {
            words.push(from_low_bytes(rest));
        }
        return Ok(Mask::from_words(words, shape)?);
    }
    let mut words = vec![0_u64; (rows * cols).div_ceil(64)];
    for (row, line) in bytes.chunks(stride).enumerate() {
        if line[stride - 1] >> (cols % 8) != 0 {
            return Err(StorageError::Padding { row });
        }
        let (whole, last) = line.split_at(cols / 64 * 8);
        let whole = whole.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        for (index, bits) in whole.chain([from_low_bytes(last)]).enumerate() {
            let (word, shift) = ((row * cols + index * 64) / 64, (row * cols) % 64);
            words[word] |= bits << shift;
            // Nothing but zeros lies beyond the last word.
            if shift > 0
                && let Some(next) = words.get_mut(word + 1)
            {
                *next |= bits >> (64 - shift);
            }
        }
    }
    Ok(Mask::from_words(words, shape)?)
}

/// Where the kept values of each row begin among all kept values, row-major: compressed-tensors'
/// `row_offsets`, one per row.
pub(crate) fn row_offsets(mask: &Mask) -> Vec<i64> {
    let begin = |kept_before: &mut i64, count: usize| {
        let offset = *kept_before;
        *kept_before += count as i64;
        Some(offset)
    };
    mask.row_counts().into_iter().scan(0, begin).collect()
}

/// The 64 bits from bit `start` on, the first lowest; zeros beyond the last word.
fn sixty_four(words: &[u64], start: usize) -> u64 {
    let (word, shift) = (start / 64, start % 64);
    let high = match words.get(word + 1) {
        Some(next) if shift > 0 => next << (64 - shift),
        _ => 0,
    };
    words[word] >> shift | high
}

/// Up to eight bytes as a word, the first lowest.
fn from_low_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The other way round: as many bytes as there is room for, the lowest first.
fn copy_low_bytes(bytes: &mut [u8], word: u64) {
    for (byte, value) in bytes.iter_mut().zip(word.to_le_bytes()) {
        *byte = value;
    }
}

/// A word whose lowest `count` bits are set; `count < 64`.
fn low_bits(count: usize) -> u64 {
    (1 << count) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn offsets_are_those_of_the_values_before() {
        let mask = Mask::from_bools(&[true, true, false, false, true, true], &[3, 2]).unwrap();
        assert_eq!(row_offsets(&mask), [0, 2, 2]);
        assert_eq!(row_offsets(&Mask::full(&[2, 0]).unwrap()), [0, 0]);
        assert_eq!(row_offsets(&Mask::full(&[0, 2]).unwrap()), [0_i64; 0]);
    }

    fn masks() -> impl Strategy<Value = Mask> {
        let cols =
            prop_oneof![0_usize..20, 0_usize..300, (0_usize..40).prop_map(|bytes| bytes * 8)];
        let shapes = prop_oneof![
            (0_usize..12, cols).prop_map(|(rows, cols)| vec![rows, cols]),
            (0_usize..300).prop_map(|len| vec![len]),
            (0_usize..5, 0_usize..9, 1_usize..4).prop_map(|(o, i, taps)| vec![o, i, taps, 3]),
            Just(vec![]),
        ];
        shapes.prop_flat_map(|shape| {
            let len: usize = shape.iter().product();
            prop::collection::vec(any::<bool>(), len)
                .prop_map(move |bits| Mask::from_bools(&bits, &shape).unwrap())
        })
    }

    /// Bit by bit, as the format is defined.
    fn plain(mask: &Mask) -> Vec<u8> {
        let (rows, cols) = matrix_view(mask.shape()).unwrap();
        let stride = cols.div_ceil(8);
        let mut bytes = vec![0; rows * stride];
        for (index, _) in mask.iter().enumerate().filter(|(_, kept)| *kept) {
            let (row, col) = (index / cols, index % cols);
            bytes[row * stride + col / 8] |= 1 << (col % 8);
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn bytes_are_the_bits_of_the_definition(mask in masks()) {
            let bytes = to_bytes(&mask).unwrap();
            prop_assert_eq!(&bytes, &plain(&mask));
            prop_assert_eq!(from_bytes(&bytes, mask.shape()).unwrap(), mask);
        }

        /// Any padding bit of any row that is set is refused, and the row is named; so is any byte
        /// too few or too many.
        #[test]
        fn no_padding_bit_and_no_byte_goes_unseen(mask in masks(), row in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let mut bytes = to_bytes(&mask).unwrap();
            let (rows, cols) = matrix_view(mask.shape()).unwrap();
            let used = cols as u32 % 8;
            if used > 0 && rows > 0 {
                let row = row.index(rows);
                bytes[(row + 1) * cols.div_ceil(8) - 1] |= 1 << (used + bit % (8 - used));
                let error = from_bytes(&bytes, mask.shape()).unwrap_err();
                let named = matches!(error, StorageError::Padding { row: found } if found == row);
                prop_assert!(named, "{}", error);
            }
            bytes.push(0);
            let error = from_bytes(&bytes, mask.shape()).unwrap_err();
            let counted = matches!(error, StorageError::Length { .. });
            prop_assert!(counted, "{}", error);
        }

        #[test]
        fn offsets_count_what_lies_before_a_row(mask in masks()) {
            let (rows, cols) = matrix_view(mask.shape()).unwrap();
            let bits = mask.to_bools();
            let before = |row: usize| bits[..row * cols].iter().filter(|kept| **kept).count() as i64;
            prop_assert_eq!(row_offsets(&mask), (0..rows).map(before).collect::<Vec<_>>());
        }
    }
}
