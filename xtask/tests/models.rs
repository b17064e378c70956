//! Do real models go through every format and back, bit for bit? Where they were fetched: `cargo xtask
//! data minilm`, `cargo xtask data smollm2`. Elsewhere these tests say so and pass.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use candle_core::{Device, quantized::gguf_file::Content};
use safetensors::{Dtype, SafeTensors};
use secateur::storage::{Format, Source};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

/// A fetched model, or none and a word about it.
fn fetched(set: &str, extension: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data").join(set);
    let files =
        fs::read_dir(&folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let found = files.into_iter().find(|path| path.extension().is_some_and(|e| e == extension));
    if found.is_none() {
        eprintln!("skipped: data/{set} is not there; fetch it with `cargo xtask data {set}`");
    }
    found
}

/// Runs `convert` and prints what it took.
fn convert(folder: &Path, from: &Path, out: &str, to: &str, prune: Option<&str>) -> Value {
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("convert").arg(from).args([out, "--to", to, "--json"]).stdin(Stdio::null());
    command.args(prune.into_iter().flat_map(|pattern| ["--prune", pattern]));
    let output = command.current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let (bytes, file) = (&said["to_bytes"], from.file_name().unwrap_or_default().display());
    eprintln!("{file} to {to}, pruned {}: {bytes} bytes, {seconds:.2} s", prune.unwrap_or("not"));
    said
}

/// Holds every tensor of `found` against the plain safetensors file `expected`.
fn same(found: &Path, expected: &Path, what: &str) {
    let bytes = fs::read(expected).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let source = Source::open(found).unwrap();
    let names: Vec<&str> = source.entries().keys().map(String::as_str).collect();
    let mut expected_names = expected.names();
    expected_names.sort();
    assert_eq!(names, expected_names, "{what}");
    for name in names {
        let (dense, view) = (source.tensor(name).unwrap().unpack(), expected.tensor(name).unwrap());
        assert_eq!((dense.shape(), dense.dtype()), (view.shape(), view.dtype()), "{what}: {name}");
        assert!(dense.values().data()[..] == *view.data(), "{what}: {name}");
    }
}

/// How many tensors have which format.
fn formats(said: &Value) -> BTreeMap<String, usize> {
    let mut formats = BTreeMap::new();
    for tensor in said["tensors"].as_array().unwrap() {
        *formats.entry(tensor["format"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    formats
}

const LAYOUTS: [&str; 4] = ["dense", "secateur", "sparse-24-bitmask", "sparse-bitmask"];

#[test]
fn all_minilm_l6_v2_goes_through_every_layout_and_back() {
    let Some(weights) = fetched("minilm", "safetensors") else { return };
    let model = weights.parent().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    for prune in [None, Some("2:4"), Some("0.8")] {
        let expected = match prune {
            None => weights.clone(),
            Some(_) => {
                convert(folder, model, "expected.safetensors", "dense", prune);
                folder.join("expected.safetensors")
            }
        };
        for to in LAYOUTS {
            let what = format!("{to} {prune:?}");
            let said = convert(folder, model, "out", to, prune);
            let out = folder.join("out");
            same(&out, &expected, &what);
            let formats = formats(&said);
            let packed: usize =
                formats.iter().filter(|(format, _)| *format != "dense").map(|(_, n)| n).sum();
            // 37 linear layers and three embeddings, which readers of compressed-tensors want dense.
            let weights = match (to, prune) {
                ("dense", _) | (_, None) | ("sparse-24-bitmask", Some("0.8")) => 0,
                ("secateur", _) => 40,
                _ => 37,
            };
            assert_eq!(packed, weights, "{what}: {formats:?}");
            if prune == Some("2:4") && (to == "secateur" || to == "sparse-24-bitmask") {
                assert_eq!(formats.get("2:4"), Some(&weights), "{what}");
            }
            let (from, to_bytes) = (&said["from_bytes"], said["to_bytes"].as_u64().unwrap());
            let share = to_bytes as f64 / from.as_f64().unwrap();
            let most = match (to, prune) {
                ("secateur", Some("2:4")) => 0.54,
                ("secateur", Some("0.8")) => 0.24,
                (_, Some("2:4")) if weights == 37 => 0.79,
                (_, Some("0.8")) if weights == 37 => 0.65,
                _ => 1.0,
            };
            assert!(share <= most, "{what}: {share}");
            for companion in ["tokenizer.json", "modules.json", "1_Pooling/config.json"] {
                let read = |folder: &Path| fs::read(folder.join(companion)).unwrap();
                assert!(read(&out) == read(model), "{what}: {companion}");
            }
            convert(folder, &out, "back.safetensors", "dense", None);
            same(&folder.join("back.safetensors"), &expected, &format!("{what} and back"));
            fs::remove_dir_all(out).unwrap();
        }
    }
}

/// Each tensor must be what candle itself dequantises.
#[test]
fn smollm2_is_dequantised_as_candle_does() {
    let Some(gguf) = fetched("smollm2", "gguf") else { return };
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let said = convert(folder, &gguf, "dense.safetensors", "dense", None);
    let bytes = fs::read(folder.join("dense.safetensors")).unwrap();
    let dense = SafeTensors::deserialize(&bytes).unwrap();
    let mut file = fs::File::open(&gguf).unwrap();
    let content = Content::read(&mut file).unwrap();
    assert_eq!(dense.len(), content.tensor_infos.len());
    assert_eq!(said["tensors"].as_array().unwrap().len(), dense.len());
    for name in content.tensor_infos.keys() {
        let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
        let tensor = tensor.dequantize(&Device::Cpu).unwrap();
        let view = dense.tensor(name).unwrap();
        assert_eq!((view.shape(), view.dtype()), (tensor.dims(), Dtype::F32), "{name}");
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        assert!(view.data().chunks(4).zip(values).all(|(a, b)| *a == b.to_le_bytes()), "{name}");
    }
    let header = SafeTensors::read_metadata(&bytes).unwrap().1;
    assert_eq!(header.metadata().as_ref().unwrap()["general.architecture"], "llama");

    // Straight from GGUF into a packed file, and out of it again.
    convert(folder, &gguf, "packed.safetensors", "secateur", Some("2:4"));
    convert(folder, &folder.join("dense.safetensors"), "cut.safetensors", "dense", Some("2:4"));
    same(&folder.join("packed.safetensors"), &folder.join("cut.safetensors"), "packed");
    let packed = Source::open(&folder.join("packed.safetensors")).unwrap();
    let matrices = packed.entries().values().filter(|entry| entry.shape.len() == 2);
    assert!(matrices.clone().count() > 200);
    assert!(matrices.into_iter().all(|entry| entry.format == Format::TWO_OF_FOUR));
    let mut left: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["cut.safetensors", "dense.safetensors", "packed.safetensors"]);
}
