//! Does a mask have the pattern it is said to have? The proof that loading and packing run.
//!
//! Most masks have it, and then whole words say so quickly ([`doubt`]). Only from the first row where
//! they do not is the pattern's definition followed entry by entry, to name the place.

use crate::{
    Block, Mask, MaskError, NOfM, Pattern, VNOfM, bits::low_bits, groups::Over, matrix::Matrix,
};
use std::ops::Range;

/// Why a pattern does not hold: the first place that breaks it.
type Proof = Result<(), String>;

impl Mask {
    /// Proves that the kept entries have the shape of `pattern`, or names the first place that
    /// does not.
    ///
    /// - `N:M`, along either axis: no group keeps more than N.
    /// - `V:N:M`: besides, no block of V rows uses more than four of its M columns.
    /// - transposable 2:4: it is 2:4 along the rows and along the columns.
    /// - blocks and channels: all of a unit is kept, or none.
    /// - unstructured-row: every row keeps equally many.
    /// - unstructured: always holds.
    ///
    /// ```
    /// # use secateur_mask::{Mask, Pattern};
    /// let mask = Mask::from_bools(&[true, true, true, false], &[1, 4])?;
    /// let error = mask.verify(&Pattern::TWO_OF_FOUR).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "the mask is not 2:4: row 0 keeps 3 of columns 0..4"
    /// );
    /// # Ok::<(), secateur_mask::MaskError>(())
    /// ```
    pub fn verify(&self, pattern: &Pattern) -> Result<(), MaskError> {
        let matrix = Matrix::new(self);
        let Some(row) = doubt(&matrix, pattern, self.shape()) else { return Ok(()) };
        let proof = Search { matrix, first_row: row }.first_place(pattern, self.shape());
        proof.map_err(|detail| MaskError::Violation { pattern: *pattern, detail })
    }

    /// Whether the kept entries have the shape of `pattern`: [`Self::verify`] without its reason.
    pub(crate) fn holds(&self, pattern: &Pattern) -> bool {
        doubt(&Matrix::new(self), pattern, self.shape()).is_none()
    }
}

/// The row from which on a pattern is broken, if it is: what breaks it first lies at or below that
/// row. Where the pattern looks at bands of rows, it is the first of a band.
fn doubt(matrix: &Matrix<'_>, pattern: &Pattern, shape: &[usize]) -> Option<usize> {
    let along_rows = |p: NOfM, rows| {
        matrix.find_groups(rows, p.m(), |words| Over { n: p.n(), m: p.m() }.any(words))
    };
    let along_columns = |p: NOfM| {
        matrix.find_band(p.m(), |band| {
            let over = |col| matrix.columns(band.clone(), col).over(p.n()) != 0;
            (0..matrix.cols).step_by(64).any(over)
        })
    };
    match *pattern {
        Pattern::Unstructured => None,
        Pattern::UnstructuredRow => {
            let mut counts = (0..matrix.rows).map(|row| matrix.kept(row, 0, matrix.cols));
            let first = counts.next()?;
            counts.position(|kept| kept != first).map(|after| after + 1)
        }
        Pattern::NOfM(p) => along_rows(p, 0..matrix.rows),
        Pattern::OutputNOfM(p) => along_columns(p),
        Pattern::TransposableTwoOfFour => along_rows(NOfM::TWO_OF_FOUR, 0..matrix.rows)
            .or_else(|| along_columns(NOfM::TWO_OF_FOUR)),
        Pattern::VNOfM(p) => {
            let (over, step) = (Over { n: VNOfM::COLUMNS, m: p.m() }, 64 / p.m() * p.m());
            let too_many = |band: Range<usize>, col| {
                let used = matrix.in_use(band, col) & low_bits(step);
                p.m() > VNOfM::COLUMNS && over.any(&[used])
            };
            let row = NOfM::new(p.n(), p.m()).ok()?;
            matrix.find_band(p.v(), |band| {
                along_rows(row, band.clone()).is_some()
                    || (0..matrix.cols).step_by(step).any(|col| too_many(band.clone(), col))
            })
        }
        Pattern::Block(_) | Pattern::Channel(_) => {
            let unit = pattern.unit(shape)?;
            matrix.find_band(unit.rows(), |band| !matrix.is_whole(band, unit))
        }
    }
}

/// The search, from some row on, for the first place that breaks a pattern, by its definition.
struct Search<'a> {
    matrix: Matrix<'a>,
    first_row: usize,
}

