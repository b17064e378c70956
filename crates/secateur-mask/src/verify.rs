//! Does a mask have the pattern it is said to have? The proof that loading and packing run.

use crate::{Block, Mask, MaskError, NOfM, Pattern, VNOfM, scores::matrix_view};

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
        let proof = match *pattern {
            Pattern::Unstructured => Ok(()),
            Pattern::UnstructuredRow => matrix.rows_alike(),
            Pattern::NOfM(p) => matrix.n_of_m(p),
            Pattern::OutputNOfM(p) => matrix.output_n_of_m(p),
            Pattern::VNOfM(p) => matrix.v_n_of_m(p),
            Pattern::TransposableTwoOfFour => matrix
                .n_of_m(NOfM::TWO_OF_FOUR)
                .and_then(|()| matrix.output_n_of_m(NOfM::TWO_OF_FOUR)),
            Pattern::Block(_) | Pattern::Channel(_) => match pattern.unit(self.shape()) {
                Some(unit) => matrix.whole_units(unit),
                None => Ok(()),
            },
        };
        proof.map_err(|detail| MaskError::Violation { pattern: *pattern, detail })
    }
}

/// A mask as the matrix that patterns see.
struct Matrix<'a> {
    mask: &'a Mask,
    rows: usize,
    cols: usize,
}

impl<'a> Matrix<'a> {
    fn new(mask: &'a Mask) -> Self {
        let (rows, cols) = matrix_view(mask.shape());
        Self { mask, rows, cols }
    }

    fn kept(&self, row: usize, start: usize, end: usize) -> usize {
        self.mask.count_range(row * self.cols + start, row * self.cols + end)
    }

    fn rows_alike(&self) -> Proof {
        let first = if self.rows == 0 { 0 } else { self.kept(0, 0, self.cols) };
        for row in 1..self.rows {
            let kept = self.kept(row, 0, self.cols);
            if kept != first {
                return Err(format!("row 0 keeps {first} entries, row {row} keeps {kept}"));
            }
        }
        Ok(())
    }

    fn n_of_m(&self, p: NOfM) -> Proof {
        for row in 0..self.rows {
            for start in (0..self.cols).step_by(p.m()) {
                let end = (start + p.m()).min(self.cols);
                let kept = self.kept(row, start, end);
                if kept > p.n() {
                    return Err(format!("row {row} keeps {kept} of columns {start}..{end}"));
                }
            }
        }
        Ok(())
    }

    fn output_n_of_m(&self, p: NOfM) -> Proof {
        for top in (0..self.rows).step_by(p.m()) {
            let bottom = (top + p.m()).min(self.rows);
            for col in 0..self.cols {
                let kept: usize = (top..bottom).map(|row| self.kept(row, col, col + 1)).sum();
                if kept > p.n() {
                    return Err(format!("column {col} keeps {kept} of rows {top}..{bottom}"));
                }
            }
        }
        Ok(())
    }

    fn v_n_of_m(&self, p: VNOfM) -> Proof {
        for top in (0..self.rows).step_by(p.v()) {
            let bottom = top.saturating_add(p.v()).min(self.rows);
            for left in (0..self.cols).step_by(p.m()) {
                let right = (left + p.m()).min(self.cols);
                for row in top..bottom {
                    let kept = self.kept(row, left, right);
                    if kept > p.n() {
                        return Err(format!("row {row} keeps {kept} of columns {left}..{right}"));
                    }
                }
                let in_use =
                    |col: &usize| (top..bottom).any(|row| self.kept(row, *col, col + 1) > 0);
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
        for top in (0..self.rows).step_by(unit.rows()) {
            let bottom = top.saturating_add(unit.rows()).min(self.rows);
            for left in (0..self.cols).step_by(unit.cols()) {
                let right = left.saturating_add(unit.cols()).min(self.cols);
                let kept: usize = (top..bottom).map(|row| self.kept(row, left, right)).sum();
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
}
