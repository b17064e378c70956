//! What was once wrong, and must not be again?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use half::f16;
use secateur_mask::{Block, Mask, NOfM, Pattern};
use secateur_storage::{
    Checkpoint, Conversion, Converted, Dense, Dtype, Format, Layout, Packed, Sink, Source,
    StorageError, Values, convert,
};
use std::{fs, path::Path};

fn plain(tensors: &[(&str, Dense)], path: &Path) {
    let mut checkpoint = Checkpoint::default();
    for (name, dense) in tensors {
        checkpoint.tensors.insert((*name).into(), dense.clone().into());
    }
    checkpoint.save_dense(path).unwrap();
}

fn converted(from: &Path, to: &Path, layout: Layout, prune: Option<&str>) -> Vec<Converted> {
    let prune = prune.map(|target| target.parse().unwrap());
    let mut seen = Vec::new();
    let source = Source::open(from).unwrap();
    convert(&source, to, Conversion { to: layout, prune }, &mut |one| seen.push(one)).unwrap();
    seen
}

/// Pairs of ones and zeros, in every group of four, as f16.
fn paired(rows: usize, cols: usize) -> Dense {
    let ones = [1.0, 1.0, 0.0, 0.0].map(f16::from_f32).repeat(rows * cols / 4);
    Dense::new(ones, &[rows, cols]).unwrap()
}

#[test]
fn bands_of_a_wrong_guess_are_cut_off_when_nothing_follows() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let [rows, cols] = [1200, 2048];
    let mut halves: Vec<f16> = [1.0, 1.0, 0.0, 0.0].map(f16::from_f32).repeat(rows * cols / 4);
    halves[rows * cols / 2..].fill(f16::ZERO);
    let weight = Dense::new(halves, &[rows, cols]).unwrap();
    plain(&[("w.weight", weight.clone())], &from);
    let one = converted(&from, &to, Layout::Secateur, None).remove(0);
    assert!(one.to_bytes * 2 < one.from_bytes, "{one:?}");
    assert_eq!(Source::open(&to).unwrap().tensor("w.weight").unwrap().unpack(), weight);
}

#[test]
fn two_of_four_is_two_of_four_at_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let tensors = [("large.weight", paired(4096, 1024)), ("small.weight", paired(64, 1024))];
    plain(&tensors, &from);
    for one in converted(&from, &to, Layout::Secateur, None) {
        assert_eq!(one.format, Format::TWO_OF_FOUR, "{one:?}");
    }
    for entry in Source::open(&to).unwrap().entries().values() {
        assert_eq!(entry.pattern, Some(Pattern::TWO_OF_FOUR));
    }
}

#[test]
fn a_bitmap_claims_the_pattern_that_it_proves() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let rows =
        (0..64 * 64).map(|i| if i / 64 % 3 == 1 { 1.5_f32 } else { 0.0 }).collect::<Vec<_>>();
    plain(&[("w.weight", Dense::new(rows, &[64, 64]).unwrap())], &from);
    converted(&from, &to, Layout::Secateur, None);
    let claim = Source::open(&to).unwrap().entries()["w.weight"].pattern;
    assert_eq!(claim, Some("channel".parse().unwrap()));
}

#[test]
fn a_header_keeps_little_room_and_names_collide_only_if_they_do() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let one = Dense::new(vec![1.0_f32], &[1]).unwrap();
    let names: Vec<String> = (0..500).map(|i| format!("model.layers.{i}.input.bias")).collect();
    let mut tensors: Vec<(&str, Dense)> = names.iter().map(|n| (&n[..], one.clone())).collect();
    for name in ["a", "a.bitmask", "a.scales", "a.row_offsets", "a.crow_indices", "a.values"] {
        tensors.push((name, one.clone()));
    }
    plain(&tensors, &from);
    for (layout, most) in [(Layout::Dense, 330), (Layout::Secateur, 800)] {
        converted(&from, &to, layout, None);
        let header = fs::metadata(&to).unwrap().len() as usize - 8 - tensors.len() * 4;
        assert!(header < tensors.len() * most, "{layout}: {} a tensor", header / tensors.len());
        assert_eq!(Source::open(&to).unwrap().entries().len(), tensors.len());
    }
}

#[test]
fn scales_go_through_dense_files_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let floats: Vec<f32> = (0..64).map(|i| (i % 7) as f32 - 3.0).collect();
    let weight = Dense::new(floats, &[4, 16]).unwrap().quantise_i8().unwrap();
    let mut checkpoint = Checkpoint::default();
    checkpoint.tensors.insert("x.weight".into(), weight.into());
    checkpoint.save(&at("a.safetensors")).unwrap();
    converted(&at("a.safetensors"), &at("b.safetensors"), Layout::Dense, None);
    let read = |name: &str| Checkpoint::load(&at(name)).unwrap().tensors;
    assert_eq!(read("b.safetensors"), checkpoint.tensors);
    converted(&at("b.safetensors"), &at("folder"), Layout::SparseBitmask, None);
    assert_eq!(read("folder"), checkpoint.tensors);
}

#[test]
fn modules_called_weight_or_bias_keep_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.safetensors"), folder.path().join("b"));
    let names = ["fc.weight", "weight.weight", "x.weight.weight", "y.bias.weight"];
    plain(&names.map(|name| (name, paired(8, 16))), &from);
    let left: Vec<bool> = converted(&from, &to, Layout::Sparse24Bitmask, None)
        .into_iter()
        .map(|one| one.left.is_some())
        .collect();
    assert_eq!(left, [false, true, true, true]);
    let source = Source::open(&to).unwrap();
    assert_eq!(source.entries().keys().collect::<Vec<_>>(), names);
}

