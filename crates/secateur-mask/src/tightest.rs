//! Which pattern does a mask really have? The tightest one that proof can be given of.
//!
//! Somebody who inspects a checkpoint wants to know what could use it: a smaller dense layer, a
//! block-sparse kernel, a 2:4 tensor core, or only a format that stores a bit per weight. So the
//! patterns are asked in that order, the most structured first, and the first that holds is the
//! answer. It is always one that [`Mask::verify`] proves.

use crate::{
    Axis, Block, Mask, NOfM, Pattern, VNOfM, groups::Over, matrix::Matrix, scores::matrix_view,
};

/// Blocks that kernels take, the smallest first: whoever has whole 8 × 8 has whole 4 × 4.
const BLOCKS: [(usize, usize); 6] = [(1, 4), (4, 1), (4, 4), (8, 8), (16, 16), (32, 32)];

/// Group sizes that are looked for, all of which divide the last.
const GROUPS: [usize; 4] = [2, 4, 8, 16];

/// Heights of the bands of `V:N:M` that are looked for, the tightest first.
const BANDS: [usize; 4] = [128, 64, 32, 16];

/// Groups are reported when at least this share (as a fraction) of the places that they grant is
/// taken.
const TAKEN: (usize, usize) = (3, 4);

/// How many groups of M keep more than N; see [`Mask::groups_over`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct GroupsOver {
    /// Groups that keep more than N.
    pub over: usize,
    /// All groups; a shorter last group of a row is one too.
    pub total: usize,
}

impl GroupsOver {
    /// The share of groups that keep more than N; 0 where there are none.
    pub fn share(self) -> f64 {
        match self.total {
            0 => 0.0,
            total => self.over as f64 / total as f64,
        }
    }
}

impl Mask {
    /// The tightest pattern that holds: the first of these, from the most structured to the least.
    ///
    /// 1. `channel`, then `input-channel`: the layer can be made smaller, and any dense kernel runs
    ///    it.
    /// 2. `block32x32`, `block16x16`, `block8x8`, `block4x4`, `block4x1`, `block1x4`: one bit says
    ///    what a block keeps, and a block-sparse kernel skips whole blocks.
    /// 3. Groups, the smallest share N/M first, for M = 2, 4, 8 and 16. At equal share, what binds
    ///    more comes first: `transposable-2:4`, `V:N:M` (M = 8 or 16; V = 128, 64, 32, 16; the smaller
    ///    M first, then the larger V), `N:M`, `output-N:M`; of the last two the smaller M first,
    ///    because 1:2 is 2:4 as well.
    /// 4. `unstructured-row`: rows of equal length, which balance the work.
    /// 5. `unstructured`.
    ///
    /// Patterns that hold without saying anything are passed over:
    ///
    /// - all of them, where nothing is cut or there is nothing to cut: `unstructured`;
    /// - units of a single entry (`input-channel` of a vector or of a single row without taps,
    ///   `channel` of a single column), and equal rows where there is but one;
    /// - blocks, groups and bands of which not even one fits whole;
    /// - groups of which less than three quarters of the granted places are taken. A sparse
    ///   unstructured mask fits *some* `N:M`, for instance 10:16 with a tenth of its weights. It would
    ///   be stored with more zeros than weights.
    ///
    /// A mask that cuts everything is `channel`: every row can go; a vector is one row.
    ///
    /// ```
    /// # use secateur_mask::{Mask, Pattern};
    /// let bits = [true, false, true, false, true, true, false, false];
    /// let mask = Mask::from_bools(&bits, &[2, 4])?;
    /// assert_eq!(mask.tightest(), Pattern::TWO_OF_FOUR);
    /// assert_eq!(Mask::full(&[2, 4])?.tightest(), Pattern::Unstructured);
    /// # Ok::<(), secateur_mask::MaskError>(())
    /// ```
    pub fn tightest(&self) -> Pattern {
        let (kept, (rows, cols)) = (self.count_kept(), matrix_view(self.shape()));
        if kept == self.len() {
            return Pattern::Unstructured;
        }
        if kept == 0 {
            return Pattern::Channel(Axis::Output);
        }
        let channels = [Axis::Output, Axis::Input].map(Pattern::Channel);
        let says_much = |unit: Block| unit.rows().saturating_mul(unit.cols()) > 1;
        channels
            .into_iter()
            .find(|channel| {
                channel.unit(self.shape()).is_some_and(says_much) && self.holds(channel)
            })
            .or_else(|| self.tightest_block(rows, cols))
            .or_else(|| self.tightest_groups(kept))
            .or_else(|| Some(Pattern::UnstructuredRow).filter(|row| rows > 1 && self.holds(row)))
            .unwrap_or(Pattern::Unstructured)
    }

