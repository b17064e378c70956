//! Is SparseGPT what its paper defines? Masks, survivors and errors of the outputs, column by column.

use crate::{
    agrees, close, cut, observed,
    reference::{
        Matrix,
        data::Numbers,
        flat,
        least_squares::output_error,
        rows_of,
        sparsegpt::{self, Shape},
    },
    repaired, tensor,
};
use secateur_criteria::SparseGpt;

/// The last crosses the border of a block of 128 columns.
const SHAPES: [(usize, usize); 3] = [(24, 32), (40, 64), (16, 200)];
/// 1:3 and 3:6 do not divide 128, nor do they divide the rows.
const PATTERNS: [(&str, Shape); 7] = [
    ("2:4", Shape::NOfM(2, 4)),
    ("4:8", Shape::NOfM(4, 8)),
    ("1:4", Shape::NOfM(1, 4)),
    ("1:3", Shape::NOfM(1, 3)),
    ("3:6", Shape::NOfM(3, 6)),
    ("unstructured", Shape::Share(0.5)),
    ("unstructured", Shape::Share(0.7)),
];

fn check(what: &str, w: &Matrix, x: &Matrix) {
    let (weight, statistics) = (tensor(w), observed(x));
    for (pattern, shape) in PATTERNS {
        let what = format!("{what} {shape:?}");
        let (choice, expected) = sparsegpt::prune(w, x, shape);
        let share = if let Shape::Share(share) = shape { share } else { 0.0 };
        let cut = cut(&SparseGpt::default(), &weight, &statistics, pattern, share);
        agrees(&what, &cut.mask, &choice);
        let found = repaired(&cut, &weight);
        close(&what, &found, &flat(&expected), 1e-5);
        let ratio =
            output_error(x, w, &rows_of(&found, w[0].len())) / output_error(x, w, &expected);
        assert!(ratio <= 1.01, "{what}: the error is {ratio} of the reference's");
    }
}

#[test]
fn masks_and_survivors_are_the_published_ones() {
    for seed in 0..2 {
        for (rows, cols) in SHAPES {
            let mut numbers = Numbers::new(seed, "sparsegpt");
            let (w, x) = (numbers.matrix(rows, cols), numbers.correlated(2 * cols, cols));
            check(&format!("{rows} x {cols}, seed {seed}:"), &w, &x);
        }
    }
}

/// Fewer tokens than inputs: the Hessian has no inverse but for its damping.
#[test]
fn few_tokens_are_damped() {
    let mut numbers = Numbers::new(2, "few tokens");
    let (w, x) = (numbers.matrix(12, 48), numbers.correlated(24, 48));
    check("24 tokens:", &w, &x);
}

/// Inputs that never fire get H_jj = 1 and lose their weights, and then count for the damping. One in
/// a group at most: two would leave the choice between two zeros.
#[test]
fn dead_inputs_lose_their_weights() {
    for (cols, dead) in [(32, [3, 8, 22]), (200, [0, 127, 130])] {
        let mut numbers = Numbers::new(3, "dead");
        let (w, mut x) = (numbers.matrix(16, cols), numbers.correlated(2 * cols, cols));
        for token in &mut x {
            for j in dead {
                token[j] = 0.0;
            }
        }
        check(&format!("dead inputs of {cols}:"), &w, &x);
        let cut = cut(&SparseGpt::default(), &tensor(&w), &observed(&x), "unstructured", 0.25);
        for row in rows_of(&repaired(&cut, &tensor(&w)), cols) {
            assert!(dead.iter().all(|&j| row[j] == 0.0));
        }
    }
}

/// The blocks are a way of adding up, not a part of the method, for groups that they hold whole.
#[test]
fn the_block_changes_nothing_at_two_of_four() {
    let mut numbers = Numbers::new(4, "block");
    let (w, x) = (numbers.matrix(12, 96), numbers.correlated(200, 96));
    let (weight, statistics) = (tensor(&w), observed(&x));
    let with = |block| {
        let criterion = SparseGpt { block, ..SparseGpt::default() };
        cut(&criterion, &weight, &statistics, "2:4", 0.5)
    };
    let whole = with(128);
    for block in [4, 20, 32, 96] {
        let blocked = with(block);
        assert_eq!(blocked.mask, whole.mask, "{block}");
        close("block", &repaired(&blocked, &weight), &repaired(&whole, &weight), 1e-5);
    }
}

/// A convolution is its matrix of outputs × all that is reduced over.
#[test]
fn convolutions_are_matrices() {
    let mut numbers = Numbers::new(5, "sparsegpt conv");
    let (w, x) = (numbers.matrix(8, 36), numbers.correlated(90, 36));
    let (choice, expected) = sparsegpt::prune(&w, &x, Shape::NOfM(2, 4));
    let filters = tensor(&w).reshape((8, 4, 3, 3)).unwrap();
    let cut = cut(&SparseGpt::default(), &filters, &observed(&x), "2:4", 0.5);
    assert_eq!(cut.mask.shape(), [8, 4, 3, 3]);
    assert_eq!(cut.weight.as_ref().unwrap().dims(), [8, 4, 3, 3]);
    agrees("conv", &cut.mask, &choice);
    close("conv", &repaired(&cut, &filters), &flat(&expected), 1e-5);
}
