//! Does `inspect` say what tensors really hold, and catch every claim that is false?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use half::f16;
use secateur::{
    mask::Axis,
    prelude::*,
    storage::{Format, Values, mask_hash},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

fn inspect(path: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("inspect").arg(path).args(more).stdin(Stdio::null()).output().unwrap()
}

/// The exit status and what `--json` says.
fn asked(path: &Path) -> (i32, Value) {
    let output = inspect(path, &["--json"]);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer = stdout.lines().last().unwrap_or_else(|| panic!("{said}"));
    (output.status.code().unwrap(), serde_json::from_str(answer).unwrap())
}

fn tensor<'a>(said: &'a Value, name: &str) -> &'a Value {
    let tensors = said["tensors"].as_array().unwrap();
    tensors.iter().find(|tensor| tensor["name"] == name).unwrap()
}

/// Numbers other than zero where `kept` says so.
fn weight(shape: [usize; 2], kept: impl Fn(usize, usize) -> bool) -> Dense {
    let value = |i: usize| ((i * 37 % 101) as f32 - 50.5) / 50.0;
    let cell = |i: usize| if kept(i / shape[1], i % shape[1]) { value(i) } else { 0.0 };
    Dense::new((0..shape[0] * shape[1]).map(cell).collect::<Vec<_>>(), &shape).unwrap()
}

fn two_of_four(row: usize, col: usize) -> bool {
    let lane = col % 4;
    lane == 0 || lane == 1 + row % 3 && !(row + col / 4).is_multiple_of(7)
}

fn packed(dense: &Dense, format: Format) -> Packed {
    Packed::pack_as(dense, &dense.nonzero().unwrap(), format).unwrap()
}

/// One tensor in every format, and what is no weight.
fn checkpoint() -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    let mut add = |name: &str, packed: Packed, pattern: Option<Pattern>| {
        checkpoint.tensors.insert(name.into(), packed);
        checkpoint.patterns.extend(pattern.map(|pattern| (name.into(), pattern)));
    };
    let halves = weight([16, 32], two_of_four);
    let block: Pattern = "block4x4".parse().unwrap();
    let blocks = weight([16, 32], |row, col| (row / 4 + col / 4) % 3 == 0);
    let rows = weight([16, 32], |row, _| row % 2 == 0);
    let sparse = weight([4, 1024], |row, col| (row * 1024 + col) % 97 == 5);
    add("block.weight", packed(&blocks, "block4x4".parse().unwrap()), Some(block));
    add("csr.weight", packed(&sparse, Format::Csr), None);
    let scaled = halves.quantise_i8().unwrap();
    add("i8.weight", packed(&scaled, Format::TWO_OF_FOUR), Some(Pattern::TWO_OF_FOUR));
    let doubles: Vec<f64> = halves.to_f32().unwrap().iter().map(|v| f64::from(*v)).collect();
    add("f64.weight", Dense::new(Values::from_f64(doubles), &[16, 32]).unwrap().into(), None);
    let most = weight([16, 32], |row, col| (row + col) % 4 != 3);
    let most: Vec<f16> = most.to_f32().unwrap().iter().map(|v| f16::from_f32(*v)).collect();
    add(
        "f16.weight",
        packed(&Dense::new(Values::from(most), &[16, 32]).unwrap(), Format::Bitmap),
        None,
    );
    add("full.weight", weight([8, 8], |_, _| true).into(), None);
    add("full.bias", Dense::new(vec![0.5_f32; 8], &[8]).unwrap().into(), None);
    add("halves.weight", packed(&halves, Format::TWO_OF_FOUR), Some(Pattern::TWO_OF_FOUR));
    add("rows.weight", packed(&rows, Format::Bitmap), Some(Pattern::Channel(Axis::Output)));
    checkpoint.masks.insert("mask".into(), halves.nonzero().unwrap());
    checkpoint
}

fn save(folder: &Path) -> PathBuf {
    let path = folder.join("w.safetensors");
    checkpoint().save(&path).unwrap();
    path
}

/// Where the data of a part lies in a file.
fn part(bytes: &[u8], name: &str) -> std::ops::Range<usize> {
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..data]).unwrap();
    let at = |end: usize| header[name]["data_offsets"][end].as_u64().unwrap() as usize;
    data + at(0)..data + at(1)
}

fn replace(bytes: &mut [u8], from: &str, to: &str) {
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
}

