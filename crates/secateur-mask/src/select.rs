//! Which entries does a score keep? The highest; among equals, those of lower index.

use crate::{Mask, MaskError, NOfM, Pattern, Scores, Sparsity, pattern::Block, scores::rank_key};

impl Pattern {
    /// Keeps the highest `scores` in this pattern's shape and cuts `amount` of the rest.
    ///
    /// - Counts are exact: of `n` units (entries, blocks or channels) `round(amount · n)` go. `N:M`
    ///   fixes its own sparsity: any other `amount` is an error.
    /// - Among equal scores the lower index is kept, so the mask is the same on every machine.
    /// - A unit's score is the mean of its entries' scores, so that smaller blocks at a ragged edge
    ///   compete fairly.
    ///
    /// ```
    /// # use secateur_mask::{Pattern, Scores, Sparsity};
    /// let scores = Scores::new(&[3.0, 1.0, 2.0, 1.0][..], &[4])?;
    /// let mask = Pattern::Unstructured.select(scores, Sparsity::new(0.25)?)?;
    /// assert_eq!(mask.to_string(), "1110"); // of the two ones, the first stays
    /// # Ok::<(), secateur_mask::MaskError>(())
    /// ```
    pub fn select(self, scores: Scores<'_>, amount: Sparsity) -> Result<Mask, MaskError> {
        if let Some(fixed) = self.fixed_sparsity()
            && fixed != amount
        {
            return Err(MaskError::FixedSparsity { pattern: self, fixed, asked: amount });
        }
        let (rows, cols) = scores.matrix();
        let mut mask = Mask::empty(scores.shape())?;
        match (self, self.unit(rows, cols)) {
            (Self::NOfM(p), _) => keep_n_of_m(&mut mask, scores.values(), cols, p),
            (_, Some(unit)) => {
                let units = self.unit_scores(&scores);
                let keep = units.len() - amount.cut_of(units.len());
                let kept = highest(&units, keep);
                fill_units(&mut mask, &kept, rows, cols, unit);
            }
            (_, None) => {}
        }
        Ok(mask)
    }

    /// One score per unit that this pattern cuts as a whole, in row-major order of the units.
    ///
    /// Units are single entries, blocks or channels. `N:M` has no such units (every group keeps
    /// exactly N), so the answer is empty. Allocations that compare layers pool these.
    pub fn unit_scores(self, scores: &Scores<'_>) -> Vec<f32> {
        let (rows, cols) = scores.matrix();
        let Some(unit) = self.unit(rows, cols) else { return Vec::new() };
        if (unit.rows(), unit.cols()) == (1, 1) {
            return scores.values().to_vec();
        }
        let across = cols.div_ceil(unit.cols());
        let mut sums = vec![0.0_f64; rows.div_ceil(unit.rows()) * across];
        let mut sizes = vec![0_u32; sums.len()];
        for (index, &score) in scores.values().iter().enumerate() {
            let place = index / cols / unit.rows() * across + index % cols / unit.cols();
            sums[place] += f64::from(score);
            sizes[place] += 1;
        }
        sums.iter().zip(sizes).map(|(sum, size)| mean(*sum, size)).collect()
    }
}

/// Infinities of both signs in one unit would make a NaN: such a unit ranks last.
fn mean(sum: f64, size: u32) -> f32 {
    let mean = (sum / f64::from(size)) as f32;
    if mean.is_nan() { f32::NEG_INFINITY } else { mean }
}

/// Marks the `keep` highest of `scores`; ties go to the lower index. Linear time.
fn highest(scores: &[f32], keep: usize) -> Vec<bool> {
    if keep == 0 || keep >= scores.len() {
        return vec![keep > 0; scores.len()];
    }
    let keys: Vec<u32> = scores.iter().map(|&score| rank_key(score)).collect();
    let (_, &mut threshold, _) = keys.clone().select_nth_unstable_by(keep - 1, |a, b| b.cmp(a));
    let above = keys.iter().filter(|&&key| key > threshold).count();
    let mut ties = keep - above;
    keys.iter()
        .map(|&key| {
            let tie = key == threshold && ties > 0;
            ties -= usize::from(tie);
            tie || key > threshold
        })
        .collect()
}

