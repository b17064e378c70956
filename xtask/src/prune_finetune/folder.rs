//! What is a run's folder, and whose is it? Files by name, a claim, a lock, and what the run is.

use crate::{recipe::Recipe, workspace};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

pub const DENSE: &str = "dense.safetensors";
pub const PRUNED: &str = "pruned.safetensors";
pub const MASKS: &str = "masks.safetensors";
pub const METRICS: &str = "metrics.jsonl";
pub const PAGE: &str = "report.html";
pub const REPORT: &str = "report.json";
/// What the run is; all that `--resume` needs besides [`PROGRESS`].
pub const JOB: &str = "run.toml";
/// How far it has got; gone once the report is there.
pub const PROGRESS: &str = "progress.safetensors";
/// Everything that a run writes, the report last.
const FILES: [&str; 8] = [METRICS, JOB, PROGRESS, DENSE, PRUNED, MASKS, PAGE, REPORT];

/// What a run is: written into its folder before anything else.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The recipe's name.
    pub name: String,
    /// The folder with the data, if it is not the recipe's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// The recipe, with the seed and the threshold of the command line.
    pub recipe: Recipe,
}

pub fn read_job(folder: &Path) -> Result<Job> {
    let file = folder.join(JOB);
    let text = fs::read_to_string(&file)
        .with_context(|| format!("{} holds no run to resume (no {JOB})", folder.display()))?;
    let job: Job = toml::from_str(&text).with_context(|| format!("in {}", file.display()))?;
    job.recipe.check().with_context(|| format!("in {}", file.display()))?;
    Ok(job)
}

/// Held while a process works on a folder, so that no second one does.
pub fn lock(folder: &Path) -> Result<fs::File> {
    let file = fs::File::open(folder.join(JOB))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            bail!("another process is working on {}", folder.display())
        }
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// The folder to write to: the one named, or a new one below `runs/`. From here on it is this run's:
/// an empty `metrics.jsonl` says so to every other process.
pub fn claim(named: Option<&Path>, name: &str, force: bool) -> Result<PathBuf> {
    if let Some(folder) = named {
        if !try_claim(folder, force)? {
            let folder = folder.display();
            bail!("{folder} already holds a run; pass --force to replace it or another --out");
        }
        return Ok(folder.to_owned());
    }
    for n in 1.. {
        let folder = workspace::runs().join(match n {
            1 => name.to_owned(),
            n => format!("{name}-{n}"),
        });
        if try_claim(&folder, force)? {
            return Ok(folder);
        }
    }
    bail!("no folder name below {} is free", workspace::runs().display())
}

/// Whether `folder` was free (or was made so by force) and is this run's now.
fn try_claim(folder: &Path, force: bool) -> Result<bool> {
    let refused = || format!("cannot write to {}", folder.display());
    let holds_a_run = FILES.iter().any(|file| folder.join(file).exists());
    if holds_a_run && !force {
        return Ok(false);
    }
    fs::create_dir_all(folder).with_context(refused)?;
    for entry in fs::read_dir(folder).with_context(refused)? {
        let path = entry.with_context(refused)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let left_by_a_kill = name.starts_with(".secateur-") && name.ends_with(".tmp");
        if left_by_a_kill || FILES.contains(&name.as_str()) {
            fs::remove_file(&path).with_context(refused)?;
        }
    }
    match fs::File::create_new(folder.join(METRICS)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(refused),
    }
}
