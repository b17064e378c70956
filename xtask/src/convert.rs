//! `cargo xtask convert`: any checkpoint into another layout, larger than memory or not.

use crate::{gguf::Gguf, progress, table::STYLE};
use anyhow::{Context, Result, ensure};
use comfy_table::{ContentArrangement, Table};
use indicatif::HumanBytes;
use secateur::{
    mask::Target,
    storage::{Conversion, Converted, Dense, Format, Layout, Sink, Source, convert},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use tracing_indicatif::span_ext::IndicatifSpanExt;

const HELP: &str = "\
Layouts:
  secateur           packed: 2:4 and other N:M with indices, blocks, bitmap, CSR; masks hashed
  dense              plain safetensors, every zero spelled out
  sparse-24-bitmask  compressed-tensors' 2:4, as vLLM and transformers read it (a folder)
  sparse-bitmask     compressed-tensors' any sparsity (a folder)
  masks              which weights are kept, without the weights

IN is a .safetensors file, a model folder (model.safetensors, or its index and shards), in any of these
layouts, or a .gguf file, which is dequantised to F32 under its own names. OUT is a .safetensors file, or
a new folder, which gets the shards, config.json and whatever else the model folder holds. A tensor that
a layout cannot hold stays dense and is listed: in compressed-tensors' layouts also embeddings, and weights
whose name does not end in .weight, for its readers would not find them. It works tensor by tensor.

Examples:
  cargo xtask convert model.safetensors packed.safetensors --to secateur
  cargo xtask convert model/ sparse/ --to sparse-24-bitmask --prune 2:4
  cargo xtask convert sparse/ dense.safetensors --to dense

--json prints one object on the last line: {\"to\", \"from_bytes\", \"to_bytes\", \"tensors\": [{\"name\",
\"format\", \"from_bytes\", \"to_bytes\", \"left\": null or why it stayed dense}]}.";

/// Write a checkpoint in another layout, streamed.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// A .safetensors file, a model folder, or a .gguf file
    #[arg(value_name = "IN")]
    from: PathBuf,
    /// A .safetensors file, or a new model folder
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// How the tensors are written (see below)
    #[arg(long, value_name = "LAYOUT")]
    to: Layout,
    /// Cut every float tensor of two or more sides to this first, by magnitude: 2:4, 0.9, ...
    #[arg(long, value_name = "PATTERN")]
    prune: Option<Target>,
    /// Print what was done as one JSON object on the last line of standard output
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Summary {
    to: String,
    from_bytes: u64,
    to_bytes: u64,
    tensors: Vec<Tensor>,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    format: Format,
    from_bytes: u64,
    to_bytes: u64,
    left: Option<&'static str>,
}

impl From<Converted> for Tensor {
    fn from(converted: Converted) -> Self {
        let Converted { name, format, from_bytes, to_bytes, left, .. } = converted;
        Self { name, format, from_bytes, to_bytes, left }
    }
}

pub fn run(args: Args) -> Result<()> {
    let out_folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    ensure!(
        out_folder.is_none_or(Path::is_dir),
        "{} lies in no existing folder; create {} first",
        args.out.display(),
        out_folder.unwrap_or(&args.out).display()
    );
    let is_gguf = args.from.extension().is_some_and(|extension| extension == "gguf");
    // Kept until the end: the source of what is converted lies in it.
    let (beside, from) = if is_gguf {
        let beside = tempfile::Builder::new()
            .prefix(".secateur-")
            .suffix(".tmp")
            .tempdir_in(out_folder.unwrap_or(Path::new(".")))
            .context("cannot create a temporary folder beside OUT")?;
        let dense = beside.path().join("model.safetensors");
        dequantise(&args.from, &dense)?;
        (Some(beside), dense)
    } else {
        (None, args.from.clone())
    };
    let source = Source::open(&from)?;
    let from_bytes = source.entries().values().map(|entry| entry.bytes).sum();
    let bar = progress::bytes_bar(args.to.name(), from_bytes);
    let mut tensors: Vec<Tensor> = Vec::new();
    let conversion = Conversion { to: args.to, prune: args.prune };
    convert(&source, &args.out, conversion, &mut |converted| {
        bar.pb_inc(converted.from_bytes);
        tensors.push(converted.into());
    })?;
    drop((bar, beside));
    let to_bytes = tensors.iter().map(|tensor| tensor.to_bytes).sum();
    let summary = Summary { to: args.to.to_string(), from_bytes, to_bytes, tensors };
    progress::tell(&format!("{}\nwritten to {}", table(&summary), args.out.display()));
    if args.json {
        progress::answer(&serde_json::to_string(&summary)?)?;
    }
    Ok(())
}

/// Writes every tensor of a GGUF as F32.
fn dequantise(gguf: &Path, to: &Path) -> Result<()> {
    let mut gguf = Gguf::open(gguf)?;
    let shapes: Vec<(String, Vec<usize>)> = gguf
        .names()
        .into_iter()
        .map(|name| Ok((name.clone(), gguf.info(&name)?.0)))
        .collect::<Result<_>>()?;
    let keys = ["general.architecture", "general.name"];
    let metadata: BTreeMap<String, String> =
        keys.iter().filter_map(|key| Some(((*key).into(), gguf.text(key)?.into()))).collect();
    let mut sink = Sink::create(to, Layout::Dense, &metadata, &shapes)?;
    let bar = progress::bar("dequantise", shapes.len());
    for (name, shape) in &shapes {
        sink.push(name, &Dense::new(gguf.tensor(name)?, shape)?.into(), None)?;
        bar.pb_inc(1);
    }
    Ok(sink.finish()?)
}

/// What was done, for people: by format, and what was left as it is, by reason.
fn table(summary: &Summary) -> String {
    let mut formats: BTreeMap<String, (usize, u64, u64)> = BTreeMap::new();
    let mut left: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for tensor in &summary.tensors {
        let sums = formats.entry(tensor.format.to_string()).or_default();
        *sums = (sums.0 + 1, sums.1 + tensor.from_bytes, sums.2 + tensor.to_bytes);
        if let Some(reason) = tensor.left {
            left.entry(reason).or_default().push(&tensor.name);
        }
    }
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["format", "tensors", "bytes before", "bytes after"]);
    for (format, (tensors, from, to)) in formats {
        table.add_row([
            format,
            tensors.to_string(),
            HumanBytes(from).to_string(),
            HumanBytes(to).to_string(),
        ]);
    }
    let share = summary.to_bytes as f64 / summary.from_bytes.max(1) as f64;
    let mut text = format!(
        "{table}\n{} tensors, {} to {} ({:.2} %)",
        summary.tensors.len(),
        HumanBytes(summary.from_bytes),
        HumanBytes(summary.to_bytes),
        share * 100.0
    );
    let verb = if summary.to == "masks" { "left out" } else { "left dense" };
    for (reason, names) in left {
        let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
        let more = names.len().saturating_sub(SHOWN);
        text += &format!("\n{verb}, because {reason}: {shown}");
        if more > 0 {
            text += &format!(" and {more} more");
        }
    }
    text
}

/// Names of tensors that a reason shows.
const SHOWN: usize = 12;
