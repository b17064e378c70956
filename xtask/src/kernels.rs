//! `cargo xtask kernels`: is the PTX that is embedded what the CUDA sources say, and what does a card run of it?
//!
//! No card and no toolkit is needed for either: the compiler is a library, the disassembler one program.

mod ptxas;
mod sass;
mod tools;

use crate::{progress, table::STYLE, workspace};
use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, ContentArrangement, Table};
use ptxas::{Card, Usage};
use secateur::{
    kernels::cuda::{EmbeddedKernel, Nvrtc, Target, embedded},
    storage::write_atomically,
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Cards of this capability and later ones load the PTX.
const LEAST_SM: u32 = 80;
/// How every kernel is compiled. Each stands alone: no headers.
const OPTIONS: [&str; 2] = ["-std=c++17", "-default-device"];

const HELP: &str = "\
Kernels are crates/secateur-kernels/src/cuda/kernels/NAME.cu; the PTX that is embedded lies beside
each as NAME.ptx. Without --check it is written anew. With --check nothing is written: the sources
are compiled again and compared with what lies there, and each kernel is compiled for an A100 (sm_80)
and an H100 (sm_90) and taken apart, to see what it needs and which instructions it became.

The compiler is NVRTC of CUDA 11.8 exactly, whose PTX every later driver loads, and which writes the
same text everywhere. It and the disassembler are two packages of Python's without dependencies:
  pip install --no-deps --target target/cuda/nvrtc nvidia-cuda-nvrtc-cu11==11.8.89
  pip install --no-deps --target target/cuda/nvdisasm nvidia-cuda-nvdisasm==13.2.86
Each is looked for at its option, then at SECATEUR_NVRTC and SECATEUR_NVDISASM, then below
target/cuda, then where the system keeps libraries and programs. A folder is searched.

Columns:
  registers    of a thread
  shared       bytes of a block, static and dynamic
  spills       bytes of a thread that went to memory and back
  blocks       that fit on one multiprocessor at a time
  instructions which matter: products (.SP are sparse), asynchronous copies (LDGSTS), reads of
               fragments (LDSM), transposes (MOVM), and spills (STL, LDL)

Status: 0 if what lies there is what the sources say; 1 if not; 2 if that cannot be told.

--json prints one object on standard output, and what differs on standard error:
  {\"kernels\": [{\"name\", \"arch\", \"registers\", \"shared_bytes\", \"spill_bytes\", \"blocks_per_sm\",
  \"sass\": [\"HMMA.SP.16832.F32\", …]}], \"up_to_date\"}

Examples:
  cargo xtask kernels
  cargo xtask kernels --check
  cargo xtask kernels --check --json | jq -r '.kernels[] | [.name, .arch, .registers] | @tsv'";

/// Compile the CUDA kernels to the PTX that is embedded, or check that it is up to date.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Write nothing: compare, and show what the kernels become on an A100 and an H100
    #[arg(long)]
    check: bool,
    /// Print what was found as one JSON object on standard output
    #[arg(long, requires = "check")]
    json: bool,
    /// The NVRTC library, or a folder with it
    #[arg(long, value_name = "FILE|DIR")]
    nvrtc: Option<PathBuf>,
    /// The nvdisasm program, or a folder with it
    #[arg(long, value_name = "FILE|DIR", requires = "check")]
    nvdisasm: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer {
    kernels: Vec<Kernel>,
    up_to_date: bool,
}

#[derive(Serialize)]
struct Kernel {
    name: String,
    arch: String,
    registers: u32,
    shared_bytes: u32,
    spill_bytes: u32,
    blocks_per_sm: u32,
    sass: Vec<String>,
}

/// Whether the PTX is up to date; once written, it is.
pub fn run(args: Args) -> Result<bool> {
    let nvrtc = tools::nvrtc(args.nvrtc.as_deref())?;
    let sources = sources(&folder())?;
    let mut texts = BTreeMap::new();
    for (name, source) in &sources {
        let compiled =
            nvrtc.compile(&format!("{name}.cu"), source, Target::Ptx(LEAST_SM), &OPTIONS)?;
        if !compiled.log.trim().is_empty() {
            progress::tell(compiled.log.trim_end());
        }
        texts.insert(name.clone(), String::from_utf8(compiled.bytes).context("PTX is text")?);
    }
    if !args.check {
        for (name, ptx) in &texts {
            let file = folder().join(name).with_extension("ptx");
            write_atomically(&file, ptx.as_bytes())?;
            progress::tell(&format!("{name}.ptx: {} lines", ptx.lines().count()));
        }
        return Ok(true);
    }
    let differences = differences(&folder(), &texts)?;
    let nvdisasm = tools::nvdisasm(args.nvdisasm.as_deref(), args.nvrtc.as_deref())?;
    let mut kernels = Vec::new();
    for (name, source) in &sources {
        kernels.extend(taken_apart(&nvrtc, &nvdisasm, name, source)?);
    }
    let answer = Answer { kernels, up_to_date: differences.is_empty() };
    for difference in &differences {
        progress::tell(difference);
    }
    if args.json {
        progress::answer(&serde_json::to_string(&answer)?)?;
    } else {
        progress::answer(&answer.table())?;
    }
    Ok(answer.up_to_date)
}

fn folder() -> PathBuf {
    workspace::root().join("crates/secateur-kernels/src/cuda/kernels")
}

/// The texts of all `.cu` files, by their names without the ending.
fn sources(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut sources = BTreeMap::new();
    for file in files(folder, "cu")? {
        let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        sources.insert(stem(&file), text);
    }
    if sources.is_empty() {
        bail!("there is no kernel in {}", folder.display());
    }
    Ok(sources)
}

fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == ending) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where the files of `folder` are not what was compiled just now.
fn differences(folder: &Path, texts: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, wanted) in texts {
        let file = folder.join(name).with_extension("ptx");
        match fs::read_to_string(&file) {
            Ok(text) => found.extend(differs(&format!("{name}.ptx"), &text, wanted)),
            Err(error) => found.push(format!("{name}.ptx cannot be read: {error}")),
        }
    }
    for file in files(folder, "ptx")? {
        let name = stem(&file);
        if !texts.contains_key(&name) {
            found.push(format!("{name}.ptx has no {name}.cu"));
        }
    }
    if !found.is_empty() {
        found.push("`cargo xtask kernels` writes them anew".to_owned());
    }
    Ok(found)
}

