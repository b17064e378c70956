//! Do we read what the real compressed-tensors wrote, and does every layout give the same numbers back?
//!
//! Each fixture has an `expected.safetensors`: what the package's own decompressor gives. Reading is
//! compared with it bit for bit. Converting may change one thing alone: an element that was `-0.0` in a
//! tensor that lay there dense, for no layout stores zeros.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use safetensors::SafeTensors;
use secateur_storage::{
    Conversion, Converted, Dense, Dtype, Format, Layout, Source, StorageError, Values, convert,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A tensor as it is compared: shape, dtype, bytes.
type Tensor = (Vec<usize>, Dtype, Vec<u8>);
type Tensors = BTreeMap<String, Tensor>;

/// Every directory, the tensors in it, and those that lie compressed in it.
const FIXTURES: [(&str, usize, usize); 7] = [
    ("ct-0.14.0-sparse-24-bitmask", 11, 8),
    ("ct-0.14.0-sparse-bitmask", 14, 11),
    ("ct-0.14.0-float-quantized-sparse-24-bitmask", 7, 2),
    ("ct-0.9.4-int-quantized-sparse-bitmask", 7, 2),
    ("ct-0.9.4-sparse-24-bitmask-sharded", 7, 3),
    ("ct-0.6.0-sparse-bitmask-all-tensors", 7, 7),
    ("ct-0.3.3-sparse-bitmask-all-tensors", 7, 7),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn plain(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, view)| (name, (view.shape().to_vec(), view.dtype(), view.data().to_vec())))
        .collect()
}

fn dense_of(dense: &Dense) -> Tensor {
    (dense.shape().to_vec(), dense.dtype(), dense.values().data().to_vec())
}

fn read(path: &Path) -> Tensors {
    let source = Source::open(path).unwrap();
    let tensor = |name: &String| (name.clone(), dense_of(&source.tensor(name).unwrap().unpack()));
    let tensors: Tensors = source.entries().keys().map(tensor).collect();
    for (name, entry) in source.entries() {
        let (shape, dtype, _) = &tensors[name];
        assert_eq!(
            (&entry.shape, entry.dtype),
            (shape, *dtype),
            "{name}: the header says otherwise"
        );
    }
    tensors
}

/// The elements of a float tensor with `-0.0` made `+0.0`.
fn without_negative_zero((shape, dtype, data): &Tensor) -> Tensor {
    let size = match dtype {
        Dtype::F32 => 4,
        Dtype::F16 | Dtype::BF16 => 2,
        Dtype::F8_E4M3 => 1,
        _ => return (shape.clone(), *dtype, data.clone()),
    };
    let mut data = data.clone();
    for element in data.chunks_mut(size) {
        let (last, others) = element.split_last_mut().unwrap();
        if *last == 0x80 && others.iter().all(|byte| *byte == 0) {
            *last = 0;
        }
    }
    (shape.clone(), *dtype, data)
}

/// Holds `found` against `expected`; `-0.0` may have become `+0.0` in the tensors `loose`.
fn same(found: &Tensors, expected: &Tensors, loose: &[String], what: &str) {
    let names = |tensors: &Tensors| tensors.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for (name, tensor) in found {
        let (found, expected) = match loose.contains(name) {
            true => (without_negative_zero(tensor), without_negative_zero(&expected[name])),
            false => (tensor.clone(), expected[name].clone()),
        };
        assert!(found == expected, "{what}: {name}\n{found:?}\n{expected:?}");
    }
}

fn converted(source: &Path, out: &Path, to: Layout) -> Vec<Converted> {
    let mut all = vec![];
    let conversion = Conversion { to, prune: None };
    convert(&Source::open(source).unwrap(), out, conversion, &mut |one| all.push(one)).unwrap();
    all
}

#[test]
fn each_fixture_gives_exactly_what_its_own_package_gives() {
    for (name, tensors, compressed) in FIXTURES {
        let found = read(&fixture(name));
        same(&found, &plain(&fixture(name).join("expected.safetensors")), &[], name);
        let source = Source::open(&fixture(name)).unwrap();
        let packed = source.entries().values().filter(|entry| entry.format != Format::Dense);
        assert_eq!((found.len(), packed.count()), (tensors, compressed), "{name}");
        assert!(source.config().is_some());
    }
}

