//! How does PyTorch write a 2:4 weight? Two values of every four columns, their places in words.
//!
//! Its *metadata*, row-major: a nibble `idx0 | idx1 << 2` per group of four columns, `idx0 < idx1`,
//! the lowest group in a word's lowest bits. A word is a `u16` beside f16 and bf16 weights and a
//! `u32` beside i8 ones; being as many columns wide as it has bits, it ends where a group ends. The
//! index bytes of `docs/format.md` are these words in little-endian, wherever a row fills its words.
//!
//! A group with fewer than two non-zeros stores zeros in the places that PyTorch chooses; one with
//! more is an error, for PyTorch drops what is too much and says nothing. [`device_order`] is what
//! the sparse tensor core loads.
//!
//! ```
//! use secateur_storage::semi_structured::{compress, expand, indices_from_metadata};
//!
//! let weight: Vec<i8> = [0, 0, 3, -4].repeat(8);
//! let (values, metadata) = compress::<i8, u32>(&weight, [1, 32], |w| w == 0)?;
//! assert_eq!(values, [3, -4].repeat(8)); // [m, k / 2]
//! assert_eq!(metadata, [0xEEEE_EEEE]); // [m, k / 32]; a u16 weight would have [m, k / 16]
//!
//! assert_eq!(expand(&values, &metadata, [1, 32])?, weight);
//! assert_eq!(indices_from_metadata(&metadata, [1, 32])?, [0xEE; 4]);
//! # Ok::<(), secateur_storage::StorageError>(())
//! ```
//!
//! [`device_order`]: crate::device_order

use crate::{StorageError, shape::checked_len};

/// A word of metadata: `u16` beside elements of two bytes (f16, bf16), `u32` beside i8.
///
/// It has a nibble for every four columns, so as many bits as it describes columns.
pub trait MetadataWord: sealed::Bits {
    /// Columns of the dense weight that one word describes, and the word's bits: 16 or 32.
    const COLUMNS: usize;
}

impl MetadataWord for u16 {
    const COLUMNS: usize = 16;
}

impl MetadataWord for u32 {
    const COLUMNS: usize = 32;
}

mod sealed {
    /// What the two words have in common. Sealed: the tensor core has no third.
    pub trait Bits: Copy {
        fn from_bits(bits: u32) -> Self;
        fn bits(self) -> u32;
    }

    impl Bits for u16 {
        fn from_bits(bits: u32) -> Self {
            bits as u16
        }
        fn bits(self) -> u32 {
            self.into()
        }
    }

    impl Bits for u32 {
        fn from_bits(bits: u32) -> Self {
            bits
        }
        fn bits(self) -> u32 {
            self
        }
    }
}

/// The values `[m, k / 2]` and metadata `[m, k / 16]` (`u16`) or `[m, k / 32]` (`u32`) of a dense
/// row-major weight `[m, k]`.
///
/// `T` is any element or its bare bits, and `is_zero` decides what is left out. PyTorch leaves out
/// `-0.0` too; of the bits of an f16 or bf16 that is `|bits: u16| bits << 1 == 0`. An element that
/// fills up a group is copied as it is.
///
/// Errors when `k` is not a multiple of the word, when the count of elements is not `m · k`, and
/// when a group has more than two non-zeros.
pub fn compress<T: Copy, W: MetadataWord>(
    dense: &[T],
    shape: [usize; 2],
    is_zero: impl Fn(T) -> bool,
) -> Result<(Vec<T>, Vec<W>), StorageError> {
    let words = words::<W>(shape)?;
    has_length("a dense weight", dense.len(), words * W::COLUMNS)?;
    let mut values = Vec::with_capacity(dense.len() / 2);
    let mut metadata = Vec::with_capacity(words);
    for (word, columns) in dense.chunks_exact(W::COLUMNS).enumerate() {
        let mut bits = 0;
        for (group, lanes) in columns.as_chunks::<4>().0.iter().enumerate() {
            let kept = lanes.map(|element| !is_zero(element));
            let Some(nibble) = nibble(kept) else {
                let (row, group) = place::<W>(word, group, shape[1]);
                let found = kept.iter().filter(|kept| **kept).count();
                return Err(StorageError::Crowded { row, group, found });
            };
            values.extend([lanes[nibble & 3], lanes[nibble >> 2]]);
            bits |= (nibble as u32) << (4 * group);
        }
        metadata.push(W::from_bits(bits));
    }
    Ok((values, metadata))
}

