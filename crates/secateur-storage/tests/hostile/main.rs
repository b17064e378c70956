//! Is every damaged file refused, with a reason, and without a panic?
//!
//! A case is what is wrong, the file, and what the error must say. `../mutants.rs` draws damage at random,
//! and `../../fuzz` looks for it; what those find becomes a case here.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod claims;
mod compressed;
mod folders;
mod header;
#[path = "../making/mod.rs"]
mod making;
mod places;
#[path = "../reading/mod.rs"]
mod reading;

use making::{Raw, file};
use secateur_mask::Mask;
use secateur_storage::{Dtype, Source, mask_hash};
use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

fn refused(what: &str, bytes: &[u8], says: &str) {
    let result =
        catch_unwind(|| reading::read(bytes)).unwrap_or_else(|_| panic!("{what}: a panic"));
    let error = result.map(|_| "it was read".to_owned()).unwrap_or_else(|error| error.to_string());
    assert!(error.contains(says), "{what}: {error:?} does not say {says:?}");
    // A file says the same from a disk, and names itself.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.safetensors");
    fs::write(&path, bytes).unwrap();
    let error = Source::open(&path).and_then(|source| reading::everything(&source)).unwrap_err();
    assert!(error.to_string().contains(says), "{what}, on disk: {error}");
}

fn le(numbers: &[i64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn ints(numbers: &[i32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The claims of a file with these entries.
fn claims(entries: &str) -> String {
    format!(r#"{{"version":2,"metadata":{{}},"tensors":{{{entries}}}}}"#)
}

/// A file in our own layout with one tensor `w`.
fn ours(format: &str, shape: &str, kept: &[u8], sides: &[usize], parts: &[Raw<'_>]) -> Vec<u8> {
    let kept: Vec<bool> = kept.iter().map(|bit| *bit == 1).collect();
    let hash = mask_hash(&Mask::from_bools(&kept, sides).unwrap());
    let entry = format!(r#""w":{{"format":"{format}","shape":{shape},"mask_sha256":"{hash}"}}"#);
    file(parts, Some(&claims(&entry)))
}

/// `w` of 2 × 8 that keeps (0, 0), (0, 2) and (1, 7).
const KEPT: [u8; 16] = [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// What is asked for and not there, or is not what it is asked for as, is an error too.
#[test]
fn questions_that_have_no_answer() {
    let bits: Raw<'_> = ("w.bitmask", Dtype::U8, &[2], &[0b101, 0x80]);
    let source = Source::from_bytes(ours("mask", "[2,8]", &KEPT, &[2, 8], &[bits])).unwrap();
    let said = |error: secateur_storage::StorageError| error.to_string();
    assert!(said(source.tensor("w").unwrap_err()).contains("it is a mask alone"));
    assert!(said(source.tensor("v").unwrap_err()).contains("v is named but not there"));
    assert!(said(source.mask("v").unwrap_err()).contains("v is named but not there"));
    assert!(source.mask("w").unwrap().is_some());
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/read")
}

/// What the fuzzer kept, read as it reads it: without a fuzzer and on the stable compiler.
#[test]
fn the_corpus_of_the_fuzzer() {
    let (mut read, mut refused) = (0, 0);
    for entry in fs::read_dir(corpus()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        match reading::read(&bytes) {
            Ok(checkpoint) => {
                reading::hold(&checkpoint);
                read += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(read > 10 && refused > 100, "{read} read, {refused} refused");
}

/// Writes good files of every layout to where the fuzzer begins: `fuzz/README.md`.
#[test]
#[ignore = "it writes the first files of the corpus"]
fn write_seeds() {
    for (name, bytes) in making::good_files() {
        fs::write(corpus().join(name), bytes).unwrap();
    }
}
