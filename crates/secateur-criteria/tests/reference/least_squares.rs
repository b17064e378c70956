//! How far are the outputs off, and how near can a support come? Least squares, row by row.

use super::{Matrix, part, product, solve, transposed, zeros};

/// Σ x·xᵀ over tokens.
pub fn gram(x: &Matrix) -> Matrix {
    product(&transposed(x), x)
}

/// λ: 0.01 of the mean diagonal of Σ x·xᵀ.
pub fn damping(gram: &Matrix) -> f64 {
    0.01 * (0..gram.len()).map(|i| gram[i][i]).sum::<f64>() / gram.len() as f64
}

/// ‖XWᵀ − XVᵀ‖², by computing the outputs.
pub fn output_error(x: &Matrix, w: &Matrix, v: &Matrix) -> f64 {
    let (a, b) = (product(x, &transposed(w)), product(x, &transposed(v)));
    let mut error = 0.0;
    for t in 0..a.len() {
        for i in 0..a[t].len() {
            error += (a[t][i] - b[t][i]) * (a[t][i] - b[t][i]);
        }
    }
    error
}

/// ‖XWᵀ − XVᵀ‖² + λ‖W − V‖²: what a refit makes least.
pub fn damped_error(x: &Matrix, w: &Matrix, v: &Matrix) -> f64 {
    let lambda = damping(&gram(x));
    let mut apart = 0.0;
    for i in 0..w.len() {
        for j in 0..w[i].len() {
            apart += (w[i][j] - v[i][j]) * (w[i][j] - v[i][j]);
        }
    }
    output_error(x, w, v) + lambda * apart
}

/// w_S = H_SS⁻¹·(H·w)_S for every row, with H = Σ x·xᵀ + λI and S what `kept` keeps of the row.
pub fn refit(w: &Matrix, x: &Matrix, kept: &[bool]) -> Matrix {
    let cols = w[0].len();
    let mut h = gram(x);
    let lambda = damping(&h);
    for i in 0..cols {
        h[i][i] += lambda;
    }
    let mut out = zeros(w.len(), cols);
    for i in 0..w.len() {
        let support: Vec<usize> = (0..cols).filter(|&j| kept[i * cols + j]).collect();
        let mut right = vec![];
        for &j in &support {
            right.push((0..cols).map(|k| h[j][k] * w[i][k]).sum());
        }
        for (&j, value) in support.iter().zip(solve(&part(&h, &support), &right)) {
            out[i][j] = value;
        }
    }
    out
}

/// The least damped error that one row can have at 2:4, over all supports, each refitted.
pub fn best_two_of_four(w: &[f64], x: &Matrix) -> f64 {
    let row = vec![w.to_vec()];
    let mut best = f64::INFINITY;
    for bits in 0..1_u32 << w.len() {
        let kept: Vec<bool> = (0..w.len()).map(|j| bits >> j & 1 == 1).collect();
        if kept.chunks(4).all(|group| group.iter().filter(|kept| **kept).count() == 2) {
            best = best.min(damped_error(x, &row, &refit(&row, x, &kept)));
        }
    }
    best
}
