//! `cargo xtask`: the command line of secateur, one file per command.
#![forbid(unsafe_code)]

mod chain;
mod data;
mod measure;
mod methods;
mod observations;
mod permute;
mod progress;
mod prune;
mod prune_finetune;
mod recipe;
mod report;
mod table;
mod tidy;
mod weights;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Prune networks, retrain them, store only what is left and multiply only what is left.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    PruneFinetune(prune_finetune::Args),
    Prune(prune::Args),
    Permute(permute::Args),
    Data(data::Args),
    /// Check what reviewers would otherwise repeat: module docs, crate arrows, unsafe, file lengths.
    Tidy,
    /// Print the resident memory of a process that runs one checkpoint (used by reports).
    #[command(hide = true)]
    MeasureMemory(measure::MemoryArgs),
}

fn main() -> ExitCode {
    progress::init();
    let result = match Cli::parse().command {
        Command::PruneFinetune(args) => prune_finetune::run(args),
        Command::Prune(args) => prune::run(args),
        Command::Permute(args) => permute::run(args),
        Command::Data(args) => data::run(args),
        Command::Tidy => tidy::run(),
        Command::MeasureMemory(args) => measure::print_memory(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::tell(&format!("error: {}", explain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, each said once: many of our errors quote their cause already, and
/// candle's end in a backtrace that is no user's business.
fn explain(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = text.split("\n   0: ").next().unwrap_or_default().trim_end();
        if said.is_empty() {
            said = text.to_owned();
        } else if !said.contains(text) {
            said = format!("{said}: {text}");
        }
    }
    said
}
