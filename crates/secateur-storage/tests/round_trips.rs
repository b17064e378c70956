//! Does everything that is packed come back bit for bit, from memory and from files?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod making;

use making::{Draw, PACKABLE, cut, dense, mask_for};
use proptest::prelude::*;
use safetensors::SafeTensors;
use secateur_mask::{Mask, NOfM, Pattern, Scores, Sparsity};
use secateur_storage::{
    Checkpoint, Conversion, Dense, Dtype, Format, Layout, Packed, Source, StorageError, Values,
    convert,
};

const SHAPES: [&[usize]; 14] = [
    &[],
    &[0],
    &[1],
    &[77],
    &[0, 9],
    &[9, 0],
    &[0, 0, 3],
    &[3, 8],
    &[5, 130],
    &[64, 64],
    &[2, 3, 3, 3],
    &[7, 1],
    &[4, 2, 0, 5],
    &[33, 5, 1, 1],
];

fn formats() -> Vec<Format> {
    let mut formats = vec![Format::Dense, Format::Bitmap, Format::Csr];
    let names = ["2:4", "1:2", "4:8", "1:16", "15:16", "3:5", "6:7", "1:11", "12:13"];
    let blocks = ["block1x1", "block4x1", "block2x3", "block16x16", "block1x99"];
    formats.extend(names.iter().chain(&blocks).map(|name| name.parse::<Format>().unwrap()));
    formats
}