#[test]
fn every_format_says_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (status, said) = asked(&save(folder.path()));
    assert_eq!((status, &said["claims_hold"], &said["claims"]), (0, &json!(true), &json!(4)));
    assert_eq!((&said["layout"], &said["shards"]), (&json!("secateur version 2"), &json!(1)));
    for (name, dtype, format, pattern, smallest) in [
        ("block.weight", "F32", "block4x4", "block4x4@0.6563", "bitmap"),
        ("csr.weight", "F32", "csr", "unstructured@0.9895", "csr"),
        ("f16.weight", "F16", "bitmap", "3:4", "bitmap"),
        ("f64.weight", "F64", "dense", "2:4", "bitmap"),
        ("full.bias", "F32", "dense", "dense", "dense"),
        ("full.weight", "F32", "dense", "dense", "dense"),
        ("halves.weight", "F32", "2:4", "2:4", "bitmap"),
        ("i8.weight", "I8", "2:4", "2:4", "bitmap"),
        ("mask", "BOOL", "mask", "2:4", "mask"),
        ("rows.weight", "F32", "bitmap", "channel@0.5", "bitmap"),
    ] {
        let found = tensor(&said, name);
        let keys = ["dtype", "format", "pattern", "smallest"];
        assert_eq!(
            keys.map(|key| found[key].as_str().unwrap()),
            [dtype, format, pattern, smallest],
            "{name}"
        );
        assert!(found["false_claim"].is_null());
    }
    // Bytes: 16 · 32 elements; two of four with half a byte of indices a group; a scale each row.
    let bytes = |name: &str| {
        ["bytes_dense", "bytes_now", "bytes_possible"]
            .map(|key| tensor(&said, name)[key].as_u64().unwrap())
    };
    let kept = weight([16, 32], two_of_four).nonzero().unwrap().count_kept() as u64;
    assert_eq!(bytes("halves.weight"), [2048, 1024 + 64, kept * 4 + 64]);
    assert_eq!(bytes("i8.weight"), [512 + 64, 256 + 64 + 64, kept + 64 + 64]);
    assert_eq!(bytes("f64.weight"), [4096, 4096, kept * 8 + 64]);
    assert_eq!(bytes("mask"), [64; 3]);
    assert_eq!(tensor(&said, "full.weight")["sparsity"], 0.0);
    assert_eq!(tensor(&said, "halves.weight")["sparsity"], 1.0 - kept as f64 / 512.0);
    // Why a kernel runs or not.
    let kernel = |name: &str| tensor(&said, name)["kernel"].as_str().unwrap();
    for name in ["halves.weight", "i8.weight"] {
        let said = kernel(name);
        assert!(said.starts_with("2:4 ") || said == "no: dense is faster at this shape", "{said}");
    }
    assert_eq!(kernel("f64.weight"), "no: F64 would be rounded to F32");
    assert_eq!(kernel("full.bias"), "no: it has one side");
    assert_eq!(kernel("full.weight"), "no: nothing is zero");
    assert_eq!(kernel("mask"), "-");
    assert!(kernel("f16.weight").starts_with("no: all groups of four keep more than two"));
    assert!(kernel("rows.weight").starts_with("no: 50 % of the groups of four keep more than two"));
    // The totals are the sums; a mask alone has no parameters.
    let (totals, tensors) = (&said["totals"], said["tensors"].as_array().unwrap());
    for key in ["bytes_dense", "bytes_now", "bytes_possible"] {
        let sum: u64 = tensors.iter().map(|tensor| tensor[key].as_u64().unwrap()).sum();
        assert_eq!(totals[key], sum);
    }
    assert_eq!(
        (&totals["tensors"], &totals["parameters"]),
        (&json!(10), &json!(512 * 6 + 4096 + 72))
    );
    let ratio = totals["bytes_dense"].as_f64().unwrap() / totals["bytes_now"].as_f64().unwrap();
    assert_eq!(totals["ratio"], ratio);
}

