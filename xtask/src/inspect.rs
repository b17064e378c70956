//! `cargo xtask inspect`: what does a checkpoint really hold, who could run it, and is it what it
//! claims to be?

mod kernel;

use crate::{
    progress,
    table::{STYLE, count},
};
use anyhow::{Context, Result};
use comfy_table::{CellAlignment, ContentArrangement, Table};
use indicatif::HumanBytes;
use secateur::{
    kernels::Dispatcher,
    mask::{Mask, Pattern},
    storage::{Entry, Format, Inspected, Inspector, Source},
};
use serde::Serialize;
use std::path::PathBuf;
use tracing_indicatif::span_ext::IndicatifSpanExt;

const HELP: &str = "\
Columns:
  format       as it is stored
  zeros        share of values that are zero, stored or not
  pattern      the tightest that holds, with the share of zeros where the pattern does not fix it;
               `dense` where nothing is zero
  dense, now, possible
               bytes with every zero spelled out, as stored, in the smallest format (convert --to
               secateur packs float tensors of two or more sides)
  2:4 kernel   what the dispatcher plans on this machine, or why no 2:4 kernel runs it

Status: 0 if every claim of the metadata holds; 1 if one does not: a pattern or mask of our own, or
the sparsity_structure of compressed-tensors' config.json, which all compressed weights must have, and
those that targets and ignore choose where it says that they lie dense; 2 if something cannot be read.

