//! Is a file that was damaged at random ever more than an error: a panic, or memory it does not pay for?
//!
//! The one test of this process: it counts every byte that is allocated.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod making;
mod reading;

use making::Draw;
use secateur_storage::Dtype;
use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// Mutants, each from its own seed.
const MUTANTS: u64 = 400_000;

/// What may be allocated while a file is read, all its tensors held: so many times its bytes, and a
/// little more.
///
/// What costs most for its bytes is a header: a side is two bytes of JSON and eight in each of half a
/// dozen shapes, a short name fifty in each of several maps ([`expensive`] has the worst of each kind).
/// Offsets and columns come next: 64 entries to a byte of them make eight bytes of mask, there while a
/// claim is proved. The little more is the mask that a tensor is granted whatever its bytes (65 536
/// entries), and what threads have at hand. Unpacking is not reading: it takes what the shape says.
const TIMES: usize = 48;
const BESIDE: usize = 1 << 16;

/// Numbers that readers get wrong.
const NUMBERS: [&str; 24] = [
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "7",
    "8",
    "9",
    "16",
    "63",
    "64",
    "65",
    "255",
    "65536",
    "4294967295",
    "4294967296",
    "1152921504606846976",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1e3",
];

/// Names that mean something to readers.
const WORDS: [&str; 26] = [
    "dense",
    "bitmap",
    "csr",
    "mask",
    "2:4",
    "1:2",
    "15:16",
    "3:64",
    "block1x1",
    "block2x3",
    "block18446744073709551615x18446744073709551615",
    "18446744073709551615:2:8",
    "output-1:2",
    "transposable-2:4",
    "channel",
    "input-channel",
    "unstructured-row",
    "F32",
    "U8",
    "I64",
    "F4",
    "C64",
    "a",
    "b",
    "l.weight",
    "a.scales",
];

/// One to three changes of a good file.
fn mutate(draw: &mut Draw, files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = draw.one(files).1.clone();
    // Half of them are damaged in the data alone, once: they get further.
    let gentle = draw.below(2) == 0;
    for _ in 0..if gentle { 1 } else { 1 + draw.below(3) } {
        let header = bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        let header = (8 + header.min(1 << 20) as usize).min(bytes.len());
        match if gentle { 3 } else { draw.below(12) } {
            0 => bytes.truncate(draw.below(bytes.len() + 1)),
            1 | 2 => {
                let at = draw.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << draw.below(8);
                }
            }
            3 => {
                // In the data alone, where most of a large file is.
                let at = header + draw.below(bytes.len() - header);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *draw.one(&[0, 1, 0x7F, 0x80, 0xFF]);
                }
            }
            4 => {
                let other = &draw.one(files).1;
                let (from, to) = (draw.below(other.len()), draw.below(bytes.len() + 1));
                let part = &other[from..(from + draw.below(64)).min(other.len())];
                bytes.splice(to..to, part.iter().copied());
            }
            5 => {
                // Two parts of the data change places.
                let len = draw.below(17).min((bytes.len() - header) / 2);
                let a = header + draw.below(bytes.len() - header - 2 * len + 1);
                let b = a + len + draw.below(bytes.len() - a - 2 * len + 1);
                let (left, right) = bytes.split_at_mut(b);
                left[a..a + len].swap_with_slice(&mut right[..len]);
            }
            // The header's text, with its length put right.
            kind => {
                let Ok(text) = std::str::from_utf8(&bytes[8.min(header)..header]) else { continue };
                let text = match kind {
                    6..=8 => replace(draw, text, |c| c.is_ascii_digit(), &NUMBERS),
                    9..=10 => replace(draw, text, |c| !"\"\\{}[],".contains(c), &WORDS),
                    _ => swap(draw, text),
                };
                bytes = making::with_header(&text, &bytes[header..]);
            }
        }
    }
    bytes
}

/// One run of such characters becomes another.
fn replace(draw: &mut Draw, text: &str, of: fn(char) -> bool, by: &[&str]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, c) in text.char_indices().filter(|(_, c)| of(*c)) {
        match runs.last_mut() {
            Some((_, end)) if *end == at => *end = at + c.len_utf8(),
            _ => runs.push((at, at + c.len_utf8())),
        }
    }
    if runs.is_empty() {
        return text.to_owned();
    }
    let (start, end) = *draw.one(&runs);
    // Now and then it becomes what stands elsewhere in the file.
    let other = draw.one(&runs);
    let by = if draw.below(3) == 0 { &text[other.0..other.1] } else { *draw.one(by) };
    format!("{}{by}{}", &text[..start], &text[end..])
}

/// Two entries of the header change places, or one is there twice.
fn swap(draw: &mut Draw, text: &str) -> String {
    let mut parts: Vec<&str> = text.split_inclusive("},").collect();
    let (a, b) = (draw.below(parts.len()), draw.below(parts.len()));
    match draw.below(3) {
        0 if !parts.is_empty() => parts.insert(a, parts[b]),
        1 if !parts.is_empty() => drop(parts.remove(a)),
        _ if !parts.is_empty() => parts.swap(a, b),
        _ => {}
    }
    parts.concat()
}

