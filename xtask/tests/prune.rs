//! Does `prune` cut any checkpoint's layers as it is told, say what it left, and explain mistakes?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use candle_core::{DType, Device, Tensor, safetensors};
use secateur::{mask::Target, prelude::*};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    process::{Command, Output, Stdio},
};

fn xtask(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let len: usize = shape.iter().product();
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0;
    let values: Vec<f32> = (0..len).map(|i| value(i) + 1e-5 * (i % 97) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn save(folder: &Path, file: &str, tensors: &[(&str, Tensor)]) {
    let tensors: HashMap<String, Tensor> =
        tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
    safetensors::save(&tensors, folder.join(file)).unwrap();
}

/// A chain of two layers, a half-precision one, and things that are no weights.
fn checkpoint(folder: &Path) {
    save(
        folder,
        "w.safetensors",
        &[
            ("fc1.weight", numbers(&[16, 24], 1)),
            ("fc1.bias", numbers(&[16], 2)),
            ("fc2.weight", numbers(&[8, 16], 3)),
            ("half.weight", numbers(&[8, 16], 4).to_dtype(DType::BF16).unwrap()),
            ("ids", Tensor::zeros((1, 4), DType::I64, &Device::Cpu).unwrap()),
        ],
    );
    let inputs = [("fc1", numbers(&[64, 24], 5)), ("fc2.weight", numbers(&[64, 16], 6))];
    save(folder, "x.safetensors", &inputs);
    let gradients = [("fc1.weight", numbers(&[3, 16, 24], 7)), ("fc2", numbers(&[8, 16], 8))];
    save(folder, "g.safetensors", &gradients);
}

fn read(path: &Path) -> BTreeMap<String, Tensor> {
    safetensors::load(path, &Device::Cpu).unwrap().into_iter().collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

fn answer(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
}

#[test]
fn every_criterion_and_pattern_writes_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path());
    let before = read(&folder.path().join("w.safetensors"));
    let data = ["--inputs", "x.safetensors", "--gradients", "g.safetensors"];
    let criteria = [
        "magnitude",
        "magnitude-l2",
        "random",
        "wanda",
        "ria",
        "sparsegpt",
        "alps",
        "snip",
        "taylor",
        "movement",
        "grasp",
        "synflow",
        "obs",
    ];
    let patterns = [
        "2:4",
        "0.5",
        "block4x1@0.5",
        "channel@0.5",
        "input-channel@0.25",
        "transposable-2:4",
        "4:2:8",
        "output-1:4",
        "unstructured-row@0.5",
    ];
    // Every criterion with one of the patterns, and every pattern with one of the criteria.
    for case in 0..criteria.len().max(patterns.len()) {
        let (criterion, pattern) = (criteria[case % 13], patterns[case % patterns.len()]);
        let mut args =
            vec!["prune", "w.safetensors", "--criterion", criterion, "--tensor", "fc*.weight"];
        args.extend(["--pattern", pattern, "--out", "o.safetensors", "--json"]);
        args.extend(data);
        let said = answer(&xtask(folder.path(), &args));
        let after = read(&folder.path().join("o.safetensors"));
        assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        assert_eq!((&said["criterion"], &said["pattern"]), (&criterion.into(), &pattern.into()));
        let target: Target = pattern.parse().unwrap();
        for (name, tensor) in &after {
            assert_eq!(tensor.dtype(), before[name].dtype(), "{name}");
            if !name.starts_with("fc") || name == "fc1.bias" {
                assert_eq!(values(tensor), values(&before[name]), "{name} was not to be touched");
                continue;
            }
            let entry = said["tensors"].as_array().unwrap().iter().find(|t| t["name"] == **name);
            let entry = entry.unwrap_or_else(|| panic!("{name} is not in {said}"));
            let bits: Vec<bool> = values(tensor).iter().map(|v| *v != 0.0).collect();
            let mask = Mask::from_bools(&bits, tensor.dims()).unwrap();
            assert_eq!(entry["kept"], mask.count_kept(), "{criterion} {pattern} {name}");
            assert_eq!(entry["tokens"], 64);
            mask.verify(&target.pattern()).unwrap();
            let share = 1.0 - target.sparsity().share();
            assert!((mask.density() - share).abs() < 0.02, "{criterion} {pattern}: {mask:?}");
        }
        assert_eq!(said["left"].as_object().unwrap().len(), 3);
    }
}

#[test]
fn the_same_command_gives_the_same_bytes_and_refit_a_smaller_error() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path());
    let run = |out: &str, more: &[&str]| {
        let mut args = vec!["prune", "w.safetensors", "--tensor", "fc*.weight", "--inputs"];
        args.extend(["x.safetensors", "--criterion", "sparsegpt", "--pattern", "2:4"]);
        args.extend(["--out", out, "--json"]);
        args.extend(more);
        let said = answer(&xtask(folder.path(), &args));
        (said["tensors"][0]["output_error"].as_f64().unwrap(), folder.path().join(out))
    };
    let (plain, one) = run("1", &[]);
    let (_, two) = run("2", &[]);
    assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
    let (refitted, _) = run("3", &["--refit"]);
    assert!(refitted < plain && plain < 0.5, "{refitted} {plain}");
}

