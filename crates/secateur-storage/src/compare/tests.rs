//! Does comparing find what a plain loop finds?

use super::*;
use proptest::prelude::*;

/// Two tensors of one shape whose entries are the same more often than not.
fn pairs() -> impl Strategy<Value = (Vec<[f32; 2]>, usize, usize)> {
    let special = || {
        let chosen = vec![0.0, -0.0, 1.0, -2.0, 0.5, f32::INFINITY, f32::NAN, 3e38, 1e-45];
        prop::sample::select(chosen)
    };
    let number = prop_oneof![9 => special(), 1 => any::<u32>().prop_map(f32::from_bits)];
    let entry = (number, special(), 0..8).prop_map(|(a, b, other)| match other {
        0 => [a, b],
        _ => [a, a],
    });
    // Some tensors of several bands.
    (prop_oneof![0_usize..6, Just(401)], prop_oneof![0_usize..12, Just(90)]).prop_flat_map(
        move |(rows, cols)| {
            let entries = prop::collection::vec(entry.clone(), rows * cols);
            (entries, Just(rows), Just(cols))
        },
    )
}

/// One loop, one rule at a time.
fn plainly(
    pairs: &[[f32; 2]],
    cols: usize,
    same: impl Fn(f32, f32) -> bool,
) -> Option<(usize, f64, Vec<usize>)> {
    let mut found: Option<(usize, f64, Vec<usize>)> = None;
    for (at, [a, b]) in pairs.iter().enumerate() {
        if same(*a, *b) {
            continue;
        }
        let by = (f64::from(*a) - f64::from(*b)).abs();
        let place = vec![at / cols, at % cols];
        found = Some(match found {
            None => (1, by, place),
            Some((n, most, _)) if by > most || by.is_nan() && !most.is_nan() => (n + 1, by, place),
            Some((n, most, at)) => (n + 1, most, at),
        });
    }
    found
}

fn check(found: &Comparison, expected: Option<(usize, f64, Vec<usize>)>) {
    match (found, expected) {
        (Comparison::Same, None) => {}
        (Comparison::Values(found), Some((count, by, at))) => {
            assert_eq!((found.count, &found.at), (count, &at));
            let largest = found.largest.unwrap();
            assert!(largest == by || largest.is_nan() && by.is_nan(), "{largest} {by}");
        }
        (found, expected) => panic!("{found:?}, expected {expected:?}"),
    }
}

proptest! {
    #[test]
    fn as_a_plain_loop_finds_it((pairs, rows, cols) in pairs()) {
        let side = |side: usize| {
            let values: Vec<f32> = pairs.iter().map(|pair| pair[side]).collect();
            Dense::new(values, &[rows, cols]).unwrap()
        };
        let (a, b) = (side(0), side(1));
        let by_bits = |a: f32, b: f32| a.to_bits() == b.to_bits() || a == 0.0 && b == 0.0;
        let as_numbers = |a: f32, b: f32| a == b || a.is_nan() && b.is_nan();
        let packed = |dense: &Dense, format| {
            Packed::pack_as(dense, &dense.nonzero().unwrap(), format).unwrap()
        };
        let expected = || plainly(&pairs, cols, by_bits);
        check(&compare(&a.clone().into(), &b.clone().into()), expected());
        check(&compare(&packed(&a, Format::Bitmap), &packed(&b, Format::Bitmap)), expected());
        check(&compare(&packed(&a, Format::Csr), &b.clone().into()), expected());
        let wide: Vec<f64> = pairs.iter().map(|pair| f64::from(pair[1])).collect();
        let wide = Dense::new(Values::from_f64(wide), &[rows, cols]).unwrap();
        check(&compare(&a.into(), &wide.into()), plainly(&pairs, cols, as_numbers));
    }
}

fn of(dtype: Dtype, bytes: &[u8], shape: &[usize]) -> Packed {
    Dense::new(Values::new(dtype, bytes.to_vec()).unwrap(), shape).unwrap().into()
}

