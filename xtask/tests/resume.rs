//! Does a run that was killed, again and again and at any moment, end with the bytes of one that was not?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const FILES: [&str; 4] =
    ["dense.safetensors", "pruned.safetensors", "masks.safetensors", "metrics.jsonl"];

/// Everything that a run has to remember, in seconds: rounds, a late rewind, dropout, a teacher.
const RECIPE: &str = r#"
about = "a run to be killed"
model = "digits-mlp"
data = "digits"
validation = 200

[training]
epochs = 12
batch_size = 16
learning_rate = 3e-3
dropout = 0.1
input_dropout = 0.05
l1 = 1e-6

[pruning]
criterion = "magnitude"
pattern = "unstructured"
allocation = "global"
sparsity = 0.9
rounds = 3
rewind = { step = 40 }

[distillation]
weight = 0.5
temperature = 2.0
"#;

fn xtask(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["prune-finetune", "--checkpoint-every", "7"]).args(args);
    command.current_dir(folder).stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::null());
    command.env("RAYON_NUM_THREADS", "1");
    command
}

/// Numbers that look random and are the same in every test.
struct Stream(u64);

impl Stream {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Waits for `child` at most so long; whether it ended by itself.
fn ended(child: &mut Child, within: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < within {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        thread::sleep(Duration::from_millis(2));
    }
    false
}

/// The report without what is measured.
fn report(folder: &Path) -> serde_json::Value {
    let text = fs::read_to_string(folder.join("report.json")).unwrap();
    let mut report: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in ["candle_latency_ms", "seconds"] {
        report[key].take();
    }
    for side in ["dense", "pruned"] {
        report[side]["latency_ms"].take();
        report[side]["rss_bytes"].take();
    }
    report
}

#[test]
fn a_run_killed_twenty_times_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("killed.toml"), RECIPE).unwrap();
    let whole = xtask(folder.path(), &["--recipe", "killed.toml", "--out", "whole"]);
    let start = Instant::now();
    let output = { whole }.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let took = start.elapsed();

    let (mut kills, mut mid_training, mut stream) = (0, 0, Stream(20));
    let mut args = vec!["--recipe", "killed.toml", "--out", "killed"];
    let killed = folder.path().join("killed");
    // Slices of a fortieth of a run on average: many kills before it ends.
    let slice = (took.as_millis() as u64 / 20).max(40);
    for attempt in 0.. {
        assert!(attempt < 2000, "it never ends");
        let mut child = xtask(folder.path(), &args).spawn().unwrap();
        // Longer the more often it was killed, so that it ends on any machine.
        let trained = killed.join("masks.safetensors").exists();
        let patience = match trained && kills >= 20 {
            // What is left is measured, which takes seconds in one piece.
            true => Duration::from_secs(300),
            false => Duration::from_millis(30 + stream.below(slice) + 2 * attempt),
        };
        if ended(&mut child, patience) {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        mid_training += usize::from(killed.join("progress.safetensors").exists());
        if killed.join("run.toml").exists() {
            args = vec!["--resume", "killed"];
        } else {
            // Killed before it had said what it is: nothing to resume yet.
            args = vec!["--recipe", "killed.toml", "--out", "killed", "--force"];
        }
    }
    assert!(kills >= 20 && mid_training >= 10, "{kills} kills, {mid_training} while training");
    for file in FILES {
        let read = |run: &str| fs::read(folder.path().join(run).join(file)).unwrap();
        assert!(read("whole") == read("killed"), "{file} differs after {kills} kills");
    }
    assert_eq!(report(&folder.path().join("whole")), report(&killed));
    assert!(!killed.join("progress.safetensors").exists(), "progress outlived its run");

    // What is finished is finished; a second process keeps out; an empty folder is no run.
    let again = xtask(folder.path(), &["--resume", "killed"]).output().unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success() && said.contains("is finished"), "{said}");
    fs::create_dir(folder.path().join("empty")).unwrap();
    let none = xtask(folder.path(), &["--resume", "empty"]).output().unwrap();
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(!none.status.success() && said.contains("no run to resume"), "{said}");
}

#[test]
fn two_processes_do_not_work_on_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("killed.toml"), RECIPE).unwrap();
    let mut first =
        xtask(folder.path(), &["--recipe", "killed.toml", "--out", "run"]).spawn().unwrap();
    let job = folder.path().join("run/run.toml");
    while !job.exists() {
        thread::sleep(Duration::from_millis(2));
        assert!(first.try_wait().unwrap().is_none(), "it ended before it began");
    }
    thread::sleep(Duration::from_millis(50));
    let second = xtask(folder.path(), &["--resume", "run"]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("another process"), "{said}");
    first.kill().unwrap();
    first.wait().unwrap();
}
