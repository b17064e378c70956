//! What did it run on? What decides about latencies and last bits, and nothing about whose machine it is.

use super::page::escape;
use anyhow::Result;
use secateur::prelude::Dispatcher;
use std::{collections::BTreeMap, env::consts, fs, thread};

/// Instructions that kernels or users ask about, as `/proc/cpuinfo` spells them.
const FEATURES: [&str; 12] = [
    "avx2",
    "fma",
    "f16c",
    "bmi2",
    "avx512f",
    "avx512dq",
    "avx512bw",
    "avx512vl",
    "avx512_bf16",
    "avx512_vnni",
    "amx_bf16",
    "asimd",
];

/// This machine, by name. Never its host name, a user or a path.
pub fn environment() -> Result<BTreeMap<String, String>> {
    let told = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |wanted: &[&str]| {
        told.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| wanted.contains(&name.trim()))
            .map(|(_, value)| value.trim().to_owned())
    };
    let has: Vec<String> = line(&["flags", "Features"])
        .unwrap_or_default()
        .split_whitespace()
        .filter(|feature| FEATURES.contains(feature))
        .map(str::to_owned)
        .collect();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Ok([
        ("secateur", env!("CARGO_PKG_VERSION").to_owned()),
        ("target", format!("{}, {}", consts::ARCH, consts::OS)),
        ("processor", line(&["model name"]).unwrap_or_else(|| consts::ARCH.to_owned())),
        ("instructions", has.join(", ")),
        ("kernels for", Dispatcher::built_in()?.tier().to_string()),
        ("threads", format!("{} of {cores}", rayon::current_num_threads())),
        ("system", system()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), value))
    .collect())
}

/// The name of the operating system's release.
fn system() -> String {
    let told = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = told.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| consts::OS.to_owned(), |name| name.trim_matches('"').to_owned())
}

/// A list of names and values.
pub fn section(environment: &BTreeMap<String, String>) -> String {
    let lines: String = environment
        .iter()
        .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value)))
        .collect();
    format!("<dl class=\"environment\">\n{lines}</dl>\n")
}
