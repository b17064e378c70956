//! How is any checkpoint read, changed in places, and written again? Tensor by tensor, by name.

use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use secateur::{
    mask::Mask,
    prelude::{Checkpoint, Dense, Packed},
    storage::{Dtype, Format, Source, Values},
};
use std::{collections::BTreeMap, path::Path};

/// The tensors of a checkpoint: any that `Source` reads.
pub struct Weights(Source);

impl Weights {
    /// Opens `path`; errors name it.
    pub fn load(path: &Path) -> Result<Self> {
        Ok(Self(Source::open(path)?))
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> Vec<String> {
        let tensors = self.0.entries().iter().filter(|(_, entry)| entry.format != Format::Mask);
        tensors.map(|(name, _)| name.clone()).collect()
    }

    /// The tensor `name` with its dtype (quantised ones as F32), if it is there.
    pub fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        if !self.0.entries().contains_key(name) {
            return Ok(None);
        }
        let mut dense = self.0.tensor(name)?.unpack();
        if dense.values().scales().is_some() {
            dense = Dense::new(dense.to_f32()?.into_owned(), dense.shape())?;
        }
        let dtype = match dense.dtype() {
            Dtype::F64 => DType::F64,
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::U8 => DType::U8,
            Dtype::U32 => DType::U32,
            Dtype::I64 => DType::I64,
            other => bail!("{name} holds {other:?}, which is no dtype of weights"),
        };
        let data = dense.values().data();
        Ok(Some(Tensor::from_raw_buffer(data, dtype, dense.shape(), &Device::Cpu)?))
    }

    /// Why `name` cannot be pruned, if it cannot.
    pub fn prunable(&self, name: &str) -> Result<(), String> {
        let Some(entry) = self.0.entries().get(name) else {
            return Err("it is not in the file".into());
        };
        let rank = entry.shape.len();
        match entry.dtype {
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 if rank >= 2 => Ok(()),
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
                Err(format!("it has {rank} sides; weights have two or more"))
            }
            other => Err(format!("it holds {other:?}; weights are F64, F32, F16 or BF16")),
        }
    }

    /// The mask that a packed file holds for `name`: what was cut before.
    pub fn mask(&self, name: &str) -> Result<Option<Mask>> {
        Ok(self.0.mask(name)?)
    }

    /// All tensors, those in `changed` dense and instead of the ones read, the others as they lie.
    pub fn checkpoint(&self, changed: &BTreeMap<String, Tensor>) -> Result<Checkpoint> {
        let metadata = self.0.metadata().clone();
        let mut checkpoint = Checkpoint { metadata, ..Checkpoint::default() };
        for (name, entry) in self.0.entries().iter().filter(|(_, e)| e.format == Format::Mask) {
            checkpoint.masks.extend(self.0.mask(name)?.map(|mask| (name.clone(), mask)));
            checkpoint.patterns.extend(entry.pattern.map(|pattern| (name.clone(), pattern)));
        }
        for name in self.names() {
            let packed = match changed.get(&name) {
                Some(tensor) => dense(tensor)?.into(),
                None => {
                    let claimed = self.0.entries()[&name].pattern;
                    checkpoint.patterns.extend(claimed.map(|pattern| (name.clone(), pattern)));
                    self.0.tensor(&name)?
                }
            };
            checkpoint.tensors.insert(name, packed);
        }
        Ok(checkpoint)
    }

    /// Packs what `mask` keeps of `name` in the checkpoint.
    pub fn pack(
        checkpoint: &mut Checkpoint,
        name: &str,
        mask: &Mask,
        pattern: secateur::mask::Pattern,
    ) -> Result<()> {
        let Some(packed) = checkpoint.tensors.get_mut(name) else { return Ok(()) };
        *packed = Packed::pack(&packed.unpack(), mask, pattern)?;
        if packed.format() != Format::Dense {
            checkpoint.patterns.insert(name.to_owned(), pattern);
        }
        Ok(())
    }
}

/// A candle tensor's values, shared with nobody.
fn dense(tensor: &Tensor) -> Result<Dense> {
    let flat = tensor.flatten_all()?;
    let values: Values = match tensor.dtype() {
        DType::F32 => flat.to_vec1::<f32>()?.into(),
        DType::F64 => Values::from_f64(flat.to_vec1()?),
        DType::F16 => flat.to_vec1::<f16>()?.into(),
        DType::BF16 => flat.to_vec1::<bf16>()?.into(),
        other => bail!("a weight of {other:?} cannot be written"),
    };
    Ok(Dense::new(values, tensor.dims())?)
}
