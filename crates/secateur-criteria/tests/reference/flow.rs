//! How strong are the paths through a weight? SynFlow by its definition (Tanaka et al. 2020).
//!
//! R = 1ᵀ·|W_L|·…·|W_1|·1 for a chain of fully connected layers, each outputs × inputs. The score of
//! a weight is |∂R/∂θ ⊙ θ|: the sum, over all paths from an input to an output that run through the
//! weight, of the product of the magnitudes on the path.

use super::{Matrix, flat, zeros};

/// The scores by walking every path: for tiny networks.
pub fn by_paths(layers: &[Matrix]) -> Vec<Matrix> {
    let mut scores: Vec<Matrix> = layers.iter().map(|w| zeros(w.len(), w[0].len())).collect();
    for input in 0..layers[0][0].len() {
        walk(layers, &mut vec![input], 1.0, &mut scores);
    }
    scores
}

fn walk(layers: &[Matrix], path: &mut Vec<usize>, strength: f64, scores: &mut [Matrix]) {
    let depth = path.len() - 1;
    let at = path[depth];
    if depth == layers.len() {
        for layer in 0..depth {
            scores[layer][path[layer + 1]][path[layer]] += strength;
        }
        return;
    }
    for next in 0..layers[depth].len() {
        path.push(next);
        walk(layers, path, strength * layers[depth][next][at].abs(), scores);
        path.pop();
    }
}

/// The scores by what flows into and out of each weight: (|W_{l−1}|·…·1)_j·|W_ij|·(1ᵀ·…·|W_{l+1}|)_i.
pub fn scores(layers: &[Matrix]) -> Vec<Matrix> {
    let mut inflow = vec![vec![1.0; layers[0][0].len()]];
    for w in layers {
        let before = inflow[inflow.len() - 1].clone();
        let mut after = vec![0.0; w.len()];
        for i in 0..w.len() {
            for j in 0..before.len() {
                after[i] += w[i][j].abs() * before[j];
            }
        }
        inflow.push(after);
    }
    let mut outflow = vec![1.0; layers[layers.len() - 1].len()];
    let mut scores = vec![];
    for (w, inflow) in layers.iter().zip(&inflow).rev() {
        let mut score = zeros(w.len(), w[0].len());
        let mut before = vec![0.0; w[0].len()];
        for i in 0..w.len() {
            for j in 0..w[0].len() {
                score[i][j] = inflow[j] * w[i][j].abs() * outflow[i];
                before[j] += w[i][j].abs() * outflow[i];
            }
        }
        outflow = before;
        scores.insert(0, score);
    }
    scores
}

/// Algorithm 1 of the paper: `steps` times score what is left and cut to density^(k/steps), over all
/// layers together. What is cut never returns; among equals the earlier stays. The bits of each layer.
pub fn prune(layers: &[Matrix], density: f64, steps: usize) -> Vec<Vec<bool>> {
    let mut layers = layers.to_vec();
    let total: usize = layers.iter().map(|w| flat(w).len()).sum();
    let mut kept = vec![true; total];
    for step in 1..=steps {
        let scores: Vec<f64> = scores(&layers).iter().flat_map(flat).collect();
        let left = density.powf(step as f64 / steps as f64);
        let keep = total - ((1.0 - left) * total as f64).round() as usize;
        let mut order: Vec<usize> = (0..total).filter(|&i| kept[i]).collect();
        order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap().then(a.cmp(&b)));
        for &cut in &order[keep..] {
            kept[cut] = false;
        }
        let mut bits = kept.iter();
        for w in &mut layers {
            for value in w.iter_mut().flatten() {
                if !bits.next().unwrap() {
                    *value = 0.0;
                }
            }
        }
    }
    let mut bits = kept.into_iter();
    layers.iter().map(|w| bits.by_ref().take(flat(w).len()).collect()).collect()
}
