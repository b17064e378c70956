//! How is any checkpoint read, changed in places, and written again? Tensor by tensor, by name.

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor, safetensors::BufferedSafetensors};
use safetensors::{Dtype, View};
use secateur::{
    mask::Mask,
    prelude::{Checkpoint, Dense, Packed},
    storage::write_atomically,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

/// The tensors of a safetensors file: any plain one, or one that secateur packed.
pub enum Weights {
    Plain { file: BufferedSafetensors, metadata: HashMap<String, String> },
    Packed(Checkpoint),
}

impl Weights {
    /// Reads `path`; errors name it.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(bytes).with_context(|| format!("in {}", path.display()))
    }

    fn parse(bytes: Vec<u8>) -> Result<Self> {
        let unreadable = "not a readable safetensors file; copy or write it again";
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).context(unreadable)?;
        if header.metadata().as_ref().is_some_and(|map| map.contains_key("secateur")) {
            return Ok(Self::Packed(Checkpoint::from_bytes(&bytes)?));
        }
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self::Plain { file: BufferedSafetensors::new(bytes).context(unreadable)?, metadata })
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::Plain { file, .. } => file.tensors().into_iter().map(|(name, _)| name).collect(),
            Self::Packed(checkpoint) => checkpoint.tensors.keys().cloned().collect(),
        };
        names.sort();
        names
    }

    /// The tensor `name` with its dtype, if it is there.
    pub fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        match self {
            Self::Plain { file, .. } => match file.get(name) {
                Ok(_) => Ok(Some(file.load(name, &Device::Cpu)?)),
                Err(_) => Ok(None),
            },
            Self::Packed(checkpoint) => match checkpoint.tensors.get(name) {
                Some(packed) => {
                    let shape = packed.shape().to_vec();
                    let values = packed.unpack().into_values();
                    Ok(Some(Tensor::from_vec(values, shape, &Device::Cpu)?))
                }
                None => Ok(None),
            },
        }
    }

    /// Why `name` cannot be pruned, if it cannot.
    pub fn prunable(&self, name: &str) -> Result<(), String> {
        let (dtype, rank) = match self {
            Self::Packed(checkpoint) => {
                (Dtype::F32, checkpoint.tensors.get(name).map_or(0, |t| t.shape().len()))
            }
            Self::Plain { file, .. } => match file.get(name) {
                Ok(view) => (view.dtype(), view.shape().len()),
                Err(_) => return Err("it is not in the file".into()),
            },
        };
        match dtype {
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 if rank >= 2 => Ok(()),
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
                Err(format!("it has {rank} sides; weights have two or more"))
            }
            other => Err(format!("it holds {other:?}; weights are F64, F32, F16 or BF16")),
        }
    }

    /// The mask that a packed file holds for `name`: what was cut before.
    pub fn mask(&self, name: &str) -> Option<Mask> {
        match self {
            Self::Plain { .. } => None,
            Self::Packed(checkpoint) => checkpoint.tensors.get(name)?.mask(),
        }
    }

    /// Writes all tensors to `path`, dense, those in `changed` instead of the ones read.
    pub fn write(&self, changed: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
        let mut parts = BTreeMap::new();
        for name in self.names() {
            let part = match (changed.get(&name), self) {
                (Some(tensor), _) => Part::of(tensor)?,
                (None, Self::Plain { file, .. }) => {
                    let view = file.get(&name)?;
                    let (dtype, shape) = (view.dtype(), view.shape().to_vec());
                    Part { dtype, shape, data: view.data().to_vec().into() }
                }
                (None, Self::Packed(_)) => match self.tensor(&name)? {
                    Some(tensor) => Part::of(&tensor)?,
                    None => continue,
                },
            };
            parts.insert(name, part);
        }
        let bytes = safetensors::serialize(parts, None)?;
        Ok(write_atomically(path, &self.with_metadata(bytes)?)?)
    }

    /// A file's bytes with the metadata of the file that was read, its keys sorted: safetensors keeps
    /// them in a map whose order changes from run to run.
    fn with_metadata(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let mut metadata: BTreeMap<&str, &str> = match self {
            Self::Plain { metadata, .. } => {
                metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
            }
            Self::Packed(_) => BTreeMap::new(),
        };
        // What loaders of other frameworks look for.
        metadata.entry("format").or_insert("pt");
        let (length, rest) = bytes.split_first_chunk::<8>().context("a file has a length")?;
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let mut header: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(header)?;
        header.insert("__metadata__".into(), serde_json::to_value(metadata)?);
        let mut header = serde_json::to_string(&header)?;
        while header.len() % 8 != 0 {
            header.push(' ');
        }
        let length = (header.len() as u64).to_le_bytes();
        Ok([&length[..], header.as_bytes(), data].concat())
    }

    /// Errors unless every tensor can be stored in a packed file.
    pub fn check_packable(&self) -> Result<()> {
        let Self::Plain { file, .. } = self else { return Ok(()) };
        for name in self.names() {
            let dtype = file.get(&name)?.dtype();
            ensure!(
                dtype == Dtype::F32,
                "packed files hold F32 so far, and {name} is {dtype:?}; leave --packed out"
            );
        }
        Ok(())
    }

    /// All tensors as a checkpoint to be packed: what was packed stays so, `changed` ones are dense.
    pub fn checkpoint(&self, changed: &BTreeMap<String, Tensor>) -> Result<Checkpoint> {
        let mut checkpoint = match self {
            Self::Plain { .. } => Checkpoint::default(),
            Self::Packed(checkpoint) => checkpoint.clone(),
        };
        for name in self.names() {
            let tensor = match (changed.get(&name), self) {
                (Some(tensor), _) => tensor.clone(),
                (None, Self::Packed(_)) => continue,
                (None, Self::Plain { file, .. }) => file.load(&name, &Device::Cpu)?,
            };
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            checkpoint.patterns.remove(&name);
            checkpoint.tensors.insert(name, Packed::Dense(Dense::new(values, tensor.dims())?));
        }
        Ok(checkpoint)
    }
}

/// One tensor of the file to be.
struct Part {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Cow<'static, [u8]>,
}

impl Part {
    fn of(tensor: &Tensor) -> Result<Self> {
        fn bytes<const N: usize, T>(values: Vec<T>, le: fn(T) -> [u8; N]) -> Vec<u8> {
            values.into_iter().flat_map(le).collect()
        }
        let flat = tensor.flatten_all()?;
        let (dtype, data) = match tensor.dtype() {
            DType::F32 => (Dtype::F32, bytes(flat.to_vec1()?, f32::to_le_bytes)),
            DType::F64 => (Dtype::F64, bytes(flat.to_vec1()?, f64::to_le_bytes)),
            DType::F16 => (Dtype::F16, bytes(flat.to_vec1()?, half::f16::to_le_bytes)),
            DType::BF16 => (Dtype::BF16, bytes(flat.to_vec1()?, half::bf16::to_le_bytes)),
            other => bail!("a weight of {other:?} cannot be written"),
        };
        Ok(Self { dtype, shape: tensor.dims().to_vec(), data: data.into() })
    }
}

impl View for Part {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }
    fn data_len(&self) -> usize {
        self.data.len()
    }
}
