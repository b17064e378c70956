//! Does the command line keep its promises: whole files, equal bytes, clear errors, one JSON line?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

const FILES: [&str; 4] =
    ["dense.safetensors", "pruned.safetensors", "masks.safetensors", "metrics.jsonl"];

/// A recipe that takes a second.
const SHORT: &str = r#"
about = "a short run"
model = "digits-mlp"
data = "digits"
validation = 200

[training]
epochs = 3
batch_size = 64
learning_rate = 5e-3
dropout = 0.1

[pruning]
criterion = "magnitude"
pattern = "2:4"
"#;

fn xtask(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args).stdin(Stdio::null());
    command
}

fn prune(folder: &Path, out: &str, more: &[&str]) -> Output {
    fs::write(folder.join("short.toml"), SHORT).unwrap();
    let mut command = xtask(&["prune-finetune", "--recipe", "short.toml", "--out", out, "--json"]);
    command.args(more).current_dir(folder).output().unwrap()
}

fn report(output: &Output) -> serde_json::Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout.lines().count(), 1, "standard output is the report alone");
    serde_json::from_str(stdout.trim()).unwrap()
}

/// Latencies and resident memory are measured; nothing else may differ.
fn without_measurements(mut report: serde_json::Value) -> serde_json::Value {
    report["candle_latency_ms"].take();
    report["seconds"].take();
    for side in ["dense", "pruned"] {
        report[side]["latency_ms"].take();
        report[side]["rss_bytes"].take();
    }
    report
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_the_report_says_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (prune(folder.path(), "one", &[]), prune(folder.path(), "two", &[]));
    let (one, two) = (report(&one), report(&two));
    assert_eq!(without_measurements(one.clone()), without_measurements(two));
    for file in FILES {
        let read = |run: &str| fs::read(folder.path().join(run).join(file)).unwrap();
        assert!(read("one") == read("two"), "{file} differs");
    }
    let written = fs::read_to_string(folder.path().join("one/report.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), one);

    for side in ["dense", "pruned"] {
        for key in ["accuracy", "error", "parameters", "bytes", "rss_bytes"] {
            assert!(one[side][key].as_f64().unwrap() >= 0.0, "{side} {key}");
        }
        for key in ["batch1", "batch_large"] {
            assert!(one[side]["latency_ms"][key].as_f64().unwrap() > 0.0, "{side} {key}");
        }
    }
    assert_eq!(one["recipe"], "short");
    assert_eq!(one["seed"], 0);
    assert_eq!(one["pruned"]["pattern"], "2:4");
    assert_eq!(one["pruned"]["verified"], true);
    assert!(one["pruned"]["compression"].as_f64().unwrap() > 1.9);
    assert!(one["pruned"]["nonzero"].as_u64() < one["pruned"]["parameters"].as_u64());
    assert_eq!(one["pruned"]["kernel"].as_str().unwrap().split(' ').next(), Some("2:4"));
    assert!(one["dense"]["accuracy"].as_f64().unwrap() > 0.8);

    let other = report(&prune(folder.path(), "three", &["--seed", "1"]));
    assert_eq!(other["seed"], 1);
    assert_ne!(other["dense"]["accuracy"], serde_json::Value::Null);
    let read = |run: &str| fs::read(folder.path().join(run).join(FILES[0])).unwrap();
    assert!(read("one") != read("three"), "another seed gave the same weights");
}

/// Filter pruning: the smaller network is written, the same function, and the report says how small.
#[test]
fn whole_units_leave_a_smaller_network() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = SHORT.replace("pattern = \"2:4\"", "pattern = \"channel\"\nsparsity = 0.5");
    let run = |spare: &str, out: &str| {
        fs::write(folder.path().join("units.toml"), format!("{recipe}spare = [{spare:?}]\n"))
            .unwrap();
        let args = ["prune-finetune", "--recipe", "units.toml", "--out", out, "--json"];
        xtask(&args).current_dir(folder.path()).output().unwrap()
    };
    let units = report(&run("fc3.weight", "units"));
    let parameters = |side: &str| units[side]["parameters"].as_u64().unwrap();
    assert_eq!((parameters("dense"), parameters("shrunk")), (26_122, 8_970));
    assert_eq!(units["shrunk"]["proof"]["disagreements"], 0);
    let bytes = fs::metadata(folder.path().join("units/shrunk.safetensors")).unwrap().len();
    assert_eq!(units["shrunk"]["bytes"], bytes);

    let refused = run("fc9.weight", "refused");
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && stderr.contains("no such layer to spare"), "{stderr}");
    assert!(!folder.path().join("refused").exists());
}

