//! Does a checkpoint that was converted to any layout, of one file or of several, hold the same numbers?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod making;

use making::{Draw, cut, dense, mask_for, values};
use safetensors::SafeTensors;
use secateur_mask::Mask;
use secateur_storage::{
    Checkpoint, Conversion, Dense, Dtype, Format, Layout, Source, StorageError, Values, convert,
};
use std::collections::BTreeMap;

/// Zeros of either sign become ones or so: a plain file says by its zeros what is kept.
fn without_zeros(dense: &Dense) -> Dense {
    let mut data = dense.values().data().to_vec();
    let size = dense.dtype().bitsize() / 8;
    for (element, kept) in data.chunks_mut(size).zip(dense.nonzero().unwrap().iter()) {
        if !kept {
            element.fill(0x3C);
        }
    }
    Dense::new(Values::new(dense.dtype(), data).unwrap(), dense.shape()).unwrap()
}

/// Tensors of a plain checkpoint that convert treats in every way it knows.
fn model() -> Checkpoint {
    let (mut draw, mut checkpoint) = (Draw(9), Checkpoint::default());
    for (at, (name, format, shape)) in [
        ("layers.0.weight", "2:4", &[32, 64][..]),
        ("layers.1.weight", "bitmap", &[16, 40]),
        ("layers.2.weight", "csr", &[16, 400]),
        ("layers.3.weight", "block4x4", &[16, 64]),
        ("layers.4.weight", "3:8", &[16, 64]),
        ("layers.5.weight", "dense", &[16, 64]),
        ("conv.weight", "bitmap", &[8, 4, 3, 3]),
        ("embed_tokens.weight", "2:4", &[32, 64]),
        ("norm.bias", "dense", &[64]),
        ("step", "dense", &[]),
        ("nothing.weight", "dense", &[0, 8]),
    ]
    .into_iter()
    .enumerate()
    {
        let dtype = [Dtype::F32, Dtype::F16, Dtype::BF16][at % 3];
        let format = format.parse().unwrap();
        let weight = without_zeros(&dense(&mut draw, dtype, shape));
        // Dense enough for the format to be the smallest.
        let masks = [(); 16].map(|()| mask_for(&mut draw, format, shape));
        let mask = match format {
            Format::Bitmap => {
                let from_half = |mask: &Mask| mask.count_kept().abs_diff(mask.len() / 2);
                masks.into_iter().min_by_key(from_half).unwrap()
            }
            Format::Csr => masks.into_iter().min_by_key(Mask::count_kept).unwrap(),
            _ => masks.into_iter().max_by_key(Mask::count_kept).unwrap(),
        };
        checkpoint.tensors.insert(name.into(), cut(&weight, &mask).into());
    }
    let ids = Values::new(Dtype::I64, values(&mut draw, 8, 4)).unwrap();
    checkpoint.tensors.insert("position_ids".into(), Dense::new(ids, &[1, 4]).unwrap().into());
    checkpoint
}

/// Every layout, to a file where it can be one and to a folder, and from there to dense again.
#[test]
fn every_layout_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain.safetensors");
    let model = model();
    model.save_dense(&plain).unwrap();
    for to in Layout::ALL {
        for target in ["out", "out.safetensors"] {
            let (out, again) =
                (folder.path().join(format!("{to} {target}")), format!("{to} {target} again"));
            let conversion = Conversion { to, prune: None };
            let mut seen = BTreeMap::new();
            let result = convert(&Source::open(&plain).unwrap(), &out, conversion, &mut |one| {
                seen.insert(one.name.clone(), one);
            });
            if to.is_compressed_tensors() && target.contains('.') {
                assert!(matches!(result, Err(StorageError::Folder { .. })));
                continue;
            }
            result.unwrap();
            let read = Checkpoint::load(&out).unwrap();
            if to == Layout::Masks {
                for (name, mask) in &read.masks {
                    assert_eq!(mask, &model.tensors[name].unpack().nonzero().unwrap(), "{name}");
                }
                assert!(read.masks.contains_key("layers.1.weight") && read.tensors.is_empty());
                continue;
            }
            assert_eq!(read.tensors.len(), model.tensors.len());
            for (name, packed) in &model.tensors {
                assert_eq!(read.tensors[name].unpack(), packed.unpack(), "{to}: {name}");
                assert_eq!(read.tensors[name].format(), seen[name].format, "{to}: {name}");
            }
            let back = folder.path().join(again);
            let dense = Conversion { to: Layout::Dense, prune: None };
            convert(&Source::open(&out).unwrap(), &back, dense, &mut |_| {}).unwrap();
            assert_eq!(Checkpoint::load(&back).unwrap().tensors, model.tensors, "{to} and back");
        }
    }
    let format = |layout: &str, name: &str| {
        let source = Source::open(&folder.path().join(layout)).unwrap();
        source.entries()[name].format.to_string()
    };
    assert_eq!(format("secateur out", "layers.0.weight"), "2:4");
    assert_eq!(format("secateur out", "layers.3.weight"), "block4x4");
    assert_eq!(format("sparse-24-bitmask out", "layers.0.weight"), "2:4");
    assert_eq!(format("sparse-bitmask out", "layers.1.weight"), "bitmap");
    assert_eq!(format("sparse-bitmask out", "embed_tokens.weight"), "dense");
}

