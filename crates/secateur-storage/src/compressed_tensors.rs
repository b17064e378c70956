//! How are checkpoints of compressed-tensors read, and what does their configuration say?
//!
//! Its writers left the field (0.14 was the last with these formats), but checkpoints remain. A
//! weight is `MODULE.compressed`, `.bitmask`, `.shape` and, unless it is 2:4, `.row_offsets`. Versions
//! before 0.9 wrote `MODULE.weight.compressed` and so on, and compressed biases and norms too.
//! `tests/fixtures` has files that each of them wrote.

use crate::{
    Dtype, Entry, Format, Layout, Packed, Places, StorageError, rowbits,
    shape::{bounded, checked_len, matrix_view},
    tensor_file::TensorFile,
    values::zero_test,
};
use secateur_mask::{Mask, NOfM, Pattern};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The parts of one compressed weight, each with the file it lies in.
#[derive(Debug)]
pub(crate) struct Compressed {
    base: String,
    /// Whether the base is the tensor's own name, as in older files, and not its module's.
    own: bool,
    compressed: usize,
    bitmask: usize,
    shape: usize,
    row_offsets: Option<usize>,
}

impl Compressed {
    /// Takes the compressed weights out of `files` (in which file is which name).
    pub fn find(files: &mut BTreeMap<String, usize>) -> Vec<Self> {
        let bases: Vec<String> = files
            .keys()
            .filter_map(|name| name.strip_suffix(".compressed"))
            .filter(|base| {
                ["bitmask", "shape"]
                    .iter()
                    .all(|part| files.contains_key(&format!("{base}.{part}")))
            })
            .map(str::to_owned)
            .collect();
        let own = bases.iter().any(|base| base.ends_with(".weight"));
        let found = bases.into_iter().filter_map(|base| {
            let mut take = |part: &str| files.remove(&format!("{base}.{part}"));
            let (compressed, bitmask) = (take("compressed")?, take("bitmask")?);
            let (shape, row_offsets) = (take("shape")?, take("row_offsets"));
            Some(Self { base, own, compressed, bitmask, shape, row_offsets })
        });
        found.collect()
    }

    /// The weight's name: that of the module, or of the tensor itself in older files.
    pub fn name(&self) -> String {
        match self.own || self.base.ends_with(".bias") {
            true => self.base.clone(),
            false => format!("{}.weight", self.base),
        }
    }

    /// The layout that it was written in.
    pub fn layout(&self) -> Layout {
        match self.row_offsets {
            Some(_) => Layout::SparseBitmask,
            None => Layout::Sparse24Bitmask,
        }
    }

    fn part(&self, part: &str) -> String {
        format!("{}.{part}", self.base)
    }

    /// 2:4 has no row offsets. Its groups are those of the flattened weight, so that they are ours only
    /// if rows are whole groups; else it is a bitmap to us.
    fn is_two_of_four(&self, shape: &[usize]) -> bool {
        self.row_offsets.is_none() && shape.last().is_some_and(|cols| cols % 4 == 0)
    }

    /// What the headers say, with the shape, which is a tensor itself.
    pub fn entry(&self, files: &[TensorFile]) -> Result<Entry, StorageError> {
        let shape = self.read_shape(&files[self.shape])?;
        let file = &files[self.compressed];
        let two_of_four = self.is_two_of_four(&shape);
        let bytes = file.bytes(&self.part("compressed"))
            + files[self.bitmask].bytes(&self.part("bitmask"))
            + files[self.shape].bytes(&self.part("shape"))
            + self.row_offsets.map_or(0, |at| files[at].bytes(&self.part("row_offsets")));
        bounded(&shape, bytes, 8)?;
        Ok(Entry {
            dtype: file.info(&self.part("compressed"))?.dtype,
            format: if two_of_four { Format::TWO_OF_FOUR } else { Format::Bitmap },
            pattern: two_of_four.then_some(Pattern::TWO_OF_FOUR),
            shape,
            bytes,
            file: self.compressed,
        })
    }

