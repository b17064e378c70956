//! `cargo xtask prune-finetune`: the main job, from a recipe to five answers.

mod folder;
mod shrunk;

use crate::{
    html,
    measure::{self, LARGE_BATCH},
    progress::{self, Watcher},
    recipe::{Data, Model, Recipe},
    report::{Pruned, Report, Side},
    table, workspace,
};
use anyhow::{Context, Result, ensure};
use folder::{
    DENSE, JOB, Job, MASKS, METRICS, PAGE, PROGRESS, PRUNED, REPORT, SHRUNK, claim, lock, read_job,
};
use secateur::{
    nn::{ConvNet, LeNet5, Mlp, Network, count_nonzero, count_parameters},
    prelude::*,
    storage::write_atomically,
    train::{Checkpointing, Evaluation, Interval, Split},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tracing::info;

const HELP: &str = "\
Shipped recipes:
  digits-2of4                2:4 on 8x8 digits; nothing to download, seconds
  lenet-300-100              MNIST, 12 times fewer parameters; minutes, as the others
  lenet-300-100-100x         the same, 100 times fewer
  lenet-300-100-2of4         every layer 2:4, the training repeated (Mishra et al. 2021)
  lenet-300-100-2of4-sr-ste  every layer 2:4 from scratch (Zhou et al. 2021)
  lenet-5                    a convolutional network, 12 times fewer parameters
  lenet-5-280x               the same, 280 times fewer
  lenet-5-2of4               every layer 2:4, the training repeated
  lenet-5-2of4-sr-ste        every layer 2:4 from scratch
  conv-net                   with batch normalisation, 8 times fewer parameters
  conv-net-filters           the same, half of its filters gone: a smaller dense network

Examples:
  cargo xtask prune-finetune
  cargo xtask data mnist && cargo xtask prune-finetune --recipe lenet-300-100
  cargo xtask prune-finetune --recipe lenet-300-100-2of4 --seed 3 --out runs/mine
  cargo xtask prune-finetune --recipe lenet-300-100 --min-accuracy 0.98
  cargo xtask prune-finetune --resume runs/mine
  cargo xtask prune-finetune --recipe my-recipe.toml --data-dir ~/fashion-mnist

The run's folder holds dense.safetensors, pruned.safetensors (packed), masks.safetensors,
metrics.jsonl, report.json, and report.html to look at; after filter pruning (channel) also
shrunk.safetensors, the smaller dense network. A run that was stopped, by whatever, goes on with
--resume and comes to the same bytes. Shipped recipes are in xtask/recipes; copy one to write your own.";

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
    /// Search for the sparsest network that still classifies this share of the validation samples
    /// rightly (0.98), instead of the recipe's sparsity
    #[arg(long, value_name = "SHARE")]
    min_accuracy: Option<f64>,
    /// The run's folder [default: a new one below runs/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace a run that is already in the folder
    #[arg(long)]
    force: bool,
    /// Go on with the run in this folder, which was stopped; nothing else need be said
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["recipe", "data_dir", "seed", "min_accuracy", "out", "force"]
    )]
    resume: Option<PathBuf>,
    /// How often progress is saved, in training steps (500) or minutes (5m)
    #[arg(long, value_name = "N|Nm", default_value = "1m", value_parser = interval)]
    checkpoint_every: Interval,
    /// Print the report as one JSON object on the last line of standard output
    #[arg(long)]
    json: bool,
}

/// Steps, or minutes with an `m`.
fn interval(text: &str) -> Result<Interval, String> {
    let wrong = || format!("{text:?} is neither a number of steps (500) nor of minutes (5m)");
    match text.strip_suffix('m') {
        None => text.parse().map(Interval::Steps).map_err(|_| wrong()),
        Some(minutes) => {
            let seconds = minutes.parse::<f64>().map_err(|_| wrong())? * 60.0;
            Duration::try_from_secs_f64(seconds).map(Interval::Time).map_err(|_| wrong())
        }
    }
}