#[test]
fn every_dtype_has_its_own_zeros_and_distances() {
    let said = |dtype, a: &[u8], b: &[u8], len| {
        compare(&of(dtype, a, &[len]), &of(dtype, b, &[len])).to_string()
    };
    assert_eq!(said(Dtype::F16, &[0, 0x80], &[0, 0], 1), "the same");
    assert_eq!(said(Dtype::F8_E4M3, &[0x80], &[0], 1), "the same");
    assert_eq!(said(Dtype::F8_E4M3FNUZ, &[0x80], &[0], 1), "1 of 1 entries, first at [0]");
    assert_eq!(said(Dtype::F4, &[0x80], &[0x08], 2), "the same");
    assert_eq!(said(Dtype::F4, &[0x10, 0x32], &[0x10, 0x37], 4), "1 of 4 entries, first at [2]");
    let one_zero = [0, 0, 0x80, 0x3F, 0, 0, 0, 0x80];
    let negative = [0, 0, 0x80, 0x3F, 0, 0, 0, 0];
    assert_eq!(said(Dtype::C64, &one_zero, &negative, 1), "the same");
    assert_eq!(said(Dtype::C64, &one_zero, &[0; 8], 1), "1 of 1 entries, first at [0]");
    // As f64 these are the same.
    let (a, b) = ((1_i64 << 60).to_le_bytes(), ((1_i64 << 60) + 1).to_le_bytes());
    assert!(said(Dtype::I64, &a, &b, 1).starts_with("1 of 1 entries, most by 1.000e0 at [0]"));
    assert!(said(Dtype::I8, &[0x80], &[0x7F], 1).contains("2.550e2 at [0]: -128.0 and 127.0"));
    let said = said(Dtype::F32, &0.1_f32.to_le_bytes(), &[0; 4], 1);
    assert!(said.ends_with(": 0.1 and 0.0"), "{said}");
}

#[test]
fn payloads_of_nan_count_in_one_dtype_and_not_between_two() {
    let nan = |bits: u32| of(Dtype::F32, &bits.to_le_bytes(), &[1]);
    assert!(compare(&nan(0x7FC0_0001), &nan(0x7FC0_0001)).is_same());
    let said = compare(&nan(0x7FC0_0001), &nan(0xFFC0_0000)).to_string();
    assert_eq!(said, "1 of 1 entries, first NaN at [0]: NaN and NaN");
    assert!(compare(&nan(0x7FC0_0001), &of(Dtype::F16, &[0, 0x7E], &[1])).is_same());
}

#[test]
fn scaled_rows_are_the_numbers_that_they_stand_for() {
    let weights: Vec<f32> = (0..40).map(|i| (i * 37 % 41) as f32 / 7.0 - 3.0).collect();
    let quantised = Dense::new(weights, &[5, 8]).unwrap().quantise_i8().unwrap();
    let floats = Dense::new(quantised.to_f32().unwrap().into_owned(), &[5, 8]).unwrap();
    let quantised = Packed::from(quantised);
    assert!(compare(&quantised, &floats.into()).is_same());
    // The same codes with other scales are other numbers.
    let values = Values::new(Dtype::I8, quantised.values().data().clone()).unwrap();
    let mut scales = quantised.values().scales().unwrap().to_vec();
    scales[3] *= 2.0;
    let scaled = Dense::new(values.with_scales(scales).unwrap(), &[5, 8]).unwrap();
    match compare(&quantised, &scaled.into()) {
        Comparison::Values(found) => assert_eq!((found.count, found.at[0]), (8, 3)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_compared_says_why() {
    let floats = of(Dtype::F32, &[0; 8], &[2]);
    let said = compare(&floats, &of(Dtype::F8_E4M3, &[0; 2], &[2])).to_string();
    assert_eq!(said, "F32 and F8_E4M3, and F8_E4M3 is not understood here");
    let said = compare(&floats, &of(Dtype::F32, &[0; 8], &[2, 1])).to_string();
    assert_eq!(said, "shapes [2] and [2, 1]");
}

#[test]
fn masks_are_compared_bit_by_bit() {
    let mask = |bits: &[bool], shape: &[usize]| Mask::from_bools(bits, shape).unwrap();
    let (a, b) = (mask(&[true, false, true, true], &[2, 2]), mask(&[true; 4], &[2, 2]));
    assert!(compare_masks(&a, &a).is_same());
    let said = compare_masks(&a, &b).to_string();
    assert_eq!(said, "1 of 4 entries, most by 1.000e0 at [0, 1]: 0.0 and 1.0");
    let flat = mask(&[true; 4], &[4]);
    assert!(matches!(compare_masks(&b, &flat), Comparison::Shapes(..)));
}
