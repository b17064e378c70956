//! `cargo xtask prune-finetune`: the main job, from a recipe to five answers.

use crate::{
    measure::{self, LARGE_BATCH},
    progress::Watcher,
    recipe::{Data, Model, Recipe},
    report::{Pruned, Report, Side},
    table, workspace,
};
use anyhow::{Context, Result, bail, ensure};
use secateur::{
    nn::{Mlp, Network, count_nonzero, count_parameters},
    prelude::*,
    storage::write_atomically,
    train::{Evaluation, Split},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};
use tracing::info;

const DENSE: &str = "dense.safetensors";
const PRUNED: &str = "pruned.safetensors";
const MASKS: &str = "masks.safetensors";
const METRICS: &str = "metrics.jsonl";
const REPORT: &str = "report.json";
/// Everything that a run writes, the report last.
const FILES: [&str; 5] = [METRICS, DENSE, PRUNED, MASKS, REPORT];

const HELP: &str = "\
Shipped recipes:
  digits-2of4         2:4 on 8x8 digits; nothing to download, seconds
  lenet-300-100       MNIST, 12 times fewer parameters (Han et al. 2015); minutes
  lenet-300-100-2of4  MNIST, every layer 2:4 (Mishra et al. 2021); minutes

Examples:
  cargo xtask prune-finetune
  cargo xtask data mnist && cargo xtask prune-finetune --recipe lenet-300-100
  cargo xtask prune-finetune --recipe lenet-300-100-2of4 --seed 3 --out runs/mine
  cargo xtask prune-finetune --recipe my-recipe.toml --data-dir ~/fashion-mnist

The run's folder holds dense.safetensors, pruned.safetensors (packed), masks.safetensors,
metrics.jsonl and report.json. Shipped recipes are in xtask/recipes; copy one to write your own.";

/// Train a dense network to convergence, prune it, retrain it, prove the pattern, pack what is left,
/// run it packed, and report dense beside pruned.
///
/// Without arguments: 2:4 on the embedded digits, in under a minute.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// A shipped recipe's name, or a TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "digits-2of4")]
    recipe: String,
    /// A folder with four IDX files (as MNIST has), plain or gzipped, to use as data
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where all random numbers come from, instead of the recipe's seed
    #[arg(long)]
    seed: Option<u64>,
    /// The run's folder [default: a new one below runs/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace a run that is already in the folder
    #[arg(long)]
    force: bool,
    /// Print the report as one JSON object on the last line of standard output
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let (name, mut recipe) = Recipe::find(&args.recipe)?;
    recipe.seed = args.seed.unwrap_or(recipe.seed);
    let data = load_data(&recipe, args.data_dir.as_deref())?;
    let out = prepare(args.out.as_deref(), &format!("{name}-seed{}", recipe.seed), args.force)?;
    info!("{name}, seed {}: {} -> {}", recipe.seed, recipe.about, out.display());

    let split = data.split(recipe.validation, recipe.seed)?;
    let outcome = train(&recipe, &data, &split, &out)?;
    save(&outcome, &name, &recipe, &data, &out)?;

    let report = report(&outcome, &name, &recipe, &data, &split, &out)?;
    let json = serde_json::to_string(&report)?;
    let pretty = serde_json::to_string_pretty(&report)? + "\n";
    write_atomically(&out.join(REPORT), pretty.as_bytes())?;
    eprintln!("{}\nwritten to {}", table::render(&report), out.display());
    if args.json {
        println!("{json}");
    }
    ensure!(
        report.proof.holds(),
        "the packed network does not compute what the masked one does; please report this"
    );
    Ok(())
}

fn load_data(recipe: &Recipe, folder: Option<&Path>) -> Result<Dataset> {
    match (recipe.data, folder) {
        (_, Some(folder)) => {
            let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
            Ok(load_idx(folder, &name, &Device::Cpu)?)
        }
        (Data::Digits, None) => Ok(digits(&Device::Cpu)?),
        (Data::Mnist, None) => {
            let folder = workspace::data().join("mnist");
            if !folder.is_dir() {
                bail!(
                    "MNIST is not here yet; run `cargo xtask data mnist`, or pass --data-dir with a \
                     folder that has its four IDX files"
                );
            }
            Ok(load_idx(&folder, "mnist", &Device::Cpu)?)
        }
    }
}

