//! Does everything that is packed come back bit for bit, and is every damaged file refused?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use proptest::prelude::*;
use secateur_mask::{Mask, Pattern, Scores};
use secateur_storage::{Checkpoint, Dense, Packed};

/// A weight with any bit patterns (NaN payloads, subnormals, both zeros) and a mask for a pattern.
fn weights() -> impl Strategy<Value = (Dense, Mask, Pattern)> {
    let pattern = prop_oneof![
        Just(Pattern::TWO_OF_FOUR),
        Just(Pattern::Unstructured),
        Just(Pattern::TransposableTwoOfFour),
        Just("1:4".parse::<Pattern>().expect("valid")),
        Just("channel".parse::<Pattern>().expect("valid")),
    ];
    (0_usize..7, 0_usize..40, pattern).prop_flat_map(|(rows, cols, pattern)| {
        let bits = prop::collection::vec(any::<u32>(), rows * cols);
        let scores = prop::collection::vec(0_f32..1., rows * cols);
        (bits, scores, 0.0..=1.0).prop_map(move |(bits, scores, share)| {
            let shape = [rows, cols];
            let amount =
                pattern.fixed_sparsity().unwrap_or(secateur_mask::Sparsity::new(share).unwrap());
            let mask = pattern.select(Scores::new(scores, &shape).unwrap(), amount).unwrap();
            let values = bits.into_iter().map(f32::from_bits).collect();
            (Dense::new(values, &shape).unwrap(), mask, pattern)
        })
    })
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn checkpoint(dense: &Dense, mask: &Mask, pattern: Pattern) -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    let packed = Packed::pack(dense, mask, pattern).unwrap();
    checkpoint.tensors.insert("fc.wéight".into(), packed);
    checkpoint.tensors.insert("plain".into(), Packed::Dense(dense.clone()));
    checkpoint.masks.insert("other".into(), mask.clone());
    if checkpoint.tensors["fc.wéight"].mask().is_some() {
        checkpoint.patterns.insert("fc.wéight".into(), pattern);
    }
    checkpoint.patterns.insert("other".into(), pattern);
    checkpoint.metadata.insert("seed".into(), "7".into());
    checkpoint
}

proptest! {
    #[test]
    fn packing_keeps_every_bit_and_cuts_to_plus_zero((dense, mask, pattern) in weights()) {
        let packed = Packed::pack(&dense, &mask, pattern).unwrap();
        let expected: Vec<u32> = dense.values().iter().zip(mask.iter())
            .map(|(value, kept)| if kept { value.to_bits() } else { 0 }).collect();
        prop_assert_eq!(bits(packed.unpack().values()), expected);
    }

    #[test]
    fn files_come_back_bit_for_bit((dense, mask, pattern) in weights()) {
        let written = checkpoint(&dense, &mask, pattern);
        let bytes = written.to_bytes().unwrap();
        let read = Checkpoint::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&read.masks, &written.masks);
        prop_assert_eq!(&read.metadata, &written.metadata);
        for (name, packed) in &written.tensors {
            prop_assert_eq!(read.tensors[name].format(), packed.format());
            prop_assert_eq!(read.tensors[name].shape(), packed.shape());
            prop_assert_eq!(bits(read.tensors[name].values()), bits(packed.values()));
            prop_assert_eq!(read.tensors[name].mask(), packed.mask());
        }
        // Written again, the same bytes. NaN compares unequal, so only bytes can tell.
        prop_assert_eq!(read.to_bytes().unwrap(), bytes);
    }

    /// A flipped bit in the tensors may change a value; it must never panic, and a changed mask
    /// must be noticed.
    #[test]
    fn damage_is_an_error_or_a_changed_value_never_a_changed_mask(
        (dense, mask, pattern) in weights(), at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()
    ) {
        let written = checkpoint(&dense, &mask, pattern);
        let mut bytes = written.to_bytes().unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        if let Ok(read) = Checkpoint::from_bytes(&bytes) {
            for (name, mask) in &read.masks {
                if read.patterns.contains_key(name) && written.masks.contains_key(name) {
                    prop_assert_eq!(mask, &written.masks[name]);
                }
            }
        }
    }
}

