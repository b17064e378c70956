//! What are gradient and Hessian of a loss that can be differentiated by hand?
//!
//! Softmax regression, and any quadratic form.

use super::Matrix;

/// Softmax regression: outputs × inputs weights, tokens × inputs samples, a class for each, logits
/// divided by a temperature, the mean of the cross-entropies.
pub struct Softmax {
    /// Samples × inputs.
    pub x: Matrix,
    /// The class of each sample.
    pub classes: Vec<usize>,
    /// What logits are divided by.
    pub temperature: f64,
}

impl Softmax {
    fn probabilities(&self, w: &Matrix, x: &[f64]) -> Vec<f64> {
        let mut e = vec![];
        for row in w {
            let logit: f64 = row.iter().zip(x).map(|(w, x)| w * x).sum();
            e.push((logit / self.temperature).exp());
        }
        let total: f64 = e.iter().sum();
        e.iter().map(|e| e / total).collect()
    }

    /// −(1/n) Σ log p(class).
    pub fn loss(&self, w: &Matrix) -> f64 {
        let logs = self.x.iter().zip(&self.classes).map(|(x, &c)| self.probabilities(w, x)[c].ln());
        -logs.sum::<f64>() / self.x.len() as f64
    }

    /// (1/nT) Σ (p − y)·xᵀ.
    pub fn gradient(&self, w: &Matrix) -> Matrix {
        let mut g = super::zeros(w.len(), w[0].len());
        let scale = self.x.len() as f64 * self.temperature;
        for (x, &class) in self.x.iter().zip(&self.classes) {
            let p = self.probabilities(w, x);
            for i in 0..w.len() {
                let y = if i == class { 1.0 } else { 0.0 };
                for j in 0..x.len() {
                    g[i][j] += (p[i] - y) * x[j] / scale;
                }
            }
        }
        g
    }

    /// The Hessian at W times V: (1/nT²) Σ (diag(p) − p·pᵀ)·(V·x)·xᵀ.
    pub fn hessian_times(&self, w: &Matrix, v: &Matrix) -> Matrix {
        let mut out = super::zeros(w.len(), w[0].len());
        let scale = self.x.len() as f64 * self.temperature * self.temperature;
        for x in &self.x {
            let p = self.probabilities(w, x);
            let vx: Vec<f64> =
                v.iter().map(|row| row.iter().zip(x).map(|(v, x)| v * x).sum()).collect();
            let mean: f64 = p.iter().zip(&vx).map(|(p, vx)| p * vx).sum();
            for i in 0..w.len() {
                for j in 0..x.len() {
                    out[i][j] += p[i] * (vx[i] - mean) * x[j] / scale;
                }
            }
        }
        out
    }
}

/// A·v: the gradient of ½vᵀAv at v for symmetric A, and A is its Hessian.
pub fn times(a: &Matrix, v: &[f64]) -> Vec<f64> {
    a.iter().map(|row| row.iter().zip(v).map(|(a, v)| a * v).sum()).collect()
}
