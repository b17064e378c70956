//! Does measuring change who multiplies, and nothing else?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{Question, SORTS, WAYS, weight, yardstick::Sums};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{Basis, Dispatcher, KernelError, Product};
use secateur_storage::Dtype;

#[test]
fn measured_products_are_the_same_product() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let dispatcher = Dispatcher::built_in().unwrap();
    for sort in [SORTS[0], SORTS[11], SORTS[13]] {
        let packed = weight(&mut rng, [70, 130], sort, Dtype::F32);
        let product = Product::measured(&packed, &dispatcher, &[1, 16]).unwrap();
        for tokens in [1, 5, 16, 40] {
            let plan = product.plan(tokens);
            assert_eq!(plan.basis(), Basis::Measured);
            assert!(plan.explain().contains("a measured") && plan.time().as_nanos() > 0);
            let question = Question::new(&mut rng, [70, 130], tokens);
            for way in WAYS {
                let y = question.ask(&product, &dispatcher, way);
                Sums::of(&packed, &question.x, tokens).check(&question, &y).unwrap();
            }
        }
    }
    let packed = weight(&mut rng, [4, 8], SORTS[0], Dtype::F32);
    for tokens in [&[][..], &[1, 0]] {
        let error = Product::measured(&packed, &dispatcher, tokens).unwrap_err();
        assert_eq!(error, KernelError::NothingToMeasure);
    }
}
