//! Does every kernel of every tier give what the plain loop gives, on every ragged shape?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{DTYPES, Question, SORTS, WAYS, pool, products, tiers, weight, yardstick};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{Activation, reference};
use yardstick::Sums;

/// Holds every kernel, way and number of threads against the sums, for `count` weights of all sorts
/// and dtypes in turn, shaped `[rows, cols, tokens]`.
fn sweep(seed: u64, count: usize, shape: impl Fn(&mut ChaCha8Rng, usize) -> [usize; 3]) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (tiers, pools) = (tiers(), [pool(1), pool(3)]);
    for case in 0..count {
        let (sort, round) = (SORTS[case % SORTS.len()], case / SORTS.len());
        let dtype = DTYPES[round % DTYPES.len()];
        let [rows, cols, tokens] = shape(&mut rng, round / DTYPES.len());
        let weight = weight(&mut rng, [rows, cols], sort, dtype);
        let question = Question::new(&mut rng, [rows, cols], tokens);
        let sums = Sums::of(&weight, &question.x, tokens);
        for dispatcher in &tiers {
            let products = products(&weight, dispatcher);
            let asked = products.iter().flat_map(|(_, product)| WAYS.map(|way| (product, way)));
            let asked: Vec<_> = asked.collect();
            let [one, three] = pools.each_ref().map(|pool| {
                let answer = |&(product, way)| question.ask(product, dispatcher, way);
                pool.install(|| asked.iter().map(answer).collect::<Vec<_>>())
            });
            for ((product, way), (one, three)) in asked.iter().zip(one.iter().zip(&three)) {
                let about = || {
                    let (plan, Question { bias, activation, .. }) =
                        (product.plan(tokens), &question);
                    let bias = bias.is_some();
                    format!("case {case}, {way:?}, bias {bias}, {activation:?}: {}", plan.explain())
                };
                if let Err(wrong) = sums.check(&question, one) {
                    panic!("{wrong} in {}", about());
                }
                let same = one.iter().zip(three).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "threads change {}", about());
            }
        }
    }
}

/// Forty shapes for each sort and dtype.
#[test]
fn every_kernel_on_ragged_shapes() {
    sweep(1, 40 * SORTS.len() * DTYPES.len(), |rng, _| [(); 3].map(|()| rng.random_range(1..=130)));
}

/// Several blocks of rows, many words and tiles of columns, several panels of tokens, and each of
/// these alone.
#[test]
fn every_kernel_on_large_shapes() {
    sweep(2, 4 * SORTS.len() * DTYPES.len(), |rng, round| {
        let small = |rng: &mut ChaCha8Rng| rng.random_range(1..=40);
        match round {
            0 => [rng.random_range(257..700), small(rng), rng.random_range(1..=130)],
            1 => [small(rng), rng.random_range(1025..1500), small(rng)],
            2 => [small(rng), small(rng), rng.random_range(200..600)],
            _ => [130, 200, 210].map(|side| rng.random_range(side..side + 130)),
        }
    });
}

/// What the sweeps compare with is the reference itself, and an erf that tables agree with.
#[test]
fn the_yardstick_is_straight() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for sort in SORTS {
        let weight = weight(&mut rng, [9, 33], sort, DTYPES[3]);
        let question = Question::new(&mut rng, [9, 33], 5);
        let sums = Sums::of(&weight, &question.x, 5);
        assert_eq!(sums.sums(), reference::product(&weight, &question.x, 5));
        let off: Vec<f32> = sums.sums().iter().map(|sum| *sum as f32 * 1.01 + 0.01).collect();
        let plain = Question { bias: None, activation: Activation::None, ..question };
        assert!(sums.check(&plain, &off).is_err());
    }
    let table = [
        (0.1, 0.112_462_916_018_284_89),
        (0.5, 0.520_499_877_813_046_5),
        (1.0, 0.842_700_792_949_714_9),
        (2.0, 0.995_322_265_018_952_7),
        (3.0, 0.999_977_909_503_001_4),
        (5.9, 1.0),
    ];
    for (z, erf) in table {
        assert!((yardstick::erf(z) - erf).abs() < 1e-14);
        assert!((yardstick::erf(-z) + erf).abs() < 1e-14);
    }
    assert_eq!(yardstick::erf(0.0), 0.0);
}
