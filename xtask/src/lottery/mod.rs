//! `cargo xtask lottery`: do lottery tickets win here too? The experiment of Frankle & Carbin (2019) on
//! LeNet-300-100 and MNIST, over several seeds, ending in what holds of what they claim.

mod claims;
mod page;
mod plot;
mod seed;
mod student;

use crate::{html, measure, progress, prune_finetune, table};
use anyhow::{Context, Result, anyhow, bail, ensure};
use claims::Claim;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use secateur::{prelude::Dataset, storage::write_atomically};
use seed::{ROUNDS, Trained, plan};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
};
use tracing_indicatif::span_ext::IndicatifSpanExt;

pub use seed::{SeedArgs, run as run_seed};

const SETTINGS: &str = "settings.json";
const ANSWER: &str = "lottery.json";
const PAGE: &str = "lottery.html";
const PLOT: &str = "lottery.svg";
const LOCK: &str = "lock";
/// Training samples set aside: 5 000 of MNIST's 60 000, as in the paper.
const VALIDATION: usize = 5000;
/// The round at 21.1 %, whose control two claims need.
const CONTROL: usize = 7;

/// Of the table of claims.
const HEADER: [&str; 6] = ["claim", "published", "reproduced", "here", "95 % interval", "verdict"];

const HELP: &str = "\
What is done, for every seed: LeNet-300-100 gets Glorot-normal weights and is trained by Adam (1.2e-3,
batches of 60). Of the weights it ends with, a fifth goes in each layer (a tenth in the output layer), the
least first; what is left goes back to its initial values and is trained again: 15 times, down to 3.6 %.
The ticket of 21.1 % is also trained from another draw of initial weights: the control.

What is asked, each as a mean over the seeds with its 95 % interval of Student's t:
  at 21.1 %  is least validation loss reached earlier than dense? and than by the control?
             is the ticket more accurate than the control?
  at 13.5 %  is the ticket more accurate than dense?
  at  3.6 %  is it as accurate as dense, within 0.2 points?
A claim holds or fails if the whole interval says so, and is open otherwise: more seeds would tell.

Examples:
  cargo xtask data mnist && cargo xtask lottery
  cargo xtask lottery --seeds 1 --iterations 2000 --out runs/lottery-short
  cargo xtask lottery --seeds 10        (goes on with a finished experiment of five)

A seed is 17 trainings, on one core. An experiment that was stopped, by whatever, goes on with the same
command, loses at most the training that each seed was at, and comes to the same numbers. The folder
holds lottery.json (all of it), lottery.html and lottery.svg to look at, and a folder for each seed.";

/// Repeat the lottery-ticket experiment of Frankle & Carbin (2019): LeNet-300-100 on MNIST.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Seeds 0 to N-1
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Iterations of each training; the paper has 50 000
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = at_least_one)]
    iterations: usize,
    /// Seeds that are trained at once, each on one core [default: as many as there are cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    jobs: Option<usize>,
    /// Which tickets are also trained from other initial weights: at 21.1 %, or at 51.3 and 3.6 % too
    #[arg(long, value_enum, default_value_t = Controls::Claimed)]
    controls: Controls,
    /// A folder with four IDX files (as MNIST has), plain or gzipped, to use instead of MNIST
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The experiment's folder [default: runs/lottery]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print lottery.json as one line on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Controls {
    /// At 21.1 %
    Claimed,
    /// At 51.3, 21.1 and 3.6 %
    All,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number from 1 on is needed".to_owned()),
        Ok(n) => Ok(n),
    }
}

/// What all seeds have in common: written into the folder before anything else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Of each training.
    iterations: usize,
    /// Training samples set aside for early stopping.
    validation: usize,
    /// The folder with the data, if it is not MNIST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
}

impl Settings {
    /// The settings of the experiment in `folder`.
    fn read(folder: &Path) -> Result<Self> {
        let file = folder.join(SETTINGS);
        let text = fs::read_to_string(&file)
            .with_context(|| format!("{} holds no experiment", folder.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))
    }

    fn load(&self) -> Result<Dataset> {
        prune_finetune::load_images(self.data_dir.as_deref())
    }
}

/// What the experiment came to.
#[derive(Serialize)]
struct Answer {
    data: String,
    iterations: usize,
    rounds: usize,
    /// Accuracies that differ by no more than this, in percentage points, are equal.
    margin: f64,
    environment: BTreeMap<String, String>,
    seeds: Vec<Seed>,
    claims: Vec<Claim>,
}

#[derive(Serialize)]
struct Seed {
    seed: u64,
    trainings: Vec<Trained>,
}