--json prints one object on the last line of standard output, and the table on standard error:
  {\"layout\", \"shards\", \"tensors\": [{\"name\", \"shape\", \"dtype\", \"format\", \"sparsity\", \"pattern\",
  \"bytes_dense\", \"bytes_now\", \"bytes_possible\", \"smallest\", \"kernel\", \"false_claim\"}],
  \"totals\": {\"tensors\", \"parameters\", \"nonzeros\", \"sparsity\", \"bytes_dense\", \"bytes_now\",
  \"bytes_possible\", \"ratio\", \"ratio_possible\"}, \"claims\", \"claims_hold\"}
sparsity and pattern are null where the dtype's zeros are not known, false_claim where there is none.
parameters are the entries of all tensors but masks alone; ratio is dense to now; claims is how many
tensors something is claimed of.

Examples:
  cargo xtask inspect model.safetensors
  cargo xtask inspect model/ --json | tail -n 1 | jq .totals";

/// Say what each tensor of a checkpoint holds, and prove or disprove what it claims.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// A .safetensors file or a model folder
    #[arg(value_name = "FILE|DIR")]
    checkpoint: PathBuf,
    /// Print what was found as one JSON object on the last line of standard output
    #[arg(long)]
    json: bool,
    /// Show dense tensors of one side, such as biases, too
    #[arg(long)]
    all: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Summary {
    layout: String,
    shards: usize,
    tensors: Vec<Tensor>,
    totals: Totals,
    claims: usize,
    claims_hold: bool,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    format: Format,
    sparsity: Option<f64>,
    pattern: Option<String>,
    bytes_dense: u64,
    bytes_now: u64,
    bytes_possible: u64,
    smallest: Format,
    kernel: String,
    false_claim: Option<String>,
}

#[derive(Serialize, Default)]
struct Totals {
    tensors: usize,
    parameters: usize,
    nonzeros: usize,
    sparsity: f64,
    bytes_dense: u64,
    bytes_now: u64,
    bytes_possible: u64,
    ratio: f64,
    ratio_possible: f64,
}

/// Whether every claim holds.
pub fn run(args: Args) -> Result<bool> {
    let dispatcher = Dispatcher::probe()?;
    let source = Source::open(&args.checkpoint)?;
    let inspector = Inspector::new(&source)?;
    let bar = progress::bytes_bar("inspect", source.entries().values().map(|e| e.bytes).sum());
    let (mut tensors, mut totals, mut claims) = (Vec::new(), Totals::default(), 0);
    for (name, entry) in source.entries() {
        let read = || format!("{name} of {}", args.checkpoint.display());
        let found = inspector.inspect(name).with_context(read)?;
        claims += usize::from(entry.pattern.is_some() || found.covered);
        totals.add(entry, &found);
        tensors.push(Tensor::new(name, entry, found, &dispatcher));
        bar.pb_inc(entry.bytes);
    }
    drop(bar);
    totals.finish();
    let claims_hold = tensors.iter().all(|tensor| tensor.false_claim.is_none());
    let (layout, shards) = (source.layout(), source.files().count());
    let summary = Summary { layout, shards, tensors, totals, claims, claims_hold };
    let structure = inspector.structure().map(|structure| structure.pattern());
    let text = render(&summary, structure, args.all);
    if args.json {
        progress::tell(&text);
        progress::answer(&serde_json::to_string(&summary)?)?;
    } else {
        progress::answer(&text)?;
    }
    Ok(claims_hold)
}

impl Tensor {
    fn new(name: &str, entry: &Entry, found: Inspected, dispatcher: &Dispatcher) -> Self {
        let nonzero = found.nonzero.as_ref();
        let sparsity = nonzero.map(|mask| 1.0 - mask.density()).map(|share| match nonzero {
            Some(mask) if mask.is_empty() => 0.0,
            _ => share,
        });
        let pattern = sparsity.map(|sparsity| match found.pattern {
            None => "dense".to_owned(),
            Some(pattern) if pattern.fixed_sparsity().is_some() => pattern.to_string(),
            Some(pattern) => match (sparsity * 1e4).round() / 1e4 {
                rounded if sparsity < 1.0 && (rounded == 0.0 || rounded == 1.0) => {
                    format!("{pattern}@{sparsity:.1e}")
                }
                rounded => format!("{pattern}@{rounded}"),
            },
        });
        let kernel = match nonzero {
            Some(nonzero) => kernel::answer(dispatcher, entry, nonzero),
            None => "unknown: what it holds cannot be told".to_owned(),
        };
        Self {
            name: name.to_owned(),
            shape: entry.shape.clone(),
            dtype: format!("{:?}", entry.dtype),
            format: entry.format,
            sparsity,
            pattern,
            bytes_dense: found.bytes_dense,
            bytes_now: found.bytes_now,
            bytes_possible: found.bytes_possible,
            smallest: found.smallest,
            kernel,
            false_claim: found.false_claim,
        }
    }
}

impl Tensor {
    /// Whether it is one of the many biases and norms that nobody packs.
    fn says_little(&self) -> bool {
        let plain = self.format == Format::Dense && self.false_claim.is_none();
        plain && self.shape.len() < 2 && self.sparsity == Some(0.0)
    }
}

impl Totals {
    fn add(&mut self, entry: &Entry, found: &Inspected) {
        self.tensors += 1;
        if entry.format != Format::Mask {
            let entries = entry.shape.iter().product();
            self.parameters += entries;
            self.nonzeros += found.nonzero.as_ref().map_or(entries, Mask::count_kept);
        }
        self.bytes_dense += found.bytes_dense;
        self.bytes_now += found.bytes_now;
        self.bytes_possible += found.bytes_possible;
    }

    fn finish(&mut self) {
        let ratio = |bytes: u64| match bytes {
            0 => 1.0,
            bytes => self.bytes_dense as f64 / bytes as f64,
        };
        (self.ratio, self.ratio_possible) = (ratio(self.bytes_now), ratio(self.bytes_possible));
        self.sparsity = 1.0 - self.nonzeros as f64 / self.parameters.max(1) as f64;
        if self.parameters == 0 {
            self.sparsity = 0.0;
        }
    }
}

/// What was found, for people. `structure` is what config.json claims.
fn render(summary: &Summary, structure: Option<Pattern>, all: bool) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    let numbers = [4, 6, 7, 8];
    table.set_header([
        "tensor",
        "shape",
        "dtype",
        "format",
        "zeros",
        "pattern",
        "dense",
        "now",
        "possible",
        "2:4 kernel",
    ]);
    let (shown, folded): (Vec<&Tensor>, Vec<&Tensor>) =
        summary.tensors.iter().partition(|tensor| all || !tensor.says_little());
    for tensor in shown {
        table.add_row([
            tensor.name.clone(),
            format!("{:?}", tensor.shape),
            tensor.dtype.clone(),
            tensor.format.to_string(),
            tensor.sparsity.map_or("?".to_owned(), percent),
            tensor.pattern.clone().unwrap_or("?".to_owned()),
            HumanBytes(tensor.bytes_dense).to_string(),
            HumanBytes(tensor.bytes_now).to_string(),
            HumanBytes(tensor.bytes_possible).to_string(),
            match &tensor.false_claim {
                Some(_) => "FALSE CLAIM, see below".to_owned(),
                None => tensor.kernel.clone(),
            },
        ]);
    }
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let totals = &summary.totals;
    let files = match summary.shards {
        1 => "1 file".to_owned(),
        n => format!("{n} files"),
    };
    let mut text = table.to_string();
    if !folded.is_empty() {
        let bytes = HumanBytes(folded.iter().map(|tensor| tensor.bytes_now).sum());
        text += &format!("\nand {} of one side without a zero, {bytes} (--all)", folded.len());
    }
    text += &format!(
        "\n{}, {files}\n{} tensors, {} parameters, {} not zero ({} zeros)\n\
         {} dense, {} now ({:.2}x smaller), {} possible ({:.2}x)",
        summary.layout,
        totals.tensors,
        count(totals.parameters),
        count(totals.nonzeros),
        percent(totals.sparsity),
        HumanBytes(totals.bytes_dense),
        HumanBytes(totals.bytes_now),
        totals.ratio,
        HumanBytes(totals.bytes_possible),
        totals.ratio_possible,
    );
    let by = structure.map_or(String::new(), |pattern| format!(", {pattern} by config.json"));
    let broken: Vec<(&str, &str)> = summary
        .tensors
        .iter()
        .filter_map(|tensor| Some((&tensor.name[..], tensor.false_claim.as_deref()?)))
        .collect();
    text += &match (summary.claims, broken.len()) {
        (0, 0) if structure.is_some() => format!("\nno tensor is covered by a claim{by}"),
        (0, 0) => "\nno tensor claims a pattern".to_owned(),
        (1, 0) => format!("\n1 tensor claims a pattern{by}: it holds"),
        (claims, 0) => format!("\n{claims} tensors claim a pattern{by}: all hold"),
        (_, false_claims) => {
            let list = broken.iter().map(|(name, said)| format!("\n  {name}: {said}"));
            format!("\nFALSE CLAIMS: {false_claims}{by}{}", list.collect::<String>())
        }
    };
    text
}

/// A share, never rounded to none or all unless it is.
fn percent(share: f64) -> String {
    match share {
        0.0 | 1.0 => format!("{:.0} %", share * 100.0),
        share => format!("{:.2} %", (share * 100.0).clamp(0.01, 99.99)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_not_rounded_to_none_or_all() {
        let said = [0.0, 1e-9, 0.5, 0.99999, 1.0].map(percent);
        assert_eq!(said, ["0 %", "0.01 %", "50.00 %", "99.99 %", "100 %"]);
    }
}
