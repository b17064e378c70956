//! `cargo xtask permute`: in which order of its inputs does a layer keep more under N:M?

use crate::{progress, weights::Weights};
use anyhow::{Context, Result, bail, ensure};
use candle_core::DType;
use secateur::{
    mask::permute::{Permuted, Search},
    prelude::{Pattern, Scores},
};
use serde::Serialize;
use std::path::PathBuf;

const HELP: &str = "\
Examples:
  cargo xtask permute model.safetensors --tensor fc1.weight --pattern 2:4 --seconds 10
  cargo xtask permute model.safetensors --tensor fc1.weight --pattern 8:16 --seconds 1 --json

The permutation lists the old column (for convolutions: input channel) at each new place. Applying it
to a network means reordering the outputs of the layer before as well:
secateur::nn::permute::ChannelGraph does that, and says where it cannot.";

/// Search for an order of a layer's input channels in which N:M keeps more magnitude (Pool & Yu 2021).
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The checkpoint: a .safetensors file
    #[arg(value_name = "W")]
    weights: PathBuf,
    /// The layer's weight, by its full name
    #[arg(long, value_name = "NAME")]
    tensor: String,
    /// N:M, such as 2:4 or 8:16
    #[arg(long, default_value = "2:4")]
    pattern: Pattern,
    /// How long to search; the same seed, seconds and threads give the same order
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    seconds: f64,
    /// Where random numbers come from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Searches at the same time, of which the best is taken [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print the order and what it keeps as one JSON object on the last line of standard output
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    /// (kept − kept_default) / (kept_rows − kept_default) · 100.
    efficacy: f64,
    /// Magnitude that the pattern keeps in the new order.
    kept: f64,
    /// The same in the order of the file.
    kept_default: f64,
    /// The best that each row could keep, had it an order of its own.
    kept_rows: f64,
    /// `permutation[j]` is the old column at the new place j.
    permutation: &'a [usize],
    /// How long the search took.
    seconds: f64,
    /// Whether it did all the steps that the seconds stand for; a slower machine is stopped in time.
    complete: bool,
}

pub fn run(args: Args) -> Result<()> {
    let Pattern::NOfM(pattern) = args.pattern else {
        bail!(
            "--pattern {} has no order of inputs to gain from; take N:M, such as 2:4",
            args.pattern
        )
    };
    ensure!(
        args.seconds.is_finite() && args.seconds > 0.0,
        "--seconds is {}, it must be above 0",
        args.seconds
    );
    let weights = Weights::load(&args.weights)?;
    if let Err(reason) = weights.prunable(&args.tensor) {
        let names = weights.names().into_iter().take(20).collect::<Vec<_>>().join(", ");
        bail!("--tensor {}: {reason}; the file holds {names}", args.tensor);
    }
    let weight = weights.tensor(&args.tensor)?.context("a tensor was there and is gone")?;
    let scores = weight.abs()?.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    let scores = Scores::new(scores, weight.dims()).context(args.tensor.clone())?;
    let threads = args
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));

    let bar = progress::spinner(&format!("{} searches, {} s", threads, args.seconds));
    let search = Search { pattern, seconds: args.seconds, seed: args.seed, threads };
    let found = search.run(&scores).with_context(|| args.tensor.clone())?;
    drop(bar);
    progress::tell(&describe(&args, &found));
    if args.json {
        let answer = Answer {
            efficacy: found.efficacy(),
            kept: found.kept(),
            kept_default: found.kept_default(),
            kept_rows: found.kept_rows(),
            permutation: found.permutation(),
            seconds: found.seconds(),
            complete: found.complete(),
        };
        progress::answer(&serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

fn describe(args: &Args, found: &Permuted) -> String {
    format!(
        "{}, {}: keeps {:.6e} in the file's order, {:.6e} in the new one, {:.6e} if every row had its own\n\
         efficacy {:.2} in {:.2} s, seed {}{}",
        args.tensor,
        args.pattern,
        found.kept_default(),
        found.kept(),
        found.kept_rows(),
        found.efficacy(),
        found.seconds(),
        args.seed,
        match found.complete() {
            true => "",
            false => "; stopped by the clock, so another run may find another order",
        },
    )
}
