//! How fast is a network, and how much memory does it take? Measured, dense and pruned in turn.

use crate::progress;
use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Tensor};
use secateur::{
    nn::{Network, State, weight_name},
    prelude::{Checkpoint, Device, Dispatcher},
};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tracing_indicatif::span_ext::IndicatifSpanExt;

/// Samples of the large batch.
pub const LARGE_BATCH: usize = 256;
/// Time spent on each batch size.
const BUDGET: Duration = Duration::from_millis(1500);
/// Fewest calls that a 99th percentile is taken from.
const FEWEST_CALLS: usize = 200;

/// Latency of a forward pass, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Median for one sample.
    pub batch1: f64,
    /// 99th percentile for one sample.
    pub batch1_p99: f64,
    /// Median for a large batch.
    pub batch_large: f64,
    /// 99th percentile for a large batch.
    pub batch_large_p99: f64,
}

/// Latencies of several networks on rows of `inputs`, measured alternately in one run.
pub fn latencies<const N: usize>(
    networks: [&dyn Network; N],
    inputs: &Tensor,
) -> Result<[Latency; N]> {
    let mut results = [[(0.0, 0.0); 2]; N];
    let bar = progress::bar("latency", 2);
    for (size, batch) in [1, LARGE_BATCH].into_iter().enumerate() {
        let rows: Vec<u32> = (0..batch).map(|i| (i % inputs.dims()[0]) as u32).collect();
        let xs = inputs.index_select(&Tensor::new(rows, inputs.device())?, 0)?;
        let mut times = [const { vec![] }; N];
        let start = Instant::now();
        while start.elapsed() < BUDGET || times[0].len() < FEWEST_CALLS {
            for (network, times) in networks.iter().zip(&mut times) {
                let start = Instant::now();
                network.forward(&xs)?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        for (network, times) in times.iter_mut().enumerate() {
            // The first calls fill caches and start threads.
            times.drain(..FEWEST_CALLS / 10);
            times.sort_by(f64::total_cmp);
            results[network][size] = (times[times.len() / 2], times[times.len() * 99 / 100]);
        }
        bar.pb_inc(1);
    }
    Ok(results.map(|[one, large]| Latency {
        batch1: one.0,
        batch1_p99: one.1,
        batch_large: large.0,
        batch_large_p99: large.1,
    }))
}

impl Latency {
    /// For each batch size, the one whose median is lower.
    pub fn best(self, other: Self) -> Self {
        let (one, large) = (
            if self.batch1 <= other.batch1 { self } else { other },
            if self.batch_large <= other.batch_large { self } else { other },
        );
        Self { batch_large: large.batch_large, batch_large_p99: large.batch_large_p99, ..one }
    }
}

/// The network that a checkpoint file holds, its dense layers on the dense product of this workspace
/// instead of candle's: AVX-512 on, and no second thread for products too small to share.
pub fn load_on_gemm(file: &Path) -> Result<Box<dyn Network>> {
    let checkpoint = Checkpoint::load(file)?;
    let mut network = load(file)?;
    let dispatcher = Dispatcher::built_in()?;
    for (name, layer) in network.layers_mut() {
        if let (Some(weight), State::Dense) =
            (checkpoint.tensors.get(&weight_name(&name)), layer.state())
        {
            layer.pack(weight, &dispatcher)?;
        }
    }
    Ok(network)
}

/// The network that a checkpoint file holds, packed where the file is.
pub fn load(file: &Path) -> Result<Box<dyn Network>> {
    of(&Checkpoint::load(file)?).with_context(|| format!("in {}", file.display()))
}

fn of(checkpoint: &Checkpoint) -> Result<Box<dyn Network>> {
    Ok(secateur::nn::load(checkpoint, &Dispatcher::built_in()?, &Device::Cpu)?)
}

/// Arguments of the hidden command `measure-memory`.
#[derive(clap::Args)]
pub struct MemoryArgs {
    /// The checkpoint to run.
    file: PathBuf,
}

/// Loads a checkpoint, runs it once for one sample and once for a large batch, and prints the
/// resident bytes of this process. Nothing else is in it: no data set, no second network.
pub fn print_memory(args: &MemoryArgs) -> Result<()> {
    let checkpoint = Checkpoint::load(&args.file)?;
    let features = checkpoint.metadata.get("features").context("the file names no `features`")?;
    let (network, features) = (of(&checkpoint)?, features.parse::<usize>()?);
    drop(checkpoint);
    for batch in [1, LARGE_BATCH] {
        network.forward(&Tensor::zeros((batch, features), DType::F32, &Device::Cpu)?)?;
    }
    let memory =
        memory_stats::memory_stats().context("this system does not tell resident memory")?;
    progress::answer(&memory.physical_mem.to_string())
}

/// Resident bytes of a process of its own that runs the checkpoint: the median of several, on one
/// thread, since every thread brings a stack and an arena of its own.
///
/// Randomised addresses move it by some hundred kilobytes from start to start, so they are switched
/// off where `setarch` (util-linux) can do that.
pub fn resident_bytes(file: &Path) -> Result<u64> {
    let program = this_program()?;
    let fixed = || {
        let mut command = Command::new("setarch");
        command.arg("-R").arg(&program);
        command
    };
    let can_fix = resident_once(fixed(), file).is_ok();
    let start = || if can_fix { fixed() } else { Command::new(&program) };
    let readings: Result<Vec<u64>> = (0..7).map(|_| resident_once(start(), file)).collect();
    let mut readings = readings?;
    readings.sort_unstable();
    ensure!(readings[0] > 0, "the system says that a running process has no memory");
    Ok(readings[readings.len() / 2])
}

/// This program, even when its file was replaced since it was started.
pub fn this_program() -> Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(format!("/proc/{}/exe", std::process::id()).into());
    }
    std::env::current_exe().context("cannot find this program again")
}

fn resident_once(mut program: Command, file: &Path) -> Result<u64> {
    let output = program
        .env("RAYON_NUM_THREADS", "1")
        .args(["measure-memory", "--"])
        .arg(file)
        .output()
        .context("cannot start a process to measure memory in")?;
    if !output.status.success() {
        bail!("measuring memory failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().context("measuring memory printed no number")
}