/// Packs, unpacks, writes and reads; everything must be what it was.
fn comes_back(dense: &Dense, mask: &Mask, format: Format) -> Checkpoint {
    let expected = cut(dense, mask);
    let packed = Packed::pack_as(dense, mask, format).unwrap();
    assert_eq!(packed.unpack(), expected, "{format} {dense:?}");
    assert_eq!(packed.format(), format);
    let scales = dense.values().scales().map_or(0, size_of_val);
    let bytes = Packed::bytes_as(format, dense.dtype(), mask).unwrap();
    assert_eq!(packed.bytes(), bytes + scales, "{format} {dense:?}");
    if let Some(stored) = packed.mask() {
        assert!(mask.is_subset_of(&stored).unwrap(), "{format} {dense:?}");
        let exact = matches!(format, Format::Bitmap | Format::Csr | Format::Block(_));
        assert!(!exact || &stored == mask, "{format} {dense:?}");
    }
    let mut checkpoint = Checkpoint::default();
    checkpoint.tensors.insert("w".into(), packed);
    checkpoint.masks.insert("other".into(), mask.clone());
    checkpoint.metadata.insert("seed".into(), "7".into());
    let bytes = checkpoint.to_bytes().unwrap();
    let read = Checkpoint::from_bytes(bytes.clone()).unwrap();
    assert_eq!(read, checkpoint);
    assert_eq!(read.to_bytes().unwrap(), bytes, "equal checkpoints give equal bytes");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    // Aligned for whoever maps it.
    for (name, view) in file.tensors() {
        let at = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(at % view.dtype().bitsize().div_ceil(8), 0, "{name}");
    }
    checkpoint
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_weight_in_any_format(
        seed in any::<u64>(), rows in 0_usize..20, cols in 0_usize..70,
        dtype in 0..PACKABLE.len(), format in prop::sample::select(formats()),
    ) {
        let mut draw = Draw(seed);
        let dense = dense(&mut draw, PACKABLE[dtype], &[rows, cols]);
        let mask = mask_for(&mut draw, format, &[rows, cols]);
        comes_back(&dense, &mask, format);
    }

    /// What a pattern selects is packed in the format that [`Packed::pack`] chooses, and claims it.
    #[test]
    fn any_pattern(
        seed in any::<u64>(), rows in 0_usize..20, cols in 0_usize..70, share in 0.0..=1.0,
        pattern in prop::sample::select(vec![
            "unstructured", "unstructured-row", "2:4", "1:4", "3:7", "1:32", "output-2:4", "4:2:8",
            "transposable-2:4", "block4x1", "block3x5", "channel", "input-channel",
        ]),
    ) {
        let mut draw = Draw(seed);
        let pattern: Pattern = pattern.parse().unwrap();
        let dense = dense(&mut draw, Dtype::F32, &[rows, cols]);
        let scores: Vec<f32> = (0..rows * cols).map(|_| draw.below(1000) as f32).collect();
        let amount = pattern.fixed_sparsity().unwrap_or(Sparsity::new(share).unwrap());
        let mask = pattern.select(Scores::new(scores, &[rows, cols]).unwrap(), amount).unwrap();
        let packed = Packed::pack(&dense, &mask, pattern).unwrap();
        prop_assert_eq!(packed.unpack(), cut(&dense, &mask));
        let mut checkpoint = Checkpoint::default();
        if packed.mask().is_some() {
            checkpoint.patterns.insert("fc.wéight".into(), pattern);
        }
        checkpoint.tensors.insert("fc.wéight".into(), packed);
        checkpoint.masks.insert("other".into(), mask);
        checkpoint.patterns.insert("other".into(), pattern);
        let bytes = checkpoint.to_bytes().unwrap();
        prop_assert_eq!(Checkpoint::from_bytes(bytes).unwrap(), checkpoint);
    }

    /// A flipped bit in a file may change a value; a changed mask must be noticed.
    #[test]
    fn damage_is_an_error_or_a_changed_value_never_a_changed_mask(
        seed in any::<u64>(), format in prop::sample::select(formats()), bit in 0_u8..8,
    ) {
        let mut draw = Draw(seed);
        let dense = dense(&mut draw, Dtype::F16, &[6, 24]);
        let written = comes_back(&dense, &mask_for(&mut draw, format, &[6, 24]), format);
        let mut bytes = written.to_bytes().unwrap();
        let start = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let at = start + draw.below(bytes.len() - start);
        bytes[at] ^= 1 << bit;
        if let Ok(read) = Checkpoint::from_bytes(bytes) {
            prop_assert_eq!(&read.masks, &written.masks);
            prop_assert_eq!(read.tensors["w"].mask(), written.tensors["w"].mask());
        }
    }

    #[test]
    fn any_name(names in prop::collection::btree_set(any::<String>(), 1..8)) {
        let clash = |name: &String| name == "__metadata__" || names.iter().any(|other| {
            other.strip_prefix(&**name).is_some_and(|rest| rest.starts_with('.'))
        });
        prop_assume!(!names.iter().any(clash));
        hold_names(names.into_iter().collect());
    }
}

fn hold_names(names: Vec<String>) {
    let mut draw = Draw(5);
    let mut checkpoint = Checkpoint::default();
    for (at, name) in names.into_iter().enumerate() {
        let format = formats()[at % 6];
        let weight = dense(&mut draw, Dtype::BF16, &[3, 20]);
        let mask = mask_for(&mut draw, format, &[3, 20]);
        let packed = Packed::pack_as(&weight, &mask, format).unwrap();
        checkpoint.tensors.insert(name.clone(), packed);
        checkpoint.metadata.insert(name.clone(), name);
    }
    let bytes = checkpoint.to_bytes().unwrap();
    assert_eq!(Checkpoint::from_bytes(bytes.clone()).unwrap(), checkpoint);
    SafeTensors::deserialize(&bytes).unwrap();
    // A streaming writer has to reckon their room beforehand.
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    checkpoint.save(&from).unwrap();
    let conversion = Conversion { to: Layout::Secateur, prune: None };
    convert(&Source::open(&from).unwrap(), &to, conversion, &mut |_| {}).unwrap();
    for (name, packed) in Checkpoint::load(&to).unwrap().tensors {
        assert_eq!(packed.unpack().shape(), checkpoint.tensors[&name].shape(), "{name:?}");
    }
}