#[test]
fn allocations_share_out_and_packed_files_hold_the_pattern() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path());
    for allocation in ["uniform", "global", "erk", "lamp", "owl"] {
        let mut args = vec!["prune", "w.safetensors", "--tensor", "fc?.weight", "--criterion"];
        args.extend(["magnitude", "--pattern", "0.5", "--out", "o", "--json", "--allocation"]);
        args.push(allocation);
        let said = answer(&xtask(folder.path(), &args));
        assert_eq!(said["allocation"], allocation);
        // 16 · 24 + 8 · 16 weights in all.
        let kept: u64 =
            said["tensors"].as_array().unwrap().iter().map(|t| t["kept"].as_u64().unwrap()).sum();
        assert_eq!(kept, 256, "{allocation}");
    }
    let half = numbers(&[8, 16], 4).to_dtype(DType::BF16).unwrap();
    let tensors = [("fc1.weight", numbers(&[16, 24], 1)), ("half.weight", half)];
    save(folder.path(), "f.safetensors", &tensors);
    let args = ["prune", "f.safetensors", "--criterion", "magnitude", "--pattern", "2:4"];
    answer(&xtask(folder.path(), &[&args[..], &["--out", "p", "--packed", "--json"]].concat()));
    answer(&xtask(folder.path(), &[&args[..], &["--out", "d", "--json"]].concat()));
    let packed = Checkpoint::load(&folder.path().join("p")).unwrap();
    assert_eq!(packed.patterns["fc1.weight"], Pattern::TWO_OF_FOUR);
    assert_eq!(packed.tensors["half.weight"].dtype(), secateur::storage::Dtype::BF16);
    let dense = read(&folder.path().join("d"));
    assert_eq!(
        packed.tensors["fc1.weight"].unpack().to_f32().unwrap().to_vec(),
        values(&dense["fc1.weight"])
    );
    // A packed file can be pruned further: what was cut stays cut.
    let args = ["prune", "p", "--criterion", "random", "--pattern", "0.6", "--out", "q", "--json"];
    answer(&xtask(folder.path(), &args));
    let further = values(&read(&folder.path().join("q"))["fc1.weight"]);
    let zero_before = values(&dense["fc1.weight"]);
    assert!(
        zero_before.iter().zip(&further).all(|(before, after)| *before != 0.0 || *after == 0.0)
    );
    assert_eq!(further.iter().filter(|v| **v == 0.0).count(), 230); // round(0.6 · 384)
}

