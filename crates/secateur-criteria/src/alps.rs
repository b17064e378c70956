//! Which weights matter together? ADMM on the layer's least-squares problem (Meng et al. 2024, "ALPS").
//!
//! The pattern is a constraint: minimise ‖XWᵀ − XDᵀ‖² over all D that have it. Two copies of the
//! weight, one that fits the outputs and one that has the pattern, are pulled together by a penalty ρ
//! that grows until the support no longer changes.

use crate::{
    Criterion, CriterionError, Cut, Layer, Needs,
    hessian::{DAMPING, Hessian},
    wanda::by_place,
};
use candle_core::Tensor;
use faer::{Mat, Side, prelude::*};
use secateur_mask::{Mask, Pattern, Scores, Sparsity};

/// Score `w² · H_jj` where one is needed (allocations); the cut itself is the solution of the ADMM.
///
/// Follow it with [`Refit`](crate::Refit): the paper ends with the least-squares solution on the
/// support found.
#[derive(Debug, Clone, Copy)]
pub struct Alps {
    /// λ of the Hessian as a share of its mean diagonal: 0.01.
    pub damping: f64,
    /// The first penalty ρ: 0.1.
    pub rho: f64,
    /// Most iterations: 300.
    pub iterations: usize,
}

impl Default for Alps {
    fn default() -> Self {
        Self { damping: DAMPING, rho: 0.1, iterations: 300 }
    }
}

/// Iterations between two looks at how much the support still changes.
const LOOK: usize = 3;
/// Iterations before which a support at rest ends nothing: that of a few weights also rests while the
/// two copies are still far apart.
const SETTLED: usize = 60;

impl Criterion for Alps {
    fn name(&self) -> &str {
        "alps"
    }

    fn needs(&self) -> Needs {
        Needs::GRAM
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        let hessian = Hessian::new(layer, self.damping)?;
        by_place(layer, |w, _, col| w * w * hessian.get(col, col))
    }

    fn prune(
        &self,
        layer: &Layer<'_>,
        pattern: Pattern,
        amount: Sparsity,
    ) -> Result<Cut, CriterionError> {
        let problem = Problem::new(layer, self.damping)?;
        let (rows, cols) = layer.matrix();
        let mut rho = self.rho;
        // All matrices are columns × rows, in the scaled space where H has a diagonal of ones.
        let mut dual: Mat<f64> = Mat::zeros(cols, rows);
        let mut sparse = problem.weight.clone();
        let mut mask = problem.project(&mut sparse, pattern, amount)?;
        let mut looked_at = mask.clone();
        for iteration in 1..=self.iterations {
            let dense = problem.fit(&dual, &sparse, rho);
            sparse = &dense + &dual * Scale(1.0 / rho);
            mask = problem.project(&mut sparse, pattern, amount)?;
            dual += (&dense - &sparse) * Scale(rho);
            if iteration % LOOK == 0 {
                let at = CriterionError::at(layer.name());
                let appeared = mask.minus(&looked_at).map_err(at)?.count_kept();
                let changed = 2.0 * appeared as f64;
                let kept = mask.count_kept() as f64;
                rho *= match changed {
                    0.0 if iteration >= SETTLED => break,
                    many if many >= 0.1 * kept => 1.3,
                    some if some >= 0.005 * kept => 1.2,
                    _ => 1.1,
                };
                looked_at = mask.clone();
            }
        }
        let weight = (0..rows)
            .flat_map(|row| (0..cols).map(move |col| (row, col)))
            .map(|(row, col)| sparse[(col, row)] / problem.scale[col])
            .collect();
        Ok(Cut { mask, weight: Some(layer.tensor(weight)?) })
    }
}

/// A layer's problem, its columns scaled so that the Hessian has a diagonal of ones.
struct Problem<'a> {
    layer: &'a Layer<'a>,
    /// `√H_jj` of each column.
    scale: Vec<f64>,
    /// The scaled weight, columns × rows.
    weight: Mat<f64>,
    /// H·W, columns × rows.
    target: Mat<f64>,
    /// H = QΛQᵀ.
    vectors: Mat<f64>,
    values: Vec<f64>,
}

impl<'a> Problem<'a> {
    fn new(layer: &'a Layer<'a>, damping: f64) -> Result<Self, CriterionError> {
        let hessian = Hessian::new(layer, damping)?;
        let (rows, cols) = layer.matrix();
        let scale: Vec<f64> = (0..cols).map(|j| hessian.get(j, j).sqrt()).collect();
        let matrix = Mat::from_fn(cols, cols, |i, j| hessian.get(i, j) / (scale[i] * scale[j]));
        let flat = layer.values()?;
        let weight = Mat::from_fn(cols, rows, |col, row| match hessian.is_dead(col) {
            true => 0.0,
            false => flat[row * cols + col] * scale[col],
        });
        let target = &matrix * &weight;
        let eigen =
            matrix.self_adjoint_eigen(Side::Lower).map_err(|_| hessian.not_positive_definite())?;
        let values = (0..cols).map(|i| eigen.S().column_vector()[i]).collect();
        Ok(Self { layer, scale, weight, target, vectors: eigen.U().to_owned(), values })
    }

    /// `(H + ρI)⁻¹ (HW − V + ρD)`: the weight that fits the outputs, pulled towards D.
    fn fit(&self, dual: &Mat<f64>, sparse: &Mat<f64>, rho: f64) -> Mat<f64> {
        let right = &self.target - dual + sparse * Scale(rho);
        let mut turned = self.vectors.transpose() * right;
        for mut column in turned.col_iter_mut() {
            for (i, value) in self.values.iter().enumerate() {
                column[i] /= value + rho;
            }
        }
        &self.vectors * turned
    }

    /// Cuts `weight` to the pattern, keeping the largest, and returns what is kept.
    fn project(
        &self,
        weight: &mut Mat<f64>,
        pattern: Pattern,
        amount: Sparsity,
    ) -> Result<Mask, CriterionError> {
        let (rows, cols) = self.layer.matrix();
        let mut scores = Vec::with_capacity(rows * cols);
        for row in 0..rows {
            for col in 0..cols {
                let before = self.layer.mask().and_then(|mask| mask.get(row * cols + col));
                scores.push(match before {
                    Some(false) => f32::NEG_INFINITY,
                    _ => weight[(col, row)].powi(2) as f32,
                });
            }
        }
        let at = CriterionError::at(self.layer.name());
        let scores = Scores::new(scores, self.layer.weight().dims()).map_err(&at)?;
        let mask = pattern.select(scores, amount).map_err(at)?;
        for (index, _) in mask.iter().enumerate().filter(|(_, kept)| !kept) {
            weight[(index % cols, index / cols)] = 0.0;
        }
        Ok(mask)
    }
}
