//! Does `verify` call the same what is the same in any format, and find every other number?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use half::f16;
use secateur::{
    prelude::*,
    storage::{Format, Values},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

fn verify(folder: &Path, a: &str, b: &str) -> (Output, Option<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let command = command.args(["verify", a, b, "--json"]).current_dir(folder);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer = stdout.lines().last().map(|line| serde_json::from_str(line).unwrap());
    (output, answer)
}

fn asked(folder: &Path, a: &str, b: &str) -> (i32, Value, String) {
    let (output, answer) = verify(folder, a, b);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), answer.unwrap_or_else(|| panic!("{said}")), said)
}

/// Two of four, in halves of whole numbers: every float dtype holds them.
fn values(seed: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 37 + seed) % 101) as f32 / 2.0 + 0.5;
    (0..512).map(|i| if (i + i / 32) % 4 < 2 { value(i) } else { 0.0 }).collect()
}

fn dense(values: impl Into<Values>) -> Dense {
    Dense::new(values, &[16, 32]).unwrap()
}

fn packed(dense: &Dense, format: Format) -> Packed {
    Packed::pack_as(dense, &dense.nonzero().unwrap(), format).unwrap()
}

fn save(folder: &Path, file: &str, tensors: &[(&str, Packed)]) {
    let mut checkpoint = Checkpoint::default();
    for (name, tensor) in tensors {
        checkpoint.tensors.insert((*name).to_owned(), tensor.clone());
    }
    checkpoint.save(&folder.join(file)).unwrap();
}

#[test]
fn every_format_and_dtype_of_the_same_numbers_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let floats = dense(values(1));
    let halves = dense(values(1).into_iter().map(f16::from_f32).collect::<Vec<_>>());
    let doubles = dense(Values::from_f64(values(1).into_iter().map(f64::from).collect()));
    // A zero of the other sign.
    let negative: Vec<f32> = values(1).iter().map(|v| if *v == 0.0 { -0.0 } else { *v }).collect();
    let files = [
        ("dense", floats.clone().into()),
        ("2of4", packed(&floats, Format::TWO_OF_FOUR)),
        ("bitmap", packed(&floats, Format::Bitmap)),
        ("csr", packed(&floats, Format::Csr)),
        ("f16", packed(&halves, Format::TWO_OF_FOUR)),
        ("f64", doubles.into()),
        ("negative", dense(negative).into()),
    ];
    for (file, tensor) in files {
        save(folder.path(), file, &[("w", tensor)]);
    }
    let mut plain = Checkpoint::default();
    plain.tensors.insert("w".into(), floats.into());
    plain.save_dense(&folder.path().join("plain")).unwrap();
    for a in ["dense", "2of4", "bitmap", "csr", "f16", "f64", "negative", "plain"] {
        for b in ["dense", "2of4", "csr", "f16", "negative"] {
            let (status, said, _) = asked(folder.path(), a, b);
            let expected = json!({
                "same": true, "tensors": 1, "equal": 1, "different": [], "only_in_a": [],
                "only_in_b": [],
            });
            assert_eq!((status, said), (0, expected), "{a} {b}");
        }
    }
}

#[test]
fn quantised_rows_are_the_numbers_that_they_stand_for() {
    let folder = tempfile::tempdir().unwrap();
    let quantised = dense(values(1)).quantise_i8().unwrap();
    let floats = dense(quantised.to_f32().unwrap().into_owned());
    save(folder.path(), "i8", &[("w", packed(&quantised, Format::TWO_OF_FOUR))]);
    save(folder.path(), "f32", &[("w", floats.into())]);
    save(folder.path(), "before", &[("w", dense(values(1)).into())]);
    let (status, _, said) = asked(folder.path(), "i8", "f32");
    assert!(status == 0 && said.contains("1 of them in two dtypes"), "{said}");
    let (status, said, _) = asked(folder.path(), "i8", "before");
    let most = said["different"][0]["largest"].as_f64().unwrap();
    assert!(status == 1 && most > 0.0 && most < 0.25, "{said}");
}

