//! Which files is a checkpoint made of? One, or the shards that an index names, as Hugging Face
//! lays out model folders.

use crate::{StorageError, atomic::failed, unique};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The single file of a model folder.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The index of a sharded one.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// What the model is, and how its weights are compressed.
pub(crate) const CONFIG: &str = "config.json";

/// An index is a few bytes per tensor; a larger one is no index.
const MOST_JSON: u64 = 1 << 28;

/// The index of shards.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    pub metadata: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "unique::names")]
    pub weight_map: BTreeMap<String, String>,
}

/// The weight files of `path` (a file or a model folder), in the order of their names; with the index,
/// if there is one.
pub(crate) fn files(path: &Path) -> Result<(Vec<PathBuf>, Option<Index>), StorageError> {
    let refused = |reason: String| Err(StorageError::Folder { path: path.to_owned(), reason });
    if !path.is_dir() {
        return Ok((vec![path.to_owned()], None));
    }
    let index = path.join(INDEX);
    if index.is_file() {
        let index: Index = json(&index, "the index of shards")?;
        let names: BTreeSet<&String> = index.weight_map.values().collect();
        let plain = |name: &str| {
            let path = Path::new(name);
            path.file_name() == Some(path.as_os_str()) && !name.contains(['/', '\\'])
        };
        if let Some(name) = names.iter().find(|name| !plain(name)) {
            return refused(format!(
                "has an index that names {name:?}, which is no file of this folder; correct it"
            ));
        }
        let files: Vec<PathBuf> = names.into_iter().map(|name| path.join(name)).collect();
        if files.is_empty() {
            return refused("has an index that names no file; write it again".into());
        }
        return Ok((files, Some(index)));
    }
    if path.join(SINGLE).is_file() {
        return Ok((vec![path.join(SINGLE)], None));
    }
    let entries = fs::read_dir(path).map_err(|source| StorageError::Io {
        action: "list",
        path: path.to_owned(),
        source,
    })?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| file.extension().is_some_and(|e| e == "safetensors") && file.is_file())
        .collect();
    found.sort();
    match found.len() {
        1 => Ok((found, None)),
        0 => refused(format!("holds neither {SINGLE} nor {INDEX}; is it a model folder?")),
        n => refused(format!("holds {n} .safetensors files and no {INDEX}; name one of them")),
    }
}

/// Reads a JSON file beside the weights.
pub(crate) fn json<T: for<'de> Deserialize<'de>>(
    path: &Path,
    what: &'static str,
) -> Result<T, StorageError> {
    let failed = |source| StorageError::Io { action: "read", path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > MOST_JSON {
        let reason = format!("is larger than {what} can be; is it the right file?");
        return Err(StorageError::Folder { path: path.to_owned(), reason });
    }
    let text = fs::read(path).map_err(failed)?;
    serde_json::from_slice(&text)
        .map_err(|source| StorageError::Json { what, source })
        .map_err(|source| StorageError::InFile { path: path.to_owned(), source: Box::new(source) })
}

/// Weights in any framework's format: not copied beside weights in another.
const WEIGHTS: [&str; 12] = [
    "safetensors",
    "bin",
    "pt",
    "pth",
    "h5",
    "msgpack",
    "onnx",
    "gguf",
    "ckpt",
    "ot",
    "npz",
    "tflite",
];

/// Copies what else a model folder holds (tokenizer, licence, pooling, ...) into `to`: every ordinary
/// file in it and in folders one level below, but weights, their index, `config.json` and what is
/// hidden (`.git`, `.cache`, or `to` itself in the making).
pub(crate) fn copy_companions(from: &Path, to: &Path) -> Result<(), StorageError> {
    let companion = |path: &Path| {
        let weights = path.extension().is_some_and(|e| WEIGHTS.iter().any(|known| e == *known));
        let index = path.to_string_lossy().ends_with(".index.json");
        path.is_file() && !weights && !index
    };
    let list = |folder: &Path| -> Result<Vec<PathBuf>, StorageError> {
        let entries = fs::read_dir(folder)
            .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
            .map_err(|source| failed("list", folder, source))?;
        let hidden = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
        };
        Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| !hidden(path)).collect())
    };
    let copy = |file: &Path, to: &Path| -> Result<(), StorageError> {
        let Some(to) = file.file_name().map(|name| to.join(name)) else { return Ok(()) };
        if to.exists() {
            return Ok(()); // It was converted: a shard may be called anything.
        }
        fs::copy(file, &to)
            .and_then(|_| fs::File::open(&to)?.sync_all())
            .map_err(|source| failed("copy", file, source))
    };
    for path in list(from)? {
        if companion(&path) && !path.ends_with(CONFIG) {
            copy(&path, to)?;
        } else if path.is_dir() && !path.is_symlink() {
            let files: Vec<PathBuf> =
                list(&path)?.into_iter().filter(|file| companion(file)).collect();
            let below = to.join(path.file_name().unwrap_or_default());
            if !files.is_empty() {
                fs::create_dir(&below).map_err(|source| failed("create", &below, source))?;
            }
            for file in files {
                copy(&file, &below)?;
            }
        }
    }
    Ok(())
}
