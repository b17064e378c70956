//! Does a killed lottery-ticket experiment go on to the same numbers, and is its folder one process's?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// 5300 training and 200 test images of 4x4, in four classes: the brighter of the quarters, in noise.
fn data(folder: &Path) {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 25) as u8
    };
    for (part, count) in [("train", 5300_u32), ("t10k", 200)] {
        let (mut images, mut labels) = (vec![0, 0, 8, 3], vec![0, 0, 8, 1]);
        images.extend([count, 4, 4].iter().flat_map(|side| side.to_be_bytes()));
        labels.extend(count.to_be_bytes());
        for image in 0..count {
            let label = (image % 4) as u8;
            labels.push(label);
            images.extend((0..16).map(|at| noise() + if at / 4 == label { 60 } else { 0 }));
        }
        fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
}

fn lottery(folder: &Path, out: &str, iterations: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .args(["lottery", "--seeds", "2", "--iterations", iterations, "--data-dir", "quarters"])
        .args(["--out", out, "--json"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a whole experiment says, without what is measured.
fn answer(mut command: Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut said: Value = serde_json::from_slice(&output.stdout).unwrap();
    for seed in said["seeds"].as_array_mut().unwrap() {
        for training in seed["trainings"].as_array_mut().unwrap() {
            assert!(training["seconds"].take().as_f64().unwrap() > 0.0);
        }
    }
    said
}

fn refused(mut command: Command, why: &str) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(why), "{said}");
}

#[test]
fn a_killed_experiment_goes_on_to_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("quarters")).unwrap();
    data(&folder.join("quarters"));

    let mut killed = lottery(folder, "killed", "150").spawn().unwrap();
    let trainings = folder.join("killed/seed0/trainings.jsonl");
    let finished = || fs::read_to_string(&trainings).map_or(0, |text| text.lines().count());
    let start = Instant::now();
    while finished() == 0 {
        assert!(start.elapsed() < Duration::from_secs(120), "nothing is trained");
        thread::sleep(Duration::from_millis(5));
    }
    refused(lottery(folder, "killed", "150"), "another process is working on killed");
    killed.kill().unwrap();
    killed.wait().unwrap();
    refused(lottery(folder, "killed", "151"), "an experiment of 150 iterations");
    assert!(finished() < 17, "it was not killed in time: this test sees nothing");

    let resumed = answer(lottery(folder, "killed", "150"));
    let whole = answer(lottery(folder, "whole", "150"));
    assert_eq!(resumed, whole);
    assert_eq!(whole["claims"].as_array().unwrap().len(), 5);
    let seeds = whole["seeds"].as_array().unwrap();
    assert_ne!(seeds[0]["trainings"], seeds[1]["trainings"]);
    let trainings = seeds[1]["trainings"].as_array().unwrap();
    assert_eq!(trainings.len(), 17);
    // 35 200 weights: their shares are near the published ones.
    let kept: Vec<f64> = trainings.iter().map(|t| t["kept"].as_f64().unwrap()).collect();
    assert!(kept[0] == 1.0 && kept[7] == kept[8] && (kept[8] - 0.211).abs() < 0.002, "{kept:?}");
    assert!(trainings[0]["test_accuracy"].as_f64().unwrap() > 0.5, "it does not learn");
    // The last iteration is judged too.
    assert!(trainings.iter().all(|t| [100, 150].contains(&t["stop"].as_u64().unwrap())));

    let read = |file: &str| fs::read_to_string(folder.join("whole").join(file)).unwrap();
    let written: Value = serde_json::from_str(&read("lottery.json")).unwrap();
    assert_eq!(written["claims"], whole["claims"]);
    assert!(read("lottery.svg").contains("weights kept"));
    let page = read("lottery.html");
    assert!(page.contains("at 13.5 % the ticket is more accurate than dense"));
    for said in [&page, &read("lottery.json")] {
        assert!(!said.contains("NaN") && !said.contains(&*folder.to_string_lossy()));
    }
}
