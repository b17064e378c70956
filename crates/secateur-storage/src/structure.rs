//! Of which weights does a model's configuration claim a pattern? compressed-tensors names modules.

use crate::{
    Dtype, Entry, Format, StorageError,
    compressed_tensors::{claimed_structure, sparsity_config},
    folder::CONFIG,
    values::is_float,
};
use regex::Regex;
use secateur_mask::Pattern;
use serde_json::{Map, Value};
use std::path::Path;

/// The claim of a `sparsity_config` whose `sparsity_structure` is a pattern, such as 2:4.
///
/// `targets` and `ignore` choose modules: by their full names, by `re:` and a regular expression that
/// matches from the name's start, or by the class `Linear`, which here is every `.weight` of two sides
/// whose name does not say `embed`. Without `targets`, it is that class.
#[derive(Debug)]
pub struct Structure {
    pattern: Pattern,
    /// Whether weights lie dense under the claim, or only compressed ones are meant.
    dense: bool,
    targets: Vec<Module>,
    ignore: Vec<Module>,
}

/// How a configuration names modules.
#[derive(Debug)]
enum Module {
    Linear,
    Named(String),
    Like(Regex),
}

impl Structure {
    /// The claim of a configuration, if it makes one. Errors on regular expressions that are not
    /// understood (those that look around are not).
    pub(crate) fn of(config: &Value, folder: &Path) -> Result<Option<Self>, StorageError> {
        let (Some(pattern), Some(sparsity)) = (claimed_structure(config), sparsity_config(config))
        else {
            return Ok(None);
        };
        let list = |key| modules(sparsity, key, folder);
        let targets = list("targets")?.unwrap_or_else(|| vec![Module::Linear]);
        let ignore = list("ignore")?.unwrap_or_default();
        let dense = sparsity.get("format").and_then(Value::as_str) == Some("dense");
        Ok(Some(Self { pattern, dense, targets, ignore }))
    }

    /// The pattern.
    pub fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// Whether the claim is about the tensor `name`: about every compressed weight that is not
    /// ignored; about dense ones if the configuration says that they are stored dense.
    pub fn covers(&self, name: &str, entry: &Entry) -> bool {
        let Some(module) = name.strip_suffix(".weight") else { return false };
        let numbers = is_float(entry.dtype)
            || matches!(entry.dtype, Dtype::I8 | Dtype::F8_E4M3 | Dtype::F8_E5M2);
        let any = |modules: &[Module]| modules.iter().any(|one| one.is(module));
        let is_weight = entry.shape.len() == 2 && numbers && !any(&self.ignore);
        match entry.format {
            Format::Mask => false,
            Format::Dense => is_weight && self.dense && any(&self.targets),
            _ => is_weight,
        }
    }
}

impl Module {
    fn is(&self, module: &str) -> bool {
        match self {
            Self::Linear => !module.contains("embed"),
            Self::Named(name) => name == module,
            // The leftmost match begins at the start if any does: Python's `re.match`.
            Self::Like(regex) => regex.find(module).is_some_and(|found| found.start() == 0),
        }
    }
}

fn modules(
    config: &Map<String, Value>,
    key: &str,
    folder: &Path,
) -> Result<Option<Vec<Module>>, StorageError> {
    let wrong = |reason| StorageError::Folder { path: folder.join(CONFIG), reason };
    let Some(list) = config.get(key).filter(|list| !list.is_null()) else { return Ok(None) };
    let list = list.as_array().ok_or_else(|| wrong(format!("has {key} that are no list")))?;
    let module = |name: &Value| {
        let name =
            name.as_str().ok_or_else(|| wrong(format!("has {key} that are no names: {name}")))?;
        Ok(match name.strip_prefix("re:") {
            None if name == "Linear" => Module::Linear,
            None => Module::Named(name.to_owned()),
            Some(text) => {
                Module::Like(Regex::new(text).map_err(|error| {
                    wrong(format!("has {key} that are not understood: {error}"))
                })?)
            }
        })
    };
    list.iter().map(module).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn structure(sparsity: Value) -> Result<Option<Structure>, StorageError> {
        Structure::of(
            &json!({ "quantization_config": { "sparsity_config": sparsity } }),
            Path::new("m"),
        )
    }

    fn entry(shape: &[usize], dtype: Dtype, format: Format) -> Entry {
        Entry { shape: shape.to_vec(), dtype, format, pattern: None, bytes: 0, file: 0 }
    }

    #[test]
    fn targets_and_ignore_choose_modules_as_python_does() {
        let claim = structure(json!({
            "format": "dense", "sparsity_structure": "2:4",
            "targets": ["re:model\\.layers\\.[0-9]+", "lm_head", "re:head"],
            "ignore": ["re:.*gate$", "model.layers.3.up"],
        }));
        let claim = claim.unwrap().unwrap();
        let weight = entry(&[8, 8], Dtype::BF16, Format::Dense);
        for (name, expected) in [
            ("model.layers.0.up.weight", true),
            ("lm_head.weight", true), // by name; `re:head` does not match from its start
            ("my.lm_head.weight", false),
            ("my.model.layers.0.up.weight", false),
            ("model.layers.3.up.weight", false),
            ("model.layers.0.gate.weight", false),
            ("model.layers.0.gate_proj.weight", true),
            ("model.layers.0.up.bias", false),
        ] {
            assert_eq!(claim.covers(name, &weight), expected, "{name}");
        }
        let name = "model.layers.0.up.weight";
        assert!(!claim.covers(name, &entry(&[8], Dtype::BF16, Format::Dense)));
        assert!(!claim.covers(name, &entry(&[8, 8], Dtype::I32, Format::Dense)));
        assert!(claim.covers(name, &entry(&[8, 8], Dtype::I8, Format::Dense)));
        assert!(claim.covers("other.weight", &entry(&[8, 8], Dtype::F16, Format::Bitmap)));
        assert!(!claim.covers("other.weight", &entry(&[8, 8], Dtype::BOOL, Format::Mask)));
    }

    #[test]
    fn linear_is_every_matrix_but_embeddings() {
        let dense = entry(&[8, 8], Dtype::F32, Format::Dense);
        for targets in [json!(["Linear"]), Value::Null] {
            let claim = structure(json!({
                "format": "dense", "sparsity_structure": "2:4", "targets": targets,
            }));
            let claim = claim.unwrap().unwrap();
            assert!(claim.covers("a.weight", &dense));
            assert!(!claim.covers("model.embed_tokens.weight", &dense));
        }
        let packed = json!({ "format": "sparse-24-bitmask", "sparsity_structure": "2:4" });
        assert!(!structure(packed).unwrap().unwrap().covers("a.weight", &dense));
        let nothing = json!({ "format": "dense", "sparsity_structure": "unstructured" });
        assert!(structure(nothing).unwrap().is_none());
    }

    #[test]
    fn what_is_not_understood_is_no_claim_that_holds() {
        for (key, list) in
            [("targets", json!(["re:("])), ("ignore", json!([1])), ("ignore", json!({}))]
        {
            let sparsity = json!({ "format": "dense", "sparsity_structure": "2:4", key: list });
            let said = structure(sparsity).unwrap_err().to_string();
            assert!(said.contains("config.json") && said.contains(key), "{said}");
        }
    }
}
