//! Are Wanda and RIA what their papers define? Weights and the norms of what they meet.

use crate::{
    agrees, cut, observed,
    reference::{
        Matrix, choose,
        data::Numbers,
        scores::{ria, wanda},
    },
    tensor, values,
};
use secateur_criteria::{Criterion, Layer, Ria, Statistics, Wanda};

const SHAPES: [(usize, usize); 3] = [(8, 16), (24, 32), (20, 72)];

fn layers() -> impl Iterator<Item = (Matrix, Matrix)> {
    (0..6).map(|seed| {
        let (rows, cols) = SHAPES[seed as usize % 3];
        let mut numbers = Numbers::new(seed, "inputs");
        (numbers.matrix(rows, cols), numbers.correlated(45, cols))
    })
}

/// From norms and from a Gram matrix alike.
fn each_statistic(x: &Matrix) -> [Statistics; 2] {
    let all = observed(x);
    [Statistics { gram: None, ..all.clone() }, Statistics { input_norms: None, ..all }]
}

#[test]
fn wanda_compares_within_each_row() {
    for (w, x) in layers() {
        let (scores, cols) = (wanda(&w, &x), w[0].len());
        for statistics in each_statistic(&x) {
            let mask = |pattern: &str, share: f64| {
                cut(&Wanda, &tensor(&w), &statistics, pattern, share).mask
            };
            for (n, m) in [(2, 4), (4, 8)] {
                let choice = choose::n_of_m(&scores, cols, (n, m));
                agrees("wanda n:m", &mask(&format!("{n}:{m}"), 0.0), &choice);
            }
            for share in [0.25, 0.5, 0.8] {
                let count = (share * cols as f64).round() as usize;
                let choice = choose::in_each_row(&scores, cols, count);
                agrees("wanda", &mask("unstructured", share), &choice);
                agrees("wanda", &mask("unstructured-row", share), &choice);
            }
        }
    }
}

#[test]
fn ria_is_relative_to_row_and_column() {
    for (w, x) in layers() {
        let (scores, cols) = (ria(&w, &x), w[0].len());
        for statistics in each_statistic(&x) {
            let mask = |pattern: &str, share: f64| {
                cut(&Ria, &tensor(&w), &statistics, pattern, share).mask
            };
            for (n, m) in [(2, 4), (4, 8)] {
                let choice = choose::n_of_m(&scores, cols, (n, m));
                agrees("ria n:m", &mask(&format!("{n}:{m}"), 0.0), &choice);
            }
            for share in [0.25, 0.5, 0.8] {
                let count = (share * scores.len() as f64).round() as usize;
                let choice = choose::anywhere(&scores, count);
                agrees("ria", &mask("unstructured", share), &choice);
                let count = (share * cols as f64).round() as usize;
                let choice = choose::in_each_row(&scores, cols, count);
                agrees("ria by row", &mask("unstructured-row", share), &choice);
            }
        }
    }
}

/// The scores themselves, up to the factor that averaging over tokens would be.
#[test]
fn scores_are_those_of_the_papers() {
    for (w, x) in layers() {
        let (weight, statistics) = (tensor(&w), observed(&x));
        let layer = Layer::new("layer", &weight).with_statistics(Some(&statistics));
        let relative = |scores: Vec<f64>| {
            let total: f64 = scores.iter().sum();
            scores.iter().map(|score| score / total).collect::<Vec<_>>()
        };
        let found = relative(values(&Wanda.score(&layer).unwrap()));
        crate::close("wanda", &found, &relative(wanda(&w, &x)), 1e-6);
        let found = relative(values(&Ria.score(&layer).unwrap()));
        crate::close("ria", &found, &relative(ria(&w, &x)), 1e-6);
    }
}

/// Rows and columns of zeros, and inputs that never fire, divide nothing by zero.
#[test]
fn nothing_is_worth_nothing() {
    let mut numbers = Numbers::new(1, "zeros");
    let (mut w, mut x) = (numbers.matrix(6, 8), numbers.correlated(30, 8));
    w[2] = vec![0.0; 8];
    w.iter_mut().for_each(|row| row[5] = 0.0);
    x.iter_mut().for_each(|token| token[1] = 0.0);
    let (weight, statistics) = (tensor(&w), observed(&x));
    let layer = Layer::new("layer", &weight).with_statistics(Some(&statistics));
    for (criterion, expected) in [(&Wanda as &dyn Criterion, wanda(&w, &x)), (&Ria, ria(&w, &x))] {
        let found = values(&criterion.score(&layer).unwrap());
        crate::close(criterion.name(), &found, &expected, 1e-6);
        for (i, score) in found.iter().enumerate() {
            let nothing = i / 8 == 2 || i % 8 == 5 || i % 8 == 1;
            assert_eq!(*score == 0.0, nothing, "{} {i}: {score}", criterion.name());
        }
    }
}
