//! How much is each weight worth? The scores that look at one weight at a time.
//!
//! A weight is a matrix outputs × inputs, activations are a matrix tokens × inputs. Scores come
//! flattened, row-major; the higher is kept.

use super::{Matrix, flat};

/// |w| (Han et al. 2015).
pub fn magnitude(w: &Matrix) -> Vec<f64> {
    flat(w).iter().map(|w| w.abs()).collect()
}

/// Σ|w| of a filter, neuron or block (Li et al. 2017).
pub fn l1(entries: &[f64]) -> f64 {
    entries.iter().map(|w| w.abs()).sum()
}

/// √Σw² of a filter, neuron or block.
pub fn l2(entries: &[f64]) -> f64 {
    entries.iter().map(|w| w * w).sum::<f64>().sqrt()
}

/// ‖X_j‖₂ of every input.
fn norms(x: &Matrix) -> Vec<f64> {
    let mut norms = vec![0.0; x[0].len()];
    for j in 0..norms.len() {
        for token in x {
            norms[j] += token[j] * token[j];
        }
        norms[j] = f64::sqrt(norms[j]);
    }
    norms
}

/// |W_ij|·‖X_j‖₂ (Sun et al. 2023).
pub fn wanda(w: &Matrix, x: &Matrix) -> Vec<f64> {
    let norms = norms(x);
    let mut scores = vec![];
    for i in 0..w.len() {
        for j in 0..w[i].len() {
            scores.push(w[i][j].abs() * norms[j]);
        }
    }
    scores
}

/// (|W_ij| / Σ_i|W_ij| + |W_ij| / Σ_j|W_ij|)·‖X_j‖₂^½ (Zhang et al. 2024); what is zero in a row or
/// column of zeros is worth nothing.
pub fn ria(w: &Matrix, x: &Matrix) -> Vec<f64> {
    let norms = norms(x);
    let mut scores = vec![];
    for i in 0..w.len() {
        for j in 0..w[i].len() {
            let size = w[i][j].abs();
            let row: f64 = (0..w[i].len()).map(|k| w[i][k].abs()).sum();
            let column: f64 = (0..w.len()).map(|k| w[k][j].abs()).sum();
            let importance = if size == 0.0 { 0.0 } else { size / column + size / row };
            scores.push(importance * norms[j].sqrt());
        }
    }
    scores
}

/// |g ⊙ w| / Σ|g ⊙ w|, the sum over all layers (Lee et al. 2019).
pub fn snip(layers: &[(Matrix, Matrix)]) -> Vec<Vec<f64>> {
    let products: Vec<Vec<f64>> = layers.iter().map(|(w, g)| taylor(w, g)).collect();
    let total: f64 = products.concat().iter().sum();
    products.iter().map(|layer| layer.iter().map(|score| score / total).collect()).collect()
}

/// |w·g| (Molchanov et al. 2019).
pub fn taylor(w: &Matrix, g: &Matrix) -> Vec<f64> {
    flat(w).iter().zip(flat(g)).map(|(w, g)| (w * g).abs()).collect()
}

/// S = −Σ lr·w·g over the steps `(w, g, lr)` of a training (Sanh et al. 2020).
pub fn movement(steps: &[(Matrix, Matrix, f64)]) -> Vec<f64> {
    let mut sums = vec![0.0; flat(&steps[0].0).len()];
    for (w, g, lr) in steps {
        let (w, g) = (flat(w), flat(g));
        for i in 0..sums.len() {
            sums[i] -= lr * w[i] * g[i];
        }
    }
    sums
}

/// θ ⊙ Hg: the paper removes where −θ ⊙ Hg is largest (Wang et al. 2020).
pub fn grasp(theta: &[f64], hessian_gradient: &[f64]) -> Vec<f64> {
    theta.iter().zip(hessian_gradient).map(|(theta, hg)| theta * hg).collect()
}
