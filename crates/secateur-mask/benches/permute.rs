//! What does a proposal cost? Searches of a fixed, small budget; `cost.rs` is measured by these.
//!
//! Throughput is proposals per second, the reciprocal of what `Costs` plans with.
#![allow(missing_docs, reason = "criterion's macros make items that nobody calls")]

#[path = "../tests/common/mod.rs"]
mod common;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use secateur_mask::{NOfM, Scores, permute::Search};
use std::time::Duration;

fn searches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("permute");
    group.sample_size(10).warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_secs(1));
    for name in ["numpy", "gaussian512x256", "columns128x64", "gaussian64x32x3x3"] {
        let Some((values, shape)) = common::named(name) else { continue };
        let Ok(scores) = Scores::new(values, &shape) else { continue };
        let search = Search { pattern: NOfM::TWO_OF_FOUR, seconds: 0.05, seed: 0, threads: 1 };
        let Ok(found) = search.run(&scores) else { continue };
        group.throughput(Throughput::Elements(found.proposals()));
        group.bench_function(name, |bencher| bencher.iter(|| search.run(&scores)));
    }
    group.finish();
}

criterion_group!(benches, searches);
criterion_main!(benches);
