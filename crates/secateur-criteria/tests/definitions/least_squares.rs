//! Is a refit the least-squares solution, does ALPS find better supports, and who beats whom?

use crate::{
    close, cut, observed,
    reference::{
        Matrix,
        data::{Numbers, rounded},
        flat,
        least_squares::{best_two_of_four, damped_error, output_error, refit},
        rows_of,
    },
    repaired, tensor,
};
use secateur_criteria::{
    Alps, Criterion, Magnitude, Random, Refit, Ria, SparseGpt, Wanda, output_error as error_by_gram,
};

fn layer(seed: u64, rows: usize, cols: usize) -> (Matrix, Matrix) {
    let mut numbers = Numbers::new(seed, "least squares");
    (numbers.matrix(rows, cols), numbers.correlated(3 * cols, cols))
}

/// What `criterion` makes of the layer, as a matrix.
fn pruned(criterion: &dyn Criterion, w: &Matrix, x: &Matrix, pattern: &str) -> Matrix {
    let weight = tensor(w);
    let cut = cut(criterion, &weight, &observed(x), pattern, 0.6);
    rows_of(&repaired(&cut, &weight), w[0].len())
}

#[test]
fn a_refit_solves_the_normal_equations_of_each_row() {
    for (seed, (rows, cols)) in (0..).zip([(6, 16), (20, 40), (9, 72)]) {
        let (w, x) = layer(seed, rows, cols);
        let (weight, statistics) = (tensor(&w), observed(&x));
        for pattern in ["2:4", "1:4", "unstructured", "unstructured-row", "channel", "block2x4"] {
            let check = |plain: &dyn Criterion, refitted: &dyn Criterion| {
                let what = format!("{} {pattern} {rows} x {cols}", refitted.name());
                let before = cut(plain, &weight, &statistics, pattern, 0.6);
                let after = cut(refitted, &weight, &statistics, pattern, 0.6);
                assert_eq!(after.mask, before.mask, "{what}");
                let expected = refit(&w, &x, &after.mask.to_bools());
                close(&what, &repaired(&after, &weight), &flat(&expected), 2e-6);
                let error = |values: Vec<f64>| damped_error(&x, &w, &rows_of(&values, cols));
                let (worse, better) =
                    (error(repaired(&before, &weight)), error(repaired(&after, &weight)));
                assert!(better <= worse * (1.0 + 1e-9), "{what}: {better} > {worse}");
            };
            check(&Magnitude, &Refit::new(Magnitude));
            check(&Wanda, &Refit::new(Wanda));
            if pattern != "block2x4" {
                check(&SparseGpt::default(), &Refit::new(SparseGpt::default()));
            }
        }
    }
}

/// Inputs that never fire say nothing about λ, however small the others are.
#[test]
fn dead_inputs_do_not_stiffen_a_refit() {
    for size in [1.0, 0.01] {
        let (w, mut x) = layer(5, 10, 24);
        for token in &mut x {
            token.iter_mut().for_each(|value| *value = rounded(*value * size));
            for j in [2, 9, 17] {
                token[j] = 0.0;
            }
        }
        let (weight, statistics) = (tensor(&w), observed(&x));
        let cut = cut(&Refit::new(Magnitude), &weight, &statistics, "2:4", 0.5);
        let mut found = repaired(&cut, &weight);
        let mut expected = flat(&refit(&w, &x, &cut.mask.to_bools()));
        // What the weights of dead inputs are is nobody's business.
        for i in (0..w.len() * 24).filter(|i| [2, 9, 17].contains(&(i % 24))) {
            (found[i], expected[i]) = (0.0, 0.0);
        }
        close(&format!("inputs of size {size}"), &found, &expected, 2e-6);
    }
}

#[test]
fn the_error_by_the_gram_matrix_is_that_of_the_outputs() {
    let (w, x) = layer(3, 10, 24);
    let (weight, gram) = (tensor(&w), observed(&x).gram.unwrap());
    for criterion in [&Magnitude as &dyn Criterion, &SparseGpt::default()] {
        let after = pruned(criterion, &w, &x, "2:4");
        let expected = output_error(&x, &w, &after);
        let found = error_by_gram(&gram, &weight, &tensor(&after)).unwrap();
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
    }
}

