//! Does `convert` give the same numbers in every layout, and say what it did? And, in `harm`: does it never
//! harm what was there?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod checkpoints;
mod harm;

use checkpoints::*;
use safetensors::Dtype;
use secateur::{
    mask::{Pattern, Target},
    storage::{Format, Source},
};
use serde_json::Value;
use std::{fs, path::Path};

#[test]
fn every_layout_there_and_back_from_a_file_and_from_shards() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    save(&folder.join("file.safetensors"), &model());
    save_folder(&folder.join("sharded"), &model());
    for (prune, kept) in [(None, 1.0), (Some("2:4"), 0.5), (Some("0.8"), 0.2)] {
        let prune: Vec<&str> = prune.into_iter().flat_map(|pattern| ["--prune", pattern]).collect();
        let with = |args: &[&str]| convert(folder, &[args, &prune, &["--json"]].concat());
        let said = answer(&with(&["file.safetensors", "cut.safetensors", "--to", "dense"]));
        let cut = plain(&folder.join("cut.safetensors"));
        check_cut(&cut, kept, &said);
        for from in ["file.safetensors", "sharded"] {
            for layout in ["dense", "secateur", "sparse-24-bitmask", "sparse-bitmask"] {
                for out in ["out.safetensors", "out"] {
                    if out != "out" && layout.starts_with("sparse") {
                        continue;
                    }
                    let what = format!("{from} to {layout} {out} {prune:?}");
                    let said = answer(&with(&[from, out, "--to", layout]));
                    assert!(read(&folder.join(out)) == cut, "{what}");
                    check_answer(&said, layout, &folder.join(out));
                    let sharded = from == "sharded" && out == "out";
                    check_folder(&folder.join(out), sharded, from == "sharded", &what);
                    // And back: what is packed spells its zeros out again.
                    answer(&convert(folder, &[out, "back.safetensors", "--to", "dense", "--json"]));
                    assert!(plain(&folder.join("back.safetensors")) == cut, "{what} and back");
                    let _ = fs::remove_dir_all(folder.join("out"));
                }
            }
        }
    }
    let left =
        ["back.safetensors", "cut.safetensors", "file.safetensors", "out.safetensors", "sharded"];
    assert_eq!(listing(folder), left);
}

/// Weights keep about the share `kept` of their elements, and nothing else was touched.
fn check_cut(cut: &Tensors, kept: f64, said: &Value) {
    for (name, (shape, dtype, data)) in &model() {
        let size = dtype.bitsize() / 8;
        let nonzero = |data: &[u8]| data.chunks(size).filter(|e| e.iter().any(|b| *b != 0)).count();
        let before = nonzero(data);
        if shape.len() < 2 || *dtype == Dtype::I64 || kept == 1.0 {
            assert!(&cut[name].2 == data, "{name} was not to be touched");
            continue;
        }
        let share = nonzero(&cut[name].2) as f64 / before as f64;
        // Rows of 13 end in a group of one, which keeps it.
        assert!((share - kept).abs() < 0.06, "{name}: {share}, not {kept}");
    }
    let tensors = said["tensors"].as_array().unwrap();
    assert!(tensors.iter().all(|tensor| tensor["format"] == "dense" && tensor["left"].is_null()));
}