pub fn run(args: Args) -> Result<()> {
    let (job, named) = match &args.resume {
        Some(folder) => (read_job(folder)?, Some(folder.as_path())),
        None => (new_job(&args)?, args.out.as_deref()),
    };
    let Job { name, recipe, .. } = &job;
    // Whatever can be refused is refused before a folder is touched.
    let data = load_data(recipe, job.data_dir.as_deref())?;
    let split = data
        .split(recipe.validation, recipe.seed)
        .context("`validation` in the recipe does not fit the data")?;
    let network = build(recipe, &data)?;
    Dispatcher::built_in()?;
    let choices = assemble(recipe)?;
    choices.check(&network, &split)?;
    let (out, _lock) = match (&args.resume, named) {
        (Some(folder), _) if folder.join(REPORT).exists() => {
            progress::tell(&format!("the run in {} is finished", folder.display()));
            return Ok(());
        }
        (Some(folder), _) => (folder.clone(), lock(folder)?),
        (None, named) => {
            let folder = match &job.data_dir {
                Some(_) => format!("{name}-{}-seed{}", data.name, recipe.seed),
                None => format!("{name}-seed{}", recipe.seed),
            };
            let (out, lock) = claim(named, &folder, args.force)?;
            write_atomically(&out.join(JOB), toml::to_string(&job)?.as_bytes())?;
            (out, lock)
        }
    };
    info!("{name}, seed {}: {} -> {}", recipe.seed, recipe.about, out.display());

    let start = Instant::now();
    let mut watcher = Watcher::new(out.join(METRICS));
    let checkpointing = Checkpointing { file: out.join(PROGRESS), every: args.checkpoint_every };
    let outcome = choices.execute_resumable(network, &split, &mut watcher, &checkpointing)?;
    save(&outcome, name, recipe, &data, &out)?;
    let epochs = watcher.finish()?;
    let seconds = start.elapsed().as_secs_f64();

    let report = report(&outcome, name, recipe, &data, &split, &out, seconds)?;
    let page = html::render(&html::Page {
        report: &report,
        about: &recipe.about,
        epochs: &epochs,
        dense: &outcome.dense,
        pruned: &outcome.pruned,
        masks: &outcome.masks,
        recipe: &toml::to_string(recipe)?,
        environment: &report.environment,
        more: &[],
    })?;
    write_atomically(&out.join(PAGE), page.as_bytes())?;
    let json = serde_json::to_string(&report)?;
    let pretty = serde_json::to_string_pretty(&report)? + "\n";
    write_atomically(&out.join(REPORT), pretty.as_bytes())?;
    // It may never have been saved, or the report says all that matters now.
    let _ = fs::remove_file(out.join(PROGRESS));
    progress::tell(&format!("{}\nwritten to {}", table::render(&report), out.display()));
    if args.json {
        progress::answer(&json)?;
    }
    ensure!(
        report.proof.holds(),
        "the packed network does not compute what the masked one does; please report this"
    );
    ensure!(
        report.shrunk.as_ref().is_none_or(shrunk::holds),
        "{SHRUNK} does not compute what {PRUNED} does; please report this"
    );
    Ok(())
}

fn new_job(args: &Args) -> Result<Job> {
    let (name, mut recipe) = Recipe::find(&args.recipe)?;
    recipe.seed = args.seed.unwrap_or(recipe.seed);
    if let Some(floor) = args.min_accuracy {
        recipe.pruning.search(floor);
        recipe.check().context("with --min-accuracy")?;
    }
    let data_dir = args.data_dir.as_deref();
    let data_dir = data_dir.map(|folder| {
        folder
            .canonicalize()
            .with_context(|| format!("--data-dir {} is no folder", folder.display()))
    });
    Ok(Job { name, data_dir: data_dir.transpose()?, recipe })
}

fn load_data(recipe: &Recipe, folder: Option<&Path>) -> Result<Dataset> {
    match (recipe.data, folder) {
        (Data::Digits, None) => Ok(digits(&Device::Cpu)?),
        (_, folder) => load_images(folder),
    }
}

/// The IDX files in `folder`, or MNIST.
pub fn load_images(folder: Option<&Path>) -> Result<Dataset> {
    let Some(folder) = folder else {
        let folder = workspace::data().join("mnist");
        return load_idx(&folder, "mnist", &Device::Cpu).context(
            "MNIST is not here; run `cargo xtask data mnist`, or pass --data-dir with a folder \
             that has its four IDX files",
        );
    };
    ensure!(folder.is_dir(), "--data-dir {} is no folder", folder.display());
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    Ok(load_idx(folder, &name, &Device::Cpu)?)
}

