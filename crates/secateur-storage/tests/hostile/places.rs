//! Places that no writer makes: groups, rows and blocks.

use crate::{KEPT, ints, le, making::Raw, ours, reading, refused};
use secateur_storage::Dtype;

#[test]
fn groups_that_lie() {
    // 2:4 of 1 × 8: lanes 0 and 1, then 2 and 3.
    let kept = [1, 1, 0, 0, 0, 0, 1, 1];
    let with = |shape: &str, bytes: &[u8], values: &[u8]| {
        let parts: [Raw<'_>; 2] = [
            ("w.values", Dtype::U8, &[1, 4], values),
            ("w.indices", Dtype::U8, &[1, bytes.len()], bytes),
        ];
        ours("2:4", shape, &kept, &[1, 8], &parts)
    };
    assert!(reading::read(&with("[1,8]", &[0xE4], &[1; 4])).is_ok());
    for (what, bytes, says) in [
        ("other lanes", with("[1,8]", &[0xE8], &[1; 4]), "does not have the hash"),
        (
            "the same lane twice",
            with("[1,8]", &[0xE5], &[1; 4]),
            "row 0, group 0: the indices do not ascend below 4",
        ),
        (
            "descending",
            with("[1,8]", &[0xB4], &[1; 4]),
            "row 0, group 1: the indices do not ascend",
        ),
        ("nothing", with("[1,8]", &[0x00], &[1; 4]), "row 0, group 0: the indices"),
        ("a byte more", with("[1,8]", &[0xE4, 0], &[1; 4]), "w.indices: it has another shape"),
        ("another shape", with("[8]", &[0xE4], &[1; 4]), "does not have the hash"),
        ("columns more", with("[1,9]", &[0xE4], &[1; 4]), "w.values: it has another shape"),
        ("rows more", with("[2,8]", &[0xE4], &[1; 4]), "w.values: it has another shape"),
        ("beyond the edge", with("[1,7]", &[0xE4], &[1; 4]), "row 0 has data in its padding"),
    ] {
        refused(what, &bytes, says);
    }
    // One of every three, two groups of two bits: a last index of 3, and spare bits.
    let three = |index: u8, values: &[u8]| {
        let parts: [Raw<'_>; 2] =
            [("w.values", Dtype::U8, &[1, 2], values), ("w.indices", Dtype::U8, &[1, 1], &[index])];
        ours("1:3", "[1,4]", &[1, 0, 0, 1], &[1, 4], &parts)
    };
    assert!(reading::read(&three(0b0000, &[1, 1])).is_ok());
    refused(
        "a fourth lane of three",
        &three(0b0011, &[1, 1]),
        "group 0: the indices do not ascend below 3",
    );
    refused(
        "a fourth lane beyond",
        &three(0b1100, &[1, 0]),
        "group 1: the indices do not ascend below 3",
    );
    refused("spare bits", &three(0b1_0000, &[1, 1]), "row 0 has data in its padding");
    refused("a value beyond the edge", &three(0b0100, &[1, 1]), "row 0 has data in its padding");
    refused("another mask", &three(0b1000, &[1, 0]), "does not have the hash");
}

#[test]
fn rows_that_lie() {
    let columns = ints(&[0, 2, 7]);
    let with = |crow: &[i64], col: &[i32], values: &[u8]| {
        let (crow_bytes, col_bytes) = (le(crow), ints(col));
        let parts: [Raw<'_>; 3] = [
            ("w.values", Dtype::U8, &[values.len()], values),
            ("w.crow_indices", Dtype::I64, &[crow.len()], &crow_bytes),
            ("w.col_indices", Dtype::I32, &[col.len()], &col_bytes),
        ];
        ours("csr", "[2,8]", &KEPT, &[2, 8], &parts)
    };
    assert!(reading::read(&with(&[0, 2, 3], &[0, 2, 7], &[1; 3])).is_ok());
    for (what, bytes, says) in [
        (
            "a row more",
            with(&[0, 2, 3, 3], &[0, 2, 7], &[1; 3]),
            "w.crow_indices: it has another shape",
        ),
        ("no rows", with(&[], &[0, 2, 7], &[1; 3]), "w.crow_indices: it has another shape"),
        ("a late start", with(&[1, 2, 3], &[0, 2, 7], &[1; 3]), "crow_indices do not ascend"),
        ("an early end", with(&[0, 2, 2], &[0, 2, 7], &[1; 3]), "crow_indices do not ascend"),
        ("a late end", with(&[0, 2, 4], &[0, 2, 7], &[1; 3]), "crow_indices do not ascend"),
        ("descending", with(&[0, 4, 3], &[0, 2, 7], &[1; 3]), "row 1: crow_indices do not ascend"),
        ("below zero", with(&[0, -1, 3], &[0, 2, 7], &[1; 3]), "row 1: crow_indices do not ascend"),
        (
            "the end below zero",
            with(&[0, 2, -1], &[0, 2, 7], &[1; 3]),
            "crow_indices do not ascend",
        ),
        (
            "far beyond",
            with(&[0, i64::MAX, 3], &[0, 2, 7], &[1; 3]),
            "row 1: crow_indices do not ascend",
        ),
        (
            "a column beyond",
            with(&[0, 2, 3], &[0, 8, 7], &[1; 3]),
            "row 0: col_indices do not ascend below 8",
        ),
        (
            "a column below zero",
            with(&[0, 2, 3], &[0, 2, -1], &[1; 3]),
            "row 1: col_indices do not ascend",
        ),
        (
            "a column twice",
            with(&[0, 2, 3], &[2, 2, 7], &[1; 3]),
            "row 0: col_indices do not ascend",
        ),
        (
            "columns descending",
            with(&[0, 2, 3], &[2, 0, 7], &[1; 3]),
            "row 0: col_indices do not ascend",
        ),
        ("columns elsewhere", with(&[0, 2, 3], &[0, 3, 7], &[1; 3]), "does not have the hash"),
        ("a value more", with(&[0, 2, 3], &[0, 2, 7], &[1; 4]), "w.values: it has another shape"),
        ("a column less", with(&[0, 2, 2], &[0, 2], &[1; 3]), "w.values: it has another shape"),
    ] {
        refused(what, &bytes, says);
    }
    let typed = |crow: Raw<'_>, col: Raw<'_>| {
        ours("csr", "[2,8]", &KEPT, &[2, 8], &[("w.values", Dtype::U8, &[3], &[1; 3]), crow, col])
    };
    let (wide, narrow) = (le(&[0, 2, 3]), ints(&[0, 2, 3]));
    let (crow, col): (Raw<'_>, Raw<'_>) = (
        ("w.crow_indices", Dtype::I64, &[3], &wide),
        ("w.col_indices", Dtype::I32, &[3], &columns),
    );
    assert!(reading::read(&typed(crow, col)).is_ok());
    refused(
        "narrow rows",
        &typed(("w.crow_indices", Dtype::I32, &[3], &narrow), col),
        "w.crow_indices is I32, expected I64",
    );
    refused(
        "unsigned columns",
        &typed(crow, ("w.col_indices", Dtype::U32, &[3], &columns)),
        "w.col_indices is U32, expected I32",
    );
    refused(
        "a matrix of columns",
        &typed(crow, ("w.col_indices", Dtype::I32, &[3, 1], &columns)),
        "w.col_indices: it has another shape",
    );
}

#[test]
fn blocks_that_lie() {
    // 3 × 3 in blocks of 2 × 2: the last one, of which one element lies in the matrix.
    let kept = [0, 0, 0, 0, 0, 0, 0, 0, 1];
    let with = |format: &str, shape: &[usize], values: &[u8], crow: &[i64], col: &[i32]| {
        let (crow_bytes, col_bytes) = (le(crow), ints(col));
        let parts: [Raw<'_>; 3] = [
            ("w.values", Dtype::U8, shape, values),
            ("w.crow_indices", Dtype::I64, &[crow.len()], &crow_bytes),
            ("w.col_indices", Dtype::I32, &[col.len()], &col_bytes),
        ];
        ours(format, "[3,3]", &kept, &[3, 3], &parts)
    };
    let (one, two) = ([1, 2, 2], "block2x2");
    assert!(reading::read(&with(two, &one, &[1, 0, 0, 0], &[0, 0, 1], &[1])).is_ok());
    for (what, bytes, says) in [
        (
            "data beside",
            with(two, &one, &[1, 9, 0, 0], &[0, 0, 1], &[1]),
            "row 2 has data in its padding",
        ),
        (
            "data below",
            with(two, &one, &[1, 0, 9, 0], &[0, 0, 1], &[1]),
            "row 2 has data in its padding",
        ),
        (
            "a block beyond",
            with(two, &one, &[1, 0, 0, 0], &[0, 0, 1], &[2]),
            "row 1: col_indices do not ascend below 2",
        ),
        (
            "another block",
            with(two, &one, &[1, 9, 0, 0], &[0, 1, 1], &[1]),
            "row 0 has data in its padding",
        ),
        (
            "other sides",
            with("block2x1", &one, &[1, 0, 0, 0], &[0, 0, 1], &[1]),
            "w.values: it has another shape",
        ),
        (
            "flat values",
            with(two, &[4], &[1, 0, 0, 0], &[0, 0, 1], &[1]),
            "w.values: it has another shape",
        ),
        (
            "rows of elements",
            with(two, &one, &[1, 0, 0, 0], &[0, 0, 0, 1], &[1]),
            "w.crow_indices: it has another shape",
        ),
        (
            "huge blocks",
            with(
                "block18446744073709551615x18446744073709551615",
                &one,
                &[1, 0, 0, 0],
                &[0, 1],
                &[0],
            ),
            "w.values: it has another shape",
        ),
        (
            "huge and none",
            with("block18446744073709551615x18446744073709551615", &[0, 2, 2], &[], &[0, 0], &[]),
            "w.values: it has another shape",
        ),
        (
            "a wide block",
            with("block1x9223372036854775807", &one, &[1, 0, 0, 0], &[0, 0, 0, 1], &[0]),
            "another shape",
        ),
    ] {
        refused(what, &bytes, says);
    }
}