#[test]
fn a_false_claim_is_refused_on_both_sides() {
    let dense = Dense::new(vec![1.0; 8], &[1, 8]).unwrap();
    let full = Mask::full(&[1, 8]).unwrap();
    let mut checkpoint = checkpoint(&dense, &full, Pattern::Unstructured);
    let honest = checkpoint.to_bytes().unwrap();
    checkpoint.patterns.insert("other".into(), Pattern::TWO_OF_FOUR);
    let error = checkpoint.to_bytes().unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor other: the mask is not 2:4: row 0 keeps 4 of columns 0..4"
    );

    // The same lie told in a file: the claim is edited in place, the length kept by the padding.
    let text = String::from_utf8_lossy(&honest).into_owned();
    let honest_claim = r#"\"pattern\":\"unstructured\""#;
    let lie = format!("{:width$}", r#"\"pattern\":\"2:4\""#, width = honest_claim.len());
    let start = text.find(honest_claim).expect("the claim is in the header");
    let mut bytes = honest;
    bytes[start..start + honest_claim.len()].copy_from_slice(lie.as_bytes());
    let error = Checkpoint::from_bytes(&bytes).unwrap_err();
    assert!(error.to_string().contains("the mask is not 2:4"), "{error}");
}

/// A file with one U8 and one F32 tensor of the given shapes and a header of one's own.
fn forged(header: &str, u8_shape: &[usize], f32_shape: &[usize]) -> Vec<u8> {
    use safetensors::{Dtype, tensor::TensorView};
    let size = |shape: &[usize]| shape.iter().product::<usize>();
    let (bytes, floats) = (vec![0; size(u8_shape)], vec![0; 4 * size(f32_shape)]);
    let bits = TensorView::new(Dtype::U8, u8_shape.to_vec(), &bytes).unwrap();
    let values = TensorView::new(Dtype::F32, f32_shape.to_vec(), &floats).unwrap();
    let header = format!(r#"{{"version":1,"metadata":{{}},"tensors":{{{header}}}}}"#);
    let metadata = Some([("secateur".to_owned(), header)].into());
    safetensors::serialize([("w.bitmask", bits), ("w.values", values)], metadata).unwrap()
}

#[test]
fn forged_headers_are_typed_errors() {
    let hash = secateur_storage::mask_hash(&Mask::empty(&[2, 8]).unwrap());
    let bitmap = |shape: &str, more: &str| {
        format!(r#""w":{{"format":"bitmap","shape":{shape},"pattern":"2:4"{more}}}"#)
    };
    let honest = bitmap("[2,8]", &format!(r#","mask_sha256":"{hash}""#));
    assert!(Checkpoint::from_bytes(&forged(&honest, &[2], &[0])).is_ok());
    for (file, said) in [
        (forged(&bitmap("[2,8]", ""), &[2], &[0]), "does not have the hash"),
        (forged(&bitmap("[2,8]", r#","mask_sha256":"00""#), &[2], &[0]), "does not have the hash"),
        (forged(&bitmap("[2,8]", r#","novelty":1"#), &[2], &[0]), "unknown field"),
        // So many rows that a loop over them would never end, and not a byte of data.
        (forged(&bitmap("[1152921504606846975,0]", ""), &[0], &[0]), "too large"),
        (forged(&bitmap("[9223372036854775808,0,4]", ""), &[0], &[0]), "too large"),
        (forged(&bitmap("[2,9]", ""), &[2], &[0]), "another shape"),
        (forged(&honest, &[2], &[1]), "another shape"),
        (forged(&honest.replace("bitmap", "mask"), &[2], &[0]), "w.values: the header does not"),
        (forged("", &[2], &[0]), "the header does not name it"),
        (forged(&honest.replace("bitmap", "2:4"), &[2], &[0]), "another shape"),
        (forged(r#""w.values":{"format":"dense","shape":[9,9]}"#, &[2], &[1]), "another shape"),
        (
            forged(r#""w.values":{"format":"dense","shape":[1],"pattern":"2:4"}"#, &[2], &[1]),
            "claims a mask",
        ),
        (
            forged(&format!(r#"{honest},"w.values":{{"format":"dense","shape":[0]}}"#), &[2], &[0]),
            "two entries share it",
        ),
    ] {
        let error = Checkpoint::from_bytes(&file).unwrap_err().to_string();
        assert!(error.contains(said), "{error:?} does not say {said:?}");
    }
}

#[test]
fn names_that_a_file_cannot_hold_are_refused() {
    let dense = || Packed::Dense(Dense::new(vec![1.0], &[1]).unwrap());
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