fn fill_units(mask: &mut Mask, kept: &[bool], rows: usize, cols: usize, unit: Block) {
    let across = cols.div_ceil(unit.cols());
    for row in 0..rows {
        for col in 0..cols {
            if kept[row / unit.rows() * across + col / unit.cols()] {
                mask.keep(row * cols + col);
            }
        }
    }
}

/// In every group, keeps the entries that fewer than N others beat.
fn keep_n_of_m(mask: &mut Mask, scores: &[f32], cols: usize, p: NOfM) {
    if cols == 0 {
        return;
    }
    let mut keys = [0_u32; 64];
    for (row, scores) in scores.chunks_exact(cols).enumerate() {
        for (group, scores) in scores.chunks(p.m()).enumerate() {
            let keys = &mut keys[..scores.len()];
            for (key, &score) in keys.iter_mut().zip(scores) {
                *key = rank_key(score);
            }
            for (i, &key) in keys.iter().enumerate() {
                let earlier = keys[..i].iter().filter(|&&other| other >= key).count();
                let later = keys[i + 1..].iter().filter(|&&other| other > key).count();
                if earlier + later < p.n() {
                    mask.keep(row * cols + group * p.m() + i);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(pattern: &str, shape: &[usize], scores: &[f32], amount: f64) -> String {
        let scores = Scores::new(scores, shape).unwrap();
        let pattern: Pattern = pattern.parse().unwrap();
        pattern.select(scores, Sparsity::new(amount).unwrap()).unwrap().to_string()
    }

    #[test]
    fn two_of_four_keeps_the_two_highest_of_each_group() {
        assert_eq!(select("2:4", &[1, 8], &[1., 4., 2., 3., 9., 0., 0., 8.], 0.5), "01011001");
    }

    #[test]
    fn equal_scores_keep_the_lower_index() {
        assert_eq!(select("2:4", &[1, 4], &[7.; 4], 0.5), "1100");
        assert_eq!(select("unstructured", &[1, 4], &[7.; 4], 0.5), "1100");
        assert_eq!(select("unstructured", &[1, 3], &[0.0, -0.0, 0.0], 2. / 3.), "100");
    }

    #[test]
    fn a_shorter_last_group_keeps_at_most_n() {
        assert_eq!(select("2:4", &[1, 7], &[1., 2., 3., 4., 5., 6., 7.], 0.5), "0011011");
        assert_eq!(select("2:4", &[2, 1], &[0., 0.], 0.5), "1\n1");
    }

    #[test]
    fn blocks_go_whole_and_ragged_edges_compete_by_their_mean() {
        // Blocks of 2 x 2 over 2 x 3: means 1.0 and 2.0; the larger sum is not the larger mean.
        assert_eq!(select("block2x2", &[2, 3], &[1., 1., 2., 1., 1., 2.], 0.5), "001\n001");
    }

    #[test]
    fn channels_are_rows_or_columns() {
        let scores = [1., 5., 1., 2., 2., 2.];
        assert_eq!(select("channel", &[2, 3], &scores, 0.5), "111\n000");
        assert_eq!(select("input-channel", &[2, 3], &scores, 2. / 3.), "010\n010");
    }

    #[test]
    fn convolutions_are_out_by_all_the_rest() {
        assert_eq!(select("2:4", &[1, 2, 1, 2], &[1., 4., 2., 3.], 0.5), "01\n01");
    }

    #[test]
    fn n_of_m_refuses_another_sparsity() {
        let scores = Scores::new(&[1.0; 4][..], &[4]).unwrap();
        let error = Pattern::TWO_OF_FOUR.select(scores, Sparsity::new(0.9).unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "2:4 fixes the sparsity at 0.5, but 0.9 was asked for; ask for 0.5"
        );
    }

    #[test]
    fn nothing_and_everything() {
        assert_eq!(select("unstructured", &[2], &[1., 2.], 1.0), "00");
        assert_eq!(select("unstructured", &[2], &[1., 2.], 0.0), "11");
        assert_eq!(select("2:4", &[3, 0], &[], 0.5), "\n\n");
    }
}