#[test]
fn names_that_trip_writers() {
    let long = "n".repeat(100_000);
    let all = ["", " ", ".", "..", "/", "\\", "\"", "\\\"", "\0", "\u{1}\n\t\r", "\u{7f}\u{2028}"]
        .into_iter()
        .chain(["\u{1F33F}\u{1F468}\u{200D}\u{1F469}", "\u{FFFF}", "null", "{}", "é\u{301}", &long])
        .map(str::to_owned);
    hold_names(all.filter(|name| !name.is_empty()).collect());
    hold_names(vec![String::new()]);
}

/// All dtypes × shapes × formats.
#[test]
fn every_dtype_shape_and_format() {
    let mut draw = Draw(1);
    for dtype in PACKABLE {
        for shape in SHAPES {
            for format in formats() {
                let dense = dense(&mut draw, dtype, shape);
                comes_back(&dense, &mask_for(&mut draw, format, shape), format);
            }
        }
    }
    // Elements below a byte, and those without a zero, are dense or nothing.
    for (dtype, len) in
        [(Dtype::F4, 6), (Dtype::F6_E2M3, 4), (Dtype::F6_E3M2, 8), (Dtype::F8_E8M0, 3)]
    {
        let data = vec![0x5A; len * dtype.bitsize() / 8];
        let dense = Dense::new(Values::new(dtype, data).unwrap(), &[len]).unwrap();
        let mut checkpoint = Checkpoint::default();
        checkpoint.tensors.insert("w".into(), dense.clone().into());
        let bytes = checkpoint.to_bytes().unwrap();
        assert_eq!(Checkpoint::from_bytes(bytes).unwrap(), checkpoint);
        assert_eq!(checkpoint.tensors["w"].unpack(), dense);
        let refused = Packed::pack_as(&dense, &Mask::full(&[len]).unwrap(), Format::Bitmap);
        assert!(matches!(refused, Err(StorageError::NotNumbers { .. })));
    }
}

/// Every N of every M, columns ragged in every way; groups full, underfull and empty.
#[test]
fn every_n_of_every_m() {
    let mut draw = Draw(2);
    for m in 2..=Format::MOST_M {
        for n in 1..m {
            let format = Format::NOfM(NOfM::new(n, m).unwrap());
            for cols in [1, m - 1, m, m + 1, 2 * m + m / 2, 8 * m, 64, 67] {
                let shape = [3, cols];
                let dense = dense(&mut draw, PACKABLE[(n + m) % 5], &shape);
                comes_back(&dense, &mask_for(&mut draw, format, &shape), format);
                comes_back(&dense, &Mask::empty(&shape).unwrap(), format);
                let full: Vec<bool> = (0..3 * cols).map(|i| i % cols % m < n).collect();
                let packed = comes_back(&dense, &Mask::from_bools(&full, &shape).unwrap(), format);
                let groups = cols.div_ceil(m);
                assert_eq!(packed.tensors["w"].values().len(), 3 * groups * n);
                // One more in a group is too many.
                if cols > n {
                    let over: Vec<bool> = (0..3 * cols).map(|i| i % cols <= n).collect();
                    let over = Mask::from_bools(&over, &shape).unwrap();
                    let refused = Packed::pack_as(&dense, &over, format);
                    assert_eq!(refused.is_err(), m.min(cols) > n, "{n}:{m} of {cols}");
                }
            }
        }
    }
}

#[test]
fn a_kept_negative_zero_is_carried_and_a_cut_one_is_not() {
    let bits =
        [0x8000_0000_u32, 0x7FC0_1234, 0x8000_0000, 1, 0xFF80_0000, 0x8000_0000, 0, 0x807F_FFFF];
    let dense = Dense::new(bits.map(f32::from_bits).to_vec(), &[1, 8]).unwrap();
    let kept = [true, true, false, false, true, false, false, true];
    let mask = Mask::from_bools(&kept, &[1, 8]).unwrap();
    for format in ["2:4", "bitmap", "csr", "7:8"] {
        let packed = Packed::pack_as(&dense, &mask, format.parse().unwrap()).unwrap();
        let found: Vec<u32> =
            packed.unpack().to_f32().unwrap().iter().map(|v| v.to_bits()).collect();
        let expected = [bits[0], bits[1], 0, 0, bits[4], 0, 0, bits[7]];
        assert_eq!(found, expected, "{format}");
    }
}

