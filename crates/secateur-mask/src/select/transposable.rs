//! How is a weight 2:4 in both directions at once? Every 4 × 4 block takes the best of 90 masks.
//!
//! Two in every row and two in every column: there are exactly 90 such blocks, so the best one is
//! found by looking at all of them (Hubara et al. 2021 formulate it as a flow). At a ragged edge the
//! masks are those with at most two in every row and column and as many entries as possible.

use crate::bands::Band;

/// Rows and columns of a block.
pub(super) const SIDE: usize = 4;
/// Most that a row or a column of a block keeps.
const MOST: u32 = 2;

/// For each size of block (rows, then columns, minus one), its masks in the order of the tie rule.
pub(super) struct Choices([[Vec<u16>; SIDE]; SIDE]);

impl Choices {
    pub fn new() -> Self {
        Self(std::array::from_fn(|rows| std::array::from_fn(|cols| masks(rows + 1, cols + 1))))
    }

    /// Keeps in every block the mask whose scores sum highest. A band holds whole blocks.
    pub fn keep(&self, band: &mut Band<'_>, scores: &[f32]) {
        let (rows, cols) = (band.rows, band.cols);
        for top in (0..rows).step_by(SIDE) {
            let height = SIDE.min(rows - top);
            for left in (0..cols).step_by(SIDE) {
                let width = SIDE.min(cols - left);
                let mut block = [0.0; SIDE * SIDE];
                for row in 0..height {
                    let line = (top + row) * cols + left;
                    block[row * SIDE..][..width].copy_from_slice(&scores[line..line + width]);
                }
                let mask = best(&self.0[height - 1][width - 1], &block);
                for place in (0..SIDE * SIDE).filter(|place| mask >> place & 1 == 1) {
                    band.keep(top + place / SIDE, left + place % SIDE);
                }
            }
        }
    }
}

/// The mask whose scores sum highest, the first among equals. Infinities are counted, not added.
fn best(masks: &[u16], scores: &[f32; SIDE * SIDE]) -> u16 {
    // What each choice of columns is worth in each row; a mask is four of them.
    let mut worth = [[(0_i32, 0.0_f64); 1 << SIDE]; SIDE];
    for (worth, scores) in worth.iter_mut().zip(scores.as_chunks::<SIDE>().0) {
        for (line, worth) in worth.iter_mut().enumerate() {
            for (_, &score) in scores.iter().enumerate().filter(|(col, _)| line >> col & 1 == 1) {
                match score.is_finite() {
                    true => worth.1 += f64::from(score),
                    false => worth.0 += if score > 0.0 { 1 } else { -1 },
                }
            }
        }
    }
    let sum = |mask: u16| {
        let lines = (0..SIDE).map(|row| worth[row][usize::from(mask >> (row * SIDE) & 0xF)]);
        lines.fold((0, 0.0), |sum, line| (sum.0 + line.0, sum.1 + line.1))
    };
    let mut found = (masks[0], sum(masks[0]));
    for &mask in &masks[1..] {
        let sum = sum(mask);
        if sum > found.1 {
            found = (mask, sum);
        }
    }
    found.0
}

/// All masks of a block of `rows × cols` with at most two in every row and column and as many
/// entries as possible; those that keep lower indices first. Bit `4 · row + col`.
fn masks(rows: usize, cols: usize) -> Vec<u16> {
    let mut found: Vec<u16> = vec![0];
    for row in 0..rows {
        let lines = (0..1_u16 << cols).filter(|line| line.count_ones() <= MOST);
        found = lines
            .flat_map(|line| found.iter().map(move |mask| mask | line << (row * SIDE)))
            .filter(|mask| (0..cols).all(|col| (mask >> col & 0x1111).count_ones() <= MOST))
            .collect();
    }
    let most = found.iter().map(|mask| mask.count_ones()).max();
    found.retain(|mask| Some(mask.count_ones()) == most);
    found.sort_by_key(|mask| std::cmp::Reverse(mask.reverse_bits()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pattern, Scores};

    #[test]
    fn a_whole_block_has_ninety_masks_and_the_first_keeps_the_lowest_indices() {
        let whole = masks(4, 4);
        assert_eq!(whole.len(), 90);
        assert!(whole.iter().all(|mask| mask.count_ones() == 8));
        assert_eq!(whole[0], 0b1100_1100_0011_0011);
        for (rows, cols, kept) in [(1, 1, 1), (1, 4, 2), (2, 3, 4), (3, 3, 6), (3, 4, 6), (4, 1, 2)]
        {
            assert!(masks(rows, cols).iter().all(|mask| mask.count_ones() == kept));
        }
    }

    #[test]
    fn the_best_block_is_not_the_greedy_one() {
        // Greedily 9, 8, 7, 6 of the first two rows and columns would go first.
        #[rustfmt::skip]
        let scores = [
            9., 8., 1., 0.,
            7., 6., 0., 1.,
            0., 5., 9., 8.,
            5., 0., 8., 9.,
        ];
        let pattern = Pattern::TransposableTwoOfFour;
        let amount = pattern.fixed_sparsity().unwrap();
        let mask = pattern.select(Scores::new(&scores[..], &[4, 4]).unwrap(), amount).unwrap();
        assert_eq!(mask.to_string(), "1100\n1100\n0011\n0011");
    }

    #[test]
    fn what_was_cut_before_stays_cut_where_it_can() {
        let mut scores = [1.0; 16];
        scores[0] = f32::NEG_INFINITY;
        scores[5] = 2.0;
        let mask = best(&masks(4, 4), &scores);
        assert!(mask & 1 == 0 && mask >> 5 & 1 == 1);
    }
}