#[test]
fn what_the_fixtures_are_there_to_show_is_in_them() {
    let open = |name| Source::open(&fixture(name)).unwrap();
    let two_of_four = open("ct-0.14.0-sparse-24-bitmask");
    let entry = |source: &Source, name: &str| source.entries()[name].clone();
    for (name, shape, format) in [
        ("model.layers.underfull.weight", &[5, 16][..], Format::TWO_OF_FOUR),
        ("model.layers.twelve.weight", &[3, 12], Format::TWO_OF_FOUR),
        // Its groups of four run over the end of a row, so that they are not ours.
        ("model.layers.six.weight", &[4, 6], Format::Bitmap),
        ("model.norm.weight", &[8], Format::Dense),
        ("lm_head.weight", &[4, 16], Format::Dense),
    ] {
        let entry = entry(&two_of_four, name);
        assert_eq!((&entry.shape[..], entry.format), (shape, format), "{name}");
    }
    let bitmask = open("ct-0.14.0-sparse-bitmask");
    for (name, sides) in [("gain", 1), ("f32", 2), ("conv1d", 3), ("conv2d", 4), ("conv3d", 5)] {
        let entry = entry(&bitmask, &format!("model.layers.{name}.weight"));
        assert_eq!((entry.shape.len(), entry.format), (sides, Format::Bitmap), "{name}");
    }
    for (source, claim) in [
        (&two_of_four, Some("2:4")),
        (&bitmask, None),
        (&open("ct-0.9.4-sparse-24-bitmask-sharded"), Some("2:4")),
        (&open("ct-0.6.0-sparse-bitmask-all-tensors"), None),
    ] {
        assert_eq!(source.claimed_structure().map(|p| p.to_string()).as_deref(), claim);
    }
    assert_eq!(open("ct-0.9.4-sparse-24-bitmask-sharded").files().count(), 3);
}

/// The configuration without what it says about sparsity, in any of its places.
fn without_sparsity(config: &Value) -> Value {
    let mut config = config.clone();
    let top = config.as_object_mut().unwrap();
    top.remove("sparsity_config");
    for key in ["quantization_config", "compression_config"] {
        let Some(inner) = top.get_mut(key).and_then(Value::as_object_mut) else { continue };
        inner.remove("sparsity_config");
        let says = ["quant_method", "version", "transform_config"];
        if inner.keys().all(|key| says.contains(&key.as_str())) {
            top.remove(key);
        }
    }
    config
}

/// Every claim about sparsity is where it belongs, once, and everything else is as it was.
fn check_config(was: &Value, out: &Path, layout: Layout, all: &[Converted], what: &str) {
    let config: Value =
        serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(without_sparsity(&config), without_sparsity(was), "{what}");
    assert!(config.get("sparsity_config").is_none(), "{what}: {config}");
    assert!(config.get("compression_config").is_none(), "{what}: {config}");
    let quantised = was.pointer("/quantization_config/config_groups").is_some();
    if !layout.is_compressed_tensors() {
        let left = config.pointer("/quantization_config/sparsity_config");
        assert!(left.is_none(), "{what}: {config}");
        assert_eq!(config.get("quantization_config").is_some(), quantised, "{what}: {config}");
        return;
    }
    let place = &config["quantization_config"];
    assert_eq!(place["quant_method"], "compressed-tensors", "{what}");
    assert_eq!(place.get("config_groups").is_some(), quantised, "{what}");
    let sparsity = &place["sparsity_config"];
    assert_eq!(sparsity["format"], layout.name(), "{what}");
    let structure = match layout {
        Layout::Sparse24Bitmask => "2:4",
        _ => "unstructured",
    };
    assert_eq!(sparsity["sparsity_structure"], structure, "{what}");
    let share = sparsity["global_sparsity"].as_f64().unwrap();
    assert!((0.0..1.0).contains(&share), "{what}: {share}");
    let list = |key: &str| -> Vec<&str> {
        sparsity[key].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
    };
    let (targets, ignored) = (list("targets"), list("ignore"));
    assert_eq!(targets[0], "Linear", "{what}");
    for one in all {
        let Some(module) = one.name.strip_suffix(".weight") else { continue };
        let dense = one.format == Format::Dense;
        let is_matrix = Source::open(out).unwrap().entries()[&one.name].shape.len() == 2;
        assert_eq!(ignored.contains(&module), dense && is_matrix, "{what}: {module} {ignored:?}");
        assert_eq!(targets.contains(&module), !dense && !is_matrix, "{what}: {module} {targets:?}");
    }
}

