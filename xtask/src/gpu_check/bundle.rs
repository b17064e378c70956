//! How does the check come to a machine with a card and without Rust? As a folder: this program, and a script.

use crate::progress;
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

const SCRIPT: &str = r#"#!/bin/sh
# Checks the kernels of secateur on this machine's GPU. Writes gpu-check.json here.
#   ./run.sh              all of it, a few minutes
#   ./run.sh --device 1   another card; every option of gpu-check works
set -u
cd "$(dirname "$0")" || exit 2
./secateur-xtask gpu-check --json "$@" > gpu-check.json.new
status=$?
case "$status" in 0 | 1) mv gpu-check.json.new gpu-check.json ;; esac
rm -f gpu-check.json.new
if [ "$status" != 77 ] && command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    echo "compute-sanitizer $tool" >&2
    compute-sanitizer --tool "$tool" --error-exitcode 1 ./secateur-xtask gpu-check --quick > "$tool.txt" 2>&1
    case $? in
      0) echo "  clean" >&2 ;;
      *) echo "  NOT CLEAN: see $tool.txt" >&2; status=1 ;;
    esac
  done
else
  echo "compute-sanitizer was not run" >&2
fi
exit "$status"
"#;

/// Writes the folder whole, or not at all: `folder` must be free.
pub fn write(folder: &Path) -> Result<()> {
    if folder.symlink_metadata().is_ok() {
        bail!("{} is there already; name a folder that is free", folder.display());
    }
    let program = env::current_exe().context("this program does not know where it is")?;
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let filling = tempfile::Builder::new().prefix(".gpu-check-").tempdir_in(parent)?;
    let inside = filling.path().join("bundle");
    fs::create_dir(&inside)?;
    // Copies the permission to run as well.
    let copy = inside.join("secateur-xtask");
    fs::copy(&program, &copy).with_context(|| format!("copying {}", program.display()))?;
    // Line numbers are most of the program. Where there is no strip, it stays large and works as well.
    let _ = Command::new("strip").arg(&copy).stderr(Stdio::null()).status();
    let script = inside.join("run.sh");
    fs::write(&script, SCRIPT)?;
    runnable(&script)?;
    fs::rename(&inside, folder).with_context(|| format!("moving to {}", folder.display()))?;
    progress::tell(&format!(
        "{}: copy it to a machine with a card, this kind of processor and system, and run run.sh",
        folder.display()
    ));
    Ok(())
}

#[cfg(unix)]
fn runnable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o755))?)
}

#[cfg(not(unix))]
fn runnable(_: &Path) -> Result<()> {
    Ok(())
}
