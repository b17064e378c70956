//! Where in the dense tensor do stored values belong? Five answers, one file each.

mod bitmap;
mod csr;
mod n_of_m;
mod pairs;

pub use csr::Csr;
pub use n_of_m::Indices;
pub(crate) use pairs::pack_pairs;

use crate::{Format, StorageError, shape::matrix_view};
use bytes::Bytes;
use csr::Grid;
use secateur_mask::{Block, Mask, NOfM, Pattern};

/// The places of a weight's stored values.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Places {
    /// Every element is stored.
    Dense,
    /// N elements of every group of M columns.
    NOfM(Indices),
    /// The elements whose bit is set.
    Bitmap(Mask),
    /// The elements of compressed sparse rows.
    Csr(Csr),
    /// Whole blocks, in compressed sparse rows of the grid of blocks.
    Block(Block, Csr),
}

/// An expression for elements of `N` bytes, with the size at hand made a constant: 1, 2, 4 or 8, for
/// no other dtype passes `zero_test`.
macro_rules! sized {
    ($size:expr, $n:ident => $body:expr) => {
        match $size {
            1 => {
                const $n: usize = 1;
                $body
            }
            2 => {
                const $n: usize = 2;
                $body
            }
            4 => {
                const $n: usize = 4;
                $body
            }
            _ => {
                const $n: usize = 8;
                $body
            }
        }
    };
}

impl Places {
    /// The format that has such places.
    pub fn format(&self) -> Format {
        match self {
            Self::Dense => Format::Dense,
            Self::NOfM(indices) => Format::NOfM(indices.pattern()),
            Self::Bitmap(_) => Format::Bitmap,
            Self::Csr(_) => Format::Csr,
            Self::Block(block, _) => Format::Block(*block),
        }
    }

    /// Places for what `mask` keeps. The packed elements, `size` bytes each, come with them.
    pub(crate) fn gather(
        format: Format,
        mask: &Mask,
        dense: &Bytes,
        size: usize,
    ) -> Result<(Self, Bytes), StorageError> {
        let matrix = matrix_view(mask.shape())?;
        let compress =
            || Bytes::from(sized!(size, N => bitmap::compress::<N>(mask.words(), dense)));
        let csr = |matrix, kept: &mut dyn Iterator<Item = (usize, usize)>| {
            Csr::new(matrix, kept).ok_or_else(|| StorageError::TooLarge(mask.shape().to_vec()))
        };
        Ok(match format {
            Format::Dense | Format::Mask => (Self::Dense, dense.clone()),
            Format::NOfM(pattern) => {
                let (indices, values) =
                    sized!(size, N => Indices::gather::<N>(pattern, mask, matrix, dense));
                (Self::NOfM(indices), values.into())
            }
            Format::Bitmap => (Self::Bitmap(mask.clone()), compress()),
            Format::Csr => (Self::Csr(csr(matrix, &mut entries(mask, matrix.1))?), compress()),
            Format::Block(block) => {
                let grid = Grid::new(block, matrix);
                let places = csr(grid.blocks(), &mut grid.kept(mask))?;
                let values = grid.gather(&places, dense, size);
                (Self::Block(block, places), values.into())
            }
        })
    }

    /// The dense elements of `shape`: what is not stored is all zero bits.
    pub(crate) fn scatter(&self, shape: &[usize], values: &Bytes, size: usize) -> Bytes {
        let (rows, cols) = matrix(shape);
        match self {
            Self::Dense => values.clone(),
            Self::NOfM(indices) => sized!(size, N => indices.scatter::<N>(values)).into(),
            Self::Bitmap(mask) => {
                sized!(size, N => bitmap::expand::<N>(mask.words(), values, mask.len())).into()
            }
            Self::Csr(csr) => {
                let words = csr.words((rows, cols));
                sized!(size, N => bitmap::expand::<N>(&words, values, rows * cols)).into()
            }
            Self::Block(block, csr) => {
                Grid::new(*block, (rows, cols)).scatter(csr, values, size).into()
            }
        }
    }

