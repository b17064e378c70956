//! Where do the elements of compressed sparse rows lie? A column number each, and where rows begin.
//!
//! The names are PyTorch's: `crow_indices` has `rows + 1` offsets, `col_indices` a column for each
//! element, ascending in its row. Over blocks instead of elements it is block sparse rows (BSR).

use crate::StorageError;
use secateur_mask::{Block, Mask};

/// Row offsets and columns of the stored elements, or of the stored blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Csr {
    crow_indices: Vec<u64>,
    col_indices: Vec<u32>,
}

/// Column numbers are I32 in files, as PyTorch reads them.
const MOST_COLS: usize = i32::MAX as usize;

impl Csr {
    /// The places of the set bits of a mask over a `rows × cols` matrix, or over its grid of blocks.
    /// `None` when a column number does not fit.
    pub(super) fn new(
        (rows, cols): (usize, usize),
        kept: impl Iterator<Item = (usize, usize)>,
    ) -> Option<Self> {
        if cols > MOST_COLS {
            return None;
        }
        let (mut crow_indices, mut col_indices) = (vec![0; rows + 1], Vec::new());
        for (row, col) in kept {
            col_indices.push(col as u32);
            crow_indices[row + 1] = col_indices.len() as u64;
        }
        for row in 0..rows {
            crow_indices[row + 1] = crow_indices[row + 1].max(crow_indices[row]);
        }
        Some(Self { crow_indices, col_indices })
    }

    /// Places as they lie in a file. Errors unless the offsets ascend from zero to the number of
    /// columns, and the columns in each row, below `cols`.
    pub(super) fn from_parts(
        (rows, cols): (usize, usize),
        crow_indices: Vec<u64>,
        col_indices: Vec<u32>,
    ) -> Result<Self, StorageError> {
        if Some(crow_indices.len()) != rows.checked_add(1) {
            let (found, expected) = (crow_indices.len(), rows.saturating_add(1));
            return Err(StorageError::Length { what: "crow_indices", found, expected });
        }
        let csr = Self { crow_indices, col_indices };
        let last = csr.crow_indices.last().copied().unwrap_or(0);
        if csr.crow_indices[0] != 0 || last != csr.col_indices.len() as u64 {
            return Err(StorageError::RowOffsets { row: if last == 0 { 0 } else { rows } });
        }
        for row in 0..rows {
            if csr.crow_indices[row] > csr.crow_indices[row + 1] {
                return Err(StorageError::RowOffsets { row });
            }
        }
        for row in 0..rows {
            let columns = csr.row(row);
            let ascends = columns.windows(2).all(|pair| pair[0] < pair[1]);
            // A negative column is a large one here.
            let last = columns.last().map_or(0, |last| *last as usize);
            if !ascends || last > MOST_COLS || last >= cols && !columns.is_empty() {
                return Err(StorageError::Columns { row, cols });
            }
        }
        Ok(csr)
    }

    /// Where each row's elements begin, and where the last one's end.
    pub fn crow_indices(&self) -> &[u64] {
        &self.crow_indices
    }

    /// The column of each element (or block), row by row.
    pub fn col_indices(&self) -> &[u32] {
        &self.col_indices
    }

    /// The columns of one row.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.col_indices[self.crow_indices[row] as usize..self.crow_indices[row + 1] as usize]
    }

    /// Every `(row, column)`, row by row.
    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let rows = 0..self.crow_indices.len() - 1;
        rows.flat_map(|row| self.row(row).iter().map(move |col| (row, *col as usize)))
    }

    /// Bytes of the places.
    pub(super) fn len_bytes(&self) -> usize {
        self.crow_indices.len() * 8 + self.col_indices.len() * 4
    }

    /// The mask words of a `rows × cols` matrix.
    pub(super) fn words(&self, (rows, cols): (usize, usize)) -> Vec<u64> {
        let mut words = vec![0; (rows * cols).div_ceil(64)];
        for index in self.entries().map(|(row, col)| row * cols + col) {
            words[index / 64] |= 1 << (index % 64);
        }
        words
    }
}

/// How a matrix is cut into blocks; those at the ragged edges are filled up with zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    block: Block,
    rows: usize,
    cols: usize,
}

