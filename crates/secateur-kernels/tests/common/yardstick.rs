//! What should a product give? Sums in f64, and how far from them rounding may lead.

use super::Question;
use secateur_kernels::{Activation, reference};
use secateur_storage::Packed;

/// The f64 sums of a product, computed once for every kernel that is held against them.
pub struct Sums {
    rows: usize,
    sums: Vec<f64>,
    /// Of each sum, the magnitudes of its products: what rounding is relative to.
    sizes: Vec<f64>,
}

impl Sums {
    /// The sums of what is stored, as [`reference::product`] has them.
    pub fn of(weight: &Packed, x: &[f32], tokens: usize) -> Self {
        let (rows, cols) = weight.matrix();
        let (mut sums, mut sizes) = (vec![0.0; tokens * rows], vec![0.0; tokens * rows]);
        let entries = reference::entries(weight).unwrap();
        for (token, x) in x.chunks_exact(cols.max(1)).enumerate().take(tokens) {
            for &(row, col, value) in &entries {
                let product = f64::from(value) * f64::from(x[col]);
                sums[token * rows + row] += product;
                sizes[token * rows + row] += product.abs();
            }
        }
        Self { rows, sums, sizes }
    }

    /// The sums alone.
    pub fn sums(&self) -> &[f64] {
        &self.sums
    }

    /// Errors with the first output that is further from its sum than rounding leads, or of another
    /// kind: infinite or NaN where the sum is not, or the other way round.
    pub fn check(&self, question: &Question, y: &[f32]) -> Result<(), String> {
        assert_eq!(y.len(), self.sums.len());
        for (i, y) in y.iter().enumerate() {
            let bias = question.bias.as_ref().map_or(0.0, |bias| f64::from(bias[i % self.rows]));
            let expected = activated(question.activation, self.sums[i] + bias);
            let size = self.sizes[i] + bias.abs();
            // The GELU is nowhere steeper than 1.13, and itself within 1e-6.
            let may = match question.activation {
                Activation::Gelu => 1.2e-6 * size + 1e-6,
                _ => 1e-6 * size + f64::from(f32::MIN_POSITIVE),
            };
            let found = f64::from(*y);
            let same = if expected.is_finite() {
                (found - expected).abs() <= may
            } else {
                found == expected || (found.is_nan() && expected.is_nan())
            };
            if !same {
                let (token, row) = (i / self.rows, i % self.rows);
                return Err(format!("token {token}, row {row}: {found}, not {expected} ± {may:e}"));
            }
        }
        Ok(())
    }
}

fn activated(activation: Activation, sum: f64) -> f64 {
    match activation {
        Activation::Relu if sum < 0.0 => 0.0,
        // Its limit, where the formula has infinity times zero.
        Activation::Gelu if sum == f64::NEG_INFINITY => 0.0,
        Activation::Gelu => sum * 0.5 * (1.0 + erf(sum / std::f64::consts::SQRT_2)),
        _ => sum,
    }
}

/// erf(z) = 2/√π · e^(-z²) · Σ 2ⁿ z^(2n+1) / (2n+1)!!: all terms have one sign, so nothing cancels.
pub fn erf(z: f64) -> f64 {
    if z.abs() > 6.0 {
        return z.signum();
    }
    let (mut term, mut sum, mut n) = (z, z, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * z * z / (2.0 * n + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-z * z).exp() * sum
}
