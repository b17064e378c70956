//! `cargo xtask gpu-check`: does this card compute what the CPU does, and is it faster than dense? One program that
//! brings all it needs.

mod bundle;
mod show;
mod timing;

use crate::progress;
use anyhow::Result;
use rayon::prelude::*;
use secateur::kernels::{
    KernelError,
    cuda::{
        CudaError, Device, Emulator, IssueRate, Measurements, SelfTest, check,
        check::{Check, Verdict},
        issue_rates, self_test,
    },
};
use serde::Serialize;
use std::{collections::BTreeMap, path::PathBuf};
use timing::Timing;
use tracing_indicatif::span_ext::IndicatifSpanExt;

/// What test harnesses take for "skipped".
const SKIPPED: u8 = 77;

const HELP: &str = "\
Four steps, each of which can fail:
  1. the instruction: random registers through mma.sp on the card and through the CPU's model of it,
     every type and selector, to the bit
  2. every kernel on more than 200 shapes, ragged ones included, against sums in f64; packing and
     pruning against the CPU, to the bit
  3. how often the card issues the instruction when nothing else is to be done
  4. each kernel against cuBLAS, in turns: times by the card's own clock, medians,
     random numbers, weights that rotate so that no cache holds them

What step 4 measured is kept for plans on this card, beside calibrations: Dispatcher::on turns down a
kernel where dense was faster (SECATEUR_CACHE names another folder, or is off).

Dense is cuBLAS, which is looked for where the system keeps libraries, or below --cublas. Where it is
not there, kernels are timed alone.

--emulate runs steps 1 and 2 on the emulator: the same PTX, executed on the CPU. No card is needed,
and no time is measured.

--bundle writes a folder that runs on a machine with a card and without Rust: this program, and
run.sh, which also runs compute-sanitizer where it is installed.

