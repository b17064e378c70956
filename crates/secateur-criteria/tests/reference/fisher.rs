//! What does a weight cost, and who makes up for it? Optimal brain surgery with the Fisher matrix.
//!
//! F = λI + (1/m) Σ g·gᵀ over the gradients of m samples, in blocks of consecutive weights along its
//! diagonal (Hassibi & Stork 1993; Singh & Alistarh 2020; Kurtic et al. 2022).

use super::{Matrix, inverse, part, zeros};

/// λ.
pub const DAMPING: f64 = 1e-7;
/// Weights of a block.
pub const BLOCK: usize = 50;

/// The blocks of weights: the places of each.
pub fn blocks(len: usize) -> Vec<Vec<usize>> {
    let places: Vec<usize> = (0..len).collect();
    places.chunks(BLOCK).map(<[usize]>::to_vec).collect()
}

/// F over the weights at `places`.
pub fn matrix(gradients: &Matrix, places: &[usize]) -> Matrix {
    let n = places.len();
    let mut f = zeros(n, n);
    for i in 0..n {
        for j in 0..n {
            for g in gradients {
                f[i][j] += g[places[i]] * g[places[j]] / gradients.len() as f64;
            }
        }
        f[i][i] += DAMPING;
    }
    f
}

/// w_q² / (2·[F⁻¹]_qq) of every weight.
pub fn scores(w: &[f64], gradients: &Matrix) -> Vec<f64> {
    let mut scores = vec![];
    for places in blocks(w.len()) {
        let inverse = inverse(&matrix(gradients, &places));
        for (q, &place) in places.iter().enumerate() {
            scores.push(w[place] * w[place] / (2.0 * inverse[q][q]));
        }
    }
    scores
}

/// Cuts one weight: w −= w_q·F⁻¹e_q / [F⁻¹]_qq.
pub fn cut_one(w: &mut [f64], inverse: &Matrix, q: usize) {
    let step = w[q] / inverse[q][q];
    for i in 0..w.len() {
        w[i] -= step * inverse[i][q];
    }
    w[q] = 0.0;
}

/// Cuts what `kept` does not keep, one weight after the other, in each block. After every cut F is
/// inverted anew over what is left.
pub fn cut_one_by_one(w: &[f64], gradients: &Matrix, kept: &[bool]) -> Vec<f64> {
    let mut out = w.to_vec();
    for places in blocks(w.len()) {
        let f = matrix(gradients, &places);
        let mut left: Vec<usize> = (0..places.len()).collect();
        for q in 0..places.len() {
            if kept[places[q]] {
                continue;
            }
            let inverse = inverse(&part(&f, &left));
            let mut values: Vec<f64> = left.iter().map(|&i| out[places[i]]).collect();
            let at = left.iter().position(|&i| i == q).unwrap();
            cut_one(&mut values, &inverse, at);
            for (&i, value) in left.iter().zip(values) {
                out[places[i]] = value;
            }
            left.remove(at);
        }
    }
    out
}