    fn read_shape(&self, file: &TensorFile) -> Result<Vec<usize>, StorageError> {
        let name = self.part("shape");
        let wrong = |reason| StorageError::Entry { name: name.clone(), reason };
        let info = file.info(&name)?;
        if info.shape.len() > 2 || info.shape.get(1).is_some_and(|side| *side != 1) {
            return Err(wrong("it is no list of sides"));
        }
        let sides = file.part(&name, Dtype::I64, &info.shape.clone())?;
        let sides = sides.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes));
        let sides: Option<Vec<usize>> = sides.map(|side| usize::try_from(side).ok()).collect();
        let sides = sides.ok_or_else(|| wrong("it has a negative side"))?;
        checked_len(&sides)?;
        Ok(sides)
    }

    /// The weight, its parts checked against each other. The bitmask decides. Row offsets say nothing
    /// that it does not: those of a matrix must agree, others were never right (0.14 sums them up
    /// along the first side only).
    pub fn read(&self, files: &[TensorFile]) -> Result<Packed, StorageError> {
        let shape = self.read_shape(&files[self.shape])?;
        let cols = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().rev().skip(1).product::<usize>();
        let mut bitmask_shape = shape.clone();
        if let Some(last) = bitmask_shape.last_mut() {
            *last = cols.div_ceil(8);
        }
        let bits = files[self.bitmask].part(&self.part("bitmask"), Dtype::U8, &bitmask_shape)?;
        // Bits run along the last side here, along all but the first elsewhere.
        let lines = rowbits::from_bytes(&bits, &[rows, cols])?;
        let mask = Mask::from_words(lines.words().to_vec(), &shape)?;
        let file = &files[self.compressed];
        let name = self.part("compressed");
        let dtype = file.info(&name)?.dtype;
        zero_test(dtype).ok_or(StorageError::NotNumbers { found: dtype })?;
        let Some(at) = self.row_offsets else {
            let &[rows, cols] = &shape[..] else {
                let reason = "2:4 weights have two sides";
                return Err(StorageError::Entry { name, reason });
            };
            let values = file.shaped(&name, &[rows, cols / 2])?;
            let places = match self.is_two_of_four(&shape) {
                // Two bits in each group: as many as there are values.
                true => two_of_four(&mask)?,
                false => Places::Bitmap(mask),
            };
            return Packed::from_parts(&shape, values, places);
        };
        let values = file.shaped(&name, &[mask.count_kept()])?;
        if shape.len() == 2 {
            let offsets = files[at].part(&self.part("row_offsets"), Dtype::I64, &[rows])?;
            let offsets = offsets.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes));
            let expected = rowbits::row_offsets(&lines);
            if let Some(row) = offsets.zip(expected).position(|(found, expected)| found != expected)
            {
                return Err(StorageError::RowOffsets { row });
            }
        }
        Packed::from_parts(&shape, values, Places::Bitmap(mask))
    }
}

/// The sparsity part of a model's configuration, in its place or in one of the older ones.
pub(crate) fn sparsity_config(config: &Value) -> Option<&Map<String, Value>> {
    let paths: [&[&str]; 3] = [
        &["quantization_config", "sparsity_config"],
        &["compression_config", "sparsity_config"],
        &["sparsity_config"],
    ];
    paths
        .into_iter()
        .find_map(|path| path.iter().try_fold(config, |value, key| value.get(key))?.as_object())
}

/// The pattern that the configuration claims for every compressed weight, if it claims one.
pub(crate) fn claimed_structure(config: &Value) -> Option<Pattern> {
    let structure = sparsity_config(config)?.get("sparsity_structure")?.as_str()?;
    match structure.parse() {
        Ok(Pattern::NOfM(pattern)) => Some(Pattern::NOfM(pattern)),
        // "unstructured" claims nothing, and "0:0" is how nothing is written.
        _ => None,
    }
}

/// Who else quantised the model: its readers would not look for our weights.
pub(crate) fn foreign_method(config: &Value) -> Option<&str> {
    let method = config.get("quantization_config")?.get("quant_method")?.as_str()?;
    Some(method).filter(|method| *method != "compressed-tensors")
}

/// The configuration of a model whose weights are written in `layout`: what was there stays, its
/// claims about sparsity are replaced.
///
/// Readers look for compressed weights in linear layers and the modules `targets`, and not in `ignore`,
/// whose weights were left dense. `sparsity` is the share of zeros.
pub(crate) fn configure(
    config: Option<&Value>,
    layout: Layout,
    targets: &[String],
    ignore: &[String],
    sparsity: f64,
) -> Value {
    let mut config = match config {
        Some(Value::Object(config)) => config.clone(),
        _ => Map::new(),
    };
    config.remove("sparsity_config");
    for key in ["quantization_config", "compression_config"] {
        let Some(Value::Object(inner)) = config.get_mut(key) else { continue };
        inner.remove("sparsity_config");
        // What says nothing but who wrote it says nothing.
        let who = |key: &str| ["quant_method", "version"].contains(&key);
        let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
        if inner.iter().all(|(key, value)| who(key) || key == "transform_config" && empty(value)) {
            config.remove(key);
        }
    }
    if layout.is_compressed_tensors() {
        let structure = match layout {
            Layout::Sparse24Bitmask => "2:4",
            _ => "unstructured",
        };
        let targets = [&["Linear".to_owned()], targets].concat();
        let sparsity_config = json!({
            "format": layout.name(),
            "targets": targets,
            "ignore": ignore,
            "global_sparsity": sparsity,
            "registry_requires_subclass": false,
            "sparsity_structure": structure,
        });
        let place = config.entry("quantization_config").or_insert(Value::Null);
        if !place.is_object() {
            *place = json!({ "quant_method": "compressed-tensors", "version": WRITTEN_FOR });
        }
        place["sparsity_config"] = sparsity_config;
    }
    Value::Object(config)
}

/// The last version of compressed-tensors that reads these formats.
const WRITTEN_FOR: &str = "0.14.0";

/// The places of a bitmask of which every group of four must have exactly two bits.
fn two_of_four(mask: &Mask) -> Result<Places, StorageError> {
    if let Some(places) = Places::of_full_groups(NOfM::TWO_OF_FOUR, mask)? {
        return Ok(places);
    }
    let (rows, cols) = matrix_view(mask.shape())?;
    for (row, group) in (0..rows).flat_map(|row| (0..cols.div_ceil(4)).map(move |g| (row, g))) {
        let lanes = group * 4..cols.min(group * 4 + 4);
        let kept = lanes.filter(|col| mask.get(row * cols + col) == Some(true)).count();
        if kept != 2 {
            return Err(StorageError::NotTwoOfFour { row, group, kept });
        }
    }
    Err(StorageError::TooLarge(mask.shape().to_vec()))
}