    /// The entries of `shape` that are stored, explicit zeros included; `None` if all are.
    pub(crate) fn mask(&self, shape: &[usize]) -> Option<Mask> {
        let words = match self {
            Self::Dense => return None,
            Self::Bitmap(mask) => return Some(mask.clone()),
            Self::NOfM(indices) => indices.words(),
            Self::Csr(csr) => csr.words(matrix(shape)),
            Self::Block(block, csr) => Grid::new(*block, matrix(shape)).words(csr),
        };
        Some(Mask::from_words(words, shape).expect("places lie in the shape they were made for"))
    }

    /// Bytes that the places take in files.
    pub(crate) fn bytes(&self, shape: &[usize]) -> usize {
        let (rows, cols) = matrix(shape);
        match self {
            Self::Dense => 0,
            Self::NOfM(indices) => indices.bytes().len(),
            Self::Bitmap(_) => rows * cols.div_ceil(8),
            Self::Csr(csr) | Self::Block(_, csr) => csr.len_bytes(),
        }
    }

    /// `N:M` places of a mask that keeps exactly N of every M; `None` if it does not.
    pub(crate) fn of_full_groups(pattern: NOfM, mask: &Mask) -> Result<Option<Self>, StorageError> {
        if mask.verify(&Pattern::NOfM(pattern)).is_err() {
            return Ok(None);
        }
        let indices = Indices::of_mask(pattern, mask, matrix_view(mask.shape())?);
        Ok((indices.words() == mask.words()).then_some(Self::NOfM(indices)))
    }

    /// `N:M` places as they lie in a file; everything is checked.
    pub(crate) fn n_of_m(
        pattern: NOfM,
        shape: &[usize],
        indices: Bytes,
        values: &[u8],
        size: usize,
    ) -> Result<Self, StorageError> {
        Indices::from_parts(pattern, matrix_view(shape)?, indices, values, size).map(Self::NOfM)
    }

    /// Compressed rows as they lie in a file, of elements or of blocks; everything is checked.
    pub(crate) fn csr(
        block: Option<Block>,
        shape: &[usize],
        (crow_indices, col_indices): (Vec<u64>, Vec<u32>),
        values: &[u8],
        size: usize,
    ) -> Result<Self, StorageError> {
        let matrix = matrix_view(shape)?;
        let grid = block.map(|block| Grid::new(block, matrix));
        let sides = grid.map_or(matrix, Grid::blocks);
        let csr = Csr::from_parts(sides, crow_indices, col_indices)?;
        let expected = csr.col_indices().len().saturating_mul(grid.map_or(1, Grid::block_len));
        if values.len() / size != expected {
            let (what, found) = ("the values of compressed rows", values.len() / size);
            return Err(StorageError::Length { what, found, expected });
        }
        Ok(match (block, grid) {
            (Some(block), Some(grid)) => {
                grid.check_padding(&csr, values, size)?;
                Self::Block(block, csr)
            }
            _ => Self::Csr(csr),
        })
    }
}

/// Rows and columns of an `N:M` weight's two parts: slots of a row, bytes of its indices.
pub(crate) fn n_of_m_sides(pattern: NOfM, cols: usize) -> (usize, usize) {
    Indices::sides(pattern, cols)
}

/// Rows and columns of the grid of blocks.
pub(crate) fn grid_sides(block: Block, matrix: (usize, usize)) -> (usize, usize) {
    Grid::new(block, matrix).blocks()
}

/// How many blocks of a mask hold anything, and the rows of blocks.
pub(crate) fn count_blocks(block: Block, mask: &Mask, matrix: (usize, usize)) -> (usize, usize) {
    let grid = Grid::new(block, matrix);
    (grid.kept(mask).count(), grid.blocks().0)
}

/// Every kept `(row, column)`, row by row.
fn entries(mask: &Mask, cols: usize) -> impl Iterator<Item = (usize, usize)> {
    let words = mask.words().iter().enumerate();
    let kept = words.flat_map(|(at, word)| bitmap::bits(*word).map(move |bit| at * 64 + bit));
    kept.map(move |index| (index / cols.max(1), index % cols.max(1)))
}

/// The matrix view of a shape that was checked when the tensor was made.
fn matrix(shape: &[usize]) -> (usize, usize) {
    matrix_view(shape).expect("the shape of a tensor that exists")
}
