//! How do many threads fill one mask? Each takes bands of rows that begin on a whole word.

use crate::{
    Mask,
    bits::{set, spans},
};
use rayon::prelude::*;

/// Entries that one thread takes at a time; smaller masks are filled by the caller's thread alone.
const ENTRIES_PER_BAND: usize = 1 << 16;

/// Some whole rows of a mask that is being filled.
pub(crate) struct Band<'a> {
    words: &'a mut [u64],
    /// The first row, counted from the top of the mask.
    pub first_row: usize,
    pub rows: usize,
    pub cols: usize,
}

impl Band<'_> {
    /// Marks an entry as kept; `row` is counted from the top of the band.
    pub fn keep(&mut self, row: usize, col: usize) {
        set(self.words, row * self.cols + col);
    }

    /// Marks the entries of `row` from column `start` to before `end` as kept.
    pub fn keep_range(&mut self, row: usize, start: usize, end: usize) {
        let line = row * self.cols;
        for (word, bits) in spans(line + start, line + end) {
            self.words[word] |= bits;
        }
    }
}

impl Mask {
    /// Fills an empty mask, seen as `rows × cols`, with `fill`, in parallel.
    ///
    /// Bands are as many whole multiples of `height` rows as fit, so that no group of `height` rows
    /// is split; `scores` are cut in the same places. What a band holds does not depend on the
    /// number of threads, nor may what `fill` does.
    pub(crate) fn fill_bands<'s>(
        &mut self,
        scores: &'s [f32],
        (rows, cols): (usize, usize),
        height: usize,
        fill: impl Fn(&mut Band<'_>, &'s [f32]) + Sync,
    ) {
        if rows == 0 || cols == 0 {
            return;
        }
        // 64 rows are always a whole number of words, whatever the columns.
        let step = height.saturating_mul(64);
        let steps = ENTRIES_PER_BAND.div_ceil(step.saturating_mul(cols)).max(1);
        let band_rows = step.saturating_mul(steps);
        if band_rows >= rows {
            let words = self.words_mut();
            fill(&mut Band { words, first_row: 0, rows, cols }, scores);
            return;
        }
        self.words_mut()
            .par_chunks_mut(band_rows * cols / 64)
            .zip(scores.par_chunks(band_rows * cols))
            .enumerate()
            .for_each(|(band, (words, scores))| {
                let (first_row, rows) = (band * band_rows, scores.len() / cols);
                fill(&mut Band { words, first_row, rows, cols }, scores);
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_band_and_groups_of_rows_are_whole() {
        for (rows, cols, height) in [(1000, 130, 3), (129, 1000, 1), (7, 3, 64), (4097, 17, 5)] {
            let scores: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
            let mut mask = Mask::empty(&[rows, cols]).unwrap();
            mask.fill_bands(&scores, (rows, cols), height, |band, scores| {
                assert_eq!(band.first_row % height, 0);
                assert_eq!(scores[0], (band.first_row * cols) as f32);
                for row in 0..band.rows {
                    band.keep(row, (band.first_row + row) % cols);
                    band.keep_range(row, cols - 1, cols);
                }
            });
            for row in 0..rows {
                let kept: Vec<usize> =
                    (0..cols).filter(|col| mask.get(row * cols + col) == Some(true)).collect();
                let mut expected = vec![row % cols, cols - 1];
                expected.dedup();
                assert_eq!(kept, expected, "{rows} x {cols}, row {row}");
            }
        }
    }
}