#[test]
fn the_table_is_one_that_people_read() {
    let folder = tempfile::tempdir().unwrap();
    let output = inspect(&save(folder.path()), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    // What a machine plans depends on the machine.
    let line = |line: &str| {
        let line = line.split("; csr").next().unwrap_or_default();
        let plan = line.find("   2:4 avx").or(line.find("   2:4 portable"));
        let plan = plan.or(line.find("   no: dense is faster"));
        let line = plan.map_or(line.to_owned(), |at| format!("{}   (a plan)", &line[..at]));
        line.trim_end().replace('─', "")
    };
    insta::assert_snapshot!(text.lines().map(line).collect::<Vec<_>>().join("\n"));
    let all = String::from_utf8(inspect(&folder.path().join("w.safetensors"), &["--all"]).stdout);
    assert!(!text.contains("full.bias") && all.unwrap().contains("full.bias"));
}

/// A mask that was tampered with together with its hash: only the pattern gives it away.
#[test]
fn a_forged_pattern_is_found_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    let checkpoint = checkpoint();
    let mask = checkpoint.tensors["rows.weight"].mask().unwrap();
    // One entry moves from a kept row to a cut one.
    let mut bits = mask.to_bools();
    (bits[0], bits[33]) = (false, true);
    let at = part(&bytes, "rows.weight.bitmask").start;
    (bytes[at], bytes[at + 4]) = (bytes[at] & !1, bytes[at + 4] | 2);
    let forged = Mask::from_bools(&bits, &[16, 32]).unwrap();
    replace(&mut bytes, &mask_hash(&mask), &mask_hash(&forged));
    fs::write(&path, &bytes).unwrap();
    let (status, said) = asked(&path);
    assert_eq!((status, &said["claims_hold"]), (1, &json!(false)));
    let found = tensor(&said, "rows.weight");
    let claim = found["false_claim"].as_str().unwrap();
    assert!(claim.contains("not channel"), "{claim}");
    // What is there is told all the same.
    assert_eq!((&found["sparsity"], &found["pattern"]), (&json!(0.5), &json!("output-9:16")));
    let false_claims = said["tensors"].as_array().unwrap().iter();
    assert_eq!(false_claims.filter(|tensor| !tensor["false_claim"].is_null()).count(), 1);
    let text = String::from_utf8(inspect(&path, &[]).stdout).unwrap();
    assert!(text.contains("FALSE CLAIMS: 1\n  rows.weight: "), "{text}");
}

#[test]
fn a_wrong_hash_is_a_false_claim() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(folder.path());
    let good = fs::read(&path).unwrap();
    let checkpoint = checkpoint();
    let hash = mask_hash(&checkpoint.tensors["block.weight"].mask().unwrap());
    let mut bytes = good.clone();
    replace(&mut bytes, &hash, &"0".repeat(64));
    fs::write(&path, &bytes).unwrap();
    let (status, said) = asked(&path);
    let found = tensor(&said, "block.weight");
    assert!(status == 1 && found["false_claim"].as_str().unwrap().contains("hash"));
    assert_eq!(found["pattern"], "block4x4@0.6563");
    // Of a mask alone there is nothing else to go by.
    let mut bytes = good;
    let at = part(&bytes, "mask.bitmask").start;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (status, said) = asked(&path);
    let found = tensor(&said, "mask");
    assert!(status == 1 && found["false_claim"].as_str().unwrap().contains("hash"));
    assert!(found["pattern"].is_null() && found["sparsity"].is_null());
}