/// The first line of a text that is not as it should be.
fn differs(name: &str, text: &str, wanted: &str) -> Option<String> {
    if text == wanted {
        return None;
    }
    let (mut lines, mut right) = (text.split('\n'), wanted.split('\n'));
    let mut number = 0;
    loop {
        number += 1;
        let (line, right) = (lines.next(), right.next());
        if line != right {
            let said =
                |line: Option<&str>| line.map_or("the end".into(), |line| format!("{line:?}"));
            let (line, right) = (said(line), said(right));
            return Some(format!(
                "{name} differs from its source: line {number} is {line}, not {right}"
            ));
        }
    }
}

/// Every kernel of a source, on every card.
fn taken_apart(nvrtc: &Nvrtc, nvdisasm: &Path, name: &str, source: &str) -> Result<Vec<Kernel>> {
    let file = format!("{name}.cu");
    let table = embedded().iter().find(|kernel| kernel.name == name);
    let table = table.with_context(|| format!("{name} is not in embedded() (cuda/kernels.rs)"))?;
    let mut kernels = Vec::new();
    for card in Card::ALL {
        let options = [&OPTIONS[..], &["--ptxas-options=-v"]].concat();
        let cubin = nvrtc.compile(&file, source, Target::Cubin(card.sm), &options)?;
        let usages = ptxas::usages(&cubin.log);
        listed(table, &usages)?;
        let mut instructions = sass::instructions(&tools::disassembly(nvdisasm, &cubin.bytes)?);
        for function in table.functions {
            let usage = usages[function.name];
            let sass = instructions.remove(function.name);
            let sass = sass.with_context(|| format!("nvdisasm shows no {}", function.name))?;
            let shared_bytes = usage.shared_bytes + function.shared_bytes;
            kernels.push(Kernel {
                name: function.name.to_owned(),
                arch: Target::Cubin(card.sm).to_string(),
                registers: usage.registers,
                shared_bytes,
                spill_bytes: usage.spill_bytes,
                blocks_per_sm: card.blocks(usage.registers, function.threads, shared_bytes),
                sass: sass.into_iter().collect(),
            });
        }
    }
    kernels.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
    Ok(kernels)
}

/// Whether the table of embedded kernels has exactly those that the compiler found.
fn listed(table: &EmbeddedKernel, usages: &BTreeMap<String, Usage>) -> Result<()> {
    let is_listed = |name: &str| table.functions.iter().any(|function| function.name == name);
    if let Some(name) = usages.keys().find(|name| !is_listed(name)) {
        bail!("{}.cu has {name}, which embedded() (cuda/kernels.rs) has not", table.name);
    }
    match table.functions.iter().find(|function| !usages.contains_key(function.name)) {
        Some(function) => {
            bail!(
                "{}.cu has no {}, which embedded() (cuda/kernels.rs) has",
                table.name,
                function.name
            )
        }
        None => Ok(()),
    }
}

impl Answer {
    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header([
            "kernel",
            "arch",
            "registers",
            "shared",
            "spills",
            "blocks",
            "instructions",
        ]);
        for kernel in &self.kernels {
            table.add_row([
                kernel.name.clone(),
                kernel.arch.clone(),
                kernel.registers.to_string(),
                kernel.shared_bytes.to_string(),
                kernel.spill_bytes.to_string(),
                kernel.blocks_per_sm.to_string(),
                kernel.sass.join(" "),
            ]);
        }
        for column in 2..6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let verdict = match self.up_to_date {
            true => "the PTX is what the sources say",
            false => "THE PTX IS NOT WHAT THE SOURCES SAY",
        };
        format!("{table}\n{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_named() {
        assert_eq!(differs("a.ptx", "x\ny\n", "x\ny\n"), None);
        let said = |text, wanted| differs("a.ptx", text, wanted).unwrap();
        let start = "a.ptx differs from its source: line";
        assert_eq!(said("x\nz\n", "x\ny\n"), format!("{start} 2 is \"z\", not \"y\""));
        assert_eq!(said("x\n", "x\ny\n"), format!("{start} 2 is \"\", not \"y\""));
        assert_eq!(said("x\ny", "x\ny\n"), format!("{start} 3 is the end, not \"\""));
        assert_eq!(said("x\r\n", "x\n"), format!("{start} 1 is \"x\\r\", not \"x\""));
    }

    #[test]
    fn files_are_held_against_their_sources() {
        let folder = tempfile::tempdir().unwrap();
        let texts: BTreeMap<String, String> = [("a".into(), "one\n".into())].into();
        let found = || differences(folder.path(), &texts).unwrap();
        assert!(found()[0].starts_with("a.ptx cannot be read"));
        fs::write(folder.path().join("a.ptx"), "one\n").unwrap();
        assert_eq!(found(), Vec::<String>::new());
        fs::write(folder.path().join("old.ptx"), "").unwrap();
        assert_eq!(found()[0], "old.ptx has no old.cu");
        assert!(sources(folder.path()).is_err(), "no kernels at all are a mistake");
    }
}
