//! What does SparseGPT keep, and what do the survivors become? Column by column, as published.
//!
//! Frantar & Alistarh 2023, algorithm 1 and the authors' code. The lazy updates of the paper are an
//! ordering of the same sums, so here every column updates all that follow it at once.

use super::{Matrix, choose::Choice, inverse, upper_cholesky, zeros};

/// What is chosen together.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// n of every m columns of a row stay.
    NOfM(usize, usize),
    /// This share of every block of 128 columns, all rows together, goes.
    Share(f64),
}

/// Columns of a block.
const BLOCK: usize = 128;

/// H = (2/n) Σ x·xᵀ, an input that is always zero gets H_jj = 1, then 0.01 of the mean diagonal is
/// added to the diagonal.
fn hessian(x: &Matrix) -> (Matrix, Vec<bool>) {
    let n = x[0].len();
    let mut h = zeros(n, n);
    for token in x {
        for i in 0..n {
            for j in 0..n {
                h[i][j] += 2.0 / x.len() as f64 * token[i] * token[j];
            }
        }
    }
    let dead: Vec<bool> = (0..n).map(|i| h[i][i] == 0.0).collect();
    for i in 0..n {
        if dead[i] {
            h[i][i] = 1.0;
        }
    }
    let mean = (0..n).map(|i| h[i][i]).sum::<f64>() / n as f64;
    for i in 0..n {
        h[i][i] += 0.01 * mean;
    }
    (h, dead)
}

/// What is kept of `w` (outputs × inputs) with inputs `x` (tokens × inputs), and the new weight.
pub fn prune(w: &Matrix, x: &Matrix, shape: Shape) -> (Choice, Matrix) {
    let (rows, cols) = (w.len(), w[0].len());
    let (h, dead) = hessian(x);
    let u = upper_cholesky(&inverse(&h));
    let mut w = w.clone();
    for row in &mut w {
        for j in 0..cols {
            if dead[j] {
                row[j] = 0.0;
            }
        }
    }
    let mut choice = Choice::of(rows * cols);
    for j in 0..cols {
        let score = |w: &Matrix, i: usize, k: usize| w[i][k] * w[i][k] / (u[k][k] * u[k][k]);
        match shape {
            Shape::NOfM(n, m) if j % m == 0 => {
                for i in 0..rows {
                    let group =
                        (j..(j + m).min(cols)).map(|k| (score(&w, i, k), vec![i * cols + k]));
                    choice.contest(&group.collect::<Vec<_>>(), n);
                }
            }
            Shape::Share(share) if j % BLOCK == 0 => {
                let mut block = vec![];
                for i in 0..rows {
                    for k in j..(j + BLOCK).min(cols) {
                        block.push((score(&w, i, k), vec![i * cols + k]));
                    }
                }
                let cut = (share * block.len() as f64).round() as usize;
                choice.contest(&block, block.len() - cut);
            }
            _ => {}
        }
        for i in 0..rows {
            let q = if choice.kept[i * cols + j] { w[i][j] } else { 0.0 };
            let err = (w[i][j] - q) / u[j][j];
            for k in j + 1..cols {
                w[i][k] -= err * u[j][k];
            }
            w[i][j] = q;
        }
    }
    (choice, w)
}
