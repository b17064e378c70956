//! What is converted: a small model as a file and as a folder, and how two of them are compared.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use secateur::storage::Source;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A tensor as it is compared: shape, dtype, bytes.
pub type Tensor = (Vec<usize>, Dtype, Vec<u8>);
pub type Tensors = BTreeMap<String, Tensor>;

pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("convert").args(args).current_dir(folder).stdin(Stdio::null());
    command
}

pub fn convert(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

pub fn answer(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout.lines().count(), 1, "standard output is the report alone");
    serde_json::from_str(stdout.trim()).unwrap()
}

/// Numbers of either sign, some zero, of `len` elements.
pub fn numbers(dtype: Dtype, len: usize, seed: usize) -> Vec<u8> {
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 - 504.0;
    let values = (0..len).map(value);
    match dtype {
        Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
        Dtype::F16 => values.flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect(),
        Dtype::BF16 => values.flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect(),
        _ => values.flat_map(|v| (v as i64).to_le_bytes()).collect(),
    }
}

pub fn model() -> Tensors {
    let tensors = [
        ("embed.weight", Dtype::F32, &[40, 16][..]),
        ("layers.0.up.weight", Dtype::F16, &[24, 32]),
        ("layers.0.up.bias", Dtype::F16, &[24]),
        ("layers.1.up.weight", Dtype::BF16, &[8, 64]),
        ("layers.1.odd.weight", Dtype::F32, &[6, 13]),
        ("layers.1.gru.weight_ih", Dtype::F32, &[6, 16]),
        ("conv.weight", Dtype::F32, &[4, 3, 2, 2]),
        ("norm.weight", Dtype::F32, &[16]),
        ("ids", Dtype::I64, &[2, 4]),
        ("scale", Dtype::F32, &[]),
    ];
    let tensor = |(seed, (name, dtype, shape)): (usize, (&str, Dtype, &[usize]))| {
        let len = shape.iter().product();
        (name.to_owned(), (shape.to_vec(), dtype, numbers(dtype, len, seed)))
    };
    tensors.into_iter().enumerate().map(tensor).collect()
}

pub fn views<'a>(
    tensors: impl Iterator<Item = (&'a String, &'a Tensor)>,
) -> Vec<(&'a str, TensorView<'a>)> {
    let view = |tensor: &'a Tensor| TensorView::new(tensor.1, tensor.0.clone(), &tensor.2).unwrap();
    tensors.map(|(name, tensor)| (name.as_str(), view(tensor))).collect()
}

pub fn save(path: &Path, tensors: &Tensors) {
    safetensors::serialize_to_file(views(tensors.iter()), None, path).unwrap();
}

/// A model folder, in two shards, with what lies beside weights.
pub fn save_folder(folder: &Path, tensors: &Tensors) {
    fs::create_dir_all(folder.join("1_Pooling")).unwrap();
    let mut index = BTreeMap::new();
    for shard in 0..2 {
        let file = format!("model-{:05}-of-00002.safetensors", shard + 1);
        let part = tensors.iter().enumerate().filter(|(at, _)| at % 2 == shard);
        let part = views(part.map(|(_, tensor)| tensor));
        index.extend(part.iter().map(|(name, _)| (name.to_string(), file.clone())));
        safetensors::serialize_to_file(part, None, &folder.join(file)).unwrap();
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": index});
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::write(folder.join("config.json"), r#"{"model_type": "made up"}"#).unwrap();
    for (file, text) in COMPANIONS {
        fs::write(folder.join(file), text).unwrap();
    }
    fs::write(folder.join("pytorch_model.bin"), "the same weights again").unwrap();
    fs::create_dir(folder.join(".git")).unwrap();
    fs::write(folder.join(".git/config"), "not the model's").unwrap();
}

pub const COMPANIONS: [(&str, &str); 3] =
    [("tokenizer.json", "{\"a\": 1}"), ("LICENSE", "free"), ("1_Pooling/config.json", "{}")];

pub fn plain(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (String, TensorView<'_>)| {
        (name, (view.shape().to_vec(), view.dtype(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(tensor).collect()
}

pub fn read(path: &Path) -> Tensors {
    let source = Source::open(path).unwrap();
    let tensor = |name: &String| {
        let dense = source.tensor(name).unwrap().unpack();
        let tensor = (dense.shape().to_vec(), dense.dtype(), dense.values().data().to_vec());
        (name.clone(), tensor)
    };
    source.entries().keys().map(tensor).collect()
}

/// The names in a folder, sorted.
pub fn listing(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every file below `folder` with its bytes.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for name in listing(folder) {
        let path = folder.join(name);
        match path.is_dir() {
            true => all.extend(contents(&path)),
            false => drop(all.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    all
}
