//! Is the embedded PTX what the CUDA sources say, and do kernels become what they were written for?
//!
//! Needs NVIDIA's compiler and disassembler, which `.ci/run` fetches; no card. Where they are missing, this says so
//! and is skipped, except in CI where they were fetched.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use serde_json::Value;
use std::{
    env,
    fmt::Write,
    process::{Command, Output, Stdio},
};

fn kernels(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("kernels").args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Whether skipping would hide something: whoever names the tools, as `.ci/run` does, has them.
fn must_run() -> bool {
    ["SECATEUR_NVRTC", "SECATEUR_NVDISASM"].iter().all(|name| env::var_os(name).is_some())
}

#[test]
fn the_ptx_is_that_of_the_sources_and_becomes_the_right_instructions() {
    let output = kernels(&["--check", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let tools = ["NVRTC is not here", "this is NVRTC", "there is no nvdisasm", "no nvdisasm at"];
    if output.status.code() == Some(2) && tools.iter().any(|missing| said.contains(missing)) {
        assert!(!must_run(), "the tools were named: {said}");
        return println!("skipped: {said}");
    }
    assert_eq!(output.status.code(), Some(0), "{said}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["up_to_date"], true);
    let mut table = String::from("kernel, arch: registers, shared, spills, blocks: instructions\n");
    for kernel in answer["kernels"].as_array().unwrap() {
        let numbers = ["registers", "shared_bytes", "spill_bytes", "blocks_per_sm"];
        let numbers = numbers.map(|field| kernel[field].as_u64().unwrap().to_string()).join(", ");
        let sass = kernel["sass"].as_array().unwrap().iter();
        let sass: Vec<&str> = sass.map(|opcode| opcode.as_str().unwrap()).collect();
        let [name, arch] = ["name", "arch"].map(|field| kernel[field].as_str().unwrap());
        let line = format!("{name}, {arch}: {numbers}: {}", sass.join(" "));
        writeln!(table, "{}", line.trim_end_matches([':', ' '])).unwrap();
    }
    insta::assert_snapshot!(table);
}

#[test]
fn what_is_missing_is_said_with_how_to_get_it() {
    let empty = tempfile::tempdir().unwrap();
    let output = kernels(&["--check", "--nvrtc", empty.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let wheel = "pip install --no-deps --target DIR nvidia-cuda-nvrtc-cu11==11.8.89";
    assert!(said.contains("NVRTC is not here") && said.contains(wheel), "{said}");
}