#[test]
fn a_run_is_not_overwritten_without_force() {
    let folder = tempfile::tempdir().unwrap();
    report(&prune(folder.path(), "run", &[]));
    let before = fs::read(folder.path().join("run/report.json")).unwrap();
    let refused = prune(folder.path(), "run", &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("--force"), "{said}");
    assert_eq!(fs::read(folder.path().join("run/report.json")).unwrap(), before);
    // What is refused for another reason costs nobody a run either.
    fs::write(folder.path().join("greedy.toml"), SHORT.replace("= 200", "= 5000")).unwrap();
    let greedy = xtask(&["prune-finetune", "--recipe", "greedy.toml", "--out", "run", "--force"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(!greedy.status.success());
    assert_eq!(fs::read(folder.path().join("run/report.json")).unwrap(), before);
    report(&prune(folder.path(), "run", &["--force"]));
}

/// Whatever is there under its final name after a kill is whole.
#[test]
fn a_killed_run_leaves_no_half_written_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("short.toml"), SHORT).unwrap();
    let mut seen = 0;
    for attempt in 0..12 {
        let out = format!("run{attempt}");
        let mut child = xtask(&["prune-finetune", "--recipe", "short.toml", "--out", &out])
            .current_dir(folder.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(40 + attempt * 120));
        child.kill().unwrap();
        child.wait().unwrap();
        let whole = |file: &str| {
            let path = folder.path().join(&out).join(file);
            let Ok(bytes) = fs::read(&path) else { return 0 };
            match file.rsplit('.').next() {
                Some("safetensors") => {
                    secateur::prelude::Checkpoint::load(&path).unwrap();
                }
                Some("jsonl") => {
                    assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "half a line");
                    for line in String::from_utf8(bytes).unwrap().lines() {
                        serde_json::from_str::<serde_json::Value>(line).unwrap();
                    }
                }
                Some("html") => assert!(bytes.ends_with(b"</html>\n"), "half a page"),
                _ => {
                    serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
                }
            }
            1
        };
        seen += FILES.into_iter().chain(["report.html", "report.json"]).map(whole).sum::<usize>();
    }
    assert!(seen > 0, "no run got far enough to write anything");
}

#[test]
fn mistakes_are_explained_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("train-images-idx3-ubyte"), b"nonsense").unwrap();
    fs::write(folder.path().join("greedy.toml"), SHORT.replace("= 200", "= 5000")).unwrap();
    let says = |args: &[&str]| {
        let output = xtask(args).current_dir(folder.path()).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (args, said) in [
        (&["prune-finetune", "--recipe", "nonsense", "--out", "x"][..], "shipped are"),
        (&["prune-finetune", "--data-dir", "data", "--out", "x"], "not a valid IDX file"),
        (&["prune-finetune", "--data-dir", "nowhere", "--out", "x"], "is no folder"),
        (&["prune-finetune", "--recipe", "greedy.toml", "--out", "x"], "`validation`"),
        (&["prune-finetune", "--recipes", "x"], "--recipe"),
        (&["data", "cifar"], "mnist"),
    ] {
        let text = says(args);
        assert!(text.contains(said), "{args:?} said {text:?}, not {said:?}");
    }
    assert!(!folder.path().join("x").exists());
}