pub fn run(args: Args) -> Result<()> {
    let data_dir = args.data_dir.as_deref().map(|folder| {
        folder
            .canonicalize()
            .with_context(|| format!("--data-dir {} is no folder", folder.display()))
    });
    let settings = Settings {
        iterations: args.iterations,
        validation: VALIDATION,
        data_dir: data_dir.transpose()?,
    };
    // Whatever can be refused is refused before a folder is touched.
    let data = settings.load()?;
    data.split(settings.validation, 0)?;
    let out = args.out.unwrap_or_else(|| crate::workspace::runs().join("lottery"));
    let _lock = claim(&out, &settings)?;

    let controls = match args.controls {
        Controls::Claimed => vec![CONTROL],
        Controls::All => vec![3, CONTROL, ROUNDS],
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(cores).min(args.seeds as usize);
    train(&out, args.seeds, jobs, settings.iterations, &controls)?;

    let seeds = (0..args.seeds)
        .map(|seed| Ok(Seed { seed, trainings: trainings(&out, seed, &controls)? }))
        .collect::<Result<Vec<Seed>>>()?;
    let trainings: Vec<&[Trained]> = seeds.iter().map(|seed| &seed.trainings[..]).collect();
    let claims = claims::judge(&trainings)?;
    let mut environment = html::environment()?;
    environment.insert("threads".to_owned(), "1 for each seed".to_owned());
    let answer = Answer {
        data: data.name,
        iterations: settings.iterations,
        rounds: ROUNDS,
        margin: claims::MARGIN,
        environment,
        seeds,
        claims,
    };
    write_atomically(&out.join(PAGE), page::render(&answer)?.as_bytes())?;
    write_atomically(&out.join(PLOT), plot::svg(&answer)?.as_bytes())?;
    let pretty = serde_json::to_string_pretty(&answer)? + "\n";
    write_atomically(&out.join(ANSWER), pretty.as_bytes())?;
    progress::tell(&format!("{}\nwritten to {}", render(&answer), out.display()));
    if args.json {
        progress::answer(&serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

/// Makes the folder this process's, for this experiment or for going on with it.
fn claim(out: &Path, settings: &Settings) -> Result<fs::File> {
    fs::create_dir_all(out).with_context(|| format!("cannot write to {}", out.display()))?;
    let held = lock(out)?;
    match held.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            bail!("another process is working on {}", out.display())
        }
        Err(fs::TryLockError::Error(error)) => return Err(error.into()),
    }
    if out.join(SETTINGS).exists() {
        let before = Settings::read(out)?;
        ensure!(
            before == *settings,
            "{} holds an experiment of {} iterations{}; go on with that, or pass another --out",
            out.display(),
            before.iterations,
            before.data_dir.map_or(String::new(), |data| format!(" on {}", data.display())),
        );
    } else {
        write_atomically(&out.join(SETTINGS), serde_json::to_string(settings)?.as_bytes())?;
    }
    Ok(held)
}

/// The file that a process holds locked while it works on a folder.
fn lock(folder: &Path) -> Result<fs::File> {
    let file = folder.join(LOCK);
    let open = fs::File::options().create(true).truncate(false).write(true).open(&file);
    open.with_context(|| format!("cannot write {}", file.display()))
}

/// Trains all seeds, so many at once. After a failure no other seed is begun.
fn train(out: &Path, seeds: u64, jobs: usize, iterations: usize, controls: &[usize]) -> Result<()> {
    let waiting: Mutex<(_, Option<anyhow::Error>)> = Mutex::new((0..seeds, None));
    let work = || {
        loop {
            let next = match waiting.lock() {
                Ok(mut state) if state.1.is_none() => state.0.next(),
                _ => None,
            };
            let Some(seed) = next else { return };
            if let Err(error) = train_one(out, seed, iterations, controls)
                && let Ok(mut state) = waiting.lock()
            {
                state.1.get_or_insert(error.context(format!("seed {seed} failed")));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let (_, failed) = waiting.into_inner().map_err(|_| anyhow!("a thread panicked"))?;
    failed.map_or(Ok(()), Err)
}

/// A seed in a process of its own: only there is it sure to have one thread.
fn train_one(out: &Path, seed: u64, iterations: usize, controls: &[usize]) -> Result<()> {
    let bar =
        progress::bar(&format!("seed {seed}"), plan(controls).len().saturating_mul(iterations));
    let mut child = Command::new(measure::this_program()?)
        .env("RAYON_NUM_THREADS", "1")
        .arg("lottery-seed")
        .arg(out)
        .arg(seed.to_string())
        .args(controls.iter().map(usize::to_string))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a process to train in")?;
    if let Some(said) = child.stdout.take() {
        for line in BufReader::new(said).lines() {
            if let Ok(done) = line?.parse() {
                bar.pb_set_position(done);
            }
        }
    }
    let mut wrong = String::new();
    if let Some(mut said) = child.stderr.take() {
        said.read_to_string(&mut wrong)?;
    }
    ensure!(child.wait()?.success(), "{}", wrong.trim().trim_start_matches("error: "));
    Ok(())
}

/// A seed's trainings in the order of the plan.
fn trainings(out: &Path, seed: u64, controls: &[usize]) -> Result<Vec<Trained>> {
    let finished = seed::finished(&seed::folder(out, seed))?;
    plan(controls)
        .into_iter()
        .map(|wanted| {
            let found = finished.iter().find(|trained| (trained.kind, trained.round) == wanted);
            found.cloned().with_context(|| format!("seed {seed} lacks a training: {wanted:?}"))
        })
        .collect()
}

/// The claims as a table for a terminal.
fn render(answer: &Answer) -> String {
    let mut table = Table::new();
    table
        .load_style(table::STYLE)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(HEADER);
    for claim in &answer.claims {
        table.add_row(claim.cells());
    }
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n{}", note(answer))
}

/// What the numbers are of.
fn note(answer: &Answer) -> String {
    format!(
        "LeNet-300-100 on {}, {} iterations, seeds: {}; equal: within {} pp",
        answer.data,
        table::count(answer.iterations),
        answer.seeds.len(),
        answer.margin
    )
}