/// The recipe's network, freshly initialised.
fn build(recipe: &Recipe, data: &Dataset) -> Result<Box<dyn Network>> {
    let hidden: &[usize] = match recipe.model {
        Model::Lenet300100 => &[300, 100],
        Model::DigitsMlp => &[128, 128],
        Model::Lenet5 | Model::ConvNet => {
            ensure!(
                data.features == 784 && data.classes <= 10,
                "this model is for images of 28x28 in ten classes, {} has {} pixels and {} classes",
                data.name,
                data.features,
                data.classes
            );
            return Ok(match recipe.model {
                Model::ConvNet => Box::new(ConvNet::new(recipe.seed, &Device::Cpu)?),
                _ => Box::new(LeNet5::new(recipe.seed, &Device::Cpu)?),
            });
        }
    };
    let widths = [&[data.features], hidden, &[data.classes]].concat();
    Ok(Box::new(Mlp::new(&widths, recipe.seed, &Device::Cpu)?))
}

/// The recipe's choices.
fn assemble(recipe: &Recipe) -> Result<Run> {
    Ok(Run {
        criterion: recipe.criterion(),
        pattern: recipe.pruning.pattern(),
        allocation: recipe.allocation(),
        schedule: recipe.pruning.schedule()?,
        rewind: recipe.rewind()?,
        sparse: recipe.pruning.sparse()?,
        training: recipe.training.clone(),
        retraining: recipe.retraining().clone(),
        distillation: recipe.distillation,
        fold_dead: recipe.pruning.fold_dead,
        seed: recipe.seed,
    })
}

/// Writes the checkpoints, each with what it takes to know what it is.
fn save(
    outcome: &Outcome<Box<dyn Network>>,
    name: &str,
    recipe: &Recipe,
    data: &Dataset,
    out: &Path,
) -> Result<()> {
    let metadata: BTreeMap<String, String> = [
        ("data", data.name.clone()),
        ("features", data.features.to_string()),
        ("normalisation", serde_json::to_string(&data.normalisation)?),
        ("pattern", recipe.pruning.pattern().to_string()),
        ("recipe", name.to_owned()),
        ("recipe_toml", toml::to_string(recipe)?),
        ("seed", recipe.seed.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let files = [(DENSE, &outcome.dense), (PRUNED, &outcome.pruned), (MASKS, &outcome.masks)];
    let shrunk = outcome.shrunk.iter().map(|shrunk| (SHRUNK, shrunk));
    for (file, checkpoint) in files.into_iter().chain(shrunk) {
        let checkpoint = Checkpoint { metadata: metadata.clone(), ..checkpoint.clone() };
        checkpoint.save(&out.join(file))?;
    }
    Ok(())
}

/// Measures both networks as they come out of their files.
fn report(
    outcome: &Outcome<Box<dyn Network>>,
    name: &str,
    recipe: &Recipe,
    data: &Dataset,
    split: &Split,
    out: &Path,
    seconds: f64,
) -> Result<Report> {
    let dense = measure::load(&out.join(DENSE))?;
    let pruned = measure::load_on_gemm(&out.join(PRUNED))?;
    let pattern = recipe.pruning.pattern();
    let verified = verify(&out.join(PRUNED), &outcome.masks, pattern)?;
    let on_gemm = measure::load_on_gemm(&out.join(DENSE))?;
    let [candle, gemm, packed] =
        measure::latencies([&*dense, &*on_gemm, &*pruned], split.validation.xs())?;
    let side = |network: &dyn Network, test: &Evaluation, file, latency_ms| -> Result<Side> {
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
        dense: side(&*dense, &outcome.dense_test, DENSE, candle.best(gemm))?,
        candle_latency_ms: candle,
        pruned: Pruned {
            side: side(&*pruned, &outcome.pruned_test, PRUNED, packed)?,
            nonzero,
            compression: count_parameters(&pruned) as f64 / nonzero.max(1) as f64,
            pattern: pattern.to_string(),
            verified: verified && outcome.proof.holds(),
            kernel: kernels.into_iter().collect::<Vec<_>>().join(" + "),
        },
        shrunk: shrunk::report(out, &out.join(DENSE), &split.validation)?,
        proof: outcome.proof,
        rounds: outcome.rounds.clone(),
        chosen: outcome.chosen,
        seconds,
        environment: html::environment()?,
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
        let nonzero: Vec<bool> = weight.unpack().to_f32()?.iter().map(|w| *w != 0.0).collect();
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
