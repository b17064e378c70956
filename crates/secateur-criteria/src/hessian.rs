//! What does a layer's least-squares problem look like? Its damped Hessian, and factors of it.
//!
//! For outputs Y = XWᵀ the error ‖XWᵀ − XŴᵀ‖² is quadratic in each row of W, with Hessian 2XᵀX. All
//! layer-wise methods start from here, scaled and damped as SparseGPT does (Frantar & Alistarh 2023).

use crate::{CriterionError, Layer};
use faer::{
    Mat, MatMut, MatRef, Par,
    dyn_stack::{MemBuffer, MemStack},
    linalg::{cholesky::llt::factor, triangular_inverse::invert_lower_triangular},
};

/// λ is this share of the mean of the Hessian's diagonal.
pub(crate) const DAMPING: f64 = 0.01;

/// `H = (2/n) Σ xxᵀ + λI`, over the columns of a layer. An input that was never active (a dead
/// column) gets `H_jj = 1` before the damping; its weights do not matter.
pub(crate) struct Hessian<'a> {
    layer: Layer<'a>,
    scale: f64,
    damp: f64,
}

impl<'a> Hessian<'a> {
    /// The Hessian of `layer`, λ being `damping` times the mean of the inputs' own diagonal, to which
    /// dead inputs add nothing.
    pub fn new(layer: &Layer<'a>, damping: f64) -> Result<Self, CriterionError> {
        let gram = layer.gram()?;
        let scale = 2.0 / gram.tokens() as f64;
        let mean = gram.squares().iter().sum::<f64>() * scale / gram.features().max(1) as f64;
        Ok(Self { layer: *layer, scale, damp: damping * mean })
    }

    /// The same as SparseGPT is published: the ones of dead inputs count for λ.
    pub fn of_sparsegpt(layer: &Layer<'a>, damping: f64) -> Result<Self, CriterionError> {
        let mut hessian = Self::new(layer, damping)?;
        let dead = (0..hessian.size()).filter(|&j| hessian.is_dead(j)).count();
        hessian.damp += damping * dead as f64 / hessian.size().max(1) as f64;
        Ok(hessian)
    }

    /// Columns of the layer.
    pub fn size(&self) -> usize {
        self.layer.matrix().1
    }

    /// Whether the input `j` was never active.
    pub fn is_dead(&self, j: usize) -> bool {
        self.layer.gram().is_ok_and(|gram| gram.get(j, j) == 0.0)
    }

    /// The entry in row `i` and column `j`.
    pub fn get(&self, i: usize, j: usize) -> f64 {
        let entry = self.layer.gram().map_or(0.0, |gram| gram.get(i, j) * self.scale);
        match i == j {
            true if entry == 0.0 => 1.0 + self.damp,
            true => entry + self.damp,
            false => entry,
        }
    }

    /// The whole matrix.
    pub fn matrix(&self) -> Mat<f64> {
        Mat::from_fn(self.size(), self.size(), |i, j| self.get(i, j))
    }

    /// The upper triangular U with `H⁻¹ = UᵀU`.
    pub fn inverse_factor(&self) -> Result<InverseFactor, CriterionError> {
        // With P reversing all rows and columns, PHP = LLᵀ gives H = (PLP)(PLP)ᵀ with PLP upper
        // triangular, so U = (PLP)⁻¹ = P L⁻¹ P: one factorisation, no inverse of H.
        let size = self.size();
        let last = size.saturating_sub(1);
        let mut lower =
            Mat::from_fn(
                size,
                size,
                |i, j| {
                    if i >= j { self.get(last - i, last - j) } else { 0.0 }
                },
            );
        let par = faer::get_global_parallelism();
        cholesky(lower.as_mut(), par).map_err(|()| self.not_positive_definite())?;
        let mut inverse = Mat::zeros(size, size);
        invert_lower_triangular(inverse.as_mut(), lower.as_ref(), par);
        Ok(InverseFactor { reversed: inverse })
    }

    /// The error for a Hessian that cannot be factored.
    pub fn not_positive_definite(&self) -> CriterionError {
        CriterionError::NotPositiveDefinite { layer: self.layer.name().to_owned() }
    }
}

/// The Cholesky factor U of an inverse Hessian, `H⁻¹ = UᵀU`.
pub(crate) struct InverseFactor {
    /// U with its rows and columns in reverse order: lower triangular.
    reversed: Mat<f64>,
}

impl InverseFactor {
    /// U, upper triangular; what is below the diagonal is zero.
    pub fn upper(&self) -> MatRef<'_, f64> {
        self.reversed.as_ref().reverse_rows_and_cols()
    }

    /// `U_jj`.
    pub fn diagonal(&self, j: usize) -> f64 {
        self.upper()[(j, j)]
    }
}

/// Replaces the lower triangle of a symmetric matrix by its Cholesky factor.
pub(crate) fn cholesky(matrix: MatMut<'_, f64>, par: Par) -> Result<(), ()> {
    let size = matrix.nrows();
    let scratch = factor::cholesky_in_place_scratch::<f64>(size, par, Default::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    factor::cholesky_in_place(matrix, Default::default(), par, stack, Default::default())
        .map(drop)
        .map_err(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gram, Statistics};
    use candle_core::{DType, Device, Tensor};

    /// H · UᵀU = I, a dead input included.
    #[test]
    fn the_factor_is_that_of_the_inverse() {
        let size = 5;
        let x: Vec<f32> = (0..40 * size)
            .map(|i| if i % size == 3 { 0.0 } else { ((i * i) as f32 * 0.37).sin() })
            .collect();
        let mut gram = Gram::new(size);
        gram.update(&Tensor::from_vec(x, (40, size), &Device::Cpu).unwrap()).unwrap();
        let statistics = Statistics { gram: Some(gram), ..Statistics::default() };
        let weight = Tensor::zeros((2, size), DType::F32, &Device::Cpu).unwrap();
        let layer = Layer::new("w", &weight).with_statistics(Some(&statistics));
        let hessian = Hessian::new(&layer, DAMPING).unwrap();
        assert!(hessian.is_dead(3) && !hessian.is_dead(2));
        let factor = hessian.inverse_factor().unwrap();
        let u = factor.upper();
        let product = hessian.matrix() * u.transpose() * u;
        for i in 0..size {
            for j in 0..size {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((product[(i, j)] - expected).abs() < 1e-10);
                assert!(i <= j || u[(i, j)] == 0.0);
            }
        }
    }
}