/// A model folder of two shards; a compressed weight has its parts in both.
#[test]
fn shards_are_one_checkpoint() {
    for base in ["l", "l.weight"] {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("in");
        std::fs::create_dir(&from).unwrap();
        let one = making::file(
            &[
                (
                    &format!("{base}.compressed"),
                    Dtype::F32,
                    &[4],
                    &[1.0_f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat(),
                ),
                (
                    &format!("{base}.shape"),
                    Dtype::I64,
                    &[2],
                    &[2_u64, 4].map(u64::to_le_bytes).concat(),
                ),
                ("a.bias", Dtype::F32, &[1], &5.0_f32.to_le_bytes()),
            ],
            None,
        );
        let two = making::file(
            &[
                (&format!("{base}.bitmask"), Dtype::U8, &[2, 1], &[0b1001, 0b0110]),
                (
                    &format!("{base}.row_offsets"),
                    Dtype::I64,
                    &[2],
                    &[0_u64, 2].map(u64::to_le_bytes).concat(),
                ),
                ("z.bias", Dtype::F32, &[1], &6.0_f32.to_le_bytes()),
            ],
            None,
        );
        std::fs::write(from.join("one.safetensors"), one).unwrap();
        std::fs::write(from.join("two.safetensors"), two).unwrap();
        let index = serde_json::json!({"metadata": {"total_size": 60}, "weight_map": {
            format!("{base}.compressed"): "one.safetensors", format!("{base}.shape"): "one.safetensors",
            "a.bias": "one.safetensors", format!("{base}.bitmask"): "two.safetensors",
            format!("{base}.row_offsets"): "two.safetensors", "z.bias": "two.safetensors"}});
        std::fs::write(from.join("model.safetensors.index.json"), index.to_string()).unwrap();
        let model = Checkpoint::load(&from).unwrap();
        let numbers = model.tensors["l.weight"].unpack().to_f32().unwrap().into_owned();
        assert_eq!(numbers, [1.0, 0.0, 0.0, 2.0, 0.0, 3.0, 4.0, 0.0]);
        for to in Layout::ALL.into_iter().filter(|to| *to != Layout::Masks) {
            let out = folder.path().join(to.name());
            let conversion = Conversion { to, prune: None };
            convert(&Source::open(&from).unwrap(), &out, conversion, &mut |_| {}).unwrap();
            let source = Source::open(&out).unwrap();
            assert_eq!(source.files().count(), 2);
            for (name, packed) in &model.tensors {
                assert_eq!(source.tensor(name).unwrap().unpack(), packed.unpack(), "{to}: {name}");
            }
            let index = std::fs::read(out.join("model.safetensors.index.json")).unwrap();
            let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
            // Every name is where the index says, for readers that know nothing but safetensors.
            let names = index["weight_map"].as_object().unwrap();
            for (name, file) in names {
                let bytes = std::fs::read(out.join(file.as_str().unwrap())).unwrap();
                assert!(SafeTensors::deserialize(&bytes).unwrap().tensor(name).is_ok(), "{name}");
            }
        }
    }
}
