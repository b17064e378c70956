//! How good is the permutation search? The figures of `docs/permutation.md`, over many seeds.
//!
//! `cargo run --release -p secateur-mask --example permutation -- [MATRIX] [SECONDS] [SEEDS] [PATTERN]`
//!
//! MATRIX is `numpy` (seed 1, `rand(128, 64)`), or `gaussian`, `columns`, `heavy` with rows and columns,
//! such as `gaussian768x768`.

#[path = "../tests/common/mod.rs"]
mod common;

use secateur_mask::{NOfM, Scores, permute::Search};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (matrix, seconds, seeds) = (next("numpy"), next("1").parse()?, next("20").parse::<u64>()?);
    let (pattern, threads) = (next("2:4"), next("1").parse()?);
    let (n, m) = pattern.split_once(':').ok_or("a pattern is N:M")?;
    let pattern = NOfM::new(n.parse()?, m.parse()?)?;
    let (values, shape) = common::named(&matrix).ok_or("no such matrix")?;
    let scores = Scores::new(values, &shape)?;

    let (mut efficacies, mut took, mut complete) = (Vec::new(), 0.0_f64, true);
    for seed in 0..seeds {
        let found = Search { pattern, seconds, seed, threads }.run(&scores)?;
        if seed == 0 {
            let (default, rows) = (found.kept_default(), found.kept_rows());
            println!("default {default:.2}, rows {rows:.2}, {} proposals", found.proposals());
        }
        efficacies.push(found.efficacy());
        took = took.max(found.seconds());
        complete &= found.complete();
    }
    efficacies.sort_by(f64::total_cmp);
    println!("{efficacies:.2?}");
    let count = efficacies.len().max(1);
    println!(
        "{matrix}, {n}:{m}, {seconds} s, {seeds} seeds: efficacy mean {:.2}, least {:.2}, median {:.2}, most \
         {:.2}; slowest {took:.2} s, all complete: {complete}",
        efficacies.iter().sum::<f64>() / count as f64,
        efficacies.first().unwrap_or(&f64::NAN),
        efficacies.get(count / 2).unwrap_or(&f64::NAN),
        efficacies.last().unwrap_or(&f64::NAN),
    );
    Ok(())
}