/// The dense row-major weight `[m, k]` of [`compress`]; `T::default()` stands where nothing is
/// stored, and has to be the element's zero.
///
/// Errors as [`verify`] does, and when the count of values is not `m · k / 2`.
pub fn expand<T: Copy + Default, W: MetadataWord>(
    values: &[T],
    metadata: &[W],
    shape: [usize; 2],
) -> Result<Vec<T>, StorageError> {
    verify(metadata, shape)?;
    let entries = metadata.len() * W::COLUMNS;
    has_length("the values of a 2:4 weight", values.len(), entries / 2)?;
    let mut dense = vec![T::default(); entries];
    let nibbles = metadata.iter().flat_map(|word| nibbles(*word));
    let pairs = values.as_chunks::<2>().0.iter().zip(nibbles);
    for (lanes, (pair, nibble)) in dense.as_chunks_mut::<4>().0.iter_mut().zip(pairs) {
        lanes[nibble & 3] = pair[0];
        lanes[nibble >> 2] = pair[1];
    }
    Ok(dense)
}

/// Metadata from the index bytes of the 2:4 file layout: `[m, k / 8]` bytes, two groups in each.
///
/// Errors as [`verify`] does: a row that ends within a word has no such metadata.
pub fn metadata_from_indices<W: MetadataWord>(
    indices: &[u8],
    shape: [usize; 2],
) -> Result<Vec<W>, StorageError> {
    let expected = words::<W>(shape)? * W::COLUMNS / 8;
    has_length("the indices of a 2:4 weight", indices.len(), expected)?;
    let little_endian = |bytes: &[u8]| bytes.iter().rfold(0, |w, byte| w << 8 | u32::from(*byte));
    let words =
        indices.chunks_exact(W::COLUMNS / 8).map(|bytes| W::from_bits(little_endian(bytes)));
    let metadata: Vec<W> = words.collect();
    verify(&metadata, shape)?;
    Ok(metadata)
}

/// The index bytes of the 2:4 file layout, `[m, k / 8]`, from metadata.
///
/// Errors as [`verify`] does.
pub fn indices_from_metadata<W: MetadataWord>(
    metadata: &[W],
    shape: [usize; 2],
) -> Result<Vec<u8>, StorageError> {
    verify(metadata, shape)?;
    let bytes = |word: &W| word.bits().to_le_bytes().into_iter().take(W::COLUMNS / 8);
    Ok(metadata.iter().flat_map(bytes).collect())
}

/// Proves that row-major metadata is that of a weight `[m, k]`.
///
/// Errors when `k` is not a multiple of 16 (`u16`) or 32 (`u32`), when the count of words is not
/// `m · k` divided by that, and when a nibble does not name two ascending places of four: the
/// instruction does not say what it computes then.
pub fn verify<W: MetadataWord>(metadata: &[W], shape: [usize; 2]) -> Result<(), StorageError> {
    has_length("the metadata of a 2:4 weight", metadata.len(), words::<W>(shape)?)?;
    for (word, &bits) in metadata.iter().enumerate() {
        if let Some((group, _)) = nibbles(bits).enumerate().find(|(_, n)| n & 3 >= n >> 2) {
            let (row, group) = place::<W>(word, group, shape[1]);
            return Err(StorageError::Indices { row, group, m: 4 });
        }
    }
    Ok(())
}

/// How many words the metadata of a weight `[m, k]` has.
fn words<W: MetadataWord>([rows, cols]: [usize; 2]) -> Result<usize, StorageError> {
    is_multiple("the columns of semi-structured metadata", cols, W::COLUMNS)?;
    Ok(checked_len(&[rows, cols])? / W::COLUMNS)
}

/// Row and group of a group within a word.
fn place<W: MetadataWord>(word: usize, group: usize, cols: usize) -> (usize, usize) {
    let group = word * W::COLUMNS / 4 + group;
    (group / (cols / 4), group % (cols / 4))
}

fn nibbles<W: MetadataWord>(word: W) -> impl Iterator<Item = usize> {
    (0..W::COLUMNS / 4).map(move |group| (word.bits() >> (4 * group) & 0xF) as usize)
}

/// The places that a group stores, PyTorch's choice where fewer than two are kept.
fn nibble(kept: [bool; 4]) -> Option<usize> {
    match kept.map(u8::from) {
        [1, 1, 0, 0] => Some(0x4),
        [1, 0, 0, 0] | [1, 0, 1, 0] => Some(0x8),
        [0, 1, 0, 0] | [0, 1, 1, 0] => Some(0x9),
        [1, 0, 0, 1] => Some(0xC),
        [0, 1, 0, 1] => Some(0xD),
        [0, 0, _, _] => Some(0xE),
        _ => None,
    }
}