/// Pruned again the same way, a layer loses nothing more; pruned another way, it keeps the best of
/// what is left; and nobody else's packing is undone.
#[test]
fn what_was_cut_stays_cut_and_the_rest_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [("a.weight", numbers(&[16, 32], 1)), ("b.weight", numbers(&[16, 32], 2))];
    save(folder.path(), "w", &tensors);
    let prune = |from: &str, to: &str, more: &[&str]| {
        let args = ["prune", from, "--out", to, "--packed", "--json"];
        answer(&xtask(folder.path(), &[&args[..], more].concat()));
        Checkpoint::load(&folder.path().join(to)).unwrap()
    };
    let kept = |checkpoint: &Checkpoint, name: &str| -> f32 {
        checkpoint.tensors[name].unpack().to_f32().unwrap().iter().map(|value| value.abs()).sum()
    };
    for pattern in ["4:2:16", "2:4", "transposable-2:4", "block4x1@0.5", "channel@0.5", "0.8"] {
        let how = ["--criterion", "magnitude", "--pattern", pattern];
        let (once, twice) = (prune("w", "1", &how), prune("1", "2", &how));
        assert_eq!(once.tensors, twice.tensors, "{pattern}");
    }
    let halved = prune("w", "h", &["--criterion", "magnitude", "--pattern", "2:4"]);
    let how = ["--criterion", "magnitude", "--pattern", "channel@0.5", "--tensor", "a.weight"];
    let rows = prune("h", "r", &how);
    // Rows of what 2:4 left differ by less than a factor of two, so the better half keeps over 0.5.
    assert!(kept(&rows, "a.weight") > 0.5 * kept(&halved, "a.weight"));
    assert_eq!(rows.tensors["b.weight"], halved.tensors["b.weight"]);
    assert_eq!(rows.patterns["b.weight"], Pattern::TWO_OF_FOUR);
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_every_criterion() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path());
    for bad in [f32::NAN, f32::INFINITY] {
        let mut weight = values(&numbers(&[16, 24], 1));
        weight[37] = bad;
        let weight = Tensor::from_vec(weight, (16, 24), &Device::Cpu).unwrap();
        save(folder.path(), "bad", &[("fc1.weight", weight)]);
        for criterion in ["magnitude", "random", "wanda", "ria", "sparsegpt", "alps", "snip", "obs"]
        {
            let args = ["prune", "bad", "--criterion", criterion, "--pattern", "2:4", "--out", "o"];
            let data = ["--inputs", "x.safetensors", "--gradients", "g.safetensors", "--refit"];
            let output = xtask(folder.path(), &[&args[..], &data].concat());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                said.contains("layer fc1.weight: the weight at flat index 37 is NaN"),
                "{said}"
            );
        }
    }
    assert!(!folder.path().join("o").exists());
}

#[test]
fn refit_keeps_the_mask_even_of_a_hundred_steps() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path());
    let run = |out: &str, more: &[&str]| {
        let args =
            ["prune", "w.safetensors", "--criterion", "synflow", "--pattern", "0.7", "--json"];
        let data = ["--inputs", "x.safetensors", "--tensor", "fc?.weight", "--out", out];
        answer(&xtask(folder.path(), &[&args[..], &data, more].concat()));
        values(&read(&folder.path().join(out))["fc1.weight"])
    };
    let (plain, refitted) = (run("p", &[]), run("r", &["--refit"]));
    assert!(plain.iter().zip(&refitted).all(|(p, r)| (*p == 0.0) == (*r == 0.0)));
    assert_ne!(plain, refitted);
}

#[test]
fn metadata_and_empty_weights_come_through() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path());
    let empty = Tensor::zeros((0, 24), DType::F32, &Device::Cpu).unwrap();
    let tensors = [("fc1.weight", empty), ("fc2.weight", numbers(&[8, 16], 3))];
    let metadata = [("zebra", "1"), ("author", "é"), ("format", "tf")];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let path = folder.path().join("w");
    ::safetensors::serialize_to_file(tensors, Some(metadata.clone().into()), &path).unwrap();
    for criterion in ["magnitude", "wanda", "sparsegpt"] {
        let args =
            ["prune", "w", "--criterion", criterion, "--pattern", "2:4", "--out", "o", "--json"];
        let said =
            answer(&xtask(folder.path(), &[&args[..], &["--inputs", "x.safetensors"]].concat()));
        assert_eq!(said["tensors"][0]["kept"], 0);
        assert_eq!(said["tensors"][1]["kept"], 64, "{criterion}");
    }
    let bytes = std::fs::read(folder.path().join("o")).unwrap();
    let (_, header) = ::safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().clone().unwrap(), HashMap::from(metadata));
}