/// Better supports than the greedy walk over the columns, on every layer.
#[test]
fn alps_ends_nearer_than_sparsegpt() {
    for (seed, (rows, cols)) in (10..).zip([(16, 32), (24, 64), (16, 96), (8, 24)]) {
        for pattern in ["2:4", "4:8", "1:4", "unstructured", "unstructured-row"] {
            let (w, x) = layer(seed, rows, cols);
            let alps = pruned(&Refit::new(Alps::default()), &w, &x, pattern);
            let greedy = pruned(&Refit::new(SparseGpt::default()), &w, &x, pattern);
            let (alps, greedy) = (output_error(&x, &w, &alps), output_error(&x, &w, &greedy));
            assert!(alps <= greedy, "{rows} x {cols} {pattern}: {alps} > {greedy}");
        }
    }
}

/// Of the 36 supports that a row of eight has at 2:4, it finds one near the best, alone or with other
/// rows, whether inputs go together or not.
#[test]
fn alps_is_near_the_best_of_all_supports() {
    for (rows, seeds) in [(1, 40), (8, 5), (40, 5)] {
        for correlated in [true, false] {
            let (mut ratios, mut hits, count) = (0.0, 0, rows * seeds);
            for seed in 0..seeds {
                let mut numbers = Numbers::new(seed as u64, "supports");
                let w = numbers.matrix(rows, 8);
                let x = match correlated {
                    true => numbers.correlated(40, 8),
                    false => numbers.matrix(40, 8),
                };
                let found = pruned(&Refit::new(Alps::default()), &w, &x, "2:4");
                for (before, after) in w.iter().zip(found) {
                    let best = best_two_of_four(before, &x);
                    let error = damped_error(&x, &vec![before.clone()], &vec![after]);
                    assert!(error > best * (1.0 - 1e-6), "no support is better than the best");
                    ratios += error / best / count as f64;
                    hits += usize::from(error < best * (1.0 + 1e-6));
                }
            }
            let figures = format!("{rows} rows: {ratios:.4} of the least error, {hits} of {count}");
            println!("{figures}");
            assert!(ratios < 1.03 && hits * 10 >= count * 8, "{figures}");
        }
    }
}

/// A convolution is its matrix of outputs × all that is reduced over.
#[test]
fn convolutions_are_matrices() {
    let (w, x) = layer(7, 8, 36);
    let (weight, statistics) = (tensor(&w), observed(&x));
    let filters = weight.reshape((8, 4, 3, 3)).unwrap();
    for criterion in [&Alps::default() as &dyn Criterion, &Refit::new(Wanda), &Wanda, &Ria] {
        let flat = cut(criterion, &weight, &statistics, "2:4", 0.5);
        let conv = cut(criterion, &filters, &statistics, "2:4", 0.5);
        assert_eq!(conv.mask.shape(), [8, 4, 3, 3]);
        assert_eq!(conv.mask.to_bools(), flat.mask.to_bools(), "{}", criterion.name());
        assert_eq!(repaired(&conv, &filters), repaired(&flat, &weight), "{}", criterion.name());
    }
}

/// Correlated inputs at 2:4: ALPS + refit < SparseGPT + refit < SparseGPT < Wanda, RIA < magnitude <
/// random.
#[test]
fn the_order_of_the_methods() {
    for (seed, cols) in [(0, 64), (1, 96), (2, 128)] {
        let (w, x) = layer(seed + 100, 48, cols);
        let zero: Matrix = vec![vec![0.0; cols]; 48];
        let whole = output_error(&x, &w, &zero);
        let error = |criterion: &dyn Criterion| {
            output_error(&x, &w, &pruned(criterion, &w, &x, "2:4")) / whole
        };
        let alps = error(&Refit::new(Alps::default()));
        let refitted = error(&Refit::new(SparseGpt::default()));
        let sparsegpt = error(&SparseGpt::default());
        let (wanda, ria) = (error(&Wanda), error(&Ria));
        let (magnitude, random) = (error(&Magnitude), error(&Random { seed }));
        let figures = format!(
            "48 x {cols}: alps+refit {alps:.4}, sparsegpt+refit {refitted:.4}, sparsegpt \
             {sparsegpt:.4}, wanda {wanda:.4}, ria {ria:.4}, magnitude {magnitude:.4}, random \
             {random:.4}"
        );
        println!("{figures}");
        assert!(alps < refitted && refitted < sparsegpt, "{figures}");
        assert!(sparsegpt < wanda.min(ria), "{figures}");
        assert!(wanda.max(ria) < magnitude && magnitude < random, "{figures}");
    }
}