    /// How many groups of M neighbours along a row keep more than N: what stands between the mask
    /// and `N:M`.
    ///
    /// ```
    /// # use secateur_mask::{Mask, NOfM};
    /// let bits = [true, true, true, false, true, true, false, false];
    /// let over = Mask::from_bools(&bits, &[1, 8])?.groups_over(NOfM::TWO_OF_FOUR);
    /// assert_eq!((over.over, over.total, over.share()), (1, 2, 0.5));
    /// # Ok::<(), secateur_mask::MaskError>(())
    /// ```
    pub fn groups_over(&self, groups: NOfM) -> GroupsOver {
        let (matrix, question) = (Matrix::new(self), Over { n: groups.n(), m: groups.m() });
        let mut over = 0;
        matrix.find_groups(0..matrix.rows, groups.m(), |words| {
            over += question.count(words);
            false
        });
        GroupsOver { over, total: matrix.rows * matrix.cols.div_ceil(groups.m()) }
    }

    fn tightest_block(&self, rows: usize, cols: usize) -> Option<Pattern> {
        let holds = |&(height, width): &(usize, usize)| {
            height <= rows
                && width <= cols
                && self.holds(&Pattern::Block(Block::at_least_one(height, width)))
        };
        let (lines, squares) = BLOCKS.split_at(2);
        // Whole squares are whole lines of both kinds, and the larger are whole smaller ones.
        let held: Vec<_> = lines.iter().filter(|block| holds(block)).collect();
        let square = match held.len() == lines.len() {
            true => squares.iter().take_while(|block| holds(block)).last(),
            false => None,
        };
        let (height, width) = *square.or(held.last().copied())?;
        Some(Pattern::Block(Block::at_least_one(height, width)))
    }

    fn tightest_groups(&self, kept: usize) -> Option<Pattern> {
        let matrix = Matrix::new(self);
        // The smallest N of each M that holds, along rows and along columns.
        let least = |lines: usize, len: usize, widest: &dyn Fn(usize, usize) -> Option<usize>| {
            let n_of_m = |m: usize| {
                let granted = |n: usize| lines * (len / m * n + (len % m).min(n));
                let is_taken = |n: &usize| granted(*n) * TAKEN.0 <= kept * TAKEN.1;
                let most = (1..m).take_while(is_taken).last().filter(|_| m <= len)?;
                NOfM::new(widest(m, most)?, m).ok()
            };
            GROUPS.iter().filter_map(|&m| n_of_m(m)).collect::<Vec<_>>()
        };
        let (rows, cols) = (matrix.rows, matrix.cols);
        let along_rows = least(rows, cols, &|m, most| matrix.widest_in_rows(m, most));
        let along_columns = least(cols, rows, &|m, most| matrix.widest_in_columns(m, most));

        let two_of_four = along_rows.iter().find(|p| **p == NOfM::TWO_OF_FOUR && rows >= 4);
        let transposable = two_of_four.map(|p| (p.n(), p.m(), Pattern::TransposableTwoOfFour));
        let bands = along_rows.iter().filter(|p| p.m() > VNOfM::COLUMNS).flat_map(|p| {
            let heights = BANDS.iter().filter(|v| **v <= rows);
            heights.filter_map(|&v| VNOfM::new(v, p.n(), p.m()).ok())
        });
        let mut candidates: Vec<(usize, usize, Pattern)> = transposable.into_iter().collect();
        candidates.extend(bands.map(|p| (p.n(), p.m(), Pattern::VNOfM(p))));
        candidates.extend(along_rows.iter().map(|p| (p.n(), p.m(), Pattern::NOfM(*p))));
        candidates.extend(along_columns.iter().map(|p| (p.n(), p.m(), Pattern::OutputNOfM(*p))));
        // Stable: at equal share, the order in which they were written down.
        candidates.sort_by_key(|(n, m, _)| n * (GROUPS[GROUPS.len() - 1] / m));
        candidates.into_iter().map(|(_, _, pattern)| pattern).find(|pattern| self.holds(pattern))
    }
}