#[test]
fn mistakes_are_explained_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path());
    std::fs::write(folder.path().join("junk"), b"junk").unwrap();
    save(folder.path(), "narrow", &[("fc1", numbers(&[64, 23], 5))]);
    let base = ["prune", "w.safetensors", "--out", "o", "--pattern", "2:4", "--criterion"];
    for (more, said) in [
        (&["wanda"][..], "--inputs needs activations [tokens, in]"),
        (&["wanda", "--inputs", "narrow", "--tensor", "fc1.weight"], "[64, 23]"),
        (&["snip", "--tensor", "fc1.weight"], "--gradients needs gradients"),
        (
            &["snip", "--gradients", "x.safetensors", "--tensor", "fc1.weight"],
            "have shape [64, 24]",
        ),
        (&["magnitude", "--tensor", "nothing*"], "the file holds"),
        (&["magnitude", "--tensor", "ids"], "ids cannot be pruned: it holds I64"),
        (&["magnitude", "--tensor", "fc1.*", "--tensor", "typo"], "--tensor typo names no weight"),
        (&["magnitude", "--tensor", "["], "is no glob"),
        (&["magnitud"], "magnitude"),
        (&["magnitude", "--inputs", "junk"], "not a safetensors file"),
        (&["magnitude", "--inputs", "nowhere"], "cannot read nowhere"),
        (&["synflow", "--tensor", "*.weight"], "are no chain"),
        (&["magnitude", "--inputs", "narrow", "--tensor", "fc1.weight"], "it needs [tokens, 24]"),
    ] {
        let output = xtask(folder.path(), &[&base[..], more].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(said), "{more:?} said {text:?}");
        assert!(output.stdout.is_empty());
    }
    for (pattern, said) in [
        ("4:2", "1 <= N < M"),
        ("channel", "channel@0.5"),
        ("1.5", "between 0 and 1"),
        ("50%", "a share such as 0.9"),
    ] {
        let args = [
            "prune",
            "w.safetensors",
            "--out",
            "o",
            "--criterion",
            "magnitude",
            "--pattern",
            pattern,
        ];
        let output = xtask(folder.path(), &args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(said), "{pattern} said {text:?}");
    }
    assert!(!folder.path().join("o").exists());
    let args =
        ["prune", "w.safetensors", "--criterion", "magnitude", "--pattern", "2:4", "--out", "no/o"];
    let output = xtask(folder.path(), &args);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no file in an existing folder"));
}

#[test]
fn permute_finds_an_order_that_keeps_more_and_says_it_all() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path());
    let run = |seed: &str| {
        let args = ["permute", "w.safetensors", "--tensor", "fc1.weight", "--pattern", "2:4"];
        let more = ["--seconds", "0.05", "--threads", "2", "--seed", seed, "--json"];
        answer(&xtask(folder.path(), &[&args[..], &more].concat()))
    };
    let found = run("3");
    let number = |key: &str| found[key].as_f64().unwrap();
    let order: Vec<usize> = serde_json::from_value(found["permutation"].clone()).unwrap();
    // What it claims, from the file itself.
    let weight = values(&numbers(&[16, 24], 1));
    let kept = |order: &[usize]| -> f64 {
        let row = |row: &[f32]| {
            let row: Vec<f64> = order.iter().map(|&col| f64::from(row[col].abs())).collect();
            let best = |group: &[f64]| {
                let mut group = group.to_vec();
                group.sort_by(|a, b| b.total_cmp(a));
                group[0] + group[1]
            };
            row.chunks(4).map(best).sum::<f64>()
        };
        weight.chunks(24).map(row).sum()
    };
    assert!((kept(&order) - number("kept")).abs() < 1e-6);
    assert!((kept(&(0..24).collect::<Vec<_>>()) - number("kept_default")).abs() < 1e-6);
    assert!(number("kept_default") < number("kept") && number("kept") <= number("kept_rows"));
    let efficacy = (number("kept") - number("kept_default"))
        / (number("kept_rows") - number("kept_default"))
        * 100.0;
    assert!((efficacy - number("efficacy")).abs() < 1e-9 && number("seconds") < 1.0);
    assert_eq!(found["permutation"], run("3")["permutation"]);
    let args = ["permute", "w.safetensors", "--tensor", "ids"];
    let said = String::from_utf8_lossy(&xtask(folder.path(), &args).stderr).into_owned();
    assert!(said.contains("it holds I64"), "{said}");
}
