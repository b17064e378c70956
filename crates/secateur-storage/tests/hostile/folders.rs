//! Model folders whose index or configuration lies, and conversions of what is strange.

use crate::{
    claims,
    making::{self, file, with_header},
    reading,
};
use secateur_storage::{Checkpoint, Conversion, Dtype, Layout, Source};
use std::{fs, path::Path};

/// A folder of these files, opened and read.
fn folder(files: &[(&str, &[u8])]) -> Result<Checkpoint, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join("model").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    Source::open(&folder.path().join("model"))
        .and_then(|source| reading::everything(&source))
        .map_err(|error| error.to_string())
}

#[test]
fn folders_that_lie() {
    let one = file(&[("a", Dtype::U8, &[1], &[1])], None);
    let two = file(&[("b", Dtype::U8, &[1], &[2])], None);
    let ours = file(
        &[("a", Dtype::U8, &[1], &[1])],
        Some(&claims(r#""a":{"format":"dense","shape":[1]}"#)),
    );
    let index = |map: &str| format!(r#"{{"metadata":{{}},"weight_map":{map}}}"#);
    let sharded = |index: &str, second: &[u8]| {
        folder(&[
            ("1.safetensors", &one),
            ("2.safetensors", second),
            ("model.safetensors.index.json", index.as_bytes()),
        ])
    };
    let good = index(r#"{"a":"1.safetensors","b":"2.safetensors"}"#);
    assert_eq!(sharded(&good, &two).unwrap().tensors.len(), 2);
    let deep = "[".repeat(100_000);
    for (what, index, second, says) in [
        (
            "outside",
            index(r#"{"a":"../x.safetensors"}"#),
            &two,
            "\"../x.safetensors\", which is no file of this folder",
        ),
        ("above", index(r#"{"a":".."}"#), &two, "is no file of this folder"),
        ("here", index(r#"{"a":"."}"#), &two, "is no file of this folder"),
        ("nowhere", index(r#"{"a":""}"#), &two, "is no file of this folder"),
        ("absolute", index(r#"{"a":"/etc/passwd"}"#), &two, "is no file of this folder"),
        ("below", index(r#"{"a":"sub/1.safetensors"}"#), &two, "is no file of this folder"),
        ("a backslash", index(r#"{"a":"..\\1.safetensors"}"#), &two, "is no file of this folder"),
        ("a null", index(r#"{"a":"1\u0000"}"#), &two, "cannot read"),
        ("missing", index(r#"{"a":"1.safetensors","c":"3.safetensors"}"#), &two, "3.safetensors"),
        (
            "a missing name",
            index(r#"{"a":"1.safetensors","c":"2.safetensors"}"#),
            &two,
            "tensor c is named but not there",
        ),
        (
            "the wrong shard",
            index(r#"{"a":"2.safetensors","b":"1.safetensors"}"#),
            &two,
            "is named but not there",
        ),
        ("no files", index("{}"), &two, "names no file"),
        ("no map", "{}".into(), &two, "missing field `weight_map`"),
        ("a list", "[]".into(), &two, "the index of shards is damaged"),
        ("nothing", String::new(), &two, "the index of shards is damaged"),
        ("numbers", index(r#"{"a":1}"#), &two, "the index of shards is damaged"),
        ("deep", deep.clone(), &two, "the index of shards is damaged"),
        (
            "a name twice",
            index(r#"{"a":"1.safetensors","a":"2.safetensors"}"#),
            &two,
            "a appears twice",
        ),
        (
            "the index itself",
            index(r#"{"a":"model.safetensors.index.json"}"#),
            &two,
            "not a safetensors file",
        ),
        ("a name in both", good.clone(), &one, "two tensors would be stored as a"),
        ("a name in both layouts", good.clone(), &ours, "two tensors would be stored as a"),
        (
            "a damaged shard",
            good.clone(),
            &two[..two.len() - 1].to_vec(),
            "2.safetensors: tensor b: it ends beyond",
        ),
    ] {
        let error =
            sharded(&index, second).map(|_| "it was read".to_owned()).unwrap_or_else(|error| error);
        assert!(error.contains(says), "{what}: {error:?} does not say {says:?}");
    }
    for (what, config, says) in [
        ("nothing", "", "the configuration is damaged"),
        ("no JSON", "{]", "the configuration is damaged"),
        ("deep", &deep, "recursion limit"),
    ] {
        let error =
            folder(&[("model.safetensors", &one), ("config.json", config.as_bytes())]).unwrap_err();
        assert!(error.contains(says) && error.contains("config.json"), "{what}: {error}");
    }
    // Configurations that say something strange are somebody else's business.
    for config in [
        "null",
        "[]",
        r#"{"quantization_config":1}"#,
        r#"{"sparsity_config":{"sparsity_structure":[]}}"#,
    ] {
        folder(&[("model.safetensors", &one), ("config.json", config.as_bytes())]).unwrap();
    }
    assert!(folder(&[("config.json", b"{}")]).unwrap_err().contains("holds neither"));
    assert!(
        folder(&[("1.safetensors", &one), ("2.safetensors", &two)])
            .unwrap_err()
            .contains("holds 2")
    );
    assert!(folder(&[("model.safetensors/x", b"")]).unwrap_err().contains("holds neither"));
    assert!(
        Source::open(Path::new("nowhere.safetensors"))
            .unwrap_err()
            .to_string()
            .contains("cannot read")
    );
}

/// A hostile file converts to an error or to a file that is read, never to a panic or half a file.
#[test]
fn conversions_of_strange_files() {
    let temporary = tempfile::tempdir().unwrap();
    let strange: Vec<(&str, Vec<u8>)> = vec![
        ("planes", file(&[("l.weight", Dtype::F32, &[1, 1 << 40, 0], &[])], None)),
        ("rows", file(&[("l.weight", Dtype::F32, &[1 << 40, 0], &[])], None)),
        ("columns", file(&[("l.weight", Dtype::F32, &[0, 1 << 40], &[])], None)),
        (
            "clash",
            file(
                &[
                    ("w", Dtype::I8, &[1], &[1]),
                    ("w.values", Dtype::F32, &[1], &[0; 4]),
                    ("w.scales", Dtype::F32, &[1], &[0; 4]),
                ],
                None,
            ),
        ),
        ("keys", with_header(r#"{"__metadata__":{"format":"tf","":"","\u0000":"\""}}"#, &[])),
    ];
    for (name, bytes) in making::good_files().into_iter().chain(strange) {
        let path = temporary.path().join(format!("{name}.safetensors"));
        fs::write(&path, bytes).unwrap();
        let source = Source::open(&path).unwrap();
        for to in Layout::ALL {
            for prune in [None, Some("2:4"), Some("block2x2@0.5")] {
                let out = temporary.path().join(format!("{name} {to} {}", prune.is_some()));
                let prune = prune.map(|target| target.parse().unwrap());
                let conversion = Conversion { to, prune };
                match secateur_storage::convert(&source, &out, conversion, &mut |_| {}) {
                    Ok(()) => {
                        drop(Checkpoint::load(&out).unwrap_or_else(|e| panic!("{name} {to}: {e}")))
                    }
                    Err(error) => assert!(!out.exists(), "{name} {to}: {error}"),
                }
                let _ = fs::remove_dir_all(&out);
            }
        }
    }
}
