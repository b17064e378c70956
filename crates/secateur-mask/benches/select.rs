//! How long does selection take, against reading the scores and writing the mask at memory speed?
//!
//! `cargo bench -p secateur-mask --bench select`. Criterion's own figures come first; then each
//! selection in turn with the memory pass, so that a noisy machine is noisy for both.
#![allow(missing_docs, reason = "a benchmark is no library")]

use criterion::{Criterion, criterion_group};
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use rayon::prelude::*;
use secateur_mask::{Mask, Pattern, Scores, Sparsity};
use std::{hint::black_box, time::Instant};

const SIDE: usize = 4096;
/// The patterns, their shares, and how many times the memory pass each may take.
const CASES: [(&str, f64, Option<f64>); 7] = [
    ("2:4", 0.5, Some(4.0)),
    ("unstructured", 0.5, Some(25.0)),
    ("unstructured", 0.9, Some(25.0)),
    ("unstructured-row", 0.5, None),
    ("8:16", 0.5, None),
    ("transposable-2:4", 0.5, None),
    ("64:2:8", 0.75, None),
];

fn scores() -> Vec<f32> {
    let mut stream = Xoshiro256PlusPlus::seed_from_u64(0);
    // Magnitudes of roughly normal weights: the sum of four uniform numbers.
    let uniform =
        |stream: &mut Xoshiro256PlusPlus| stream.next_u32() as f32 / u32::MAX as f32 - 0.5;
    (0..SIDE * SIDE).map(|_| (0..4).map(|_| uniform(&mut stream)).sum::<f32>().abs()).collect()
}

fn select(pattern: Pattern, scores: &Scores<'_>, share: f64) -> Mask {
    let amount = Sparsity::new(share).expect("a share");
    pattern.select(scores.clone(), amount).expect("scores of this shape")
}

/// Reads every score and writes every word of a mask, on as many threads as selection has.
fn memory_pass(scores: &[f32], words: &mut [u64]) {
    words.par_chunks_mut(1 << 12).zip(scores.par_chunks(1 << 18)).for_each(|(words, scores)| {
        for (word, scores) in words.iter_mut().zip(scores.as_chunks::<64>().0) {
            let mut sums = [0_u32; 16];
            for scores in scores.as_chunks::<16>().0 {
                for (sum, score) in sums.iter_mut().zip(scores) {
                    *sum ^= score.to_bits();
                }
            }
            *word = u64::from(sums.iter().fold(0, |a, b| a ^ b));
        }
    });
}

fn criterion_figures(bench: &mut Criterion) {
    let values = scores();
    let scores = Scores::new(&values[..], &[SIDE, SIDE]).expect("finite scores");
    let mut group = bench.benchmark_group("select 4096x4096");
    group.sample_size(10);
    for (name, share, _) in CASES {
        let pattern: Pattern = name.parse().expect("a pattern");
        group.bench_function(format!("{name} at {share}"), |bencher| {
            bencher.iter(|| black_box(select(pattern, &scores, share)));
        });
    }
    group.finish();
}

/// Times everything in turn and prints medians, minima and their ratios to the memory pass.
fn ratios() {
    let values = scores();
    let scores = Scores::new(&values[..], &[SIDE, SIDE]).expect("finite scores");
    let mut words = vec![0_u64; SIDE * SIDE / 64];
    println!("\n{} threads; times in ms: median (minimum)", rayon::current_num_threads());
    for (name, share, most) in CASES {
        let pattern: Pattern = name.parse().expect("a pattern");
        let (mut passes, mut selections) = (Vec::new(), Vec::new());
        for _ in 0..15 {
            let start = Instant::now();
            memory_pass(black_box(&values), black_box(&mut words));
            passes.push(start.elapsed().as_secs_f64() * 1e3);
            let start = Instant::now();
            black_box(select(pattern, &scores, share));
            selections.push(start.elapsed().as_secs_f64() * 1e3);
        }
        passes.sort_by(f64::total_cmp);
        selections.sort_by(f64::total_cmp);
        let (pass, selection) = (passes[7], selections[7]);
        println!(
            "{name:>17} at {share:<4}  {selection:7.2} ({:.2})  memory pass {pass:.2} ({:.2})  \
             ratio {:.2} ({:.2}){}",
            selections[0],
            passes[0],
            selection / pass,
            selections[0] / passes[0],
            most.map_or(String::new(), |most| format!("  at most {most}")),
        );
    }
}

criterion_group!(figures, criterion_figures);

fn main() {
    figures();
    if !std::env::args().any(|arg| arg == "--test") {
        ratios();
    }
    Criterion::default().configure_from_args().final_summary();
}
