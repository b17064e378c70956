//! Does `bench` print what programs read, count figures of others, and refuse what it cannot measure?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

/// One round on a weight so small that it says nothing about speed.
fn bench(folder: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["bench", "--no-peers", "--rounds", "1"]).args(args.split_whitespace());
    command.env_remove("SECATEUR_TIER").current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    let (said, shown) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}");
    let answer: Value = serde_json::from_slice(said).unwrap_or_else(|_| panic!("{shown}"));
    answer["rows"].as_array().unwrap().clone()
}

#[test]
fn json_has_a_row_for_every_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let args = "--shapes 64x64,32x96 --tokens 1,4 --patterns 2:4,0.9 --dtypes f32,i8 --tiers portable \
                --json --plot speed.svg";
    let rows = rows(&bench(folder.path(), args));
    for layout in ["token-major", "feature-major"] {
        let of_layout = rows.iter().filter(|row| row["layout"] == layout);
        assert_eq!(of_layout.count(), 2 * 2 * 2 * 2);
    }
    for row in &rows {
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key}: {row}"));
        let text =
            |key: &str| row[key].as_str().unwrap_or_else(|| panic!("{key}: {row}")).to_owned();
        assert!(["64x64", "32x96"].contains(&&text("shape")[..]) && number("tokens") <= 4.0);
        assert!(["2:4", "0.9"].contains(&&text("pattern")[..]) && number("threads") == 1.0);
        assert!(["f32", "i8"].contains(&&text("dtype")[..]));
        assert!(text("kernel").ends_with("portable"), "{row}");
        let speedup = number("gflops") / number("dense_best");
        assert!((number("speedup") / speedup - 1.0).abs() < 1e-9, "{row}");
        assert!(["secateur_gemm_f32", "faer_f32"].contains(&&text("dense_best_name")[..]));
        assert!(number("share_of_peak") > 0.0 && number("speedup_at_min") > 0.0);
        assert!(row["speedup_candle"].is_null(), "nothing was compared with candle");
    }
    let svg = fs::read_to_string(folder.path().join("speed.svg")).unwrap();
    assert!(svg.contains("<svg") && svg.contains("32x96"));
}

/// A peer that is faster than anything wins where it was measured, and only there.
#[test]
fn figures_of_others_count_where_they_fit() {
    let folder = tempfile::tempdir().unwrap();
    let line =
        "64x64,4,1,ort_f32,0.0001,0.0001,327.7,327.7\n64x64,4,1,ds_90,0.0001,0.0001,327.7,327.7\n";
    fs::write(folder.path().join("peers.csv"), line).unwrap();
    let args = "--shapes 64x64 --tokens 1,4 --tiers portable --peers peers.csv --json";
    for row in rows(&bench(folder.path(), args)) {
        let beaten = row["dense_best_name"] == "ort_f32";
        assert_eq!(beaten, row["tokens"] == 4, "{row}");
    }
}

/// On the real network where it was fetched; elsewhere the command says how to fetch it.
#[test]
fn a_whole_network_has_a_row_for_each_batch_and_length() {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(folder.path(), "--model minilm --tokens 16,7 --json");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/minilm/model.safetensors");
    if !data.exists() {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("cargo xtask data minilm"), "{said}");
        return;
    }
    let rows = rows(&output);
    let cases: Vec<_> = rows.iter().map(|row| (&row["batch"], &row["tokens"])).collect();
    assert_eq!(format!("{cases:?}").matches("Number(16)").count(), 2);
    assert_eq!(cases.len(), 4);
    for row in &rows {
        let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{row}"));
        assert_eq!((&row["shape"], number(&row["threads"])), (&"minilm".into(), 1.0));
        let speedup = number(&row["dense_ms"]["median"]) / number(&row["ms"]["median"]);
        assert!((number(&row["speedup"]) / speedup - 1.0).abs() < 1e-9, "{row}");
        assert!((0.5..0.54).contains(&number(&row["weights_share"])), "{row}");
        assert!(number(&row["model_share"]) > number(&row["weights_share"]), "{row}");
        assert!(row["speedup_candle"].is_null(), "candle was not asked");
    }
}

/// The child with AVX-512 is this program.
#[test]
fn a_child_answers_until_nothing_more_is_asked() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let command = command.arg("bench-serve").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whole networks are encoded by the other program.
    child.stdin.take().unwrap().write_all(b"case candle_f32 8 32 4\ngo 0 0\nencode {}\n").unwrap();
    let answers = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(answers.starts_with("ready 0\ntook ") && answers.lines().count() == 3, "{answers}");
    assert!(answers.ends_with("error this program has no encoder\n"), "{answers}");
}

#[test]
fn without_json_people_read_a_table_on_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(folder.path(), "--shapes 8x8 --tokens 1 --tiers portable");
    let said = String::from_utf8(output.stdout).unwrap();
    for word in ["speed-up", "2:4 portable", "break-even", "from memory"] {
        assert!(said.contains(word), "{word} is not in\n{said}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("damaged.csv"), "64x64,4,1,ort_f32,0.1,0.1,fast,82.0\n").unwrap();
    for (args, reason) in [
        ("--shapes 0x0", "empty"),
        ("--shapes 3072", "ROWSxCOLS"),
        ("--shapes 4000000000x4000000000", "too large"),
        ("--tokens 0", "0 tokens"),
        ("--tokens 99999999999", "too large"),
        ("--tokens 99999999999999999999999", "--tokens"),
        ("--threads 0", "0 threads"),
        ("--threads 4096", "4096 threads"),
        ("--rounds 0", "--rounds"),
        ("--patterns 3", "3"),
        ("--dtypes f8", "f8"),
        ("--tiers avx1024", "avx1024"),
        ("--peers damaged.csv", "line 1"),
        ("--peers missing.csv", "missing.csv"),
        ("--plot nowhere/speed.svg", "nowhere"),
        ("--plot .", "is a folder"),
        ("--model minilm --shapes 8x8", "--model"),
        ("--model minilm --threads 0", "--threads"),
        ("--model minilm --rounds 0", "--rounds"),
    ] {
        let rounds = if args.contains("--rounds") { "" } else { "--rounds 1" };
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(["bench", "--no-peers", "--json"])
            .args(format!("{rounds} {args}").split_whitespace());
        let output = command.current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{args} was not refused");
        assert!(said.contains(reason) && !said.contains("panicked"), "{args}: {said}");
    }
}
