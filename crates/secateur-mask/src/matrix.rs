//! How is a mask asked about rows, columns and blocks? Sixty-four columns at a time, wherever a row
//! begins.

use crate::{
    Block, Mask,
    bits::low_bits,
    groups::{Columns, Over},
    scores::matrix_view,
};
use std::ops::Range;

/// Words looked at before a search that has found its answer stops.
const PIECE: usize = 512;

/// A mask as the matrix that patterns see.
pub(crate) struct Matrix<'a> {
    mask: &'a Mask,
    pub rows: usize,
    pub cols: usize,
}

impl<'a> Matrix<'a> {
    pub fn new(mask: &'a Mask) -> Self {
        let (rows, cols) = matrix_view(mask.shape());
        Self { mask, rows, cols }
    }

    /// The number of kept entries of a row in columns `start..end`.
    pub fn kept(&self, row: usize, start: usize, end: usize) -> usize {
        self.mask.count_range(row * self.cols + start, row * self.cols + end)
    }

    /// The 64 columns of `row` from `col` on, the first lowest; zeros beyond the row's end.
    pub fn window(&self, row: usize, col: usize) -> u64 {
        let (words, start) = (self.mask.words(), row * self.cols + col);
        let (word, shift) = (start / 64, start % 64);
        let high = match words.get(word + 1) {
            Some(next) if shift > 0 => next << (64 - shift),
            _ => 0,
        };
        (words[word] >> shift | high) & low_bits(self.cols - col)
    }

    /// The first row of some where `found` says yes of words that hold the groups of `m` columns
    /// as [`Over`] wants them. It may say so of earlier rows than the one that it means, never of
    /// later ones.
    pub fn find_groups(
        &self,
        rows: Range<usize>,
        m: usize,
        mut found: impl FnMut(&[u64]) -> bool,
    ) -> Option<usize> {
        if self.cols == 0 {
            return None;
        }
        if rows == (0..self.rows) && 64 % m == 0 && self.cols.is_multiple_of(m) {
            // No group crosses a row's end or a word's: the mask's own words will do.
            let first_row = |piece| piece * PIECE * 64 / self.cols;
            return self.mask.words().chunks(PIECE).position(found).map(first_row);
        }
        let step = 64 / m * m;
        let mut line = vec![0; self.cols.div_ceil(step)];
        rows.into_iter().find(|&row| {
            for (index, word) in line.iter_mut().enumerate() {
                *word = self.window(row, index * step) & low_bits(step);
            }
            found(&line)
        })
    }

    /// The first row of the first band of `height` rows of which `found` says yes.
    pub fn find_band(
        &self,
        height: usize,
        mut found: impl FnMut(Range<usize>) -> bool,
    ) -> Option<usize> {
        let band = |top: usize| top..top.saturating_add(height).min(self.rows);
        (0..self.rows).step_by(height).find(|&top| found(band(top)))
    }

    /// How many of some rows, at most 64, keep each of the 64 columns from `col` on.
    pub fn columns(&self, rows: Range<usize>, col: usize) -> Columns {
        Columns::count(rows.map(|row| self.window(row, col)))
    }

    /// The columns of `col..` that any of some rows keeps, as [`Self::window`] gives them.
    pub fn in_use(&self, rows: Range<usize>, col: usize) -> u64 {
        rows.fold(0, |used, row| used | self.window(row, col))
    }

    /// Whether some rows, all of one band of blocks, hold nothing but whole blocks.
    pub fn is_whole(&self, rows: Range<usize>, block: Block) -> bool {
        let Some(top) = rows.clone().next() else { return true };
        // Where all rows are the first one again, only the first must be looked at.
        let repeats = |row| {
            (0..self.cols).step_by(64).all(|col| self.window(row, col) == self.window(top, col))
        };
        rows.skip(1).all(repeats) && self.has_whole_runs(top, block.cols())
    }

    /// Whether every `width` columns of a row are all kept or all cut.
    fn has_whole_runs(&self, row: usize, width: usize) -> bool {
        if width > 64 {
            return (0..self.cols).step_by(width).all(|left| {
                let right = left.saturating_add(width).min(self.cols);
                let kept = self.kept(row, left, right);
                kept == 0 || kept == right - left
            });
        }
        let step = 64 / width * width;
        // Bit i is set where columns i and i + 1 are in one run: there they must be equal.
        let inside =
            (0..step).filter(|i| (i + 1) % width != 0).fold(0, |bits, i| bits | 1_u64 << i);
        (0..self.cols).step_by(step).all(|col| {
            let bits = self.window(row, col);
            let pairs = low_bits(self.cols - col - 1);
            (bits ^ bits >> 1) & inside & pairs == 0
        })
    }

    /// The most entries that a group of `m` columns keeps in any row, if that is at most `most`;
    /// `most < m`.
    pub fn widest_in_rows(&self, m: usize, most: usize) -> Option<usize> {
        let mut widest = 0;
        let beyond = self.find_groups(0..self.rows, m, |words| {
            while widest <= most && (Over { n: widest, m }).any(words) {
                widest += 1;
            }
            widest > most
        });
        beyond.is_none().then_some(widest)
    }

    /// The most entries that a group of `m` rows keeps in any column, if that is at most `most`;
    /// `most < m`.
    pub fn widest_in_columns(&self, m: usize, most: usize) -> Option<usize> {
        let mut widest = 0;
        let beyond = self.find_band(m, |band| {
            (0..self.cols).step_by(64).any(|col| {
                let columns = self.columns(band.clone(), col);
                while widest <= most && columns.over(widest) != 0 {
                    widest += 1;
                }
                widest > most
            })
        });
        beyond.is_none().then_some(widest)
    }
}