/// The report has every tensor, and says of each what the written checkpoint says.
fn check_answer(said: &Value, layout: &str, out: &Path) {
    assert_eq!(said["to"], layout);
    let source = Source::open(out).unwrap();
    let tensors = said["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), model().len());
    let sum = |key: &str| tensors.iter().map(|tensor| tensor[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(
        (said["from_bytes"].as_u64(), said["to_bytes"].as_u64()),
        (Some(sum("from_bytes")), Some(sum("to_bytes")))
    );
    for tensor in tensors {
        let name = tensor["name"].as_str().unwrap();
        let entry = &source.entries()[name];
        assert_eq!(tensor["format"], entry.format.to_string(), "{layout} {name}");
        assert_eq!(tensor["to_bytes"], entry.bytes, "{layout} {name}");
        let dense = entry.format == Format::Dense;
        if layout.starts_with("sparse") {
            assert_eq!(tensor["left"].is_string(), dense, "{layout} {name}: {tensor}");
        }
    }
}

/// A folder has its weights (one file, or as many as there were), its configuration and companions.
fn check_folder(out: &Path, sharded: bool, companions: bool, what: &str) {
    if !out.is_dir() {
        return;
    }
    let mut expected = match sharded {
        true => vec![
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
        ],
        false => vec!["model.safetensors"],
    };
    if companions {
        expected.extend(["1_Pooling", "LICENSE", "config.json", "tokenizer.json"]);
        for (file, text) in COMPANIONS {
            assert_eq!(fs::read_to_string(out.join(file)).unwrap(), text, "{what}");
        }
        let config: Value =
            serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["model_type"], "made up");
    }
    let is_compressed = out.join("config.json").exists();
    if is_compressed && !companions {
        expected.push("config.json");
    }
    expected.sort();
    assert_eq!(listing(out), expected, "{what}");
}

#[test]
fn what_was_cut_to_a_pattern_claims_it_and_is_packed_as_it() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    save(&folder.join("in.safetensors"), &model());
    for pattern in ["2:4", "0.8", "4:8", "block2x1@0.5", "transposable-2:4"] {
        let mut args = vec!["in.safetensors", "out.safetensors", "--to", "secateur", "--json"];
        args.extend(["--prune", pattern]);
        answer(&convert(folder, &args));
        let source = Source::open(&folder.join("out.safetensors")).unwrap();
        for (name, entry) in source.entries() {
            if entry.shape.len() < 2 || entry.dtype == Dtype::I64 {
                assert_eq!((entry.format, entry.pattern), (Format::Dense, None), "{name}");
                continue;
            }
            assert_ne!(entry.format, Format::Dense, "{pattern} {name}");
            let claimed = entry.pattern.unwrap();
            source.mask(name).unwrap().unwrap().verify(&claimed).unwrap();
            assert_eq!(claimed, pattern.parse::<Target>().unwrap().pattern(), "{name}");
            if pattern == "2:4" {
                assert_eq!(entry.format, Format::TWO_OF_FOUR, "{name}");
            }
        }
    }
    // Packed weights are found out without being told.
    answer(&convert(
        folder,
        &["in.safetensors", "cut.safetensors", "--to", "dense", "--prune", "2:4", "--json"],
    ));
    answer(&convert(
        folder,
        &["cut.safetensors", "found.safetensors", "--to", "secateur", "--json"],
    ));
    let found = Source::open(&folder.join("found.safetensors")).unwrap();
    assert_eq!(found.entries()["layers.0.up.weight"].pattern, Some(Pattern::TWO_OF_FOUR));
    assert_eq!(found.entries()["layers.0.up.weight"].format, Format::TWO_OF_FOUR);
}

#[test]
fn masks_are_written_alone_and_nothing_else_can_hold_them() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    save(&folder.join("in.safetensors"), &model());
    let said = answer(&convert(
        folder,
        &["in.safetensors", "m.safetensors", "--to", "masks", "--prune", "2:4", "--json"],
    ));
    let left: Vec<&Value> = said["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|tensor| !tensor["left"].is_null())
        .collect();
    assert_eq!(left.len(), 4, "{left:?}");
    answer(&convert(folder, &["m.safetensors", "s.safetensors", "--to", "secateur", "--json"]));
    answer(&convert(
        folder,
        &["in.safetensors", "p.safetensors", "--to", "secateur", "--prune", "2:4", "--json"],
    ));
    let open = |file: &str| Source::open(&folder.join(file)).unwrap();
    let (masks, again, packed) =
        (open("m.safetensors"), open("s.safetensors"), open("p.safetensors"));
    assert_eq!(masks.entries().len(), 6);
    for name in masks.entries().keys() {
        let mask = packed.mask(name).unwrap();
        assert!(mask.is_some() && mask == masks.mask(name).unwrap(), "{name}");
        assert_eq!(mask, again.mask(name).unwrap(), "{name}");
    }
    let said = String::from_utf8(convert(folder, &["m.safetensors", "d", "--to", "dense"]).stderr)
        .unwrap();
    assert!(said.contains("mask alone"), "{said}");
    assert!(!folder.join("d").exists());
}

#[test]
fn what_was_left_dense_is_listed_with_its_reason() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    save(&folder.join("in.safetensors"), &model());
    let output =
        convert(folder, &["in.safetensors", "out", "--to", "sparse-24-bitmask", "--prune", "2:4"]);
    assert!(output.status.success() && output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    for line in [
        "left dense, because it holds no floats: ids",
        "left dense, because it has not two sides: conv.weight",
        "left dense, because its columns are no multiple of four: layers.1.odd.weight",
        "left dense, because its name does not end in .weight: layers.1.gru.weight_ih",
        "left dense, because it is an embedding by its name, which readers want dense: embed.weight",
        "left dense, because it is no weight of two or more sides: layers.0.up.bias, norm.weight, scale",
    ] {
        assert!(said.lines().any(|found| found == line), "{line:?} is not in\n{said}");
    }
    assert!(said.lines().any(|line| line.contains(" 2:4 ") && line.contains(" 2 ")), "{said}");
    assert!(said.contains("written to out"), "{said}");
    // Without zeros nothing gets smaller.
    let output = convert(folder, &["in.safetensors", "same.safetensors", "--to", "secateur"]);
    let said = String::from_utf8(output.stderr).unwrap();
    let reason =
        "left dense, because it has too few zeros to become smaller: conv.weight, embed.weight";
    assert!(said.contains(reason), "{said}");
}

#[test]
fn a_file_may_be_converted_onto_itself() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    save(&folder.join("w.safetensors"), &model());
    let dense = ["w.safetensors", "w.safetensors", "--to", "dense", "--json"];
    answer(&convert(folder, &[&dense[..], &["--prune", "2:4"]].concat()));
    let cut = plain(&folder.join("w.safetensors"));
    let size = || fs::metadata(folder.join("w.safetensors")).unwrap().len();
    let large = size();
    answer(&convert(folder, &["w.safetensors", "w.safetensors", "--to", "secateur", "--json"]));
    assert!(read(&folder.join("w.safetensors")) == cut);
    assert_ne!(size(), large);
    answer(&convert(folder, &dense));
    assert!(plain(&folder.join("w.safetensors")) == cut);
    assert_eq!(listing(folder), ["w.safetensors"]);
}

/// A new folder may lie inside the model: neither it nor anything hidden is taken for a companion.
#[test]
fn a_folder_inside_the_model_holds_the_model_and_not_itself() {
    let temporary = tempfile::tempdir().unwrap();
    save_folder(temporary.path(), &model());
    answer(&convert(temporary.path(), &[".", "packed", "--to", "secateur", "--json"]));
    check_folder(&temporary.path().join("packed"), true, true, "inside");
    assert!(read(&temporary.path().join("packed")) == model());
    // An empty folder that is there already will do.
    fs::create_dir(temporary.path().join("empty")).unwrap();
    answer(&convert(temporary.path(), &["packed", "empty", "--to", "dense", "--json"]));
    check_folder(&temporary.path().join("empty"), true, true, "into an empty folder");
    let hidden = listing(temporary.path()).into_iter().filter(|name| name.starts_with(".secateur"));
    assert_eq!(hidden.count(), 0);
}
