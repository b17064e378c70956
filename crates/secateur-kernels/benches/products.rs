//! Did a kernel become slower? A few products that everything else is made of.
//!
//! `cargo bench -p secateur-kernels --bench products` compares with its own last run. How fast kernels are
//! beside dense products of others: `cargo xtask bench`.
#![allow(missing_docs, reason = "a benchmark is no library")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{Dispatcher, Product};
use secateur_mask::{Scores, Target};
use secateur_storage::{Dense, Packed};

const SIDE: usize = 768;
/// The share kept decides what the dispatcher takes: 2:4, CSR, dense.
const WEIGHTS: [&str; 3] = ["2:4", "0.9", "0"];
const TOKENS: [usize; 3] = [1, 16, 128];

fn numbers(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn products(criterion: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let dispatcher = Dispatcher::probe().expect("a tier that is there");
    let dense = Dense::new(numbers(&mut rng, SIDE * SIDE), &[SIDE, SIDE]).expect("a square");
    let scores = numbers(&mut rng, SIDE * SIDE);
    // One thread: what a second one brings depends on who else runs.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    for name in WEIGHTS {
        let target: Target = name.parse().expect("a pattern");
        let scores = Scores::new(scores.as_slice(), &[SIDE, SIDE]).expect("a square");
        let mask =
            target.pattern().select(scores, target.sparsity()).expect("scores of this shape");
        let packed = Packed::pack(&dense, &mask, target.pattern()).expect("a mask that fits");
        let product = Product::new(&packed, &dispatcher).expect("f32 is multiplied");
        let mut group = criterion.benchmark_group(format!("{SIDE}x{SIDE} {name}"));
        for tokens in TOKENS {
            let x = numbers(&mut rng, tokens * SIDE);
            let mut y = vec![0.0; tokens * SIDE];
            group.throughput(Throughput::Elements((SIDE * SIDE * tokens) as u64));
            let id = BenchmarkId::new(product.plan(tokens).kernel(), tokens);
            group.bench_function(id, |bencher| {
                pool.install(|| {
                    bencher
                        .iter(|| product.run(&x, tokens, None, &mut y).expect("operands that fit"));
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = products
}
criterion_main!(benches);