--json prints one object on standard output:
  {\"device\": {…}, \"self_test\": [{\"name\", \"compared\", \"wrong\"}],
   \"checks\": [{\"name\", \"run\", \"compared\", \"worst\", \"failed\": […]}],
   \"rates\": [{\"name\", \"operations\"}], \"dense\": cuBLAS's version, or why it is not there,
   \"timings\": [{\"kernel\", \"dtype\", \"rows\", \"cols\", \"tokens\", \"microseconds\",
   \"dense_microseconds\", \"speedup\", \"floor_microseconds\", \"limiter\", \"share_of_floor\"}],
   \"kept_in\", \"passed\"}

Status: 0 if all is right, 1 if something is not, 2 if that cannot be told, 77 if there is no card.

Examples:
  cargo xtask gpu-check
  cargo xtask gpu-check --emulate
  cargo xtask gpu-check --bundle ./gpu-check && scp -r gpu-check card:";

/// Check the kernels for sparse tensor cores on this machine's GPU, and time them against dense.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Print everything as one JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Write a folder that runs elsewhere, and check nothing here
    #[arg(long, value_name = "DIR", conflicts_with_all = ["json", "emulate", "quick"])]
    bundle: Option<PathBuf>,
    /// Which card, as the driver numbers them
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: usize,
    /// Steps 1 and 2 on the CPU instead of a card
    #[arg(long, conflicts_with_all = ["device", "cublas"])]
    emulate: bool,
    /// Steps 1 and 2 only, without the large shapes: for compute-sanitizer
    #[arg(long)]
    quick: bool,
    /// A folder with cuBLAS in it
    #[arg(long, value_name = "DIR")]
    cublas: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Answer {
    device: Card,
    self_test: Vec<Instruction>,
    checks: Vec<Checked>,
    rates: Vec<Rate>,
    dense: Option<String>,
    timings: Vec<Timing>,
    kept_in: Option<PathBuf>,
    passed: bool,
}

#[derive(Debug, Serialize)]
struct Card {
    name: String,
    sm: u32,
    multiprocessors: u32,
    memory_bytes: u64,
    bytes_per_second: f64,
    driver: u32,
}

#[derive(Debug, Serialize)]
struct Instruction {
    name: &'static str,
    compared: usize,
    wrong: usize,
}

/// All checks of one kernel and type.
#[derive(Debug, Default, Serialize)]
struct Checked {
    name: String,
    run: usize,
    compared: usize,
    /// The largest error as a share of what rounding explains; above 1 is wrong. Null if a result was NaN.
    worst: f64,
    /// Those that failed, and how.
    failed: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Rate {
    name: &'static str,
    operations: f64,
}

/// The status of the process.
pub fn run(args: Args) -> Result<u8> {
    if let Some(folder) = &args.bundle {
        bundle::write(folder)?;
        return Ok(0);
    }
    let device =
        if args.emulate { Ok(Emulator::new().device()) } else { Device::open(args.device) };
    let device = match device {
        Ok(device) => device,
        Err(reason) if is_absent(&reason) => {
            progress::tell(&format!("skipped: {reason}; --emulate checks without a card"));
            if args.json {
                let skipped = serde_json::json!({ "device": null, "skipped": reason.to_string() });
                progress::answer(&skipped.to_string())?;
            }
            return Ok(SKIPPED);
        }
        Err(reason) => return Err(reason.into()),
    };
    let answer = Answer::of(&device, &args)?;
    match args.json {
        true => progress::answer(&serde_json::to_string(&answer)?)?,
        false => progress::answer(&show::text(&answer))?,
    }
    Ok(u8::from(!answer.passed))
}

/// Whether there is no card to check, rather than one that does not work.
fn is_absent(reason: &CudaError) -> bool {
    matches!(
        reason,
        CudaError::NoDriver { .. }
            | CudaError::NoSuchDevice { count: 0, .. }
            | CudaError::TooOldDevice { .. }
    )
}

impl Answer {
    fn of(device: &Device, args: &Args) -> Result<Self> {
        let instruction =
            |SelfTest { name, compared, wrong }| Instruction { name, compared, wrong };
        let self_test: Vec<_> = self_test(device)?.into_iter().map(instruction).collect();
        let timed = !args.emulate && !args.quick;
        let mut sweep = check::sweep();
        if timed {
            sweep.extend(check::large());
        }
        let checks = checked(device, &sweep, args.emulate);
        let right = self_test.iter().all(|test| test.wrong == 0)
            && checks.iter().all(|check| check.failed.is_empty());
        let mut answer = Self {
            device: Card::of(device),
            self_test,
            checks,
            rates: Vec::new(),
            dense: None,
            timings: Vec::new(),
            kept_in: None,
            passed: right,
        };
        // Times of wrong results are of no use to anybody, and plans must not see them.
        if timed && right {
            let rates = issue_rates(device)?;
            let (timings, dense) = timing::measure(device, args.cublas.as_deref(), &rates)?;
            let mut measured = Measurements::of(device);
            measured.products = timings.iter().map(|timing| timing.measurement.clone()).collect();
            answer.kept_in = measured.save()?;
            let rate = |IssueRate { name, operations }| Rate { name, operations };
            answer.rates = rates.into_iter().map(rate).collect();
            (answer.timings, answer.dense) = (timings, Some(dense));
        }
        Ok(answer)
    }
}

impl Card {
    fn of(device: &Device) -> Self {
        let of = device.properties();
        Self {
            name: of.name.clone(),
            sm: of.sm,
            multiprocessors: of.multiprocessors,
            memory_bytes: of.memory,
            bytes_per_second: of.bandwidth,
            driver: of.driver,
        }
    }
}

/// Runs all checks: on a card one after the other, on the emulator on all threads, each check on its own.
fn checked(device: &Device, sweep: &[Check], emulate: bool) -> Vec<Checked> {
    let bar = progress::bar("checking kernels", sweep.len());
    let verdict = |device: &Device, check: &Check| {
        let verdict = check.run(device);
        bar.pb_inc(1);
        verdict
    };
    let verdicts: Vec<Result<Verdict, KernelError>> = if emulate {
        sweep.par_iter().map(|check| verdict(&Emulator::new().device(), check)).collect()
    } else {
        // A card that has failed once fails from then on: what follows says nothing.
        let mut failed = false;
        let all = sweep.iter().map(|check| verdict(device, check));
        all.take_while(|verdict| !std::mem::replace(&mut failed, verdict.is_err())).collect()
    };
    let mut by_name: BTreeMap<String, Checked> = BTreeMap::new();
    for (check, verdict) in sweep.iter().zip(verdicts) {
        let name = check.name();
        let of = by_name.entry(name.clone()).or_insert(Checked { name, ..Checked::default() });
        of.run += 1;
        match verdict {
            Err(error) => of.failed.push(format!("{check}: {error}")),
            Ok(verdict) => {
                of.compared += verdict.compared;
                of.worst = of.worst.max(verdict.worst);
                if !verdict.holds() {
                    let Verdict { compared, worst, stray } = verdict;
                    of.failed.push(format!(
                        "{check}: {compared} compared, worst {worst:.3}, {stray} where nothing should be"
                    ));
                }
            }
        }
    }
    by_name.into_values().collect()
}