impl Grid {
    pub fn new(block: Block, (rows, cols): (usize, usize)) -> Self {
        Self { block, rows, cols }
    }

    /// Rows and columns of blocks.
    pub fn blocks(self) -> (usize, usize) {
        (self.rows.div_ceil(self.block.rows()), self.cols.div_ceil(self.block.cols()))
    }

    /// The blocks of which a mask keeps anything.
    pub fn kept(self, mask: &Mask) -> impl Iterator<Item = (usize, usize)> {
        let (down, across) = self.blocks();
        (0..down).flat_map(move |i| (0..across).map(move |j| (i, j))).filter(move |&(i, j)| {
            self.runs(i, j)
                .any(|(start, len)| (start..start + len).any(|index| mask.get(index) == Some(true)))
        })
    }

    /// The rows of a block that lie in the matrix: where each starts, row-major, and how long it is.
    pub fn runs(self, i: usize, j: usize) -> impl Iterator<Item = (usize, usize)> {
        let (top, left) = (i * self.block.rows(), j * self.block.cols());
        let len = self.block.cols().min(self.cols - left);
        let bottom = self.rows.min(top.saturating_add(self.block.rows()));
        (top..bottom).map(move |row| (row * self.cols + left, len))
    }

    /// The elements of the blocks at `places`, block after block, each row-major.
    pub fn gather(self, places: &Csr, dense: &[u8], size: usize) -> Vec<u8> {
        let (line, block) = self.sizes(size);
        let mut packed = vec![0; places.col_indices.len() * block];
        for ((i, j), to) in places.entries().zip(packed.chunks_exact_mut(block)) {
            for ((start, len), to) in self.runs(i, j).zip(to.chunks_exact_mut(line)) {
                to[..len * size].copy_from_slice(&dense[start * size..][..len * size]);
            }
        }
        packed
    }

    /// The dense elements: what is in no block is all zero bits.
    pub fn scatter(self, places: &Csr, packed: &[u8], size: usize) -> Vec<u8> {
        let (line, block) = self.sizes(size);
        let mut dense = vec![0; self.rows * self.cols * size];
        for ((i, j), from) in places.entries().zip(packed.chunks_exact(block)) {
            for ((start, len), from) in self.runs(i, j).zip(from.chunks_exact(line)) {
                dense[start * size..][..len * size].copy_from_slice(&from[..len * size]);
            }
        }
        dense
    }

    /// Errors unless all that lies beyond the ragged edges is zero.
    pub fn check_padding(
        self,
        places: &Csr,
        packed: &[u8],
        size: usize,
    ) -> Result<(), StorageError> {
        let (line, block) = self.sizes(size);
        for ((i, j), from) in places.entries().zip(packed.chunks_exact(block)) {
            let mut inside = self.runs(i, j).map(|(_, len)| len * size);
            for line in from.chunks_exact(line) {
                if line[inside.next().unwrap_or(0)..].iter().any(|byte| *byte != 0) {
                    return Err(StorageError::Padding { row: i * self.block.rows() });
                }
            }
        }
        Ok(())
    }

    /// The mask words of all that lies in a stored block.
    pub fn words(self, places: &Csr) -> Vec<u64> {
        let mut words = vec![0; (self.rows * self.cols).div_ceil(64)];
        for (i, j) in places.entries() {
            for index in self.runs(i, j).flat_map(|(start, len)| start..start + len) {
                words[index / 64] |= 1 << (index % 64);
            }
        }
        words
    }

    /// Bytes of a line of a block, and of a block. Those of a file were compared with its length.
    fn sizes(self, size: usize) -> (usize, usize) {
        (self.block.cols().saturating_mul(size), self.block_len().saturating_mul(size))
    }

    /// Elements of a block.
    pub fn block_len(self) -> usize {
        self.block.rows().saturating_mul(self.block.cols())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_below_zero_are_no_large_ones() {
        let read = |col: i32| {
            let wide = (1, 1 << 33);
            Csr::from_parts(wide, vec![0, 1], vec![col as u32])
        };
        assert!(read(0).is_ok() && read(i32::MAX).is_ok());
        assert!(matches!(read(-1), Err(StorageError::Columns { row: 0, .. })));
        assert!(matches!(read(i32::MIN), Err(StorageError::Columns { row: 0, .. })));
    }
}
