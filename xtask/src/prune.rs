//! `cargo xtask prune`: any criterion on the bare layers of any checkpoint, no network needed.

use crate::{
    chain,
    methods::{AllocationName, CriterionName},
    observations::Observations,
    progress,
    table::STYLE,
    weights::Weights,
};
use anyhow::{Context, Result, bail, ensure};
use candle_core::Tensor;
use comfy_table::{ContentArrangement, Table};
use globset::{Glob, GlobSet, GlobSetBuilder};
use secateur::{
    criteria::{Allocation, Criterion, CriterionError, Cut, Refit, Statistics, prune_in_steps},
    mask::Target,
    prelude::Mask,
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};
use tracing_indicatif::span_ext::IndicatifSpanExt;

const HELP: &str = "\
Patterns:
  0.9                   a share of each layer (of each output row for wanda)
  2:4  4:8  1:16        N of every M inputs stay; output-2:4 along the outputs
  transposable-2:4      2:4 along rows and columns at once
  64:2:8                V:N:M: 64 rows share four of every eight columns, each keeps two
  block4x1@0.8          whole blocks of outputs x inputs
  channel@0.5           output rows (neurons, filters); input-channel@0.5 columns
  unstructured-row@0.6  of each output row alike

Examples:
  cargo xtask prune model.safetensors --criterion magnitude --pattern 2:4 --out sparse.safetensors
  cargo xtask prune model.safetensors --tensor 'encoder.*.weight' --criterion sparsegpt --refit \\
      --inputs activations.safetensors --pattern 2:4 --out sparse.safetensors
  cargo xtask prune model.safetensors --criterion magnitude --pattern 0.9 --allocation erk \\
      --packed --out packed.safetensors

OUT holds every tensor of W under its name, the chosen ones pruned. synflow takes the chosen tensors
for a chain of layers, in the order of their names; grasp reads Hessian-gradient products, movement
one gradient a step, obs one a sample, all from --gradients.";

/// Prune bare layers of any safetensors checkpoint.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The checkpoint: a .safetensors file
    #[arg(value_name = "W")]
    weights: PathBuf,
    /// Which tensors, by name; * matches any run of characters; may be given several times
    /// [default: every float tensor of two or more sides]
    #[arg(long, value_name = "GLOB")]
    tensor: Vec<String>,
    /// Activations [tokens, in] of each layer (for convolutions the unfolded patches [tokens, in*kh*kw];
    /// more leading sides are fine), under the weight's name, with or without .weight
    #[arg(long, value_name = "X")]
    inputs: Option<PathBuf>,
    /// Gradients of each weight, of its shape, or several stacked in front, under its name
    #[arg(long, value_name = "G")]
    gradients: Option<PathBuf>,
    /// Which weights matter
    #[arg(long, value_enum)]
    criterion: CriterionName,
    /// In what shape how much goes: 2:4, 0.9, block4x1@0.8, ... (see below)
    #[arg(long, value_name = "PATTERN")]
    pattern: Target,
    /// How much of each layer goes
    #[arg(long, value_enum, default_value = "uniform")]
    allocation: AllocationName,
    /// Set the survivors to the least-squares solution for the inputs
    #[arg(long)]
    refit: bool,
    /// Where to write
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// Store only what is left, in secateur's own format
    #[arg(long)]
    packed: bool,
    /// What random scores are drawn from
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print what was done as one JSON object on the last line of standard output
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Summary {
    criterion: String,
    pattern: String,
    allocation: String,
    /// Share of zeros over all pruned tensors.
    sparsity: f64,
    tensors: Vec<Pruned>,
    /// Tensors that were left as they are, with the reason.
    left: BTreeMap<String, String>,
}

/// One pruned tensor.
#[derive(Serialize)]
struct Pruned {
    name: String,
    shape: Vec<usize>,
    kept: usize,
    sparsity: f64,
    /// Tokens of its inputs that were seen.
    tokens: Option<u64>,
    /// ‖XWᵀ − XŴᵀ‖² / ‖XWᵀ‖² over the inputs, where inputs were given.
    output_error: Option<f64>,
}

pub fn run(args: Args) -> Result<()> {
    let weights = Weights::load(&args.weights)?;
    let (chosen, left) = choose(&weights, &args.tensor)?;
    let observations = Observations::load(args.inputs.as_deref(), args.gradients.as_deref())?;
    let criterion: Box<dyn Criterion> = match args.criterion {
        CriterionName::Movement => Box::new(observations.movement(&weights, &chosen)?),
        name => name.criterion(args.seed),
    };
    let criterion: Box<dyn Criterion> =
        if args.refit { Box::new(Refit::new(criterion)) } else { criterion };
    let allocation = args.allocation.allocation();
    // Whatever can be refused is refused before the work is done.
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    ensure!(
        folder.is_none_or(Path::is_dir) && !args.out.is_dir(),
        "--out {} is no file in an existing folder",
        args.out.display()
    );
    let unused = observations.unused(&chosen);
    if !unused.is_empty() {
        progress::tell(&format!("of --inputs and --gradients not used: {}", unused.join(", ")));
    }

    // A uniform share needs one layer at a time; then no more is held in memory than one needs.
    let together = args.allocation != AllocationName::Uniform || criterion.needs().flow;
    let groups: Vec<&[String]> = if together { vec![&chosen] } else { chosen.chunks(1).collect() };
    let bar = progress::bar(criterion.name(), chosen.len());
    let (mut changed, mut masks, mut pruned) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for names in groups {
        let start = Instant::now();
        let cuts = cut(&weights, names, &*criterion, args.pattern, &*allocation, &observations)?;
        for (name, cut) in cuts {
            let before = weights.tensor(&name)?.context("a tensor was there and is gone")?;
            let (after, mask) = (cut.apply(&before)?, cut.mask);
            let (tokens, output_error) = observations.output_error(&name, &before, &after)?.unzip();
            pruned.push(Pruned {
                shape: before.dims().to_vec(),
                kept: mask.count_kept(),
                sparsity: 1.0 - mask.density(),
                tokens,
                output_error,
                name: name.clone(),
            });
            changed.insert(name.clone(), after);
            masks.insert(name, mask);
            bar.pb_inc(1);
        }
        tracing::debug!("{} in {:.1} s", names.join(", "), start.elapsed().as_secs_f64());
    }
    drop(bar);
    let mut checkpoint = weights.checkpoint(&changed)?;
    if args.packed {
        for (name, mask) in &masks {
            Weights::pack(&mut checkpoint, name, mask, args.pattern.pattern())?;
        }
        checkpoint.save(&args.out)?;
    } else {
        checkpoint.save_dense(&args.out)?;
    }

    let total: usize = masks.values().map(Mask::len).sum();
    let kept: usize = masks.values().map(Mask::count_kept).sum();
    let summary = Summary {
        criterion: criterion.name().to_owned(),
        pattern: args.pattern.to_string(),
        allocation: allocation.name().to_owned(),
        sparsity: 1.0 - kept as f64 / total.max(1) as f64,
        tensors: pruned,
        left,
    };
    progress::tell(&format!("{}\nwritten to {}", table(&summary), args.out.display()));
    if args.json {
        progress::answer(&serde_json::to_string(&summary)?)?;
    }
    Ok(())
}