#[test]
fn every_layout_gives_the_same_numbers_and_a_right_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for (name, _, _) in FIXTURES {
        let from = fixture(name);
        let expected = plain(&from.join("expected.safetensors"));
        let source = Source::open(&from).unwrap();
        let dense = source.entries().iter().filter(|(_, entry)| entry.format == Format::Dense);
        let loose: Vec<String> = dense.map(|(name, _)| name.clone()).collect();
        for layout in
            [Layout::Dense, Layout::Secateur, Layout::SparseBitmask, Layout::Sparse24Bitmask]
        {
            let out = folder.path().join(format!("{name} {layout}"));
            let all = converted(&from, &out, layout);
            let what = format!("{name} to {layout}");
            let found = read(&out);
            match layout {
                Layout::Dense => same(&found, &expected, &[], &what),
                _ => same(&found, &expected, &loose, &what),
            }
            check_config(source.config().unwrap(), &out, layout, &all, &what);
            let files = |path: &Path| Source::open(path).unwrap().files().count();
            assert_eq!(files(&out), files(&from), "{what}");
            assert!(
                !out.join("expected.safetensors").exists(),
                "{what}: weights are no companions"
            );
            // And back: into one file, plain.
            let back = folder.path().join(format!("{name} {layout}.safetensors"));
            converted(&out, &back, Layout::Dense);
            same(&plain(&back), &found, &[], &format!("{what} and back"));
        }
    }
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, FIXTURES.len() * 8, "something else was left behind");
}

#[test]
fn what_is_two_of_four_stays_packed_in_every_layout() {
    let folder = tempfile::tempdir().unwrap();
    let from = fixture("ct-0.14.0-sparse-24-bitmask");
    let formats = |layout| -> BTreeMap<String, (Format, Option<&'static str>)> {
        let all = converted(&from, &folder.path().join(format!("{layout}")), layout);
        all.into_iter().map(|one| (one.name, (one.format, one.left))).collect()
    };
    let of = |all: &BTreeMap<_, _>, name: &str| all[&format!("model.layers.{name}.weight")];
    let all = formats(Layout::Sparse24Bitmask);
    for name in ["f32", "f16", "bf16", "f8", "i8", "underfull", "twelve"] {
        assert_eq!(of(&all, name), (Format::TWO_OF_FOUR, None), "{name}");
    }
    // 4 × 6 has no whole groups of four in a row.
    let reason = of(&all, "six").1.unwrap();
    assert!(reason.contains("multiple of four"), "{reason}");
    let all = formats(Layout::SparseBitmask);
    for name in ["f32", "f16", "bf16", "f8", "i8", "underfull", "twelve", "six"] {
        assert_eq!(of(&all, name), (Format::Bitmap, None), "{name}");
    }
}

/// The formats' readers unpack `MODULE.weight` of linear layers; anything else would be lost to them.
#[test]
fn only_what_is_named_weight_is_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from.safetensors");
    let zeros = Dense::new([vec![0.0; 60], vec![1.0; 4]].concat(), &[4, 16]).unwrap();
    let mut checkpoint = secateur_storage::Checkpoint::default();
    let packed = ["a.weight", "experts.down_proj.weight", "members.weight", "time_emb.mlp.weight"];
    let dense = ["gru.weight_ih_l0", "experts.down_proj", "pos_embed", "weight", "wte.weight"];
    for name in packed.iter().chain(&dense).chain(&["m.embed_tokens.weight"]) {
        checkpoint.tensors.insert((*name).into(), zeros.clone().into());
    }
    // Large ones are written another way.
    let large = Dense::new(vec![1.0; 1024 * 512], &[1024, 512]).unwrap();
    for name in ["large.weight", "large", "large.word_embeddings.weight"] {
        checkpoint.tensors.insert(name.into(), large.clone().into());
    }
    checkpoint.save(&from).unwrap();
    for layout in [Layout::SparseBitmask, Layout::Sparse24Bitmask] {
        let out = folder.path().join(format!("{layout}"));
        let conversion = Conversion { to: layout, prune: Some("2:4".parse().unwrap()) };
        let mut all = vec![];
        convert(&Source::open(&from).unwrap(), &out, conversion, &mut |one| all.push(one)).unwrap();
        assert_eq!(read(&out).keys().collect::<Vec<_>>(), read(&from).keys().collect::<Vec<_>>());
        for one in all {
            let packed = packed.contains(&one.name.as_str()) || one.name == "large.weight";
            assert_eq!(one.format != Format::Dense, packed, "{} {:?}", one.name, one.left);
            assert_eq!(one.left.is_none(), packed, "{}", one.name);
        }
    }
}

/// Before 0.9 every tensor was compressed under its own name, whatever that was.
#[test]
fn older_names_are_the_tensors_own() {
    let folder = tempfile::tempdir().unwrap();
    let from = fixture("ct-0.6.0-sparse-bitmask-all-tensors/model.safetensors");
    let bytes = fs::read(&from).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let renamed = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name.replace("model.norm.weight.", "model.position."), view));
    let path = folder.path().join("model.safetensors");
    safetensors::serialize_to_file(renamed.collect::<Vec<_>>(), None, &path).unwrap();
    let names = read(&path);
    assert!(names.contains_key("model.position"), "{:?}", names.keys());
    assert_eq!(names.len(), 7);
}