/// From every format to every other, where it can hold the mask, and back.
#[test]
fn between_all_pairs_of_formats() {
    let mut draw = Draw(3);
    for dtype in [Dtype::F32, Dtype::F16, Dtype::I8, Dtype::F8_E4M3, Dtype::F64] {
        for shape in [&[6, 40][..], &[5, 13], &[2, 2, 3, 3], &[30], &[0, 4], &[4, 0]] {
            let weight = dense(&mut draw, dtype, shape);
            for from in formats() {
                let mask = mask_for(&mut draw, from, shape);
                let packed = Packed::pack_as(&weight, &mask, from).unwrap();
                for to in formats() {
                    let other = match packed.to_format(to) {
                        Ok(other) => other,
                        Err(StorageError::Mask(_)) => {
                            assert!(
                                matches!(to, Format::NOfM(_) | Format::Block(_)),
                                "{from} {to}"
                            );
                            continue;
                        }
                        Err(error) => panic!("{from} to {to}: {error}"),
                    };
                    assert_eq!(other.format(), to);
                    // A dense tensor has no mask but its zeros, of which -0.0 is one.
                    let expected = match from == Format::Dense && to != Format::Dense {
                        true => cut(&packed.unpack(), &weight.nonzero().unwrap()),
                        false => packed.unpack(),
                    };
                    assert_eq!(other.unpack(), expected, "{from} to {to} {weight:?}");
                    let back = other.to_format(from);
                    if let (Ok(back), true) = (&back, to != Format::Dense) {
                        assert_eq!(back.unpack(), expected, "{from} to {to} and back");
                    }
                    assert!(
                        back.is_ok()
                            || to == Format::Dense
                            || from == Format::Dense
                            || matches!(to, Format::NOfM(_) | Format::Block(_)),
                        "{from} to {to}"
                    );
                }
            }
        }
    }
}

#[test]
fn files_on_disk_are_mapped_and_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.safetensors");
    let (mut draw, mut checkpoint) = (Draw(4), Checkpoint::default());
    for (at, shape) in SHAPES.iter().enumerate() {
        for (index, format) in formats().into_iter().enumerate() {
            let weight = dense(&mut draw, PACKABLE[(at + index) % PACKABLE.len()], shape);
            let mask = mask_for(&mut draw, format, shape);
            let packed = Packed::pack_as(&weight, &mask, format).unwrap();
            checkpoint.tensors.insert(format!("{at} {index}"), packed);
        }
    }
    checkpoint.save(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), checkpoint.to_bytes().unwrap());
    let read = Checkpoint::load(&path).unwrap();
    // Written over: what was read is a view of the old file, which is still there.
    Checkpoint::default().save(&path).unwrap();
    assert_eq!(read, checkpoint);
    checkpoint.save_dense(&path).unwrap();
    for (name, packed) in &Checkpoint::load(&path).unwrap().tensors {
        let expected = checkpoint.tensors[name.trim_end_matches("_scale")].unpack();
        if !name.ends_with("_scale") {
            assert_eq!(packed.unpack().values().data(), expected.values().data(), "{name}");
            assert_eq!(packed.shape(), expected.shape(), "{name}");
        }
    }
}