impl Search<'_> {
    fn first_place(&self, pattern: &Pattern, shape: &[usize]) -> Proof {
        match *pattern {
            Pattern::Unstructured => Ok(()),
            Pattern::UnstructuredRow => self.rows_alike(),
            Pattern::NOfM(p) => self.n_of_m(p),
            Pattern::OutputNOfM(p) => self.output_n_of_m(p),
            Pattern::VNOfM(p) => self.v_n_of_m(p),
            Pattern::TransposableTwoOfFour => {
                self.n_of_m(NOfM::TWO_OF_FOUR).and_then(|()| self.output_n_of_m(NOfM::TWO_OF_FOUR))
            }
            Pattern::Block(_) | Pattern::Channel(_) => match pattern.unit(shape) {
                Some(unit) => self.whole_units(unit),
                None => Ok(()),
            },
        }
    }

    fn rows_alike(&self) -> Proof {
        let first =
            if self.matrix.rows == 0 { 0 } else { self.matrix.kept(0, 0, self.matrix.cols) };
        for row in self.first_row..self.matrix.rows {
            let kept = self.matrix.kept(row, 0, self.matrix.cols);
            if kept != first {
                return Err(format!("row 0 keeps {first} entries, row {row} keeps {kept}"));
            }
        }
        Ok(())
    }

    fn n_of_m(&self, p: NOfM) -> Proof {
        for row in self.first_row..self.matrix.rows {
            for start in (0..self.matrix.cols).step_by(p.m()) {
                let end = (start + p.m()).min(self.matrix.cols);
                let kept = self.matrix.kept(row, start, end);
                if kept > p.n() {
                    return Err(format!("row {row} keeps {kept} of columns {start}..{end}"));
                }
            }
        }
        Ok(())
    }

    fn output_n_of_m(&self, p: NOfM) -> Proof {
        for top in (self.first_row..self.matrix.rows).step_by(p.m()) {
            let bottom = (top + p.m()).min(self.matrix.rows);
            for col in 0..self.matrix.cols {
                let kept: usize =
                    (top..bottom).map(|row| self.matrix.kept(row, col, col + 1)).sum();
                if kept > p.n() {
                    return Err(format!("column {col} keeps {kept} of rows {top}..{bottom}"));
                }
            }
        }
        Ok(())
    }

    fn v_n_of_m(&self, p: VNOfM) -> Proof {
        for top in (self.first_row..self.matrix.rows).step_by(p.v()) {
            let bottom = top.saturating_add(p.v()).min(self.matrix.rows);
            for left in (0..self.matrix.cols).step_by(p.m()) {
                let right = (left + p.m()).min(self.matrix.cols);
                for row in top..bottom {
                    let kept = self.matrix.kept(row, left, right);
                    if kept > p.n() {
                        return Err(format!("row {row} keeps {kept} of columns {left}..{right}"));
                    }
                }
                let in_use =
                    |col: &usize| (top..bottom).any(|row| self.matrix.kept(row, *col, col + 1) > 0);
                let used = (left..right).filter(in_use).count();
                if used > VNOfM::COLUMNS {
                    return Err(format!(
                        "rows {top}..{bottom} use {used} of columns {left}..{right}, not {}",
                        VNOfM::COLUMNS
                    ));
                }
            }
        }
        Ok(())
    }

    fn whole_units(&self, unit: Block) -> Proof {
        for top in (self.first_row..self.matrix.rows).step_by(unit.rows()) {
            let bottom = top.saturating_add(unit.rows()).min(self.matrix.rows);
            for left in (0..self.matrix.cols).step_by(unit.cols()) {
                let right = left.saturating_add(unit.cols()).min(self.matrix.cols);
                let kept: usize = (top..bottom).map(|row| self.matrix.kept(row, left, right)).sum();
                if kept != 0 && kept != (bottom - top) * (right - left) {
                    return Err(format!(
                        "rows {top}..{bottom}, columns {left}..{right} keep {kept} entries, \
                         neither all nor none"
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scores, Sparsity};
    use proptest::prelude::*;
    use rand_xoshiro::{
        Xoshiro256PlusPlus,
        rand_core::{Rng, SeedableRng},
    };

    fn mask(rows: &[&str]) -> Mask {
        let bits: Vec<bool> = rows.concat().chars().map(|c| c == '1').collect();
        Mask::from_bools(&bits, &[rows.len(), rows[0].len()]).unwrap()
    }

    fn holds(pattern: &str, rows: &[&str]) -> bool {
        mask(rows).verify(&pattern.parse().unwrap()).is_ok()
    }

    #[test]
    fn n_of_m_counts_every_group_the_last_one_too() {
        assert!(holds("2:4", &["11000011", "00001010"]));
        assert!(!holds("2:4", &["11000011", "00001110"]));
        assert!(!holds("2:4", &["1100111"])); // three of the last three
        assert!(holds("1:3", &["1001"]));
        assert!(holds("output-1:2", &["10", "01", "11"]));
        assert!(!holds("output-1:2", &["10", "11"]));
        assert!(!holds("output-2:4", &["0", "0", "0", "0", "1", "1", "1"]));
    }

    #[test]
    fn a_block_of_rows_shares_four_columns() {
        assert!(holds("2:2:8", &["11000000", "00110000"]));
        assert!(!holds("3:2:8", &["11000000", "00110000", "00001100"]));
        assert!(holds("2:2:8", &["11000000", "00110000", "00001100"]));
        assert!(!holds("2:2:8", &["11100000", "00000000"]));
    }

    #[test]
    fn transposable_is_two_of_four_both_ways() {
        assert!(holds("transposable-2:4", &["1100", "1100", "0011", "0011"]));
        assert!(!holds("transposable-2:4", &["1100", "1100", "1010", "0011"]));
        assert!(!holds("transposable-2:4", &["1110", "0000", "0000", "0000"]));
    }

    #[test]
    fn units_are_all_or_nothing() {
        assert!(holds("block2x2", &["110", "110"]));
        assert!(!holds("block2x2", &["110", "100"]));
        assert!(holds("channel", &["11", "00"]));
        assert!(!holds("channel", &["10", "00"]));
        assert!(holds("input-channel", &["10", "10"]));
        assert!(!holds("input-channel", &["10", "00"]));
        assert!(holds("unstructured", &["10", "01"]));
        assert!(holds("unstructured-row", &["10", "01"]));
        assert!(!holds("unstructured-row", &["10", "11"]));
    }

    /// Masks of rows that begin anywhere in a word, with a pattern and, sometimes, a few bits off.
    fn nearly() -> impl Strategy<Value = (Mask, Pattern)> {
        let names = prop::sample::select(vec![
            "unstructured-row",
            "1:2",
            "2:4",
            "5:8",
            "3:16",
            "7:32",
            "20:64",
            "2:3",
            "5:11",
            "output-2:4",
            "output-3:5",
            "output-9:64",
            "transposable-2:4",
            "8:2:4",
            "8:2:8",
            "3:1:10",
            "block4x4",
            "block3x5",
            "block2x70",
            "channel",
            "input-channel",
        ]);
        let cols = prop_oneof![0_usize..200, prop::sample::select(vec![64_usize, 128, 8192])];
        let flips = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
        (names, 1_usize..70, cols, any::<u64>(), flips).prop_map(
            |(name, rows, cols, seed, flips)| {
                let pattern: Pattern = name.parse().unwrap();
                let mut stream = Xoshiro256PlusPlus::seed_from_u64(seed);
                let scores: Vec<f32> =
                    (0..rows * cols).map(|_| (stream.next_u64() >> 40) as f32).collect();
                let amount = pattern.fixed_sparsity().unwrap_or(Sparsity::new(0.5).unwrap());
                let scores = Scores::new(scores, &[rows, cols]).unwrap();
                let mut bits = pattern.select(scores, amount).unwrap().to_bools();
                for flip in flips.into_iter().filter(|_| !bits.is_empty()).collect::<Vec<_>>() {
                    let index = flip.index(bits.len());
                    bits[index] = !bits[index];
                }
                (Mask::from_bools(&bits, &[rows, cols]).unwrap(), pattern)
            },
        )
    }

    proptest! {
        /// What whole words found is the first place that breaks the definition, in its words.
        #[test]
        fn the_first_place_is_named((mask, pattern) in nearly()) {
            let search = Search { matrix: Matrix::new(&mask), first_row: 0 };
            let plain = search.first_place(&pattern, mask.shape());
            prop_assert_eq!(mask.holds(&pattern), plain.is_ok());
            let plain = plain.map_err(|detail| MaskError::Violation { pattern, detail });
            prop_assert_eq!(mask.verify(&pattern), plain);
        }
    }
}