/// The folder to write to: the one named if it holds no run (or may be replaced), or a new one.
fn prepare(named: Option<&Path>, name: &str, force: bool) -> Result<PathBuf> {
    let holds_a_run = |folder: &Path| FILES.iter().any(|file| folder.join(file).exists());
    let out = match named {
        Some(folder) => folder.to_owned(),
        None => {
            let numbered = |n: usize| match n {
                1 => workspace::runs().join(name),
                n => workspace::runs().join(format!("{name}-{n}")),
            };
            let free = |folder: &PathBuf| force || !holds_a_run(folder);
            (1..).map(numbered).find(free).context("no free folder name")?
        }
    };
    if holds_a_run(&out) {
        if !force {
            bail!(
                "{} already holds a run; pass --force to replace it or another --out",
                out.display()
            );
        }
        // Newest first, so that a folder with a report always has what the report is about.
        for file in FILES.iter().rev().map(|file| out.join(file)).filter(|file| file.exists()) {
            fs::remove_file(&file).with_context(|| format!("cannot replace {}", file.display()))?;
        }
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    Ok(out)
}

fn train(recipe: &Recipe, data: &Dataset, split: &Split, out: &Path) -> Result<Outcome<Mlp>> {
    let hidden: &[usize] = match recipe.model {
        Model::Lenet300100 => &[300, 100],
        Model::DigitsMlp => &[128, 128],
    };
    let widths = [&[data.features], hidden, &[data.classes]].concat();
    let network = Mlp::new(&widths, recipe.seed, &Device::Cpu)?;
    let run = Run {
        criterion: recipe.criterion(),
        pattern: recipe.pruning.pattern,
        allocation: recipe.allocation(),
        schedule: recipe.schedule()?,
        training: recipe.training.clone(),
        retraining: recipe.retraining().clone(),
        seed: recipe.seed,
    };
    let mut watcher = Watcher::new(out.join(METRICS));
    let outcome = run.execute(network, split, &mut watcher)?;
    watcher.finish()?;
    Ok(outcome)
}

/// Writes the three checkpoints, each with what it takes to know what it is.
fn save(
    outcome: &Outcome<Mlp>,
    name: &str,
    recipe: &Recipe,
    data: &Dataset,
    out: &Path,
) -> Result<()> {
    let metadata: BTreeMap<String, String> = [
        ("data", data.name.clone()),
        ("normalisation", serde_json::to_string(&data.normalisation)?),
        ("pattern", recipe.pruning.pattern.to_string()),
        ("recipe", name.to_owned()),
        ("recipe_toml", toml::to_string(recipe)?),
        ("seed", recipe.seed.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let files = [(DENSE, &outcome.dense), (PRUNED, &outcome.pruned), (MASKS, &outcome.masks)];
    for (file, checkpoint) in files {
        let checkpoint = Checkpoint { metadata: metadata.clone(), ..checkpoint.clone() };
        checkpoint.save(&out.join(file))?;
    }
    Ok(())
}

/// Measures both networks as they come out of their files.
fn report(
    outcome: &Outcome<Mlp>,
    name: &str,
    recipe: &Recipe,
    data: &Dataset,
    split: &Split,
    out: &Path,
) -> Result<Report> {
    let (dense, pruned) = (measure::load(&out.join(DENSE))?, measure::load(&out.join(PRUNED))?);
    let verified = verify(&out.join(PRUNED), &outcome.masks, recipe.pruning.pattern)?;
    let on_gemm = measure::load_on_gemm(&out.join(DENSE))?;
    let [candle, gemm, packed] =
        measure::latencies([&dense, &on_gemm, &pruned], split.validation.xs())?;
    let side = |network: &Mlp, test: &Evaluation, file, latency_ms| -> Result<Side> {
        let file = out.join(file);
        Ok(Side {
            accuracy: test.accuracy,
            error: test.error(),
            parameters: count_parameters(network),
            bytes: fs::metadata(&file)?.len(),
            weight_bytes: network.layers().values().map(|layer| layer.weight_bytes()).sum(),
            latency_ms,
            rss_bytes: measure::resident_bytes(&file)?,
        })
    };
    let kernels: BTreeSet<String> = pruned
        .layers()
        .values()
        .filter_map(|layer| Some(layer.explain(LARGE_BATCH)?.kernel().to_owned()))
        .collect();
    let nonzero = count_nonzero(&pruned)?;
    Ok(Report {
        recipe: name.to_owned(),
        seed: recipe.seed,
        data: data.name.clone(),
        test_samples: outcome.pruned_test.samples,
        normalisation: data.normalisation,
        batch_large: LARGE_BATCH,
        dense: side(&dense, &outcome.dense_test, DENSE, candle.best(gemm))?,
        candle_latency_ms: candle,
        pruned: Pruned {
            side: side(&pruned, &outcome.pruned_test, PRUNED, packed)?,
            nonzero,
            compression: count_parameters(&pruned) as f64 / nonzero.max(1) as f64,
            pattern: recipe.pruning.pattern.to_string(),
            verified: verified && outcome.proof.holds(),
            kernel: kernels.into_iter().collect::<Vec<_>>().join(" + "),
        },
        proof: outcome.proof,
    })
}

/// Proves on the written file that what every pruned layer stores has the pattern, and that nothing
/// outside its mask is left. A layer that kept everything is stored dense.
fn verify(file: &Path, masks: &Checkpoint, pattern: Pattern) -> Result<bool> {
    let written = Checkpoint::load(file)?;
    for (name, mask) in &masks.masks {
        let weight = written.tensors.get(name).with_context(|| format!("{name} is missing"))?;
        let stored = weight.mask().map_or_else(|| Mask::full(weight.shape()), Ok)?;
        stored.verify(&pattern).with_context(|| format!("{name} in {}", file.display()))?;
        let nonzero: Vec<bool> = weight.unpack().values().iter().map(|w| *w != 0.0).collect();
        let nonzero = Mask::from_bools(&nonzero, weight.shape())?;
        ensure!(nonzero.is_subset_of(mask)?, "{name} has weights outside its mask");
    }
    ensure!(!masks.masks.is_empty(), "no layer was pruned");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_shipped_recipe() {
        for recipe in fs::read_dir(workspace::recipes()).unwrap() {
            let name = recipe.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
            assert!(HELP.contains(&format!("  {name} ")), "{name}");
        }
    }
}