#[test]
fn other_numbers_are_counted_and_the_worst_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = values(1);
    (other[33], other[100], other[511]) = (other[33] + 1.0, -3.0, f32::NAN);
    save(folder.path(), "a", &[("v", dense(values(2)).into()), ("w", dense(values(1)).into())]);
    for (nan, largest, at) in [(true, Value::Null, 511), (false, json!(3.0), 100)] {
        if !nan {
            other[511] = values(1)[511];
        }
        let bitmap = packed(&dense(other.clone()), Format::Bitmap);
        save(folder.path(), "b", &[("v", dense(values(2)).into()), ("w", bitmap)]);
        let (status, said, table) = asked(folder.path(), "a", "b");
        assert_eq!((status, &said["same"], &said["equal"]), (1, &json!(false), &json!(1)));
        let found = &said["different"][0];
        assert_eq!((&found["name"], &found["why"]), (&json!("w"), &json!("values")));
        assert_eq!(
            (&found["differing"], &found["entries"]),
            (&json!(2 + usize::from(nan)), &json!(512))
        );
        assert_eq!((&found["largest"], &found["at"]), (&largest, &json!([at / 32, at % 32])));
        assert!(table.contains(found["said"].as_str().unwrap()), "{table}");
        assert!(table.contains("different: 1 of 2 tensors"), "{table}");
    }
}

#[test]
fn names_shapes_and_masks_alone_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let weight = dense(values(1));
    let mask = weight.nonzero().unwrap();
    let flat = Dense::new(values(1), &[512]).unwrap();
    save(
        folder.path(),
        "a",
        &[("a", flat.clone().into()), ("m", weight.clone().into()), ("s", flat.into())],
    );
    let mut checkpoint = Checkpoint::default();
    checkpoint.tensors.insert("s".into(), weight.into());
    checkpoint.masks.insert("m".into(), mask);
    checkpoint.masks.insert("z".into(), Mask::full(&[2, 2]).unwrap());
    checkpoint.save(&folder.path().join("b")).unwrap();
    let (status, said, table) = asked(folder.path(), "a", "b");
    assert_eq!((status, &said["only_in_a"], &said["only_in_b"]), (1, &json!(["a"]), &json!(["z"])));
    let why =
        |at: usize| (said["different"][at]["why"].as_str(), said["different"][at]["said"].as_str());
    assert_eq!(why(0), (Some("kind"), Some("a mask alone in B, a tensor in A")));
    assert_eq!(why(1), (Some("shape"), Some("shapes [512] and [16, 32]")));
    assert!(table.contains("only in A: a\nonly in B: z\n"), "{table}");
    assert_eq!(asked(folder.path(), "b", "b").0, 0);
    checkpoint.masks.insert("z".into(), Mask::empty(&[2, 2]).unwrap());
    checkpoint.save(&folder.path().join("c")).unwrap();
    let (status, said, _) = asked(folder.path(), "b", "c");
    assert_eq!((status, &said["different"][0]["differing"]), (1, &json!(4)));
}

#[test]
fn a_tensor_too_many_on_either_side_is_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = Packed::from(dense(values(1)));
    save(folder.path(), "one", &[("w", tensor.clone())]);
    save(folder.path(), "two", &[("v", tensor.clone()), ("w", tensor)]);
    for (a, b, key) in [("one", "two", "only_in_b"), ("two", "one", "only_in_a")] {
        let (status, said, _) = asked(folder.path(), a, b);
        assert_eq!((status, &said["same"], &said[key]), (1, &json!(false), &json!(["v"])));
        assert_eq!(said["different"], json!([]));
    }
}

/// Every format that compressed-tensors wrote, against what it read back itself.
#[test]
fn folders_are_compared_with_files() {
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/secateur-storage/tests/fixtures");
    for name in ["ct-0.14.0-sparse-24-bitmask", "ct-0.9.4-sparse-24-bitmask-sharded"] {
        let expected = format!("{name}/expected.safetensors");
        let (status, said, _) = asked(&fixtures, name, &expected);
        assert_eq!((status, &said["same"]), (0, &json!(true)), "{said}");
    }
}

#[test]
fn what_cannot_be_read_is_told_apart_from_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), "a", &[("w", packed(&dense(values(1)), Format::Bitmap))]);
    let bytes = fs::read(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("cut"), &bytes[..bytes.len() - 1]).unwrap();
    // A bit of the mask, which its hash gives away.
    let mut damaged = bytes.clone();
    let at = damaged.len() - 1;
    damaged[at] ^= 1;
    fs::write(folder.path().join("damaged"), damaged).unwrap();
    for (b, words) in [
        ("nowhere", "cannot read"),
        ("cut", "ends beyond the file"),
        ("damaged", "w of a or damaged"),
    ] {
        let (output, answer) = verify(folder.path(), "a", b);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(words), "{b}: {said}");
        assert!(answer.is_none());
    }
}
