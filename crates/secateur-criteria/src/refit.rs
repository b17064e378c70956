//! What should the survivors be? The least-squares solution on the support that a criterion chose.

use crate::{
    Criterion, CriterionError, Cut, Gram, Layer, Needs,
    hessian::{DAMPING, Hessian, cholesky},
};
use candle_core::{DType, Tensor};
use faer::{
    Mat, Par,
    linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place},
    prelude::*,
};
use rayon::prelude::*;
use secateur_mask::{Mask, Pattern, Sparsity};
use std::collections::BTreeMap;

/// Any criterion, followed by the exact solution of each row's least-squares problem on what is
/// kept: `w_S = H_SS⁻¹ (H w)_S`, with w the row before pruning and H the damped Gram matrix.
///
/// No other values on the same mask give a smaller `‖X(w − ŵ)‖² + λ‖w − ŵ‖²`. Costs one Cholesky
/// factorisation of the survivors' size per row (rows with the same support share one).
///
/// ```
/// use secateur_criteria::{Criterion, Magnitude, Refit};
/// assert_eq!(Refit::new(Magnitude).name(), "magnitude+refit");
/// ```
#[derive(Debug, Clone)]
pub struct Refit<C> {
    criterion: C,
    name: String,
    damping: f64,
}

impl<C: Criterion> Refit<C> {
    /// Refits what `criterion` keeps; λ is 0.01 of the mean diagonal.
    pub fn new(criterion: C) -> Self {
        let name = format!("{}+refit", criterion.name());
        Self { criterion, name, damping: DAMPING }
    }
}

impl<C: Criterion> Criterion for Refit<C> {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs(&self) -> Needs {
        self.criterion.needs().or(Needs::GRAM)
    }

    fn steps(&self) -> usize {
        self.criterion.steps()
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        self.criterion.score(layer)
    }

    fn prune(
        &self,
        layer: &Layer<'_>,
        pattern: Pattern,
        amount: Sparsity,
    ) -> Result<Cut, CriterionError> {
        let Cut { mask, .. } = self.criterion.prune(layer, pattern, amount)?;
        let weight = self.finish(layer, &mask)?;
        Ok(Cut { mask, weight })
    }

    fn finish(&self, layer: &Layer<'_>, mask: &Mask) -> Result<Option<Tensor>, CriterionError> {
        refit(layer, mask, self.damping).map(Some)
    }
}

/// The least-squares solution of every row of `layer` on what `mask` keeps.
fn refit(layer: &Layer<'_>, mask: &Mask, damping: f64) -> Result<Tensor, CriterionError> {
    let (rows, cols) = layer.matrix();
    let hessian = Hessian::new(layer, damping)?;
    let values = layer.values()?;
    let matrix = hessian.matrix();
    // Column r is H times row r of the weight.
    let targets = &matrix * MatRef::from_row_major_slice(&values, rows, cols).transpose();

    let mut supports: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
    for row in 0..rows {
        let kept = (0..cols).filter(|col| mask.get(row * cols + col) == Some(true));
        supports.entry(kept.collect()).or_default().push(row);
    }
    let solve = |(support, rows): (&Vec<usize>, &Vec<usize>), par: Par| {
        let size = support.len();
        let mut factor = Mat::from_fn(size, size, |i, j| matrix[(support[i], support[j])]);
        cholesky(factor.as_mut(), par).map_err(|()| hessian.not_positive_definite())?;
        let mut solution =
            Mat::from_fn(size, rows.len(), |i, place| targets[(support[i], rows[place])]);
        solve_lower_triangular_in_place(factor.as_ref(), solution.as_mut(), par);
        solve_upper_triangular_in_place(factor.transpose(), solution.as_mut(), par);
        Ok(solution)
    };
    // Many small systems are shared out whole; a few large ones are each solved by all threads.
    let solutions: Result<Vec<Mat<f64>>, CriterionError> =
        match supports.len() >= 2 * rayon::current_num_threads() {
            true => supports.par_iter().map(|system| solve(system, Par::Seq)).collect(),
            false => supports.iter().map(|s| solve(s, faer::get_global_parallelism())).collect(),
        };
    let mut refitted = vec![0.0; rows * cols];
    for ((support, rows), solution) in supports.iter().zip(solutions?) {
        for (place, row) in rows.iter().enumerate() {
            for (i, col) in support.iter().enumerate() {
                refitted[row * cols + col] = solution[(i, place)];
            }
        }
    }
    layer.tensor(refitted)
}

/// `‖XWᵀ − XŴᵀ‖²`, the squared error of a layer's outputs over the tokens that `gram` saw.
///
/// `before` and `after` are weights of one shape, with as many columns as the Gram matrix has
/// features.
pub fn output_error(gram: &Gram, before: &Tensor, after: &Tensor) -> Result<f64, CriterionError> {
    let difference = (before.to_dtype(DType::F64)? - after.to_dtype(DType::F64)?)?;
    let features = gram.features();
    let values = difference.flatten_all()?.to_vec1::<f64>()?;
    if features == 0 || values.len() % features != 0 {
        let (found, expected) = (before.dims().to_vec(), features);
        return Err(CriterionError::Features { found, expected });
    }
    let rows = MatRef::from_row_major_slice(&values, values.len() / features, features);
    let matrix = Mat::from_fn(features, features, |i, j| gram.get(i, j));
    let product = rows * matrix;
    let error = (0..rows.nrows())
        .map(|row| (0..features).map(|col| product[(row, col)] * rows[(row, col)]).sum::<f64>());
    Ok(error.sum())
}
