//! Weights of compressed-tensors whose parts do not agree.

use crate::{
    floats, le,
    making::{Raw, file},
    reading, refused,
};
use secateur_storage::Dtype;

#[test]
fn compressed_tensors_that_lie() {
    // Four values of a 2 × 4 weight, with row offsets or, for 2:4, without.
    let with = |shape: &[i64],
                sides: &[usize],
                bits: &[u8],
                bit_sides: &[usize],
                offsets: Option<&[i64]>,
                values: &[usize]| {
        let (shape, offset_bytes) = (le(shape), offsets.map(le).unwrap_or_default());
        let (len, data) = ([offsets.map_or(0, <[i64]>::len)], floats(&[1.0; 4]));
        let mut parts: Vec<Raw<'_>> = vec![
            ("l.compressed", Dtype::F32, values, &data[..4 * values.iter().product::<usize>()]),
            ("l.shape", Dtype::I64, sides, &shape),
            ("l.bitmask", Dtype::U8, bit_sides, bits),
        ];
        if offsets.is_some() {
            parts.push(("l.row_offsets", Dtype::I64, &len, &offset_bytes));
        }
        file(&parts, None)
    };
    let two = |shape: &[i64], bits: &[u8]| {
        with(shape, &[shape.len(), 1], bits, &[bits.len(), 1], None, &[2, 2])
    };
    let any = |shape: &[i64], bits: &[u8], offsets: &[i64]| {
        with(shape, &[shape.len()], bits, &[bits.len(), 1], Some(offsets), &[4])
    };
    assert!(reading::read(&two(&[2, 4], &[0b0101, 0b1100])).is_ok());
    assert!(reading::read(&any(&[2, 4], &[0b0111, 0b1000], &[0, 3])).is_ok());
    for (what, bytes, says) in [
        (
            "three of four",
            two(&[2, 4], &[0b0111, 0b1000]),
            "row 0, group 0: the bitmask keeps 3 of four",
        ),
        (
            "one of four",
            two(&[2, 4], &[0b0101, 0b1000]),
            "row 1, group 0: the bitmask keeps 1 of four",
        ),
        ("dirty padding", two(&[2, 4], &[0b0101, 0b1_1100]), "row 1 has data in its padding"),
        ("a negative side", two(&[-2, 4], &[5, 12]), "l.shape: it has a negative side"),
        ("another negative side", two(&[2, i64::MIN], &[5, 12]), "l.shape: it has a negative side"),
        ("two negative sides", any(&[-2, -4], &[7, 8], &[0, 3]), "l.shape: it has a negative side"),
        ("an overflow", two(&[1 << 62, 4], &[5, 12]), "too large"),
        ("a hidden overflow", any(&[0, i64::MAX, i64::MAX], &[7, 8], &[0, 3]), "too large"),
        ("a huge side beside zero", any(&[0, 1 << 40], &[7, 8], &[0, 3]), "too large"),
        ("more rows than bytes", two(&[1 << 20, 4], &[5, 12]), "too large"),
        ("three sides of 2:4", two(&[1, 2, 4], &[5, 12]), "another shape"),
        ("one side", two(&[8], &[5, 12]), "another shape"),
        ("fewer columns", two(&[2, 3], &[5, 4]), "l.compressed: it has another shape"),
        ("rows too many", two(&[3, 4], &[5, 12]), "l.bitmask: it has another shape"),
        (
            "a bit more",
            any(&[2, 4], &[0b1111, 0b1000], &[0, 4]),
            "l.compressed: it has another shape",
        ),
        ("a bit less", any(&[2, 4], &[0b0111, 0], &[0, 3]), "l.compressed: it has another shape"),
        ("offsets from one", any(&[2, 4], &[7, 8], &[1, 3]), "row 0: crow_indices"),
        ("offsets elsewhere", any(&[2, 4], &[7, 8], &[0, 2]), "row 1: crow_indices"),
        (
            "offsets too many",
            any(&[2, 4], &[7, 8], &[0, 3, 4]),
            "l.row_offsets: it has another shape",
        ),
        (
            "a shape of a matrix",
            with(&[2, 4, 2, 4], &[2, 2], &[5, 12], &[2, 1], None, &[2, 2]),
            "l.shape: it is no list",
        ),
        (
            "a shape of a cube",
            with(&[2, 4], &[2, 1, 1], &[5, 12], &[2, 1], None, &[2, 2]),
            "l.shape: it is no list",
        ),
        (
            "flat bits",
            with(&[2, 4], &[2, 1], &[5, 12], &[2], None, &[2, 2]),
            "l.bitmask: it has another shape",
        ),
        (
            "planes of nothing",
            with(&[1, 1 << 40, 0], &[3], &[], &[1, 1 << 40, 0], Some(&[]), &[0]),
            "too large",
        ),
    ] {
        refused(what, &bytes, says);
    }
    let shape = le(&[1, 4]);
    let parts = |compressed: Dtype, of_shape: Dtype, bits: Dtype, extra: Option<Raw<'_>>| {
        let data = vec![1; 2 * compressed.bitsize().div_ceil(8)];
        let count =
            data.len() * 8 / compressed.bitsize() / if compressed.bitsize() < 8 { 2 } else { 1 };
        let data = &data[..count * compressed.bitsize() / 8];
        let sides: [usize; 2] = [1, count];
        let mut parts: Vec<Raw<'_>> = vec![
            ("l.compressed", compressed, &sides, data),
            ("l.shape", of_shape, &[2, 1], &shape),
            ("l.bitmask", bits, &[1, 1], &[3]),
        ];
        parts.extend(extra);
        file(&parts, None)
    };
    assert!(reading::read(&parts(Dtype::F16, Dtype::I64, Dtype::U8, None)).is_ok());
    refused(
        "an unsigned shape",
        &parts(Dtype::F16, Dtype::U64, Dtype::U8, None),
        "l.shape is U64, expected I64",
    );
    refused(
        "signed bits",
        &parts(Dtype::F16, Dtype::I64, Dtype::I8, None),
        "l.bitmask is I8, expected U8",
    );
    refused("half bytes", &parts(Dtype::F4, Dtype::I64, Dtype::U8, None), "F4 elements are not");
    let plain: Raw<'_> = ("l.weight", Dtype::U8, &[1], &[1]);
    refused(
        "the weight beside it",
        &parts(Dtype::F16, Dtype::I64, Dtype::U8, Some(plain)),
        "would be stored as l.weight",
    );
    // Both spellings of one weight.
    let both: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = ["l", "l.weight"]
        .into_iter()
        .flat_map(|base| {
            [
                (format!("{base}.compressed"), Dtype::U8, vec![1, 2], vec![1, 2]),
                (format!("{base}.shape"), Dtype::I64, vec![2], shape.clone()),
                (format!("{base}.bitmask"), Dtype::U8, vec![1, 1], vec![3]),
            ]
        })
        .collect();
    let both: Vec<Raw<'_>> = both.iter().map(|(n, d, s, b)| (&n[..], *d, &s[..], &b[..])).collect();
    let read =
        reading::read(&file(&both, None)).map(|read| read.tensors.into_keys().collect::<Vec<_>>());
    assert_eq!(read.unwrap(), ["l", "l.weight"], "the older spelling names tensors themselves");
}