#[test]
fn two_of_four_of_f16_is_nine_sixteenths() {
    let shape = [64, 1024];
    let dense = dense(&mut Draw(6), Dtype::F16, &shape);
    let mask = mask_for(&mut Draw(6), Format::TWO_OF_FOUR, &shape);
    let packed = Packed::pack(&dense, &mask, Pattern::TWO_OF_FOUR).unwrap();
    assert_eq!(packed.bytes() * 16, 64 * 1024 * 2 * 9);
    let mut checkpoint = Checkpoint::default();
    checkpoint.tensors.insert("w".into(), packed);
    let bytes = checkpoint.to_bytes().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let parts: usize = file.tensors().iter().map(|(_, view)| view.data().len()).sum();
    assert_eq!(parts * 16, 64 * 1024 * 2 * 9);
}

/// A reader refuses shapes that are far larger than their bytes: no writer may make such a file.
#[test]
fn what_is_written_is_not_too_sparse_to_be_read() {
    let zeros = |dtype, shape: &[usize]| {
        let len = shape.iter().product::<usize>() * dtype_size(dtype);
        Dense::new(Values::new(dtype, vec![0; len]).unwrap(), shape).unwrap()
    };
    for (dtype, shape, pattern) in [
        (Dtype::I8, vec![1024, 1024], "1:16"),
        (Dtype::F32, vec![2, 1 << 20], "unstructured"),
        (Dtype::F32, vec![1 << 10, 1 << 10], "block512x512"),
    ] {
        let weight = zeros(dtype, &shape);
        let mask = Mask::empty(&shape).unwrap();
        let packed = Packed::pack(&weight, &mask, pattern.parse().unwrap()).unwrap();
        let mut checkpoint = Checkpoint::default();
        checkpoint.tensors.insert("w".into(), packed);
        let read = Checkpoint::from_bytes(checkpoint.to_bytes().unwrap()).unwrap();
        assert_eq!(read, checkpoint, "{pattern}");
        converts(&weight);
    }
    // A block of 8 × 8 alone in a large matrix: as a block, and as rows, it would be too little.
    let mut ones = vec![0.0_f32; 1 << 20];
    (0..8).for_each(|row| ones[row << 10..][..8].fill(1.0));
    converts(&Dense::new(ones, &[1 << 10, 1 << 10]).unwrap());
    // Asked for by name, such a format is refused when it is written, not when it is read.
    let refused = |weight: Dense, format: Format| {
        let mask = Mask::empty(weight.shape()).unwrap();
        let mut checkpoint = Checkpoint::default();
        checkpoint.tensors.insert("w".into(), Packed::pack_as(&weight, &mask, format).unwrap());
        matches!(checkpoint.to_bytes(), Err(StorageError::TooLarge(_)))
    };
    assert!(refused(zeros(Dtype::F32, &[2, 1 << 20]), Format::Csr));
    assert!(refused(zeros(Dtype::F32, &[1, 1 << 40, 0]), Format::Bitmap));
    // Nothing of a dense tensor costs anything by the entry.
    assert!(!refused(zeros(Dtype::F32, &[1, 1 << 40, 0]), Format::Dense));
    assert!(!refused(zeros(Dtype::F32, &[1, 1 << 10, 0]), Format::Bitmap));
}

/// A plain file of a weight goes through convert.
fn converts(weight: &Dense) {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let mut checkpoint = Checkpoint::default();
    checkpoint.tensors.insert("w".into(), weight.clone().into());
    checkpoint.save_dense(&from).unwrap();
    let conversion = Conversion { to: Layout::Secateur, prune: None };
    convert(&Source::open(&from).unwrap(), &to, conversion, &mut |_| {}).unwrap();
    assert_eq!(&Checkpoint::load(&to).unwrap().tensors["w"].unpack(), weight);
}

