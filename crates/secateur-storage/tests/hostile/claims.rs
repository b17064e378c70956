//! Claims that are no claims, or that the parts of the file do not bear out.

use crate::{
    KEPT, claims, floats,
    making::{Raw, file},
    ours, reading, refused,
};
use secateur_mask::Mask;
use secateur_storage::{Dtype, mask_hash};

#[test]
fn claims_that_are_no_claims() {
    let w: Raw<'_> = ("w", Dtype::U8, &[2], &[1, 2]);
    let dense = r#""w":{"format":"dense","shape":[2]}"#;
    assert!(reading::read(&file(&[w], Some(&claims(dense)))).is_ok());
    for (what, text, says) in [
        ("nothing", String::new(), "metadata is damaged (EOF"),
        ("no object", "[1]".into(), "metadata is damaged"),
        ("no version", r#"{"metadata":{},"tensors":{}}"#.into(), "missing field `version`"),
        ("version 0", claims(dense).replace("2,", "0,"), "format version 0, this build reads"),
        ("version 3", claims(dense).replace("2,", "3,"), "format version 3, this build reads"),
        ("version -1", claims(dense).replace("2,", "-1,"), "-1"),
        (
            "a later version that differs",
            r#"{"version":4000000000,"what":[]}"#.into(),
            "version 4000000000",
        ),
        ("version twice", claims(dense).replace("{\"v", "{\"version\":2,\"v"), "duplicate field"),
        (
            "an unknown field",
            claims(dense).replace("\"metadata\":{}", "\"metadata\":{},\"x\":1"),
            "unknown field `x`",
        ),
        ("an unknown field inside", claims(&dense.replace("}", ",\"x\":1}")), "unknown field `x`"),
        ("an unknown format", claims(&dense.replace("dense", "zip")), "\"zip\" is no format"),
        ("M beyond 16", claims(&dense.replace("dense", "1:17")), "\"1:17\" is no format"),
        ("N beyond M", claims(&dense.replace("dense", "4:4")), "\"4:4\" is no format"),
        ("blocks of nothing", claims(&dense.replace("dense", "block0x4")), "is no format"),
        (
            "an unknown pattern",
            claims(&dense.replace("[2]", "[2],\"pattern\":\"2:2\"")),
            "needs 1 <= N < M",
        ),
        ("no shape", claims(r#""w":{"format":"dense"}"#), "missing field `shape`"),
        ("a side below zero", claims(&dense.replace("[2]", "[-2]")), "-2"),
        ("a name twice", claims(&format!("{dense},{dense}")), "w appears twice"),
        (
            "metadata twice",
            claims(dense).replace(":{},", r#":{"k":"","k":""},"#),
            "k appears twice",
        ),
        ("deep", claims(&format!(r#""w":{}"#, "[".repeat(100_000))), "metadata is damaged"),
        (
            "deep and unknown",
            format!(r#"{{"version":2,"x":{}"#, "[".repeat(100_000)),
            "metadata is damaged",
        ),
        ("nobody", claims(""), "w: the header does not name it"),
        (
            "somebody else",
            claims(&dense.replace("\"w\"", "\"v\"")),
            "tensor v is named but not there",
        ),
        (
            "another as well",
            claims(&format!(r#"{dense},"v":{{"format":"dense","shape":[2]}}"#)),
            "tensor v is named",
        ),
        ("another shape", claims(&dense.replace("[2]", "[1,2]")), "w: it has another shape"),
        ("more than there is", claims(&dense.replace("[2]", "[3]")), "w: it has another shape"),
        ("a huge shape", claims(&dense.replace("[2]", "[4294967296,4294967296]")), "too large"),
        (
            "a dense mask",
            claims(&dense.replace("[2]", "[2],\"mask_sha256\":\"00\"")),
            "w: a dense tensor claims",
        ),
        (
            "a dense pattern",
            claims(&dense.replace("[2]", "[2],\"pattern\":\"1:2\"")),
            "w: a dense tensor claims",
        ),
        (
            "a mask",
            claims(&dense.replace("dense", "mask")),
            "tensor w.bitmask is named but not there",
        ),
        (
            "a bitmap",
            claims(&dense.replace("dense", "bitmap")),
            "tensor w.values is named but not there",
        ),
    ] {
        refused(what, &file(&[w], Some(&text)), says);
    }
    // Two entries that want the same part.
    let shared = r#""w":{"format":"bitmap","shape":[1]},"w.values":{"format":"dense","shape":[1]}"#;
    let parts: [Raw<'_>; 2] =
        [("w.values", Dtype::U8, &[1], &[1]), ("w.bitmask", Dtype::U8, &[1], &[1])];
    refused(
        "one part, two entries",
        &file(&parts, Some(&claims(shared))),
        "w.values: two entries share it",
    );
    let both = r#""w":{"format":"bitmap","shape":[1]},"w":{"format":"mask","shape":[1]}"#;
    refused("tensor and mask", &file(&parts, Some(&claims(both))), "w appears twice");
    refused(
        "not a claim",
        &file(&[("a", Dtype::U8, &[1], &[1])], Some("{")),
        "metadata is damaged",
    );
}

#[test]
fn bitmaps_that_lie() {
    let three = floats(&[1.0, 2.0, 3.0]);
    let values: Raw<'_> = ("w.values", Dtype::F32, &[3], &three);
    let bits: Raw<'_> = ("w.bitmask", Dtype::U8, &[2], &[0b101, 0x80]);
    let with = |shape: &str, parts: &[Raw<'_>]| ours("bitmap", shape, &KEPT, &[2, 8], parts);
    assert!(reading::read(&with("[2,8]", &[values, bits])).is_ok());
    let (more, less): (&[u8], &[u8]) = (&[0b111, 0x80], &[0b001, 0x80]);
    for (what, bytes, says) in [
        (
            "a bit more",
            with("[2,8]", &[values, ("w.bitmask", Dtype::U8, &[2], more)]),
            "w.values: it has another shape",
        ),
        (
            "a bit less",
            with("[2,8]", &[values, ("w.bitmask", Dtype::U8, &[2], less)]),
            "w.values: it has another shape",
        ),
        (
            "a bit elsewhere",
            with("[2,8]", &[values, ("w.bitmask", Dtype::U8, &[2], &[0b110, 0x80])]),
            "does not have the hash",
        ),
        (
            "values of two sides",
            with("[2,8]", &[("w.values", Dtype::F32, &[1, 3], &three), bits]),
            "another shape",
        ),
        ("another shape", with("[16]", &[values, bits]), "does not have the hash"),
        ("turned round", with("[8,2]", &[values, bits]), "w.bitmask: it has another shape"),
        ("a mask of bits less", with("[2,7]", &[values, bits]), "row 1 has data in its padding"),
        ("a mask of bits more", with("[2,9]", &[values, bits]), "w.bitmask: it has another shape"),
        (
            "a long byte",
            with("[2,8]", &[values, ("w.bitmask", Dtype::U8, &[3], &[5, 0x80, 0])]),
            "another shape",
        ),
        (
            "a matrix of bits",
            with("[2,8]", &[values, ("w.bitmask", Dtype::U8, &[2, 1], &[5, 0x80])]),
            "another shape",
        ),
        (
            "signed bits",
            with("[2,8]", &[values, ("w.bitmask", Dtype::I8, &[2], &[5, 0x80])]),
            "w.bitmask is I8, expected U8",
        ),
        (
            "half bytes",
            with(
                "[2,8]",
                &[
                    ("w.values", Dtype::F4, &[4], &[1, 2]),
                    ("w.bitmask", Dtype::U8, &[2], &[7, 0x80]),
                ],
            ),
            "F4 elements are not",
        ),
        (
            "no zero",
            with("[2,8]", &[("w.values", Dtype::F8_E8M0, &[3], &[1, 2, 3]), bits]),
            "F8_E8M0 elements are not",
        ),
        ("no bits", with("[2,8]", &[values]), "w.bitmask is named but not there"),
        ("no values", with("[2,8]", &[bits]), "w.values is named but not there"),
        (
            "one too many",
            with("[2,8]", &[values, bits, ("w", Dtype::U8, &[0], &[])]),
            "w: the header does not name it",
        ),
        (
            "called a mask",
            ours("mask", "[2,8]", &KEPT, &[2, 8], &[values, bits]),
            "w.values: the header does not",
        ),
        (
            "called 2:4",
            ours("2:4", "[2,8]", &KEPT, &[2, 8], &[values, bits]),
            "w.indices is named but not there",
        ),
        (
            "called dense",
            ours("dense", "[2,8]", &KEPT, &[2, 8], &[values, bits]),
            "w is named but not there",
        ),
        ("a huge shape", with("[2,8000000]", &[values, bits]), "too large"),
        ("a hidden side", with("[0,18446744073709551615]", &[values, bits]), "too large"),
    ] {
        refused(what, &bytes, says);
    }
    let hash = mask_hash(&Mask::from_bools(&KEPT.map(|bit| bit == 1), &[2, 8]).unwrap());
    let entry = |more: &str| claims(&format!(r#""w":{{"format":"bitmap","shape":[2,8]{more}}}"#));
    let pattern = |pattern: &str| {
        file(
            &[values, bits],
            Some(&entry(&format!(r#","mask_sha256":"{hash}","pattern":"{pattern}""#))),
        )
    };
    assert!(reading::read(&pattern("2:4")).is_ok());
    for (name, says) in [
        ("1:4", "tensor w: the mask is not 1:4"),
        ("channel", "w: the mask is not channel"),
        ("unstructured-row", "the mask is not unstructured-row"),
        ("block1x2", "the mask is not block1x2"),
        ("18446744073709551615:1:4", "the mask is not 18446744073709551615:1:4"),
        ("block18446744073709551615x18446744073709551615", "the mask is not block"),
        ("transposable-2:4", "it was read"),
    ] {
        match says {
            "it was read" => assert!(reading::read(&pattern(name)).is_ok()),
            _ => refused(name, &pattern(name), says),
        }
    }
    refused("no hash", &file(&[values, bits], Some(&entry(""))), "w does not have the hash");
    let upper = entry(&format!(r#","mask_sha256":"{}""#, hash.to_uppercase()));
    refused("another spelling", &file(&[values, bits], Some(&upper)), "w does not have the hash");
    // A mask alone is held to the same.
    let alone = |shape: &str, bits: Raw<'_>| ours("mask", shape, &KEPT, &[2, 8], &[bits]);
    assert!(reading::read(&alone("[2,8]", bits)).is_ok());
    refused(
        "a mask elsewhere",
        &alone("[2,8]", ("w.bitmask", Dtype::U8, &[2], &[6, 0x80])),
        "the hash",
    );
    refused("a dirty mask", &alone("[2,7]", bits), "row 1 has data in its padding");
    let scaled =
        ours("mask", "[2,8]", &KEPT, &[2, 8], &[bits, ("w.scales", Dtype::F32, &[0, 1], &[])]);
    refused("a scaled mask", &scaled, "w.scales: the header does not name it");
}

#[test]
fn scales_that_lie() {
    let with = |dtype: Dtype, scales: Raw<'_>| {
        let data = vec![1; 3 * dtype.bitsize() / 8];
        let parts: [Raw<'_>; 3] =
            [("w.values", dtype, &[3], &data), ("w.bitmask", Dtype::U8, &[2], &[5, 0x80]), scales];
        ours("bitmap", "[2,8]", &KEPT, &[2, 8], &parts)
    };
    let good = floats(&[0.5, -0.0]);
    let (nan, infinite) = (floats(&[0.5, f32::NAN]), floats(&[f32::NEG_INFINITY, 1.0]));
    let scales = |data: &'static str| data;
    assert!(reading::read(&with(Dtype::I8, ("w.scales", Dtype::F32, &[2, 1], &good))).is_ok());
    for (what, bytes, says) in [
        (
            "NaN",
            with(Dtype::I8, ("w.scales", Dtype::F32, &[2, 1], &nan)),
            "the scale of row 1 is not finite",
        ),
        (
            "infinite",
            with(Dtype::I8, ("w.scales", Dtype::F32, &[2, 1], &infinite)),
            "the scale of row 0 is not finite",
        ),
        (
            "a row",
            with(Dtype::I8, ("w.scales", Dtype::F32, &[1, 2], &good)),
            "w.scales: it has another shape",
        ),
        (
            "flat",
            with(Dtype::I8, ("w.scales", Dtype::F32, &[2], &good)),
            "w.scales: it has another shape",
        ),
        (
            "one",
            with(Dtype::I8, ("w.scales", Dtype::F32, &[1, 1], &good[..4])),
            "w.scales: it has another shape",
        ),
        (
            "none",
            with(Dtype::I8, ("w.scales", Dtype::F32, &[0, 1], &[])),
            "w.scales: it has another shape",
        ),
        (
            "halves",
            with(Dtype::I8, ("w.scales", Dtype::F16, &[2, 1], &good[..4])),
            "w.scales is F16, expected F32",
        ),
        (
            "of floats",
            with(Dtype::F32, ("w.scales", Dtype::F32, &[2, 1], &good)),
            "scales belong to I8 values, these are F32",
        ),
        (
            "of bytes",
            with(Dtype::U8, ("w.scales", Dtype::F32, &[2, 1], &good)),
            scales("scales belong to I8 values"),
        ),
    ] {
        refused(what, &bytes, says);
    }
}