/// A model folder whose config.json says this about sparsity.
fn configure(folder: &Path, sparsity: Value) {
    let config = json!({ "quantization_config": { "sparsity_config": sparsity } });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn dense_weights_are_held_to_what_the_configuration_claims() {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::default();
    for (name, dense) in [
        ("model.embed_tokens.weight", weight([8, 16], |_, _| true)),
        ("model.layers.0.up.weight", weight([8, 16], two_of_four)),
        ("model.layers.0.down.weight", weight([16, 8], two_of_four)),
        ("lm_head.weight", weight([8, 16], |_, col| col > 0)),
    ] {
        checkpoint.tensors.insert(name.into(), dense.into());
    }
    checkpoint.save_dense(&folder.path().join("model.safetensors")).unwrap();
    let claim = |targets: Value, ignore: Value| {
        configure(
            folder.path(),
            json!({
                "format": "dense", "sparsity_structure": "2:4", "targets": targets, "ignore": ignore,
            }),
        );
        let (status, said) = asked(folder.path());
        assert_eq!(said["layout"], "plain safetensors");
        let broken = said["tensors"].as_array().unwrap().iter();
        let broken = broken.filter(|tensor| !tensor["false_claim"].is_null());
        let broken: Vec<String> =
            broken.map(|tensor| tensor["name"].as_str().unwrap().to_owned()).collect();
        (status, said["claims"].as_u64().unwrap(), broken)
    };
    let head = || vec!["lm_head.weight".to_owned()];
    assert_eq!(claim(json!(["Linear"]), json!([])), (1, 3, head()));
    assert_eq!(claim(json!(["Linear"]), json!(["lm_head"])), (0, 2, vec![]));
    assert_eq!(claim(json!(["Linear"]), json!(["re:.*head$"])), (0, 2, vec![]));
    // Anchored at the start, as Python's re.match is.
    assert_eq!(claim(json!(["Linear"]), json!(["re:head"])), (1, 3, head()));
    assert_eq!(claim(json!(["re:model.layers.[0-9]+.up", "lm_head"]), Value::Null), (1, 2, head()));
    configure(
        folder.path(),
        json!({
            "format": "dense", "sparsity_structure": "2:4", "targets": ["re:(?!lm_head)"], "ignore": [],
        }),
    );
    let output = inspect(folder.path(), &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("targets"), "{said}");
}

fn fixture(name: &str, to: &Path) {
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/secateur-storage/tests/fixtures");
    for file in fs::read_dir(fixtures.join(name)).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "expected.safetensors" {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

#[test]
fn compressed_weights_are_held_to_what_the_configuration_claims() {
    let folder = tempfile::tempdir().unwrap();
    fixture("ct-0.9.4-sparse-24-bitmask-sharded", folder.path());
    let (status, said) = asked(folder.path());
    assert_eq!((status, &said["claims"], &said["shards"]), (0, &json!(3), &json!(3)));
    assert_eq!(said["layout"], "compressed-tensors sparse-24-bitmask");
    // A third bit in a group of four.
    let shard = folder.path().join("model-00001-of-00003.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let at = part(&bytes, "model.layers.0.up.bitmask").start;
    bytes[at] = 0x37;
    fs::write(&shard, &bytes).unwrap();
    let (status, said) = asked(folder.path());
    let claim = &tensor(&said, "model.layers.0.up.weight")["false_claim"];
    assert!(status == 1 && claim.as_str().unwrap().contains("keeps 3 of four"), "{claim}");

    let folder = tempfile::tempdir().unwrap();
    fixture("ct-0.14.0-sparse-bitmask", folder.path());
    let (status, said) = asked(folder.path());
    assert_eq!((status, &said["claims"]), (0, &json!(0)));
    configure(
        folder.path(),
        json!({
            "format": "sparse-bitmask", "sparsity_structure": "2:4", "targets": ["Linear"],
            "ignore": ["lm_head", "model.layers.bf16"],
        }),
    );
    let (status, said) = asked(folder.path());
    assert_eq!((status, &said["layout"]), (1, &json!("compressed-tensors sparse-bitmask")));
    let claim = &tensor(&said, "model.layers.f32.weight")["false_claim"];
    assert!(claim.as_str().unwrap().contains("config.json claims 2:4"), "{claim}");
    assert!(tensor(&said, "model.layers.bf16.weight")["false_claim"].is_null());
    assert!(tensor(&said, "lm_head.weight")["false_claim"].is_null());
}

/// What 0.14 writes for rows that are no whole groups: its groups run over their ends.
#[test]
fn groups_are_those_of_who_wrote_the_file() {
    let folder = tempfile::tempdir().unwrap();
    fixture("ct-0.14.0-sparse-24-bitmask", folder.path());
    let (status, said) = asked(folder.path());
    assert_eq!(status, 0, "{said}");
    assert_eq!(said["layout"], "compressed-tensors sparse-24-bitmask");
    assert_eq!(tensor(&said, "model.layers.six.weight")["format"], "bitmap");
}

#[test]
fn what_cannot_be_read_is_told_apart_from_what_is_false() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(folder.path());
    let bytes = fs::read(&path).unwrap();
    fs::write(folder.path().join("cut"), &bytes[..bytes.len() - 9]).unwrap();
    let mut damaged = bytes.clone();
    let at = part(&bytes, "halves.weight.indices").start;
    damaged[at] = 0;
    fs::write(folder.path().join("damaged"), damaged).unwrap();
    for (file, words) in [
        ("nowhere", "cannot read"),
        ("cut", "ends beyond the file"),
        ("damaged", "halves.weight of"),
        ("damaged", "the indices do not ascend"),
    ] {
        let output = inspect(&folder.path().join(file), &["--json"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(words), "{file}: {said}");
        assert!(output.stdout.is_empty());
    }
}
