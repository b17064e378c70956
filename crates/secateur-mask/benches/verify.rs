//! How long do proofs take on a 4096 × 4096 mask, and one whose rows begin within words?
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use criterion::{Criterion, criterion_group, criterion_main};
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use secateur_mask::{Mask, NOfM, Pattern, Scores, Sparsity};
use std::hint::black_box;

const CASES: [(&str, f64); 14] = [
    ("unstructured", 0.5),
    ("unstructured", 0.9),
    ("unstructured", 0.99),
    ("unstructured-row", 0.9),
    ("channel", 0.5),
    ("input-channel", 0.5),
    ("block4x1", 0.5),
    ("block32x32", 0.5),
    ("2:4", 0.5),
    ("8:16", 0.5),
    ("3:5", 0.4),
    ("output-2:4", 0.5),
    ("64:2:8", 0.75),
    ("transposable-2:4", 0.5),
];

fn mask(pattern: Pattern, share: f64, cols: usize) -> Mask {
    let mut stream = Xoshiro256PlusPlus::seed_from_u64(1);
    let scores: Vec<f32> = (0..4096 * cols).map(|_| (stream.next_u64() >> 40) as f32).collect();
    let scores = Scores::new(scores, &[4096, cols]).expect("finite scores");
    let amount = pattern.fixed_sparsity().unwrap_or(Sparsity::new(share).expect("a share"));
    pattern.select(scores, amount).expect("scores of this shape")
}

fn figures(bench: &mut Criterion) {
    for cols in [4096, 4095] {
        let mut group = bench.benchmark_group(format!("4096x{cols}"));
        group.sample_size(10);
        for (name, share) in CASES {
            let pattern: Pattern = name.parse().expect("a pattern");
            let mask = mask(pattern, share, cols);
            group.bench_function(format!("verify {name} at {share}"), |bencher| {
                bencher.iter(|| black_box(&mask).verify(&pattern).expect("it holds"));
            });
            group.bench_function(format!("tightest of {name} at {share}"), |bencher| {
                bencher.iter(|| black_box(&mask).tightest());
            });
            group.bench_function(format!("2:4 groups over in {name} at {share}"), |bencher| {
                bencher.iter(|| black_box(&mask).groups_over(NOfM::TWO_OF_FOUR));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, figures);
criterion_main!(benches);
