//! Headers that are cut off, lie about their length, or say where no tensor can be.

use crate::{
    making::{self, file, with_header},
    reading, refused,
};
use secateur_storage::Dtype;
use std::panic::catch_unwind;

#[test]
fn cut_off_or_grown_at_any_byte() {
    for (name, bytes) in making::good_files() {
        for len in 0..bytes.len() {
            let error = catch_unwind(|| reading::read(&bytes[..len]).map(|_| ()));
            assert!(
                error.unwrap_or_else(|_| panic!("{name} at {len}")).is_err(),
                "{name} at {len}"
            );
        }
        let grown = [&bytes[..], &[0]].concat();
        refused(name, &grown, "bytes follow that no tensor has");
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        refused(name, &bytes[..7], "claims a header of");
        refused(name, &bytes[..header - 1], "claims a header of");
        if header < bytes.len() {
            refused(name, &bytes[..header], "it ends beyond the file");
            refused(name, &bytes[..bytes.len() - 1], "it ends beyond the file");
        }
    }
}

#[test]
fn lengths_of_the_header() {
    let good = file(&[("a", Dtype::U8, &[2], &[1, 2])], None);
    let claiming = |length: u64| [&length.to_le_bytes(), &good[8..]].concat();
    let header = good.len() as u64 - 10;
    assert!(reading::read(&claiming(header)).is_ok());
    for length in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 32, header + 3] {
        refused("longer than the file", &claiming(length), &format!("claims a header of {length}"));
    }
    refused("shorter", &claiming(header - 1), "the safetensors header is damaged");
    refused("longer", &claiming(header + 1), "the safetensors header is damaged");
    refused("none", &claiming(0), "the safetensors header is damaged");
    refused("no file", b"", "it has 0 bytes");
    refused("text", b"version https://git-lfs.github.com/spec/v1\n", "not a safetensors file");
}

#[test]
fn headers_that_are_no_headers() {
    let deep = |open: &str| open.repeat(200_000);
    for (what, header, says) in [
        ("a list", "[]".to_owned(), "an object of tensors"),
        ("null", "null".into(), "an object of tensors"),
        ("two objects", "{}{}".into(), "trailing"),
        ("a number", r#"{"a":1}"#.into(), "header is damaged"),
        ("deep lists", format!(r#"{{"a":{}"#, deep("[")), "header is damaged"),
        ("deep objects", deep(r#"{"a":"#), "header is damaged"),
        ("deep metadata", format!(r#"{{"__metadata__":{}"#, deep(r#"{"a":"#)), "header is damaged"),
        ("a hidden depth", format!(r#"{{"a":{{"more":{}"#, deep("[")), "header is damaged"),
        ("no dtype", r#"{"a":{"shape":[],"data_offsets":[0,0]}}"#.into(), "missing field `dtype`"),
        ("a strange dtype", r#"{"a":{"dtype":"F7","shape":[],"data_offsets":[0,0]}}"#.into(), "F7"),
        ("half a side", r#"{"a":{"dtype":"U8","shape":[0.5],"data_offsets":[0,0]}}"#.into(), "0.5"),
        (
            "less than nothing",
            r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}}"#.into(),
            "-1",
        ),
        (
            "beyond u64",
            r#"{"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,0]}}"#.into(),
            "damaged",
        ),
        (
            "three offsets",
            r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}}"#.into(),
            "damaged",
        ),
        (
            "dtype twice",
            r#"{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#.into(),
            "duplicate",
        ),
        ("metadata of numbers", r#"{"__metadata__":{"a":1}}"#.into(), "expected a string"),
        (
            "metadata twice",
            r#"{"__metadata__":{},"__metadata__":{}}"#.into(),
            "__metadata__ appears twice",
        ),
        ("a key twice", r#"{"__metadata__":{"k":"a","k":"b"}}"#.into(), "k appears twice"),
        (
            "claims twice",
            r#"{"__metadata__":{"secateur":"{}","secateur":"{}"}}"#.into(),
            "secateur appears twice",
        ),
        ("half a surrogate", r#"{"__metadata__":{"\ud800":""}}"#.into(), "header is damaged"),
    ] {
        refused(what, &with_header(&header, &[]), says);
    }
    let mut bytes = with_header(r#"{"__metadata__":{"k":"?"}}"#, &[]);
    let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
    bytes[at] = 0xFF;
    refused("not UTF-8", &bytes, "header is damaged");
}

#[test]
fn tensors_that_lie_where_they_cannot() {
    let (huge, half) = ("[18446744073709551615]", "[9223372036854775808,2]");
    let plane = "[4294967296,4294967296]";
    for (what, a, b, says) in [
        ("overlapping", ("[4]", "[0,4]"), ("[4]", "[3,7]"), "b: it does not begin where"),
        ("the same place", ("[4]", "[0,4]"), ("[4]", "[0,4]"), "b: it does not begin where"),
        ("a gap", ("[4]", "[0,4]"), ("[3]", "[5,8]"), "b: it does not begin where"),
        ("a gap before", ("[3]", "[1,4]"), ("[4]", "[4,8]"), "a: it does not begin where"),
        ("out of range", ("[4]", "[0,4]"), ("[8]", "[4,12]"), "b: it ends beyond the file"),
        ("reversed", ("[4]", "[0,4]"), ("[4]", "[4,0]"), "b: its bytes are not those"),
        (
            "at the end of u64",
            ("[4]", "[0,4]"),
            ("[4]", "[4,18446744073709551615]"),
            "b: its bytes are",
        ),
        ("too few", ("[4]", "[0,4]"), ("[3]", "[4,7]"), "b: bytes follow that no tensor has"),
        ("another shape", ("[4]", "[0,4]"), ("[5]", "[4,8]"), "b: its bytes are not those"),
        ("a huge side", ("[4]", "[0,4]"), (huge, "[4,8]"), "too large"),
        ("an overflow to zero", ("[4]", "[0,4]"), (half, "[4,8]"), "too large"),
        ("a product to zero", ("[4]", "[0,4]"), (plane, "[4,8]"), "too large"),
        (
            "an empty tensor between",
            ("[4]", "[0,4]"),
            ("[0]", "[2,2]"),
            "b: it does not begin where",
        ),
    ] {
        let entry = |(shape, at): (&str, &str)| {
            format!(r#"{{"dtype":"U8","shape":{shape},"data_offsets":{at}}}"#)
        };
        let header = format!(r#"{{"a":{},"b":{}}}"#, entry(a), entry(b));
        refused(what, &with_header(&header, &[0; 8]), says);
    }
    let twice = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"\u0061":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#;
    refused("a name twice", &with_header(twice, &[0; 8]), "a appears twice");
    // Nothing but sides of zero: not a byte, and no end of rows.
    let rows = r#"{"a":{"dtype":"F32","shape":[1152921504606846975,0],"data_offsets":[0,0]}}"#;
    refused("rows", &with_header(rows, &[]), "too large");
    let four = r#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}"#;
    refused("half a byte", &with_header(four, &[0; 2]), "a: its bytes are not those");
}
