//! Is SynFlow what its paper defines? Paths on tiny networks, the hundred steps on a larger one.

use crate::{
    close,
    reference::{Matrix, data::Numbers, flat, flow, zeros},
    tensor, values,
};
use candle_core::Tensor;
use secateur_criteria::{
    Criterion, CriterionError, Global, Layer, Statistics, SynFlow, prune_in_steps,
    synflow::chain_flow,
};
use secateur_mask::{Pattern, Sparsity};
use std::collections::BTreeMap;

const NAMES: [&str; 4] = ["1", "2", "3", "4"];

fn chain(numbers: &mut Numbers, widths: &[usize]) -> Vec<Matrix> {
    widths.windows(2).map(|pair| numbers.matrix(pair[1], pair[0])).collect()
}

fn observe(weights: &[&Tensor]) -> Result<Vec<Statistics>, CriterionError> {
    let flows = chain_flow(weights)?;
    let statistics = |flow| Statistics { gradient: Some(flow), ..Statistics::default() };
    Ok(flows.into_iter().map(statistics).collect())
}

/// The crate's scores of each layer, divided by R.
fn scores(layers: &[Matrix]) -> Vec<Vec<f64>> {
    let weights: Vec<Tensor> = layers.iter().map(tensor).collect();
    let statistics = observe(&weights.iter().collect::<Vec<_>>()).unwrap();
    let scores = weights.iter().zip(&statistics).map(|(weight, statistics)| {
        let layer = Layer::new("layer", weight).with_statistics(Some(statistics));
        values(&SynFlow::default().score(&layer).unwrap())
    });
    let scores: Vec<Vec<f64>> = scores.collect();
    // The score of a layer's weights sum to R, in every layer (theorem 1); its scale is free.
    let total: f64 = scores[0].iter().sum();
    scores.into_iter().map(|layer| layer.into_iter().map(|score| score / total).collect()).collect()
}

fn relative(scores: &[Matrix]) -> Vec<Vec<f64>> {
    let total: f64 = flat(&scores[0]).iter().sum();
    scores.iter().map(|layer| flat(layer).iter().map(|score| score / total).collect()).collect()
}

#[test]
fn a_score_is_the_sum_over_paths() {
    for (seed, widths) in
        (0..).zip([vec![2, 3], vec![3, 4, 2], vec![2, 5, 3, 4], vec![3, 2, 4, 3, 1]])
    {
        let layers = chain(&mut Numbers::new(seed, "paths"), &widths);
        let expected = relative(&flow::by_paths(&layers));
        let by_flow = relative(&flow::scores(&layers));
        for (layer, found) in scores(&layers).iter().enumerate() {
            close("paths", &by_flow[layer], &expected[layer], 1e-12);
            close("flow", found, &expected[layer], 1e-6);
        }
    }
}

/// ∂R/∂|θ| times |θ| by finite differences of R itself.
#[test]
fn a_score_is_the_derivative_of_the_flow() {
    let layers = chain(&mut Numbers::new(5, "differences"), &[4, 6, 3]);
    let r = |layers: &[Matrix]| {
        let mut out = vec![1.0; 4];
        for w in layers {
            out =
                w.iter().map(|row| row.iter().zip(&out).map(|(w, x)| w.abs() * x).sum()).collect();
        }
        out.iter().sum::<f64>()
    };
    let mut expected: Vec<Matrix> = layers.iter().map(|w| zeros(w.len(), w[0].len())).collect();
    for l in 0..2 {
        for i in 0..layers[l].len() {
            for j in 0..layers[l][i].len() {
                let at = |factor: f64| {
                    let mut layers = layers.clone();
                    layers[l][i][j] *= factor;
                    r(&layers)
                };
                expected[l][i][j] = (at(1.001) - at(0.999)) / 0.002;
            }
        }
    }
    for (found, expected) in scores(&layers).iter().zip(relative(&expected)) {
        close("dR", found, &expected, 1e-6);
    }
}

#[test]
fn a_hundred_steps_end_at_the_same_masks() {
    for (seed, density) in [(0, 0.5), (1, 0.1), (2, 0.02)] {
        let layers = chain(&mut Numbers::new(seed, "schedule"), &[20, 24, 16, 6]);
        let expected = flow::prune(&layers, density, 100);

        let weights: BTreeMap<String, Tensor> =
            NAMES.iter().zip(&layers).map(|(name, w)| (name.to_string(), tensor(w))).collect();
        let mut looks = 0;
        let cuts = prune_in_steps(
            &weights,
            &BTreeMap::new(),
            &SynFlow::default(),
            (Pattern::Unstructured, Sparsity::new(1.0 - density).unwrap()),
            &Global,
            |weights| {
                looks += 1;
                let statistics = observe(&weights.values().collect::<Vec<_>>())?;
                Ok::<_, CriterionError>(weights.keys().cloned().zip(statistics).collect())
            },
        );
        let found: Vec<Vec<bool>> = cuts.unwrap().values().map(|cut| cut.mask.to_bools()).collect();
        assert_eq!(looks, 100);
        for (layer, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let differ = (0..found.len()).filter(|&i| found[i] != expected[i]).count();
            assert_eq!(differ, 0, "density {density}, layer {layer}");
            assert!(found.contains(&true), "layer {layer} collapsed at density {density}");
        }
    }
}

/// The paths of forty wide layers with large weights add up to more than f64 holds. Scores are
/// relative, so they are those of the same layers with small weights.
#[test]
fn deep_networks_do_not_overflow() {
    let layers = chain(&mut Numbers::new(0, "deep"), &[16; 41]);
    let mut large = layers.clone();
    large.iter_mut().flatten().flatten().for_each(|w| *w *= 1e8);
    for (found, expected) in scores(&large).iter().zip(relative(&flow::scores(&layers))) {
        close("deep", found, &expected, 1e-5);
    }
}
