//! Does a large weight that streams through in bands become what it becomes as a whole?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use half::{bf16, f16};
use secateur_mask::{Pattern, Target};
use secateur_storage::{
    Checkpoint, Conversion, Converted, Dense, Dtype, Format, Layout, Packed, Source, Values,
    convert,
};
use std::path::{Path, PathBuf};

/// Rows × columns above the size from which weights stream in bands, for 16-bit elements.
const LARGE: [usize; 2] = [600, 2048];

/// Pseudo-random floats without zeros.
fn floats(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut draw = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 + 1.0) / (1 << 24) as f32 - 0.4
    };
    (0..len).map(|_| draw()).collect()
}

/// 2:4: two of each group stay, not always the same; now and then fewer do, and a place that is cut may
/// hold −0.0.
fn two_of_four(len: usize) -> Vec<f32> {
    let mut weights = floats(len, 3);
    for (group, four) in weights.chunks_mut(4).enumerate() {
        for (lane, weight) in four.iter_mut().enumerate() {
            let kept = [0b0011, 0b0101, 0b1001, 0b0110, 0b1010, 0b1100][group * 7 % 11 % 6];
            if kept >> lane & 1 == 0 || (group % 1013 == 0 && lane < 2) {
                *weight = if group % 7 == 0 { -0.0 } else { 0.0 };
            }
        }
    }
    weights
}

fn dense(floats: &[f32], dtype: Dtype, shape: &[usize]) -> Dense {
    let values: Values = match dtype {
        Dtype::F16 => floats.iter().map(|w| f16::from_f32(*w)).collect::<Vec<_>>().into(),
        Dtype::BF16 => floats.iter().map(|w| bf16::from_f32(*w)).collect::<Vec<_>>().into(),
        _ => floats.to_vec().into(),
    };
    Dense::new(values, shape).unwrap()
}

/// A file of a small tensor before, the weight, and a small one after.
fn file(folder: &Path, weight: &Dense) -> PathBuf {
    let mut checkpoint = Checkpoint::default();
    let small = |value: f32| Dense::new(vec![value; 3], &[3]).unwrap();
    checkpoint.tensors.insert("a.bias".into(), small(1.0).into());
    checkpoint.tensors.insert("m.weight".into(), weight.clone().into());
    checkpoint.tensors.insert("z.bias".into(), small(-2.0).into());
    let path = folder.join("in.safetensors");
    checkpoint.save_dense(&path).unwrap();
    path
}

/// Converts and reads back; the small tensors must be there unharmed.
fn converted(weight: &Dense, to: Layout, prune: Option<&str>) -> (Converted, Packed) {
    let folder = tempfile::tempdir().unwrap();
    let source = Source::open(&file(folder.path(), weight)).unwrap();
    let out =
        folder.path().join(if to.is_compressed_tensors() { "out" } else { "out.safetensors" });
    let prune = prune.map(|target| target.parse::<Target>().unwrap());
    let mut seen = Vec::new();
    convert(&source, &out, Conversion { to, prune }, &mut |one| seen.push(one)).unwrap();
    let back = Source::open(&out).unwrap();
    for (name, value) in [("a.bias", 1.0), ("z.bias", -2.0)] {
        assert_eq!(back.tensor(name).unwrap().unpack().to_f32().unwrap()[..], [value; 3]);
    }
    let claim = back.entries()["m.weight"].pattern;
    let claims = to == Layout::Secateur || to == Layout::Sparse24Bitmask;
    let regular = matches!(seen[1].format, Format::NOfM(_));
    assert!(claim.is_some() == regular || claims && claim.is_some(), "{claim:?} {seen:?}");
    (seen.swap_remove(1), back.tensor("m.weight").unwrap())
}

#[test]
fn a_weight_that_is_two_of_four_is_packed_as_it_would_be_whole() {
    for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32] {
        // Also columns of which 64 rows and no fewer are whole words, and a last band that is short.
        for shape in [LARGE, [1048, 1032], [192, 8200]] {
            let weight = dense(&two_of_four(shape[0] * shape[1]), dtype, &shape);
            let mask = weight.nonzero().unwrap();
            let expected = Packed::pack(&weight, &mask, Pattern::TWO_OF_FOUR).unwrap();
            for to in [Layout::Secateur, Layout::Sparse24Bitmask] {
                let (how, packed) = converted(&weight, to, None);
                assert_eq!(how.format, Format::TWO_OF_FOUR);
                assert!(packed == expected, "{dtype:?} {shape:?} {to}");
            }
            let (how, packed) = converted(&weight, Layout::SparseBitmask, None);
            assert_eq!(how.format, Format::Bitmap);
            assert!(packed == Packed::pack_as(&weight, &mask, Format::Bitmap).unwrap());
        }
    }
}

#[test]
fn pruning_on_the_way_is_pruning() {
    for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32] {
        let mut weights = floats(LARGE[0] * LARGE[1], 11);
        weights[5] = f32::NAN;
        weights[9] = f32::INFINITY;
        weights[17..19].fill(0.0);
        let weight = dense(&weights, dtype, &LARGE);
        let (_, packed) = converted(&weight, Layout::Secateur, Some("2:4"));
        assert_eq!(packed.format(), Format::TWO_OF_FOUR);
        // The same weight as two rows more than half as large: each half goes the other way.
        let half = LARGE[0] * LARGE[1] / 6;
        let rows = LARGE[0] / 6;
        for part in 0..6 {
            let slice = dense(&weights[part * half..(part + 1) * half], dtype, &[rows, LARGE[1]]);
            let (_, small) = converted(&slice, Layout::Secateur, Some("2:4"));
            let size = dtype.bitsize() / 8;
            let range = part * half * size..(part + 1) * half * size;
            let whole = packed.unpack().values().data().slice(range);
            assert!(small.unpack().values().data() == &whole, "{dtype:?}, part {part}");
        }
    }
}

#[test]
fn a_guess_that_proves_wrong_at_the_end_leaves_no_trace() {
    let mut weights = two_of_four(LARGE[0] * LARGE[1]);
    let last = weights.len() - 4;
    weights[last..].fill(1.0);
    let weight = dense(&weights, Dtype::F16, &LARGE);
    let (how, packed) = converted(&weight, Layout::Secateur, None);
    assert_eq!((how.format, packed.format()), (Format::Bitmap, Format::Bitmap));
    let (how, packed) = converted(&weight, Layout::Sparse24Bitmask, None);
    assert_eq!((how.left, packed.format()), (Some("it is not 2:4"), Format::Dense));
    let (how, _) = converted(
        &dense(&floats(LARGE[0] * LARGE[1], 5), Dtype::F16, &LARGE),
        Layout::Secateur,
        None,
    );
    assert_eq!(how.left, Some("it has too few zeros to become smaller"));
}

#[test]
fn few_values_are_not_spread_over_two_of_four() {
    let mut weights = vec![0.0; LARGE[0] * LARGE[1]];
    weights
        .chunks_mut(16)
        .enumerate()
        .for_each(|(at, group)| group[(at * 7 + at / 128) % 16] = 1.0);
    let (how, packed) = converted(&dense(&weights, Dtype::F16, &LARGE), Layout::Secateur, None);
    assert_eq!(how.format.to_string(), "1:16");
    assert!(how.to_bytes < how.from_bytes / 10);
    assert_eq!(packed.unpack().to_f32().unwrap()[..], weights[..]);
}