/// The tensors to prune, and why the others are left as they are.
fn choose(weights: &Weights, globs: &[String]) -> Result<(Vec<String>, BTreeMap<String, String>)> {
    let asked = matcher(globs)?;
    let (mut chosen, mut left) = (Vec::new(), BTreeMap::new());
    for name in weights.names() {
        match (weights.prunable(&name), globs.is_empty() || asked.is_match(&name)) {
            (Ok(()), true) => chosen.push(name),
            (Ok(()), false) => drop(left.insert(name, "--tensor does not name it".into())),
            // What somebody asked for by its full name is refused, not left out.
            (Err(reason), true) if globs.contains(&name) => {
                bail!("{name} cannot be pruned: {reason}")
            }
            (Err(reason), _) => drop(left.insert(name, reason)),
        }
    }
    let held = || {
        let reason = |name: String| match weights.prunable(&name) {
            Ok(()) => name,
            Err(reason) => format!("{name} ({reason})"),
        };
        weights.names().into_iter().take(20).map(reason).collect::<Vec<_>>().join(", ")
    };
    for glob in globs {
        let one = matcher(std::slice::from_ref(glob))?;
        ensure!(
            chosen.iter().any(|name| one.is_match(name)),
            "--tensor {glob} names no weight; the file holds {}",
            held()
        );
    }
    ensure!(!chosen.is_empty(), "there is nothing to prune; the file holds {}", held());
    Ok((chosen, left))
}

fn matcher(globs: &[String]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(Glob::new(glob).with_context(|| format!("--tensor {glob} is no glob"))?);
    }
    Ok(set.build()?)
}

/// Cuts the tensors `names` together.
fn cut(
    weights: &Weights,
    names: &[String],
    criterion: &dyn Criterion,
    target: Target,
    allocation: &dyn Allocation,
    observations: &Observations,
) -> Result<BTreeMap<String, Cut>> {
    let (mut layers, mut masks) = (BTreeMap::new(), BTreeMap::new());
    for name in names {
        let tensor = weights.tensor(name)?.context("a tensor was there and is gone")?;
        layers.insert(name.clone(), tensor);
        masks.extend(weights.mask(name)?.map(|mask| (name.clone(), mask)));
    }
    let needs = criterion.needs();
    let observe = |layers: &BTreeMap<String, Tensor>| -> Result<BTreeMap<String, Statistics>> {
        let mut statistics = match needs.flow {
            true => chain::flows(layers)?,
            false => BTreeMap::new(),
        };
        for (name, layer) in layers {
            observations.add(statistics.entry(name.clone()).or_default(), name, layer, needs)?;
        }
        Ok(statistics)
    };
    let asked = (target.pattern(), target.sparsity());
    prune_in_steps(&layers, &masks, criterion, asked, allocation, observe).map_err(explain)
}

/// What is missing comes from a file that was not given, or that lacks a tensor.
fn explain(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<CriterionError>() {
        Some(CriterionError::Missing { what, .. }) if what.contains("inputs") => {
            error.context("--inputs needs activations [tokens, in] under this weight's name")
        }
        Some(CriterionError::Missing { .. }) => {
            error.context("--gradients needs gradients under this weight's name")
        }
        _ => error,
    }
}

/// What was done, for people.
fn table(summary: &Summary) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["tensor", "shape", "kept", "zeros", "output error"]);
    for tensor in &summary.tensors {
        table.add_row([
            tensor.name.clone(),
            format!("{:?}", tensor.shape),
            tensor.kept.to_string(),
            format!("{:.2} %", tensor.sparsity * 100.0),
            tensor.output_error.map_or("-".to_owned(), |error| format!("{error:.5}")),
        ]);
    }
    let mut text = format!(
        "{table}\n{}, {}, {}: {:.2} % of {} tensors are zeros",
        summary.criterion,
        summary.pattern,
        summary.allocation,
        summary.sparsity * 100.0,
        summary.tensors.len()
    );
    if !summary.left.is_empty() {
        text += &format!("\nleft as they are: {}", summary.left.len());
        for (name, reason) in &summary.left {
            text += &format!("\n  {name}: {reason}");
        }
    }
    text
}
