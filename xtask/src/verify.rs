//! `cargo xtask verify`: do two checkpoints hold the same numbers, whatever they are stored as?

use crate::{progress, table::STYLE};
use anyhow::{Context, Result};
use comfy_table::{ContentArrangement, Table};
use secateur::storage::{Comparison, Source};
use serde::Serialize;
use std::{collections::BTreeSet, path::PathBuf};
use tracing_indicatif::span_ext::IndicatifSpanExt;

const HELP: &str = "\
Each is a .safetensors file or a model folder, in any layout, packed or dense, sharded or not. Tensors
are compared by name, with what is not stored as zero. In one dtype, entries are the same if their bits
are, or if both are zero of either sign (NaN payloads count); in two dtypes, or where rows are scaled,
if they are as f64 (NaN is NaN). A mask alone is compared with a mask alone, and differs from a tensor.

Status: 0 if they hold the same, 1 if not, 2 if something cannot be read.

--json prints one object on the last line of standard output:
  {\"same\", \"tensors\": how many both have, \"equal\", \"different\": [{\"name\", \"why\": \"values\",
  \"shape\" or \"kind\", \"differing\", \"entries\", \"largest\", \"at\", \"said\"}], \"only_in_a\", \"only_in_b\"}
largest is null where it is infinite or NaN or not known; said has it all in words.

Examples:
  cargo xtask verify model/ packed.safetensors
  cargo xtask verify a.safetensors b.safetensors --json";

/// Compare two checkpoints, number by number.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// A .safetensors file or a model folder
    #[arg(value_name = "A")]
    a: PathBuf,
    /// Another one
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Print what was found as one JSON object on the last line of standard output
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Summary {
    same: bool,
    tensors: usize,
    equal: usize,
    different: Vec<Different>,
    only_in_a: Vec<String>,
    only_in_b: Vec<String>,
}

#[derive(Serialize)]
struct Different {
    name: String,
    why: &'static str,
    differing: Option<usize>,
    entries: Option<usize>,
    largest: Option<f64>,
    at: Option<Vec<usize>>,
    said: String,
}

/// Whether both hold the same.
pub fn run(args: Args) -> Result<bool> {
    let (a, b) = (Source::open(&args.a)?, Source::open(&args.b)?);
    let names = |source: &Source| source.entries().keys().cloned().collect::<BTreeSet<_>>();
    let (in_a, in_b) = (names(&a), names(&b));
    let both: Vec<&String> = in_a.intersection(&in_b).collect();
    let bytes = |name: &str| a.entries()[name].bytes + b.entries()[name].bytes;
    let bar = progress::bytes_bar("verify", both.iter().map(|name| bytes(name)).sum());
    let (mut different, mut other_dtype) = (Vec::new(), 0);
    for name in &both {
        let read = || format!("{name} of {} or {}", args.a.display(), args.b.display());
        let found = a.compare(&b, name).with_context(read)?;
        if !found.is_same() {
            different.push(Different::new(name, &found));
        } else if a.entries()[*name].dtype != b.entries()[*name].dtype {
            other_dtype += 1;
        }
        bar.pb_inc(bytes(name));
    }
    drop(bar);
    let only = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect::<Vec<_>>();
    let (only_in_a, only_in_b) = (only(&in_a, &in_b), only(&in_b, &in_a));
    let summary = Summary {
        same: different.is_empty() && only_in_a.is_empty() && only_in_b.is_empty(),
        tensors: both.len(),
        equal: both.len() - different.len(),
        different,
        only_in_a,
        only_in_b,
    };
    let text = render(&summary, other_dtype);
    if args.json {
        progress::tell(&text);
        progress::answer(&serde_json::to_string(&summary)?)?;
    } else {
        progress::answer(&text)?;
    }
    Ok(summary.same)
}

impl Different {
    fn new(name: &str, found: &Comparison) -> Self {
        let (why, values) = match found {
            Comparison::Values(values) => ("values", Some(values)),
            Comparison::Shapes(..) => ("shape", None),
            _ => ("kind", None),
        };
        Self {
            name: name.to_owned(),
            why,
            differing: values.map(|values| values.count),
            entries: values.map(|values| values.entries),
            largest: values.and_then(|values| values.largest).filter(|by| by.is_finite()),
            at: values.map(|values| values.at.clone()),
            said: found.to_string(),
        }
    }
}

/// What was found, for people.
fn render(summary: &Summary, other_dtype: usize) -> String {
    let mut text = String::new();
    if !summary.different.is_empty() {
        let mut table = Table::new();
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["tensor", "differs in"]);
        for different in &summary.different {
            table.add_row([&different.name, &different.said]);
        }
        text = format!("{table}\n");
    }
    for (side, names) in [("A", &summary.only_in_a), ("B", &summary.only_in_b)] {
        if !names.is_empty() {
            text += &format!("only in {side}: {}\n", names.join(", "));
        }
    }
    let (equal, tensors) = (summary.equal, summary.tensors);
    text += &match summary.same {
        true => format!("the same: all {tensors} tensors hold the same numbers"),
        false => {
            format!("different: {equal} of {tensors} tensors that both have hold the same numbers")
        }
    };
    if other_dtype > 0 {
        text += &format!(" ({other_dtype} of them in two dtypes)");
    }
    text
}
