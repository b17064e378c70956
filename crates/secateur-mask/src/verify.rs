//! Does a mask have the pattern it is said to have? The proof that loading and packing run.

use crate::{Mask, MaskError, Pattern, scores::matrix_view};

impl Mask {
    /// Proves that the kept entries have the shape of `pattern`, or names the first place that
    /// does not.
    ///
    /// - `N:M`: no group keeps more than N.
    /// - blocks and channels: all of a unit is kept, or none.
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
        let (rows, cols) = matrix_view(self.shape());
        let broken = |detail| Err(MaskError::Violation { pattern: *pattern, detail });
        if let Pattern::NOfM(p) = pattern {
            for row in 0..rows {
                for start in (0..cols).step_by(p.m()) {
                    let end = (start + p.m()).min(cols);
                    let kept = self.count_range(row * cols + start, row * cols + end);
                    if kept > p.n() {
                        return broken(format!("row {row} keeps {kept} of columns {start}..{end}"));
                    }
                }
            }
        }
        let Some(unit) = pattern.unit(rows, cols) else { return Ok(()) };
        if (unit.rows(), unit.cols()) == (1, 1) {
            return Ok(());
        }
        for top in (0..rows).step_by(unit.rows()) {
            let bottom = (top + unit.rows()).min(rows);
            for left in (0..cols).step_by(unit.cols()) {
                let right = (left + unit.cols()).min(cols);
                let kept: usize = (top..bottom)
                    .map(|row| self.count_range(row * cols + left, row * cols + right))
                    .sum();
                if kept != 0 && kept != (bottom - top) * (right - left) {
                    return broken(format!(
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
    }
}
