//! Which columns does a block of V rows share? Those whose scores sum highest (Castro et al. 2023).

use super::{groups::highest, sum, unique_key};
use crate::{VNOfM, bands::Band};

/// In every block of V × M keeps four columns, by the sum of their scores, and in every row the N
/// highest of those. A band holds whole blocks of V rows.
pub(super) fn keep(band: &mut Band<'_>, scores: &[f32], p: VNOfM) {
    let (rows, cols) = (band.rows, band.cols);
    for top in (0..rows).step_by(p.v()) {
        let bottom = top.saturating_add(p.v()).min(rows);
        for left in (0..cols).step_by(p.m()) {
            let right = (left + p.m()).min(cols);
            let column = |col| sum((top..bottom).map(move |row| scores[row * cols + col]));
            let sums = (left..right).map(|col| unique_key(column(col) as f32, col - left));
            let (mut shared, mut count) = ([0; VNOfM::COLUMNS], 0);
            highest(sums, VNOfM::COLUMNS, |place| {
                shared[count] = left + place;
                count += 1;
            });
            let shared = &shared[..count];
            for row in top..bottom {
                let keys = shared.iter().map(|&col| unique_key(scores[row * cols + col], col));
                highest(keys, p.n(), |place| band.keep(row, shared[place]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Pattern, Scores};

    #[test]
    fn rows_choose_among_the_columns_that_their_block_chose() {
        // Two rows share four of five columns: sums 9, 9, 3, 4, 5, so column 2 is out, although it
        // is the best of the second row's small ones.
        #[rustfmt::skip]
        let scores = [
            9., 8., 0., 2., 2.,
            0., 1., 3., 2., 3.,
        ];
        let pattern: Pattern = "2:2:5".parse().unwrap();
        let amount = pattern.fixed_sparsity().unwrap();
        let mask = pattern.select(Scores::new(&scores[..], &[2, 5]).unwrap(), amount).unwrap();
        assert_eq!(mask.to_string(), "11000\n00011");
    }
}
