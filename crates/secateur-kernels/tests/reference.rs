//! Do products mean what their weight says, whatever it is stored as and whoever laid it out?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{
    ACTIVATIONS, DTYPES, Question, SORTS, WAYS, dense, mask, numbers, products, tiers, weight,
    yardstick::Sums,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{Dispatcher, KernelKind, Product};
use secateur_storage::{Dtype, Packed};

/// The dispatcher may lay a weight out twice, and take turns by tokens.
#[test]
fn what_the_dispatcher_lays_out_gives_the_same_numbers() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for dispatcher in tiers() {
        for (case, sort) in SORTS.into_iter().enumerate() {
            let packed = weight(&mut rng, [100, 300], sort, DTYPES[case % 4]);
            let product = Product::new(&packed, &dispatcher).unwrap();
            for tokens in [1, 6, 100] {
                let question = Question::new(&mut rng, [100, 300], tokens);
                for way in WAYS {
                    let y = question.ask(&product, &dispatcher, way);
                    Sums::of(&packed, &question.x, tokens).check(&question, &y).unwrap();
                }
            }
        }
    }
}

/// Sums over nothing are the bias, whatever an earlier product left in memory.
#[test]
fn weights_without_columns_or_rows() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for dispatcher in tiers() {
        for kind in [KernelKind::Dense, KernelKind::NOfM, KernelKind::Csr] {
            let before = weight(&mut rng, [8, 64], SORTS[0], Dtype::F32);
            let before = Product::with_kernel(&before, &dispatcher, kind).unwrap();
            for (rows, cols) in [(8, 0), (0, 8), (0, 0)] {
                let packed = weight(&mut rng, [rows, cols], SORTS[0], Dtype::F32);
                let product = Product::with_kernel(&packed, &dispatcher, kind).unwrap();
                let bias = numbers(&mut rng, rows);
                for tokens in [1, 20] {
                    let x = numbers(&mut rng, tokens * 64);
                    before.run(&x, tokens, None, &mut vec![0.0; tokens * 8]).unwrap();
                    let x = x[..tokens * cols].to_vec();
                    let (bias, activation) = (Some(bias.clone()), ACTIVATIONS[0]);
                    let question = Question { x, tokens, bias, activation };
                    for way in WAYS {
                        let y = question.ask(&product, &dispatcher, way);
                        assert_eq!(y, question.bias.as_ref().unwrap().repeat(tokens));
                    }
                }
            }
        }
    }
}

/// Kernels compute in f32 whatever the weight is stored in: converted, scaled, or in any format. Here
/// what is expected never went through a packed weight.
#[test]
fn every_format_and_dtype_multiplies_as_the_numbers_it_stands_for() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let [rows, cols, tokens] = [24, 41, 9];
    let dispatcher = Dispatcher::probe().unwrap();
    for (sort, dtype) in SORTS.into_iter().flat_map(|sort| DTYPES.map(|dtype| (sort, dtype))) {
        let dense = dense(numbers(&mut rng, rows * cols), [rows, cols], dtype);
        let mask = mask(&mut rng, [rows, cols], sort);
        let packed = Packed::pack_as(&dense, &mask, sort.1.parse().unwrap()).unwrap();
        let mut weight = dense.to_f32().unwrap().into_owned();
        mask.apply(&mut weight).unwrap();
        let x = numbers(&mut rng, tokens * cols);
        for (kind, product) in products(&packed, &dispatcher) {
            let mut y = vec![f32::NAN; tokens * rows];
            product.run(&x, tokens, None, &mut y).unwrap();
            for (index, y) in y.iter().enumerate() {
                let (token, row) = (index / rows, index % rows);
                let pairs = x[token * cols..].iter().zip(&weight[row * cols..][..cols]);
                let expected: f64 = pairs.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                assert!((f64::from(*y) - expected).abs() < 1e-5, "{kind} {sort:?} {dtype:?}");
            }
        }
    }
}
