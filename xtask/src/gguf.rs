//! How is any GGUF file read? Tensor by tensor, by name, dequantised, and never all at once.

mod header;

use anyhow::{Context, Result, ensure};
use candle_core::{
    Device,
    quantized::gguf_file::{Content, TensorInfo, Value},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

/// An open GGUF file, found sound: every tensor lies whole inside it and none over another. So whatever
/// a file claims, what its tensors take up in memory is bounded by its length.
///
/// Tensors come as the file has them, under its own names (`blk.0.attn_q.weight`) and in its order of
/// rows. In files of Llama models, the rows of `attn_q.weight` and `attn_k.weight` are permuted within
/// each head: rotary embedding pairs rows 2i and 2i + 1 there, and rows i and i + d/2 in the checkpoints
/// of transformers.
pub struct Gguf<R = BufReader<File>> {
    file: R,
    tensors: BTreeMap<String, TensorInfo>,
    texts: BTreeMap<String, String>,
    /// Where the tensors' data begins, in bytes.
    start: u64,
}

impl Gguf {
    /// Opens `path` and checks it; reads no tensor. Errors name it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::read(BufReader::new(file)).with_context(|| format!("in {}", path.display()))
    }
}

impl<R: Read + Seek> Gguf<R> {
    fn read(mut file: R) -> Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let counts = header::check(&mut file, length)?;
        file.rewind()?;
        let content = Content::read(&mut file).context(
            "the head of the file is damaged or holds a kind of tensor that is not known; download it \
             again, or a version in F32, F16, BF16, Q4_0 to Q8_0 or Q2_K to Q6_K",
        )?;
        ensure!(
            counts.tensors == content.tensor_infos.len() as u64
                && counts.metadata == content.metadata.len() as u64,
            "two tensors or two metadata entries have the same name; the file is damaged"
        );
        let texts = content.metadata.into_iter().filter_map(|(key, value)| match value {
            Value::String(text) => Some((key, text)),
            _ => None,
        });
        let gguf = Self {
            file,
            tensors: content.tensor_infos.into_iter().collect(),
            texts: texts.collect(),
            start: content.tensor_data_offset,
        };
        gguf.check_places(length)?;
        Ok(gguf)
    }

    /// Errors unless every tensor has bytes of its own in a file of `length` bytes.
    fn check_places(&self, length: u64) -> Result<()> {
        let mut places = Vec::with_capacity(self.tensors.len());
        for (name, info) in &self.tensors {
            let place = place(info, self.start).with_context(|| {
                format!(
                    "tensor {name} cannot have shape {:?} and be {}; the file is damaged",
                    info.shape.dims(),
                    quantisation(info)
                )
            })?;
            ensure!(
                place.end <= length,
                "tensor {name} ends at byte {} and the file at {length}; it is cut off, copy or \
                 download it again",
                place.end
            );
            places.push((place.start, place.end, name));
        }
        places.sort();
        for pair in places.windows(2) {
            let [(_, end, one), (start, _, other)] = pair else { continue };
            ensure!(start >= end, "tensors {one} and {other} overlap; the file is damaged");
        }
        Ok(())
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    /// The shape of the tensor `name`, rows first, and how it is quantised: `F32`, `Q4_1`, `Q6_K` …
    pub fn info(&self, name: &str) -> Result<(Vec<usize>, String)> {
        let info = find(&self.tensors, name)?;
        Ok((info.shape.dims().to_vec(), quantisation(info)))
    }

    /// The values of the tensor `name`, row by row, dequantised to f32 as candle does.
    pub fn tensor(&mut self, name: &str) -> Result<Vec<f32>> {
        let Self { file, tensors, start, .. } = self;
        let info = find(tensors, name)?;
        // candle makes a slice of no bytes from a pointer that is not aligned.
        if info.shape.elem_count() == 0 {
            return Ok(vec![]);
        }
        let mut read = || {
            let quantised = info.read(file, *start, &Device::Cpu)?;
            let values = quantised.dequantize(&Device::Cpu)?;
            drop(quantised);
            values.flatten_all()?.to_vec1()
        };
        read().with_context(|| {
            format!("tensor {name} ({}) cannot be read as f32", quantisation(info))
        })
    }

    /// A text of the metadata, such as `general.architecture` or `general.name`.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }
}

fn find<'a>(tensors: &'a BTreeMap<String, TensorInfo>, name: &str) -> Result<&'a TensorInfo> {
    tensors
        .get(name)
        .with_context(|| format!("the file has no tensor {name}, but {} others", tensors.len()))
}

/// The bytes of a tensor, where data begins at `start`. None if no tensor can be like that.
fn place(info: &TensorInfo, start: u64) -> Option<Range<u64>> {
    let (dims, block) = (info.shape.dims(), info.ggml_dtype.block_size());
    if !dims.last()?.is_multiple_of(block) {
        return None;
    }
    let values = dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim))?;
    let bytes = (values / block).checked_mul(info.ggml_dtype.type_size())?;
    let start = start.checked_add(info.offset)?;
    Some(start..start.checked_add(bytes as u64)?)
}

/// As ggml writes it: candle leaves the line out of `Q4_K`.
fn quantisation(info: &TensorInfo) -> String {
    format!("{:?}", info.ggml_dtype).replace('K', "_K")
}

#[cfg(test)]
mod tests;