#[test]
fn shards_may_be_called_anything_and_configurations_may_be_odd() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("model");
    fs::create_dir(&from).unwrap();
    plain(&[("a.weight", paired(8, 16))], &from.join("s1.st"));
    plain(&[("b.bias", Dense::new(vec![1.0_f32], &[1]).unwrap())], &from.join("s2.st"));
    let index = r#"{"weight_map": {"a.weight": "s1.st", "b.bias": "s2.st"}}"#;
    fs::write(from.join("model.safetensors.index.json"), index).unwrap();
    fs::write(from.join("config.json"), r#"{"quantization_config": null, "x": 1}"#).unwrap();
    let to = folder.path().join("sparse");
    converted(&from, &to, Layout::Sparse24Bitmask, None);
    let source = Source::open(&to).unwrap();
    assert_eq!(source.entries()["a.weight"].format, Format::TWO_OF_FOUR);
    let config = source.config().unwrap();
    assert_eq!(config["quantization_config"]["sparsity_config"]["format"], "sparse-24-bitmask");
    assert_eq!(config["x"], 1);
    // Only the shard that has a weight has a mask.
    let masks = folder.path().join("masks");
    converted(&from, &masks, Layout::Masks, None);
    assert!(Source::open(&masks).unwrap().mask("a.weight").unwrap().is_some());
    // Somebody else's quantisation is not ours to describe.
    fs::write(from.join("config.json"), r#"{"quantization_config": {"quant_method": "gptq"}}"#)
        .unwrap();
    let conversion = Conversion { to: Layout::SparseBitmask, prune: None };
    let to = folder.path().join("other");
    let refused = convert(&Source::open(&from).unwrap(), &to, conversion, &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("gptq") && !to.exists(), "{refused}");
}

#[test]
fn pruning_what_was_pruned_claims_only_what_holds() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let floats: Vec<f32> = (0..32 * 32).map(|i| (i * 37 % 101) as f32 - 50.5).collect();
    plain(&[("w.weight", Dense::new(floats, &[32, 32]).unwrap())], &at("a.safetensors"));
    converted(&at("a.safetensors"), &at("b.safetensors"), Layout::Secateur, Some("0.5"));
    for target in ["block4x4@0.5", "channel@0.5", "input-channel@0.5", "2:4", "0.8"] {
        for layout in [Layout::Secateur, Layout::Masks, Layout::Dense] {
            let to = at(&format!("{target} {layout}.safetensors"));
            converted(&at("b.safetensors"), &to, layout, Some(target));
            let source = Source::open(&to).unwrap();
            let read = if layout == Layout::Masks {
                source.mask("w.weight").map(drop)
            } else {
                source.tensor("w.weight").map(drop)
            };
            read.unwrap();
        }
    }
}

#[test]
fn what_no_file_could_hold_is_refused() {
    let dense = Dense::new(vec![1.0_f32; 64], &[1, 64]).unwrap();
    let nothing = Mask::empty(&[1, 64]).unwrap();
    for format in [
        Format::NOfM(NOfM::new(8, 64).unwrap()),
        Format::NOfM(NOfM::new(8, 32).unwrap()),
        Format::Mask,
    ] {
        let refused = Packed::pack_as(&dense, &nothing, format).unwrap_err();
        assert!(matches!(refused, StorageError::NoSuchFormat(_)), "{refused}");
    }
    let mut checkpoint = Checkpoint::default();
    checkpoint.tensors.insert("a".into(), dense.into());
    checkpoint.metadata.insert("secateur".into(), "hello".into());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    checkpoint.save_dense(&path).unwrap();
    assert_eq!(Checkpoint::load(&path).unwrap().tensors, checkpoint.tensors);
    let sink = Sink::create(&path, Layout::SparseBitmask, &[].into(), &[("a", vec![1, 64])]);
    assert!(sink.unwrap_err().to_string().contains("config.json"));
}

#[test]
fn empty_tensors_of_any_width_are_read_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let empty = Dense::new(Values::new(Dtype::F32, vec![]).unwrap(), &[0, 100_000]).unwrap();
    plain(&[("nothing.weight", empty.clone())], &from);
    for prune in [None, Some("2:4"), Some("0.5"), Some("block4x4@0.5")] {
        converted(&from, &to, Layout::Secateur, prune);
        assert_eq!(Source::open(&to).unwrap().tensor("nothing.weight").unwrap().unpack(), empty);
    }
}

#[test]
fn blocks_taller_than_the_weight_are_packed_without_their_padding() {
    let dense = Dense::new(vec![1.0_f32; 40], &[4, 10]).unwrap();
    let tall = Block::new(1 << 40, 2).unwrap();
    let bits: Vec<bool> = (0..40).map(|i| i % 10 < 2).collect();
    let mask = Mask::from_bools(&bits, &[4, 10]).unwrap();
    let packed = Packed::pack(&dense, &mask, Pattern::Block(tall)).unwrap();
    assert_eq!(packed.format(), Format::Bitmap);
    assert_eq!(packed.mask(), Some(mask.clone()));
    let refused = Packed::pack_as(&dense, &mask, Format::Block(tall));
    assert!(matches!(refused, Err(StorageError::TooLarge(_))), "{refused:?}");
}
