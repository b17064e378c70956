//! Whom does an infinite or undefined activation reach? The outputs of its own token that keep its
//! column, as in a dense product, and nobody else, whatever is padded.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{
    ACTIVATIONS, DTYPES, Question, SORTS, Sort, WAYS, Way, dense, mask, numbers, products, tiers,
    weight, yardstick::Sums,
};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{Activation, Epilogue, KernelKind, Panels};
use secateur_mask::Mask;
use secateur_storage::{Dtype, Packed};

const STRANGE: [f32; 3] = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];

/// Sums as `kind` makes them: a dense product multiplies what was cut as well.
fn sums(kind: KernelKind, weight: &Packed, question: &Question) -> Sums {
    let whole = match kind {
        KernelKind::Dense => weight.unpack().into(),
        _ => weight.clone(),
    };
    Sums::of(&whole, &question.x, question.tokens)
}

/// Some strange numbers at random, every row, column and token count ragged in its own way, and memory
/// that an earlier product of nothing but infinities has left.
#[test]
fn strange_numbers_reach_only_what_keeps_their_column() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let rows = [1, 2, 5, 8, 9, 127, 128, 133];
    let cols = [1, 2, 3, 5, 15, 17, 31, 63, 64, 65, 100, 129, 260];
    let tokens = [1, 2, 3, 4, 5, 7, 17, 40, 130];
    let tiers = tiers();
    for case in 0..20 * SORTS.len() {
        let pick = |rng: &mut ChaCha8Rng, from: &[usize]| from[rng.random_range(0..from.len())];
        let (rows, cols) = (pick(&mut rng, &rows), pick(&mut rng, &cols));
        let tokens = pick(&mut rng, &tokens);
        let (sort, dtype) = (SORTS[case % SORTS.len()], DTYPES[case / SORTS.len() % 4]);
        let packed = weight(&mut rng, [rows, cols], sort, dtype);
        let mut question = Question::new(&mut rng, [rows, cols], tokens);
        for _ in 0..(tokens * cols / 50).clamp(1, 40) {
            let at = rng.random_range(0..tokens * cols);
            question.x[at] = STRANGE[rng.random_range(0..3)];
        }
        let x = vec![f32::INFINITY; tokens * cols];
        let poison = Question { x, tokens, bias: None, activation: Activation::None };
        for dispatcher in &tiers {
            for (kind, product) in products(&packed, dispatcher) {
                let sums = sums(kind, &packed, &question);
                for way in WAYS {
                    poison.ask(&product, dispatcher, Way::Tokens);
                    let y = question.ask(&product, dispatcher, way);
                    if let Err(wrong) = sums.check(&question, &y) {
                        let plan = product.plan(tokens);
                        panic!("case {case}: {wrong}, {way:?} in {}", plan.explain());
                    }
                }
            }
        }
    }
}

/// Every column of a token is infinite but those that one row keeps: that row stays finite, because
/// nothing that a kernel adds by way of padding touches a real column.
#[test]
fn a_row_without_infinite_columns_stays_finite() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for dispatcher in tiers() {
        for sort in &SORTS[..18] {
            for cols in [3, 4, 17, 62, 64, 66, 131, 144] {
                let packed = weight(&mut rng, [14, cols], *sort, Dtype::F32);
                let kept = packed.mask().unwrap().to_bools();
                for (kind, product) in products(&packed, &dispatcher) {
                    for (row, tokens) in [(0, 1), (1, 4), (5, 9), (12, 33), (13, 16)] {
                        let column = |col| if kept[row * cols + col] { 0.5 } else { f32::INFINITY };
                        let x: Vec<f32> = (0..cols).map(column).collect();
                        let x = x.repeat(tokens);
                        let activation = Activation::None;
                        let question = Question { x, tokens, bias: None, activation };
                        for way in WAYS {
                            let y = question.ask(&product, &dispatcher, way);
                            let finite = y.chunks(14).all(|y| y[row].is_finite());
                            let expected = kind != KernelKind::Dense
                                || kept[row * cols..][..cols].iter().all(|kept| *kept);
                            assert_eq!(finite, expected, "{sort:?} {kind} {cols} {row} {way:?}");
                        }
                    }
                }
            }
        }
    }
}