/// A sharded model of three dtypes, cut 2:4 and to 0.8. Where `SECATEUR_READ_BACK` is set, what is written
/// stays there for the real package (see the fixtures' README).
#[test]
fn what_we_write_reads_back_and_is_there_for_the_real_package() {
    let kept = std::env::var_os("SECATEUR_READ_BACK").map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let folder = kept.as_deref().unwrap_or(temporary.path());
    fs::create_dir_all(folder).unwrap();
    let from = folder.join("model");
    fs::create_dir_all(&from).unwrap();
    let mut weights = BTreeMap::new();
    let names = ["f32", "f16", "bf16"];
    for (layer, dtype) in [Dtype::F32, Dtype::F16, Dtype::BF16].into_iter().enumerate() {
        let numbers = |n: usize| (0..n).map(move |i| ((i * 7919 + layer) % 1009) as f32 - 504.5);
        for (part, shape) in [
            ("up.weight", &[24, 32][..]),
            ("up.bias", &[24]),
            ("down.weight", &[8, 20]),
            ("odd.weight", &[5, 19]),
            ("gru.weight_ih_l0", &[8, 16]),
            ("conv.weight", &[4, 3, 3, 3]),
        ] {
            let data: Vec<u8> = match dtype {
                Dtype::F32 => numbers(shape.iter().product()).flat_map(f32::to_le_bytes).collect(),
                Dtype::F16 => numbers(shape.iter().product())
                    .flat_map(|value| half::f16::from_f32(value).to_le_bytes())
                    .collect(),
                _ => numbers(shape.iter().product())
                    .flat_map(|value| half::bf16::from_f32(value).to_le_bytes())
                    .collect(),
            };
            let dense = Dense::new(Values::new(dtype, data).unwrap(), shape).unwrap();
            weights.insert(format!("model.{}.{part}", names[layer]), dense_of(&dense));
        }
    }
    write_shards(&from, &weights, 3);
    fs::write(from.join("config.json"), r#"{"model_type": "made up", "hidden_size": 32}"#).unwrap();
    for (layout, prune) in [
        (Layout::Sparse24Bitmask, "2:4"),
        (Layout::SparseBitmask, "2:4"),
        (Layout::SparseBitmask, "0.8"),
        (Layout::Sparse24Bitmask, "0.8"),
    ] {
        let conversion = |to| Conversion { to, prune: Some(prune.parse().unwrap()) };
        let source = Source::open(&from).unwrap();
        let out = folder.join(format!("{layout}-{}", prune.replace([':', '.'], "of")));
        let dense = out.with_extension("safetensors");
        convert(&source, &dense, conversion(Layout::Dense), &mut |_| {}).unwrap();
        let _ = fs::remove_dir_all(&out);
        convert(&source, &out, conversion(layout), &mut |_| {}).unwrap();
        same(&read(&out), &plain(&dense), &[], &format!("{layout} {prune}"));
        assert_eq!(Source::open(&out).unwrap().files().count(), 3);
        let cut = plain(&dense);
        assert!(cut["model.f16.up.weight"] != weights["model.f16.up.weight"]);
        assert!(cut["model.f16.up.bias"] == weights["model.f16.up.bias"]);
    }
}

/// A sharded folder, as Hugging Face lays it out.
fn write_shards(folder: &Path, tensors: &Tensors, shards: usize) {
    let file = |at| format!("model-{:05}-of-{shards:05}.safetensors", at + 1);
    let mut index = BTreeMap::new();
    let mut parts: Vec<Vec<(&String, safetensors::tensor::TensorView<'_>)>> = vec![vec![]; shards];
    for (at, (name, (shape, dtype, data))) in tensors.iter().enumerate() {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap();
        parts[at % shards].push((name, view));
        index.insert(name, file(at % shards));
    }
    for (at, part) in parts.into_iter().enumerate() {
        safetensors::serialize_to_file(part, None, &folder.join(file(at))).unwrap();
    }
    let index = json!({"metadata": {}, "weight_map": index}).to_string();
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
}

#[test]
fn a_file_cannot_hold_the_configuration_that_these_formats_need() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let source = Source::open(&fixture("ct-0.14.0-sparse-24-bitmask")).unwrap();
    for layout in [Layout::SparseBitmask, Layout::Sparse24Bitmask] {
        let conversion = Conversion { to: layout, prune: None };
        let error = convert(&source, &out, conversion, &mut |_| {}).unwrap_err();
        assert!(matches!(error, StorageError::Folder { .. }), "{error}");
        assert!(error.to_string().contains("folder"), "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
