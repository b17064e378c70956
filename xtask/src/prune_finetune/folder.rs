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
/// Without the units that are gone, where whole units were pruned.
pub const SHRUNK: &str = "shrunk.safetensors";
pub const METRICS: &str = "metrics.jsonl";
pub const PAGE: &str = "report.html";
pub const REPORT: &str = "report.json";
/// What the run is; all that `--resume` needs besides [`PROGRESS`].
pub const JOB: &str = "run.toml";
/// How far it has got; gone once the report is there.
pub const PROGRESS: &str = "progress.safetensors";
/// Locked by the process that works on the folder; it stays.
const LOCK: &str = "lock";
/// Everything that a run writes. What says that it is finished goes first when it is replaced.
const FILES: [&str; 9] = [REPORT, PAGE, JOB, PROGRESS, METRICS, DENSE, PRUNED, MASKS, SHRUNK];

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

/// Held while a process works on a folder, so that no second one does; `None` if one does.
fn try_lock(folder: &Path) -> Result<Option<fs::File>> {
    let refused = || format!("cannot write to {}", folder.display());
    let options = fs::OpenOptions::new().create(true).append(true).open(folder.join(LOCK));
    let file = options.with_context(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(refused),
    }
}

/// The lock of a folder whose run goes on.
pub fn lock(folder: &Path) -> Result<fs::File> {
    match try_lock(folder)? {
        Some(lock) => Ok(lock),
        None => bail!("another process is working on {}", folder.display()),
    }
}

/// The folder to write to, with its lock: the one named, or a new one below `runs/`.
pub fn claim(named: Option<&Path>, name: &str, force: bool) -> Result<(PathBuf, fs::File)> {
    if let Some(folder) = named {
        let folder = folder.to_owned();
        return match try_claim(&folder, force)? {
            Some(lock) => Ok((folder, lock)),
            None => bail!(
                "{} already holds a run; pass --force to replace it (not while it runs) or another --out",
                folder.display()
            ),
        };
    }
    for n in 1.. {
        let folder = workspace::runs().join(match n {
            1 => name.to_owned(),
            n => format!("{name}-{n}"),
        });
        if let Some(lock) = try_claim(&folder, force)? {
            return Ok((folder, lock));
        }
    }
    bail!("no folder name below {} is free", workspace::runs().display())
}

/// The lock of `folder`, if it was free or was made so by force.
fn try_claim(folder: &Path, force: bool) -> Result<Option<fs::File>> {
    let refused = || format!("cannot write to {}", folder.display());
    let holds_a_run = || FILES.iter().any(|file| folder.join(file).exists());
    if holds_a_run() && !force {
        return Ok(None);
    }
    fs::create_dir_all(folder).with_context(refused)?;
    let Some(lock) = try_lock(folder)? else { return Ok(None) };
    if holds_a_run() && !force {
        return Ok(None);
    }
    for file in FILES.into_iter().map(|file| folder.join(file)).filter(|file| file.exists()) {
        fs::remove_file(file).with_context(refused)?;
    }
    for entry in fs::read_dir(folder).with_context(refused)? {
        let path = entry.with_context(refused)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(".secateur-") && name.ends_with(".tmp") {
            fs::remove_file(&path).with_context(refused)?;
        }
    }
    Ok(Some(lock))
}
