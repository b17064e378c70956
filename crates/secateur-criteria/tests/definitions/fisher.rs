//! Is optimal brain surgery what its papers define? Costs and updates against inverted matrices.

use crate::{
    agrees, close, cut,
    reference::{Matrix, choose, data::Numbers, fisher, flat, inverse, product, rows_of},
    repaired, tensor, values,
};
use candle_core::{Device, Tensor};
use secateur_criteria::{Criterion, Fisher, Layer, Obs, Statistics};

/// Shapes whose entries fill whole blocks of 50, and some that do not.
const SHAPES: [(usize, usize); 3] = [(7, 16), (10, 20), (4, 8)];

/// Gradients of single samples that go together: samples × entries.
fn gradients(numbers: &mut Numbers, samples: usize, entries: usize) -> Matrix {
    let mut g = product(&numbers.matrix(samples, 30), &numbers.matrix(30, entries));
    for value in g.iter_mut().flatten() {
        *value = 0.02 * *value + 0.05 * numbers.normal();
    }
    g
}

fn observed(g: &Matrix, (rows, cols): (usize, usize)) -> Statistics {
    let mut fisher = Fisher::new(rows * cols, g.len());
    for sample in g {
        fisher.update(&Tensor::new(rows_of(sample, cols), &Device::Cpu).unwrap()).unwrap();
    }
    Statistics { fisher: Some(fisher), ..Statistics::default() }
}

fn cases() -> impl Iterator<Item = (Matrix, Matrix, Statistics)> {
    (0..6).map(|seed| {
        let shape = SHAPES[seed as usize % 3];
        let mut numbers = Numbers::new(seed, "obs");
        let w = numbers.matrix(shape.0, shape.1);
        let g = gradients(&mut numbers, 120, shape.0 * shape.1);
        let statistics = observed(&g, shape);
        (w, g, statistics)
    })
}

#[test]
fn the_cost_is_that_of_the_dense_inverse() {
    for (w, g, statistics) in cases() {
        let (weight, cols) = (tensor(&w), w[0].len());
        let scores = fisher::scores(&flat(&w), &g);
        let layer = Layer::new("layer", &weight).with_statistics(Some(&statistics));
        close("obs", &values(&Obs.score(&layer).unwrap()), &scores, 1e-6);
        for share in [0.1, 0.5, 0.9] {
            let count = (share * scores.len() as f64).round() as usize;
            let mask = cut(&Obs, &weight, &statistics, "unstructured", share).mask;
            agrees("obs", &mask, &choose::anywhere(&scores, count));
        }
        let mask = cut(&Obs, &weight, &statistics, "2:4", 0.5).mask;
        agrees("obs 2:4", &mask, &choose::n_of_m(&scores, cols, (2, 4)));
    }
}

#[test]
fn one_weight_cut_moves_its_block_along_its_column_of_the_inverse() {
    for (w, g, statistics) in cases() {
        let (weight, w) = (tensor(&w), flat(&w));
        let cut = cut(&Obs, &weight, &statistics, "unstructured", 1.0 / w.len() as f64);
        let gone: Vec<usize> = (0..w.len()).filter(|&i| cut.mask.get(i) == Some(false)).collect();
        assert_eq!(gone.len(), 1);
        let mut expected = w.clone();
        for places in fisher::blocks(w.len()) {
            if let Some(q) = places.iter().position(|&place| place == gone[0]) {
                let block = &mut expected[places[0]..=places[places.len() - 1]];
                fisher::cut_one(block, &inverse(&fisher::matrix(&g, &places)), q);
            }
        }
        close("update", &repaired(&cut, &weight), &expected, 1e-5);
        // Beyond the block nothing moves.
        let same = repaired(&cut, &weight).iter().zip(&w).filter(|(a, b)| a == b).count();
        assert!(same + fisher::BLOCK >= w.len() && same < w.len(), "{same}");
    }
}

#[test]
fn many_cut_at_once_end_where_one_by_one_ends() {
    for (w, g, statistics) in cases() {
        let weight = tensor(&w);
        for (pattern, share) in [("unstructured", 0.3), ("unstructured", 0.7), ("2:4", 0.5)] {
            let cut = cut(&Obs, &weight, &statistics, pattern, share);
            let expected = fisher::cut_one_by_one(&flat(&w), &g, &cut.mask.to_bools());
            close("updates", &repaired(&cut, &weight), &expected, 1e-4);
        }
    }
}

/// Fewer samples than a block has weights: F is near singular, and only λ keeps it from being so.
#[test]
fn few_samples_are_damped() {
    let mut numbers = Numbers::new(9, "few");
    let (w, g) = (numbers.matrix(5, 10), gradients(&mut numbers, 20, 50));
    let (weight, statistics) = (tensor(&w), observed(&g, (5, 10)));
    let scores = fisher::scores(&flat(&w), &g);
    let layer = Layer::new("layer", &weight).with_statistics(Some(&statistics));
    close("few", &values(&Obs.score(&layer).unwrap()), &scores, 1e-4);
    let mask = cut(&Obs, &weight, &statistics, "unstructured", 0.5).mask;
    agrees("few", &mask, &choose::anywhere(&scores, 25));
}

/// A convolution is its matrix of outputs × all that is reduced over.
#[test]
fn convolutions_are_matrices() {
    let mut numbers = Numbers::new(3, "obs conv");
    let (w, g) = (numbers.matrix(4, 18), gradients(&mut numbers, 100, 72));
    let statistics = observed(&g, (4, 18));
    let flat = cut(&Obs, &tensor(&w), &statistics, "2:4", 0.5);
    let filters = tensor(&w).reshape((4, 2, 3, 3)).unwrap();
    let conv = cut(&Obs, &filters, &statistics, "2:4", 0.5);
    assert_eq!(conv.mask.shape(), [4, 2, 3, 3]);
    assert_eq!(conv.mask.to_bools(), flat.mask.to_bools());
    assert_eq!(conv.weight.as_ref().unwrap().dims(), [4, 2, 3, 3]);
    assert_eq!(repaired(&conv, &filters), repaired(&flat, &tensor(&w)));
}
