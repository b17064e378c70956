//! `cargo xtask`: the command line of secateur, one file per command.
#![forbid(unsafe_code)]

mod bench;
mod calibrate;
mod chain;
mod convert;
mod data;
mod gguf;
mod gpu_check;
mod html;
mod inspect;
mod kernels;
mod lottery;
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
mod verify;
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
    Convert(convert::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Bench(bench::Args),
    Calibrate(calibrate::Args),
    Kernels(kernels::Args),
    GpuCheck(gpu_check::Args),
    Data(data::Args),
    Lottery(lottery::Args),
    /// Check what reviewers would otherwise repeat: module docs, crate arrows, unsafe, file lengths.
    Tidy,
    /// Print the resident memory of a process that runs one checkpoint (used by reports).
    #[command(hide = true)]
    MeasureMemory(measure::MemoryArgs),
    #[command(hide = true)]
    LotterySeed(lottery::SeedArgs),
    /// Answer questions about dense products (a child of bench).
    #[command(hide = true)]
    BenchServe,
}

fn main() -> ExitCode {
    progress::init();
    let result = match Cli::parse().command {
        Command::PruneFinetune(args) => prune_finetune::run(args),
        Command::Prune(args) => prune::run(args),
        Command::Permute(args) => permute::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Inspect(args) => return answered(inspect::run(args)),
        Command::Kernels(args) => return answered(kernels::run(args)),
        Command::Verify(args) => return answered(verify::run(args)),
        Command::Bench(args) => bench::run(args),
        Command::Calibrate(args) => calibrate::run(args),
        Command::GpuCheck(args) => {
            return gpu_check::run(args).map_or_else(|error| failed(&error, 2), ExitCode::from);
        }
        Command::BenchServe => bench::serve(),
        Command::Data(args) => data::run(args),
        Command::Lottery(args) => lottery::run(args),
        Command::LotterySeed(args) => lottery::run_seed(&args),
        Command::Tidy => tidy::run(),
        Command::MeasureMemory(args) => measure::print_memory(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, 1),
    }
}

/// The status of a question: 0 for yes, 1 for no, 2 if there is no answer, as `cmp` has it.
fn answered(answer: anyhow::Result<bool>) -> ExitCode {
    match answer {
        Ok(yes) => ExitCode::from(u8::from(!yes)),
        Err(error) => failed(&error, 2),
    }
}

fn failed(error: &anyhow::Error, status: u8) -> ExitCode {
    progress::tell(&format!("error: {}", explain(error)));
    ExitCode::from(status)
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
