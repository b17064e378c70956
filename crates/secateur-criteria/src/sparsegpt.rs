//! Which weights matter, and how do the others make up for the rest? Column by column, second order.
//!
//! SparseGPT (Frantar & Alistarh 2023) walks over the columns of a layer. What it cuts from a column
//! is made up for by the columns not yet visited, as optimal brain surgery tells; so later choices
//! are made on updated weights.

use crate::{
    Criterion, CriterionError, Cut, Layer, Needs,
    hessian::{DAMPING, Hessian, InverseFactor},
    wanda::by_place,
};
use candle_core::Tensor;
use faer::{Accum, MatMut, MatRef, linalg::matmul::matmul};
use rayon::prelude::*;
use secateur_mask::{Mask, Pattern, Scores, Sparsity};

/// Score `w² / U_jj²` with `H⁻¹ = UᵀU`, and the update of the survivors.
///
/// `N:M` and its kin are chosen group by group on the updated weights; shares are chosen for blocks
/// of about 128 columns at a time; whole channels are chosen before the walk.
#[derive(Debug, Clone, Copy)]
pub struct SparseGpt {
    /// λ of the Hessian as a share of its mean diagonal: 0.01.
    pub damping: f64,
    /// Columns whose updates are applied to the rest in one product: 128.
    pub block: usize,
}

impl Default for SparseGpt {
    fn default() -> Self {
        Self { damping: DAMPING, block: 128 }
    }
}

impl Criterion for SparseGpt {
    fn name(&self) -> &str {
        "sparsegpt"
    }

    fn needs(&self) -> Needs {
        Needs::GRAM
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        let hessian = Hessian::of_sparsegpt(layer, self.damping)?;
        let factor = hessian.inverse_factor()?;
        by_place(
            layer,
            |w, _, col| {
                if hessian.is_dead(col) { 0.0 } else { (w / factor.diagonal(col)).powi(2) }
            },
        )
    }

    fn prune(
        &self,
        layer: &Layer<'_>,
        pattern: Pattern,
        amount: Sparsity,
    ) -> Result<Cut, CriterionError> {
        let (_, cols) = layer.matrix();
        let hessian = Hessian::of_sparsegpt(layer, self.damping)?;
        let mut weight = layer.values()?;
        for (index, w) in weight.iter_mut().enumerate() {
            if hessian.is_dead(index % cols) {
                *w = 0.0;
            }
        }
        let factor = hessian.inverse_factor()?;
        let choice = match pattern {
            Pattern::Channel(_) => {
                let scores = self.checked_scores(layer)?;
                let mask = pattern.select(scores, amount);
                Choice::Made(mask.map_err(CriterionError::at(layer.name()))?)
            }
            _ => Choice::OnTheWay(Chooser::new(pattern, amount)),
        };
        let kept = Walk { layer, factor, block: self.block.max(1) }.run(&mut weight, choice)?;
        let mask = Mask::from_bools(&kept, layer.weight().dims());
        let mask = mask.map_err(CriterionError::at(layer.name()))?;
        Ok(Cut { mask, weight: Some(layer.tensor(weight)?) })
    }
}

/// When it is chosen what stays.
enum Choice {
    Made(Mask),
    OnTheWay(Chooser),
}

/// The walk over the columns of one layer.
struct Walk<'a> {
    layer: &'a Layer<'a>,
    factor: InverseFactor,
    block: usize,
}