fn dtype_size(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

#[test]
fn names_that_a_file_cannot_hold_are_refused() {
    let dense = || Packed::from(Dense::new(vec![1.0], &[1]).unwrap());
    let refused = |names: &[&str]| {
        let tensors = names.iter().map(|name| (name.to_string(), dense())).collect();
        let mut checkpoint = Checkpoint { tensors, ..Checkpoint::default() };
        checkpoint.masks.insert("w".into(), Mask::full(&[1]).unwrap());
        checkpoint.to_bytes().is_err()
    };
    assert!(!refused(&["a", "w.weight"]));
    assert!(refused(&["w"]) && refused(&["w.bitmask"]) && refused(&["__metadata__"]));
    let mut checkpoint = Checkpoint::default();
    checkpoint.patterns.insert("nothing".into(), Pattern::TWO_OF_FOUR);
    assert!(checkpoint.to_bytes().is_err());
    // Nor may a dense tensor claim a pattern: there is no mask to prove it by.
    checkpoint.tensors.insert("nothing".into(), dense());
    assert!(checkpoint.to_bytes().unwrap_err().to_string().contains("a dense tensor claims"));
}

/// A tensor may be called like another's scales would be, unless that one has scales.
#[test]
fn scales_are_not_taken_from_a_neighbour() {
    let mut draw = Draw(8);
    let float = Packed::from(Dense::new(vec![1.5_f32, -2.0], &[2, 1]).unwrap());
    let mut checkpoint = Checkpoint::default();
    checkpoint.tensors.insert("w".into(), dense(&mut draw, Dtype::F32, &[2, 8]).into());
    checkpoint.tensors.insert("w.scales".into(), float.clone());
    let plain = Values::new(Dtype::I8, vec![1; 16]).unwrap();
    let eight = Dense::new(plain.clone(), &[2, 8]).unwrap();
    let mask = Mask::from_bools(&[[true; 4], [false; 4]].concat().repeat(2), &[2, 8]).unwrap();
    checkpoint.tensors.insert("q".into(), Packed::pack_as(&eight, &mask, Format::Bitmap).unwrap());
    checkpoint.tensors.insert("q.scales".into(), float.clone());
    let read = Checkpoint::from_bytes(checkpoint.to_bytes().unwrap()).unwrap();
    assert_eq!(read, checkpoint);
    // Those of its own are told from a packed neighbour, and clash with a dense one.
    let scaled = Dense::new(plain.with_scales([0.5, 0.25]).unwrap(), &[2, 8]).unwrap();
    let packed = Packed::pack_as(&scaled, &mask, Format::Bitmap).unwrap();
    checkpoint.tensors.insert("q".into(), packed.clone());
    assert!(matches!(checkpoint.to_bytes(), Err(StorageError::DuplicateName(_))));
    checkpoint.tensors.insert("q.scales".into(), packed);
    let read = Checkpoint::from_bytes(checkpoint.to_bytes().unwrap()).unwrap();
    assert_eq!(read, checkpoint);
}

#[test]
fn a_false_claim_is_refused_on_both_sides() {
    let dense = Dense::new(vec![1.0; 8], &[1, 8]).unwrap();
    let full = Mask::full(&[1, 8]).unwrap();
    let mut checkpoint = Checkpoint::default();
    checkpoint.tensors.insert("w".into(), dense.into());
    checkpoint.masks.insert("other".into(), full);
    checkpoint.patterns.insert("other".into(), Pattern::Unstructured);
    let honest = checkpoint.to_bytes().unwrap();
    checkpoint.patterns.insert("other".into(), Pattern::TWO_OF_FOUR);
    let error = checkpoint.to_bytes().unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor other: the mask is not 2:4: row 0 keeps 4 of columns 0..4"
    );

    // The same lie told in a file: the claim is edited in place, the length kept by the padding.
    let honest_claim = br#"\"pattern\":\"unstructured\""#;
    let lie = format!("{:width$}", r#"\"pattern\":\"2:4\""#, width = honest_claim.len());
    let start = honest.windows(honest_claim.len()).position(|text| text == honest_claim).unwrap();
    let mut bytes = honest;
    bytes[start..start + honest_claim.len()].copy_from_slice(lie.as_bytes());
    let error = Checkpoint::from_bytes(bytes).unwrap_err();
    assert!(error.to_string().contains("the mask is not 2:4"), "{error}");
}