/// A token whose infinities no row keeps passes a first layer unharmed, though the layer's rows of
/// padding may have met them; so the second must not find what they left.
#[test]
fn panels_forget_what_padding_met() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for dispatcher in tiers() {
        for case in 0..600 {
            let (first, second) = (SORTS[case % 18], SORTS[rng.random_range(0..18)]);
            let [inner, rows] = [rng.random_range(1..=140), rng.random_range(1..=20)];
            let (cols, tokens) = (rng.random_range(17..=140), rng.random_range(1..=70));
            let (before, infinite) = unkept(&mut rng, [inner, cols], first);
            let after = weight(&mut rng, [rows, inner], second, DTYPES[case % 4]);
            let x = numbers(&mut rng, tokens * cols);
            let mut strange = x.clone();
            for token in (0..tokens).filter(|token| token % 3 == case % 3) {
                let value = STRANGE[rng.random_range(0..3)];
                infinite.iter().for_each(|col| strange[token * cols + col] = value);
            }
            let chain = |x: &[f32], [first, second]: [usize; 2]| {
                let bias = vec![0.25; inner];
                let epilogue = Epilogue { bias: Some(&bias), activation: ACTIVATIONS[case % 3] };
                let x = Panels::pack(x, tokens, cols, &dispatcher).unwrap();
                let mut between = Panels::zeros(tokens, inner, &dispatcher).unwrap();
                let mut y = Panels::zeros(tokens, rows, &dispatcher).unwrap();
                let layer = &products(&before, &dispatcher)[first].1;
                layer.run_panels(&x, &epilogue, &mut between).unwrap();
                let layer = &products(&after, &dispatcher)[second].1;
                layer.run_panels(&between, &Epilogue::default(), &mut y).unwrap();
                let mut out = vec![f32::NAN; tokens * rows];
                y.unpack(&mut out).unwrap();
                out
            };
            // Not the dense kernel, which multiplies what was cut.
            let layers = [rng.random_range(1..products(&before, &dispatcher).len()), 1];
            let (expected, found) = (chain(&x, layers), chain(&strange, layers));
            assert_eq!(found, expected, "{first:?} {inner}x{cols}, {second:?}, {tokens} tokens");
        }
    }
}

/// A weight of f32, and columns that no row keeps: of every N:M group in the first unit either the first or
/// the last, which are those that kernels' padding points at; of all else the first twelve.
fn unkept(rng: &mut ChaCha8Rng, [rows, cols]: [usize; 2], sort: Sort) -> (Packed, Vec<usize>) {
    let mut kept = mask(rng, [rows, cols], sort).to_bools();
    let group = sort.0.split_once(':').map(|(n, m)| [n, m].map(|n| n.parse::<usize>().unwrap()));
    let low = rng.random_range(0..2) == 0;
    for (at, kept) in kept.iter_mut().enumerate() {
        match (at % cols, group) {
            (col @ ..16, Some([n, m])) if low => *kept = col % m < n,
            (col @ ..16, Some([n, m])) => *kept = col % m >= m - n,
            (..12, None) => *kept = false,
            _ => {}
        }
    }
    let dense = dense(numbers(rng, rows * cols), [rows, cols], Dtype::F32);
    let mask = Mask::from_bools(&kept, &[rows, cols]).unwrap();
    let packed = Packed::pack_as(&dense, &mask, sort.1.parse().unwrap()).unwrap();
    let stored = packed.mask().unwrap().to_bools();
    let unkept = |col: &usize| (0..rows).all(|row| !stored[row * cols + col]);
    let infinite: Vec<usize> = (0..cols).filter(unkept).collect();
    assert!(!infinite.is_empty());
    (packed, infinite)
}