pub(crate) fn has_length(
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), StorageError> {
    if found == expected { Ok(()) } else { Err(StorageError::Length { what, found, expected }) }
}

pub(crate) fn is_multiple(
    what: &'static str,
    found: usize,
    multiple: usize,
) -> Result<(), StorageError> {
    if found.is_multiple_of(multiple) {
        Ok(())
    } else {
        Err(StorageError::Multiple { what, found, multiple })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_pytorchs() {
        let row: Vec<i16> = [0, 0, 1, 1].repeat(4);
        assert_eq!(compress::<_, u16>(&row, [1, 16], |w| w == 0).unwrap().1, [0xEEEE]);
        // The lowest group lies lowest, and bytes are its words in little-endian.
        let row =
            [1, 1, 0, 0, /**/ 1, 0, 1, 0, /**/ 1, 0, 0, 1, /**/ 0, 1, 0, 1_i16];
        let metadata = compress::<_, u16>(&row, [1, 16], |w| w == 0).unwrap().1;
        assert_eq!(metadata, [0xDC84]);
        assert_eq!(indices_from_metadata(&metadata, [1, 16]).unwrap(), [0x84, 0xDC]);
        assert_eq!(metadata_from_indices::<u16>(&[0x84, 0xDC], [1, 16]).unwrap(), metadata);
    }

    #[test]
    fn underfull_groups_store_what_pytorch_stores() {
        // -1 marks the zeros, so that the values show which of them are stored.
        for (group, stored, nibble) in [
            ([-1, -2, -3, -4], [-3, -4], 0xE),
            ([-1, -2, -3, 4], [-3, 4], 0xE),
            ([-1, -2, 3, -4], [3, -4], 0xE),
            ([-1, 2, -3, -4], [2, -3], 0x9),
            ([1, -2, -3, -4], [1, -3], 0x8),
        ] {
            let mut row = [-1_i16; 16];
            row[..4].copy_from_slice(&group);
            let (values, words) = compress::<_, u16>(&row, [1, 16], |w| w < 0).unwrap();
            assert_eq!((&values[..2], words[0]), (&stored[..], 0xEEE0 | nibble), "{group:?}");
        }
    }

    #[test]
    fn a_crowded_group_is_named() {
        let mut dense = vec![0_i8; 3 * 64];
        dense[2 * 64 + 44..2 * 64 + 47].copy_from_slice(&[1, 2, 3]);
        let crowded = compress::<i8, u32>(&dense, [3, 64], |w| w == 0);
        assert!(matches!(crowded, Err(StorageError::Crowded { row: 2, group: 11, found: 3 })));
    }

    #[test]
    fn hostile_words_are_refused() {
        let mut metadata = vec![0x4444_4444_u32; 6];
        assert!(verify(&metadata, [3, 64]).is_ok());
        for nibble in (0..16).filter(|n| ![0x4, 0x8, 0x9, 0xC, 0xD, 0xE].contains(n)) {
            metadata[3] = 0x4444_0444 | nibble << 12;
            let refused = expand(&[0_i8; 96], &metadata, [3, 64]);
            assert!(
                matches!(refused, Err(StorageError::Indices { row: 1, group: 11, m: 4 })),
                "{nibble:#x}: {refused:?}"
            );
            assert!(indices_from_metadata(&metadata, [3, 64]).is_err());
        }
        assert!(metadata_from_indices::<u16>(&[0x44, 0x40], [1, 16]).is_err());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let length = |error| matches!(error, Err(StorageError::Length { .. }));
        let multiple = |error| matches!(error, Err(StorageError::Multiple { .. }));
        assert!(length(verify(&[0xEEEE_u16; 3], [2, 32])));
        assert!(multiple(verify(&[0xEEEE_u16; 1], [1, 24])));
        assert!(multiple(verify(&[0xEEEE_EEEE_u32; 1], [2, 16])));
        assert!(matches!(verify::<u16>(&[], [usize::MAX, 16]), Err(StorageError::TooLarge(_))));
        assert!(length(expand(&[0_i16; 7], &[0xEEEE_u16], [1, 16]).map(drop)));
        assert!(length(compress::<_, u16>(&[0_i16; 15], [1, 16], |w| w == 0).map(drop)));
        assert!(length(metadata_from_indices::<u32>(&[0xEE; 3], [1, 32]).map(drop)));
        assert!(verify::<u32>(&[], [5, 0]).is_ok());
    }
}