impl Walk<'_> {
    /// Cuts and updates `weight`; returns what is kept, row-major.
    fn run(&self, weight: &mut [f64], mut choice: Choice) -> Result<Vec<bool>, CriterionError> {
        let (rows, cols) = self.layer.matrix();
        let upper = self.factor.upper();
        let mut kept = match &choice {
            Choice::Made(mask) => mask.to_bools(),
            Choice::OnTheWay(_) => vec![false; rows * cols],
        };
        let width = match &choice {
            Choice::Made(_) => self.block,
            Choice::OnTheWay(chooser) => chooser.width(self.block),
        };
        let block = width * (self.block / width).max(1);
        for start in (0..cols).step_by(block) {
            let end = (start + block).min(cols);
            let corner: Vec<f64> =
                (start..end).flat_map(|i| (start..end).map(move |j| upper[(i, j)])).collect();
            let mut errors = vec![0.0; rows * (end - start)];
            for left in (start..end).step_by(width) {
                let right = (left + width).min(end);
                if let Choice::OnTheWay(chooser) = &mut choice {
                    let score = |index: usize| {
                        (weight[index] / self.factor.diagonal(index % cols)).powi(2) as f32
                    };
                    let mask = chooser.choose(self.layer, (left, right), score)?;
                    for (place, keeps) in mask.iter().enumerate() {
                        let (row, col) = (place / (right - left), place % (right - left));
                        kept[row * cols + left + col] = keeps;
                    }
                }
                weight
                    .par_chunks_exact_mut(cols)
                    .zip(kept.par_chunks_exact(cols))
                    .zip(errors.par_chunks_exact_mut(end - start))
                    .for_each(|((weight, kept), errors)| {
                        cut_columns(weight, kept, errors, &corner, (start, end), left..right);
                    });
            }
            // What the cuts of this block mean for all columns to the right of it.
            let rest = MatMut::from_row_major_slice_mut(&mut *weight, rows, cols);
            matmul(
                rest.subcols_mut(end, cols - end),
                Accum::Add,
                MatRef::from_row_major_slice(&errors, rows, end - start),
                upper.submatrix(start, end, end - start, cols - end),
                -1.0,
                faer::get_global_parallelism(),
            );
        }
        Ok(kept)
    }
}

/// Cuts `columns` of one row and updates the row up to the end of the block; `corner` is the block of
/// U, row-major.
fn cut_columns(
    weight: &mut [f64],
    kept: &[bool],
    errors: &mut [f64],
    corner: &[f64],
    (start, end): (usize, usize),
    columns: std::ops::Range<usize>,
) {
    for col in columns.filter(|&col| !kept[col]) {
        let line = &corner[(col - start) * (end - start)..][..end - start];
        let error = weight[col] / line[col - start];
        weight[col] = 0.0;
        errors[col - start] = error;
        for (w, u) in weight[col + 1..end].iter_mut().zip(&line[col + 1 - start..]) {
            *w -= error * u;
        }
    }
}

/// Chooses what stays, some columns at a time.
struct Chooser {
    pattern: Pattern,
    amount: Sparsity,
    units: usize,
    cut: usize,
}

impl Chooser {
    fn new(pattern: Pattern, amount: Sparsity) -> Self {
        Self { pattern, amount, units: 0, cut: 0 }
    }

    /// How many columns are chosen together.
    fn width(&self, block: usize) -> usize {
        match self.pattern {
            Pattern::NOfM(p) => p.m(),
            Pattern::VNOfM(p) => p.m(),
            Pattern::TransposableTwoOfFour => 4,
            Pattern::OutputNOfM(_) => 1,
            Pattern::Block(b) => b.cols() * (block / b.cols()).max(1),
            _ => block,
        }
    }

    /// The mask of columns `left..right`, `[rows, right - left]`, by scores given for flat indices.
    fn choose(
        &mut self,
        layer: &Layer<'_>,
        (left, right): (usize, usize),
        score: impl Fn(usize) -> f32,
    ) -> Result<Mask, CriterionError> {
        let (rows, cols) = layer.matrix();
        let places = (0..rows).flat_map(|row| (left..right).map(move |col| row * cols + col));
        let scores: Vec<f32> = places
            .map(|index| match layer.mask() {
                Some(mask) if mask.get(index) == Some(false) => f32::NEG_INFINITY,
                _ => score(index),
            })
            .collect();
        let at = CriterionError::at(layer.name());
        let scores = Scores::new(scores, &[rows, right - left]).map_err(&at)?;
        let amount = match self.pattern {
            Pattern::Unstructured | Pattern::Block(_) => {
                self.share(self.pattern.unit_scores(&scores).len()).map_err(&at)?
            }
            Pattern::UnstructuredRow => self.share(right - left).map_err(&at)?,
            _ => self.amount,
        };
        self.pattern.select(scores, amount).map_err(at)
    }

    /// The share to cut of the next `units`, so that the counts add up to that of the whole.
    fn share(&mut self, units: usize) -> Result<Sparsity, secateur_mask::MaskError> {
        self.units += units;
        let cut = self.amount.cut_of(self.units) - self.cut;
        self.cut += cut;
        Sparsity::of_counts(cut, units)
    }
}
