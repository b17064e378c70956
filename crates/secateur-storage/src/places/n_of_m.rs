//! Where do N kept elements of every M lie? An index of log2 M bits each, ascending in its group.
//!
//! Each row of the matrix view is cut into groups of M columns, and each group stores exactly N slots;
//! a row's indices are one string of bits, lowest first, that begins on a whole byte. For 2:4 that is
//! a nibble a group, `idx0 | idx1 << 2`: PyTorch's semi-structured metadata. A group that keeps fewer
//! than N fills up with explicit zeros in the lowest free of its last N lanes, as PyTorch does for
//! 2:4; in a last, shorter group they may lie beyond the row's end.

use super::pairs;
use crate::StorageError;
use bytes::Bytes;
use rayon::prelude::*;
use secateur_mask::{Mask, NOfM};

/// The places of an `N:M` weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Indices {
    pattern: NOfM,
    rows: usize,
    cols: usize,
    bytes: Bytes,
}

/// Rows of a band: about as many as make one thread's turn worth its while.
fn band_rows(row_bytes: usize) -> usize {
    ((1 << 16) / row_bytes.max(1)).max(1)
}

impl Indices {
    /// The places and the packed elements (`N_BYTES` each) of what `mask` keeps of `dense`. The caller
    /// has proved that the mask is `pattern`, with M at most 16.
    pub(super) fn gather<const N_BYTES: usize>(
        pattern: NOfM,
        mask: &Mask,
        (rows, cols): (usize, usize),
        dense: &[u8],
    ) -> (Self, Vec<u8>) {
        let empty = Self { pattern, rows, cols, bytes: Bytes::new() };
        let (slots, row_bytes) = (empty.slots(), empty.row_bytes());
        let mut values = vec![0; rows * slots * N_BYTES];
        let mut bytes = vec![0; rows * row_bytes];
        let dense = dense.as_chunks::<N_BYTES>().0;
        if values.is_empty() {
            return (Self { bytes: bytes.into(), ..empty }, values);
        }
        if empty.is_pairs() {
            pairs::gather(bytemuck::cast_slice(mask.words()), dense, &mut values, &mut bytes);
        } else {
            let step = band_rows(cols * N_BYTES);
            let bands = bytes.par_chunks_mut(step * row_bytes);
            let bands = bands.zip(values.par_chunks_mut(step * slots * N_BYTES)).enumerate();
            bands.for_each(|(band, (bytes, values))| {
                let lines = values.as_chunks_mut::<N_BYTES>().0.chunks_mut(slots);
                for (line, (bytes, values)) in bytes.chunks_mut(row_bytes).zip(lines).enumerate() {
                    let row = band * step + line;
                    empty.gather_row(
                        mask.words(),
                        row,
                        &dense[row * cols..][..cols],
                        bytes,
                        values,
                    );
                }
            });
        }
        (Self { bytes: bytes.into(), ..empty }, values)
    }

    /// The places of what `mask` keeps, which the caller has proved to be `pattern`.
    pub(super) fn of_mask(pattern: NOfM, mask: &Mask, (rows, cols): (usize, usize)) -> Self {
        let empty = Self { pattern, rows, cols, bytes: Bytes::new() };
        let row_bytes = empty.row_bytes();
        let mut bytes = vec![0; rows * row_bytes];
        if empty.is_pairs() {
            pairs::places(bytemuck::cast_slice(mask.words()), &mut bytes);
        } else if row_bytes > 0 {
            let (nothing, mut values) = (vec![[0; 1]; cols], vec![[0; 1]; empty.slots()]);
            for (row, bytes) in bytes.chunks_mut(row_bytes).enumerate() {
                empty.gather_row(mask.words(), row, &nothing, bytes, &mut values);
            }
        }
        Self { bytes: bytes.into(), ..empty }
    }

    fn gather_row<const N_BYTES: usize>(
        &self,
        words: &[u64],
        row: usize,
        dense: &[[u8; N_BYTES]],
        bytes: &mut [u8],
        values: &mut [[u8; N_BYTES]],
    ) {
        let (n, m, width) = (self.pattern.n(), self.pattern.m(), self.width());
        let mut slot = 0;
        for group in 0..self.groups() {
            let start = group * m;
            let kept = extract(words, row * self.cols + start, m.min(self.cols - start));
            let mut filled = kept;
            for lane in m - n..m {
                let room = (filled.count_ones() as usize) < n;
                filled |= u64::from(room) << lane;
            }
            for lane in super::bitmap::bits(filled) {
                if kept >> lane & 1 == 1 {
                    values[slot] = dense[start + lane];
                }
                let at = slot * width;
                let two = (lane << (at % 8)) as u16;
                bytes[at / 8] |= two as u8;
                if two > 0xFF {
                    bytes[at / 8 + 1] |= (two >> 8) as u8;
                }
                slot += 1;
            }
        }
    }

    /// Places from their bytes, as they lie in a file, checked against the elements (`size` bytes
    /// each): counts, ascending indices, zeros in the padding.
    pub(super) fn from_parts(
        pattern: NOfM,
        (rows, cols): (usize, usize),
        bytes: Bytes,
        values: &[u8],
        size: usize,
    ) -> Result<Self, StorageError> {
        let indices = Self { pattern, rows, cols, bytes };
        let lengths = [
            ("the values of an N:M weight", values.len() / size, rows * indices.slots()),
            ("the indices of an N:M weight", indices.bytes.len(), rows * indices.row_bytes()),
        ];
        for (what, found, expected) in lengths {
            if found != expected {
                return Err(StorageError::Length { what, found, expected });
            }
        }
        if !(indices.is_pairs() && pairs::valid(&indices.bytes)) {
            let row_values = (indices.slots() * size).max(1);
            let rows = values.par_chunks(row_values).enumerate();
            rows.try_for_each(|(row, values)| indices.check_row(row, values, size))?;
        }
        Ok(indices)
    }

