//! Does `gpu-check` say the right thing where there is no card, and does it check without one?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use serde_json::Value;
use std::process::{Command, Output, Stdio};

fn gpu_check(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("gpu-check").args(arguments).env("SECATEUR_CACHE", "off");
    command.stdin(Stdio::null()).output().unwrap()
}

/// Whether this machine has a card, or at least a driver: then what follows is not about it.
fn has_driver() -> bool {
    let opened = secateur::kernels::cuda::Device::open(0);
    !matches!(opened, Err(secateur::kernels::cuda::CudaError::NoDriver { .. }))
}

#[test]
fn without_a_card_it_says_so_and_exits_with_77() {
    if has_driver() {
        return println!("skipped: this machine has a driver");
    }
    let output = gpu_check(&[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(77), "{said}");
    assert!(
        said.contains("skipped: no NVIDIA driver here") && said.contains("--emulate"),
        "{said}"
    );
    assert!(output.stdout.is_empty());

    let output = gpu_check(&["--json"]);
    assert_eq!(output.status.code(), Some(77));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(answer["device"].is_null());
    assert!(answer["skipped"].as_str().unwrap().contains("no NVIDIA driver"));
}

#[test]
fn the_emulator_passes_every_check() {
    let output = gpu_check(&["--emulate", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["passed"], true);
    assert_eq!(answer["device"]["name"], "emulated sm_80");
    assert_eq!(answer["timings"].as_array().unwrap().len(), 0, "it has no clock");
    let instructions = answer["self_test"].as_array().unwrap();
    assert_eq!(instructions.len(), 5, "three types, two selectors for two of them");
    assert!(instructions.iter().all(|one| one["wrong"] == 0 && one["compared"] == 2048));
    let checks = answer["checks"].as_array().unwrap();
    for kernel in ["mma.sp gemm", "mma.sp small-batch"] {
        for dtype in ["f16", "bf16", "i8"] {
            let name = format!("{kernel} {dtype}");
            let check = checks.iter().find(|check| check["name"] == name.as_str()).unwrap();
            assert!(check["run"].as_u64().unwrap() >= 200, "{check}");
            assert_eq!(check["failed"].as_array().unwrap().len(), 0, "{check}");
        }
    }
}

#[test]
fn a_bundle_runs_by_itself_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("some/where/bundle");
    let path = bundle.to_str().unwrap();
    let output = gpu_check(&["--bundle", path]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<_> = bundle.parent().unwrap().read_dir().unwrap().collect();
    assert_eq!(left.len(), 1, "nothing but the bundle");

    let output = gpu_check(&["--bundle", path]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("there already"), "{said}");

    if cfg!(unix) && !has_driver() {
        let script = bundle.join("run.sh");
        let output = Command::new(script).current_dir("/").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{said}");
        assert!(said.contains("skipped") && !bundle.join("gpu-check.json").exists(), "{said}");
    }
}