/// Files that cost more memory for their bytes than others.
fn expensive() -> Vec<(&'static str, Vec<u8>)> {
    let many =
        |len: usize, one: &dyn Fn(usize) -> String| (0..len).map(one).collect::<Vec<_>>().join(",");
    let empty = |i: usize| format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let ones = |len: usize| format!("[{}]", vec!["1"; len].join(","));
    let text = |i: usize| format!(r#""{i:x}":"""#);
    let claims = |metadata: &str, tensors: &str| {
        format!(r#"{{"version":2,"metadata":{{{metadata}}},"tensors":{{{tensors}}}}}"#)
    };
    let one = secateur_mask::Mask::full(&[1; 20_000]).unwrap();
    let sides = format!(
        r#""w":{{"format":"bitmap","shape":{},"mask_sha256":"{}"}}"#,
        ones(20_000),
        secateur_storage::mask_hash(&one)
    );
    let one_bit: [making::Raw<'_>; 2] =
        [("w.values", Dtype::U8, &[1], &[1]), ("w.bitmask", Dtype::U8, &[1], &[1])];
    // Rows without a value, as long as they may be.
    let rows = 4096;
    let nothing = secateur_mask::Mask::empty(&[rows, 512]).unwrap();
    let sparse = format!(
        r#""w":{{"format":"csr","shape":[{rows},512],"pattern":"block{rows}x512","mask_sha256":"{}"}}"#,
        secateur_storage::mask_hash(&nothing)
    );
    let crow = vec![0; 8 * (rows + 1)];
    let no_values: [making::Raw<'_>; 3] = [
        ("w.values", Dtype::U8, &[0], &[]),
        ("w.crow_indices", Dtype::I64, &[rows + 1], &crow),
        ("w.col_indices", Dtype::I32, &[0], &[]),
    ];
    let (tiny, nobody) = (making::with_header(&format!("{{{}}}", many(5000, &empty)), &[]), []);
    let side =
        |len| format!(r#"{{"w":{{"dtype":"U8","shape":{},"data_offsets":[0,1]}}}}"#, ones(len));
    let metadata = format!(r#"{{"__metadata__":{{{}}}}}"#, many(20_000, &text));
    let empty_claims = many(5000, &|i| format!(r#""{i:x}":{{"format":"dense","shape":[0]}}"#));
    let claimed = format!(
        r#"{{"__metadata__":{{"secateur":{}}},{}}}"#,
        serde_json::json!(claims("", &empty_claims)),
        many(5000, &empty)
    );
    vec![
        ("many tensors", tiny),
        ("many claims", making::with_header(&claimed, &[])),
        ("many sides", making::with_header(&side(20_000), &[7])),
        ("many claimed sides", making::file(&one_bit, Some(&claims("", &sides)))),
        ("many texts", making::with_header(&metadata, &[])),
        ("many claimed texts", making::file(&nobody, Some(&claims(&many(20_000, &text), "")))),
        ("empty rows", making::file(&no_values, Some(&claims("", &sparse)))),
    ]
}

/// What reading a file took at its peak, beside the file.
fn peak_of<T>(read: impl FnOnce() -> T) -> (T, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = read();
    (result, MEMORY.peak_usage() - before)
}

#[test]
fn mutants_are_refused_or_read_within_bounds() {
    let files = making::good_files();
    for (name, bytes) in &files {
        reading::hold(&reading::read(bytes).unwrap_or_else(|error| panic!("{name}: {error}")));
    }
    for (name, bytes) in expensive() {
        let (result, peak) = peak_of(|| reading::read(&bytes));
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
        println!("{name}: {:.1} times the file", peak as f64 / bytes.len() as f64);
        assert!(peak <= TIMES * bytes.len() + BESIDE, "{name}: {peak} bytes for {}", bytes.len());
    }
    std::panic::set_hook(Box::new(|_| {}));
    let (mut refused, mut read, mut factor, mut most) = (0, 0, 0.0_f64, 0);
    let mut causes = HashSet::new();
    for seed in 0..MUTANTS {
        let bytes = mutate(&mut Draw(seed), &files);
        let (result, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| reading::read(&bytes))));
        let held = catch_unwind(AssertUnwindSafe(|| match &result {
            Ok(Ok(checkpoint)) => reading::hold(checkpoint),
            Ok(Err(error)) => assert!(!error.to_string().is_empty()),
            Err(_) => panic!("reading panicked"),
        }));
        if let Err(panic) = held.as_ref().or(result.as_ref().map(|_| &())) {
            let _ = std::panic::take_hook();
            let said = panic.downcast_ref::<String>().map_or("", String::as_str);
            panic!("seed {seed}: {said}\n{}", String::from_utf8_lossy(&bytes));
        }
        if peak > TIMES * bytes.len() + BESIDE {
            let _ = std::panic::take_hook();
            panic!("seed {seed}: {peak} bytes allocated for a file of {}", bytes.len());
        }
        most = most.max(peak);
        factor = factor.max(peak as f64 / bytes.len().max(1) as f64);
        match result {
            Ok(Err(error)) => {
                causes.insert(std::mem::discriminant(&error));
                refused += 1;
            }
            _ => read += 1,
        }
    }
    let _ = std::panic::take_hook();
    println!(
        "{MUTANTS} mutants: {refused} refused for {} kinds of reasons, {read} read; at most {most} bytes allocated, or \
         {factor:.0} times the file",
        causes.len()
    );
    assert!(refused > MUTANTS / 4 && read > MUTANTS / 4, "{refused} refused, {read} read");
    assert!(causes.len() >= 15, "they are refused for {} kinds of reasons", causes.len());
}
