//! `cargo xtask tidy`: what reviewers would otherwise have to repeat.

use crate::workspace;
use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Which crates of the workspace a crate may depend on: the arrows of `docs/architecture.md`.
const ARROWS: [(&str, &[&str]); 9] = [
    ("secateur-mask", &[]),
    ("secateur-criteria", &["secateur-mask"]),
    ("secateur-storage", &["secateur-mask"]),
    ("secateur-kernels", &["secateur-storage"]),
    (
        "secateur-nn",
        &["secateur-mask", "secateur-criteria", "secateur-storage", "secateur-kernels"],
    ),
    (
        "secateur-train",
        &[
            "secateur-mask",
            "secateur-criteria",
            "secateur-storage",
            "secateur-kernels",
            "secateur-nn",
        ],
    ),
    (
        "secateur",
        &[
            "secateur-mask",
            "secateur-criteria",
            "secateur-storage",
            "secateur-kernels",
            "secateur-nn",
            "secateur-train",
        ],
    ),
    ("xtask", &["secateur"]),
    ("secateur-tests", &[]),
];
/// Crates that know nothing of candle.
const WITHOUT_CANDLE: [&str; 3] = ["secateur-mask", "secateur-storage", "secateur-kernels"];
/// The crate that may use `unsafe`.
const UNSAFE_CRATE: &str = "secateur-kernels";
/// The one file elsewhere that may: it maps files into memory, in a crate that denies the rest.
const MAPS: &str = "crates/secateur-storage/src/map.rs";
/// Files longer than this are listed: look for the seam.
const LONG: usize = 400;

pub fn run() -> Result<()> {
    let mut problems = arrows()?;
    let mut files = Vec::new();
    for folder in ["crates", "xtask", "tests"] {
        sources(&workspace::root().join(folder), &mut files)?;
    }
    files.sort();
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
        let name = file.strip_prefix(workspace::root()).unwrap_or(file);
        problems.extend(source(name, &text));
        if text.lines().count() > LONG {
            eprintln!("long: {} has {} lines", name.display(), text.lines().count());
        }
    }
    if problems.is_empty() {
        println!("tidy: {} files and {} crates in order", files.len(), ARROWS.len());
        return Ok(());
    }
    bail!("{} to tidy:\n{}", problems.len(), problems.join("\n"))
}

/// Every dependency between crates of the workspace runs along a declared arrow.
fn arrows() -> Result<Vec<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cannot read the workspace's metadata")?;
    let declared: BTreeMap<&str, &[&str]> = ARROWS.into();
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some(allowed) = declared.get(name) else {
            problems.push(format!("crate {name} has no arrows declared in xtask/src/tidy.rs"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal) {
            let to = dependency.name.as_str();
            if declared.contains_key(to) && !allowed.contains(&to) {
                problems.push(format!("crate {name} must not depend on {to}"));
            }
            if to.starts_with("candle") && WITHOUT_CANDLE.contains(&name) {
                problems.push(format!("crate {name} must not depend on {to}"));
            }
        }
    }
    Ok(problems)
}

/// What is wrong with one source file.
fn source(name: &Path, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with("//! ") {
        problems
            .push(format!("{}: must open with the question it answers (//! …)", name.display()));
    }
    let in_unsafe_crate = name.components().any(|part| part.as_os_str() == UNSAFE_CRATE);
    let is_root = name.ends_with("src/lib.rs") || name.ends_with("src/main.rs");
    let has_the_map = name.ends_with("secateur-storage/src/lib.rs");
    let level = if has_the_map { "#![deny(unsafe_code)]" } else { "#![forbid(unsafe_code)]" };
    if is_root && !in_unsafe_crate && !text.contains(level) {
        problems.push(format!("{}: must say {level}", name.display()));
    }
    let allows = text.lines().any(|line| line.trim_start().starts_with("#[allow(unsafe_code)"));
    if allows && !in_unsafe_crate && name != Path::new(MAPS) {
        problems.push(format!("{}: only {MAPS} may allow unsafe code", name.display()));
    }
    problems
}

/// All Rust files below `folder`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untidy_sources_are_found() {
        let check = |name: &str, text| source(Path::new(name), text).len();
        assert_eq!(check("crates/a/src/x.rs", "//! Why?\n"), 0);
        assert_eq!(check("crates/a/src/x.rs", "use std::fs;\n"), 1);
        assert_eq!(check("crates/a/src/lib.rs", "//! Why?\n"), 1);
        assert_eq!(check("crates/a/src/lib.rs", "//! Why?\n#![forbid(unsafe_code)]\n"), 0);
        assert_eq!(check("crates/secateur-kernels/src/lib.rs", "//! Why?\n"), 0);
    }

    #[test]
    fn this_workspace_is_tidy() {
        run().unwrap();
    }
}