    fn check_row(&self, row: usize, values: &[u8], size: usize) -> Result<(), StorageError> {
        let (n, m) = (self.pattern.n(), self.pattern.m());
        let mut before = 0;
        for (slot, col) in self.columns(row).enumerate() {
            let beyond = col >= self.cols && values[slot * size..][..size].iter().any(|b| *b != 0);
            if beyond {
                return Err(StorageError::Padding { row });
            }
            let group = slot / n;
            let ascends = slot % n == 0 || col > before;
            if !ascends || col >= (group + 1) * m {
                return Err(StorageError::Indices { row, group, m });
            }
            before = col;
        }
        let used = self.slots() * self.width();
        let spare = self
            .row(row)
            .last()
            .is_some_and(|last| !used.is_multiple_of(8) && last >> (used % 8) != 0);
        if spare { Err(StorageError::Padding { row }) } else { Ok(()) }
    }

    /// The dense elements: what is not stored is all zero bits.
    pub(super) fn scatter<const N_BYTES: usize>(&self, packed: &[u8]) -> Vec<u8> {
        let mut dense = vec![0; self.rows * self.cols * N_BYTES];
        let packed = packed.as_chunks::<N_BYTES>().0;
        if dense.is_empty() {
            return dense;
        }
        if self.is_pairs() {
            pairs::scatter(&self.bytes, packed, &mut dense);
            return dense;
        }
        let step = band_rows(self.cols * N_BYTES);
        let bands = dense.par_chunks_mut(step * self.cols * N_BYTES).enumerate();
        bands.for_each(|(band, dense)| {
            let lines = dense.as_chunks_mut::<N_BYTES>().0.chunks_mut(self.cols);
            for (line, dense) in lines.enumerate() {
                let row = band * step + line;
                let from = &packed[row * self.slots()..][..self.slots()];
                for (col, value) in self.columns(row).zip(from) {
                    if let Some(to) = dense.get_mut(col) {
                        *to = *value;
                    }
                }
            }
        });
        dense
    }

    /// The entries that are stored, as words of a mask: N of every whole group, explicit zeros
    /// included.
    pub(super) fn words(&self) -> Vec<u64> {
        let mut words = vec![0_u64; (self.rows * self.cols).div_ceil(64)];
        if self.is_pairs() {
            pairs::mask(&self.bytes, &mut words);
            return words;
        }
        for row in 0..self.rows {
            for col in self.columns(row).filter(|col| *col < self.cols) {
                let index = row * self.cols + col;
                words[index / 64] |= 1 << (index % 64);
            }
        }
        words
    }

    /// The pattern.
    pub fn pattern(&self) -> NOfM {
        self.pattern
    }

    /// All indices, row after row, each row beginning on a whole byte.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The indices of one row.
    pub fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.row_bytes()..][..self.row_bytes()]
    }

    /// The column of each slot of a row, ascending in every group; those of a shorter last group may
    /// lie beyond the row's end, with value zero.
    pub fn columns(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        let (n, m, width) = (self.pattern.n(), self.pattern.m(), self.width());
        let bytes = self.row(row);
        (0..self.slots()).map(move |slot| {
            let at = slot * width;
            let high = bytes.get(at / 8 + 1).copied().unwrap_or(0);
            let two = u16::from_le_bytes([bytes[at / 8], high]);
            slot / n * m + usize::from(two >> (at % 8)) % (1 << width)
        })
    }

    /// Stored elements of a row of `cols` columns, and bytes of its indices.
    pub(super) fn sides(pattern: NOfM, cols: usize) -> (usize, usize) {
        let empty = Self { pattern, rows: 0, cols, bytes: Bytes::new() };
        (empty.slots(), empty.row_bytes())
    }

    /// Groups of a row.
    fn groups(&self) -> usize {
        self.cols.div_ceil(self.pattern.m())
    }

    /// Stored elements of a row, `N · ceil(cols / M)`.
    pub fn slots(&self) -> usize {
        self.groups() * self.pattern.n()
    }

    /// Bits of an index.
    fn width(&self) -> usize {
        self.pattern.m().next_power_of_two().ilog2() as usize
    }

    /// Bytes of a row's indices.
    pub(super) fn row_bytes(&self) -> usize {
        (self.slots() * self.width()).div_ceil(8)
    }

    /// Whether the weight is one string of whole bytes: 2:4, eight columns to a byte.
    fn is_pairs(&self) -> bool {
        self.pattern == NOfM::TWO_OF_FOUR && self.cols.is_multiple_of(8)
    }
}

/// `len` bits, at most 16, from bit `start`.
fn extract(words: &[u64], start: usize, len: usize) -> u64 {
    let (word, bit) = (start / 64, start % 64);
    let low = words[word] >> bit;
    let high = match words.get(word + 1) {
        Some(high) if bit + len > 64 => high << (64 - bit),
        _ => 0,
    };
    (low | high) & ((1 << len) - 1)
}
