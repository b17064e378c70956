//! How does a BERT encoder run, dense or packed? Over the tokens that are there and no others.
//!
//! Reading order: [`Bert::forward`] (what goes in and comes out), `block.rs` (one layer), `config.rs`
//! (its shape), `embedding.rs` (its input), `sentence.rs` (from text to one vector).
//!
//! Key decision: sequences of different lengths lie one after the other, without the padding between
//! them. Products see a longer matrix of useful rows, attention sees no mask, and what a batch computes
//! for a text does not depend, but for rounding, on what it is batched with.

mod block;
mod config;
mod embedding;
mod sentence;

pub use config::{BertConfig, HiddenAct, PositionEmbeddingType};
pub use sentence::SentenceEncoder;

use crate::{NnError, VarBuilder};
use block::{Block, Buffers, Norm};
use candle_core::{DType, Device, Tensor};
use embedding::Embedding;
use secateur_kernels::Dispatcher;

/// A BERT encoder (Devlin et al. 2019) for inference, each weight dense or packed as its checkpoint
/// stores it. It computes on the CPU, whatever device its results are for.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use secateur_storage::{Checkpoint, Dense};
/// # let json = serde_json::json!({
/// #     "vocab_size": 3, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
/// #     "intermediate_size": 8, "hidden_act": "gelu", "max_position_embeddings": 6,
/// # });
/// # let mut checkpoint = Checkpoint::default();
/// # let mut put = |name: &str, shape: &[usize]| {
/// #     let values = vec![0.5; shape.iter().product()];
/// #     checkpoint.tensors.insert(name.into(), Dense::new(values, shape).unwrap().into());
/// # };
/// # put("embeddings.word_embeddings.weight", &[3, 4]);
/// # put("embeddings.position_embeddings.weight", &[6, 4]);
/// # put("embeddings.token_type_embeddings.weight", &[2, 4]);
/// # let mut both = |name: &str, shape: &[usize]| {
/// #     put(&format!("{name}.weight"), shape);
/// #     put(&format!("{name}.bias"), &shape[..1]);
/// # };
/// # both("embeddings.LayerNorm", &[4]);
/// # for name in ["self.query", "self.key", "self.value", "output.dense"] {
/// #     both(&format!("encoder.layer.0.attention.{name}"), &[4, 4]);
/// # }
/// # both("encoder.layer.0.attention.output.LayerNorm", &[4]);
/// # both("encoder.layer.0.intermediate.dense", &[8, 4]);
/// # both("encoder.layer.0.output.dense", &[4, 8]);
/// # both("encoder.layer.0.output.LayerNorm", &[4]);
/// use secateur_kernels::Dispatcher;
/// use secateur_nn::{Bert, BertConfig, VarBuilder};
///
/// // `json` is a model's config.json, `checkpoint` its weights.
/// let vb = VarBuilder::from_checkpoint(&checkpoint, &Dispatcher::probe()?, &Device::Cpu);
/// let bert = Bert::load(&vb, BertConfig::from_json(&json)?)?;
///
/// let ids = Tensor::new(&[[0_u32, 1, 2], [2, 1, 0]], &Device::Cpu)?;
/// let mask = Tensor::new(&[[1_u32, 1, 1], [1, 1, 0]], &Device::Cpu)?;
/// let hidden = bert.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
/// assert_eq!(hidden.dims(), [2, 3, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Bert {
    config: BertConfig,
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: Norm,
    blocks: Vec<Block>,
    dispatcher: Dispatcher,
    device: Device,
}

/// Tokens of several sequences, one after the other.
#[derive(Debug, Default)]
struct Tokens {
    /// Number, type and position of each token.
    rows: Vec<[u32; 3]>,
    /// Tokens of each sequence.
    lengths: Vec<usize>,
}

/// What a checkpoint may put before the names of an encoder's tensors.
const PREFIXES: [&str; 3] = ["", "bert", "model"];

impl Bert {
    /// The encoder of a checkpoint. Names are those of Hugging Face's `BertModel`, with or without
    /// `bert.` before them. Errors when a tensor is missing or has not the shape that `config` says.
    pub fn load(vb: &VarBuilder<'_>, config: BertConfig) -> Result<Self, NnError> {
        config.validate()?;
        let under = |prefix: &&str| match *prefix {
            "" => vb.clone(),
            prefix => vb.pp(prefix),
        };
        let has_words = |vb: &VarBuilder<'_>| vb.contains("embeddings.word_embeddings.weight");
        let vb = PREFIXES.iter().map(under).find(has_words).unwrap_or_else(|| vb.clone());
        let (embeddings, hidden) = (vb.pp("embeddings"), config.hidden_size);
        let table = |name, rows| Embedding::load(&embeddings, name, rows, hidden);
        Ok(Self {
            words: table("word_embeddings", config.vocab_size)?,
            positions: table("position_embeddings", config.max_position_embeddings)?,
            types: table("token_type_embeddings", config.type_vocab_size)?,
            norm: Norm::load(&embeddings.pp("LayerNorm"), &config)?,
            blocks: (0..config.num_hidden_layers)
                .map(|layer| Block::load(&vb.pp("encoder.layer").pp(layer), &config))
                .collect::<Result<_, _>>()?,
            dispatcher: *vb.dispatcher(),
            device: vb.device().clone(),
            config,
        })
    }

    /// The last hidden states `[batch, length, hidden]`, f32, of token numbers `ids` `[batch, length]`
    /// (u8, u32 or i64), their segments `type_ids` and a `mask` of the same shape: tokens where it is
    /// zero are not seen by others, and their hidden states are zero. Without a mask all are seen.
    ///
    /// Errors on other shapes, numbers outside the vocabulary and sequences longer than the model knows
    /// positions.
    pub fn forward(
        &self,
        ids: &Tensor,
        type_ids: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor, NnError> {
        let (batch, length) = ids.dims2()?;
        for other in [Some(type_ids), mask].into_iter().flatten() {
            if other.dims() != ids.dims() {
                return Err(NnError::Shape {
                    name: "type_ids or mask".into(),
                    found: other.dims().to_vec(),
                    expected: ids.dims().to_vec(),
                });
            }
        }
        let (ids, type_ids) = (numbers(ids)?, numbers(type_ids)?);
        let seen = match mask {
            Some(mask) => mask.ne(0_f64)?.flatten_all()?.to_vec1::<u8>()?,
            None => vec![1; batch * length],
        };
        let mut tokens = Tokens::default();
        for sequence in 0..batch {
            let before = tokens.rows.len();
            for position in (0..length).filter(|at| seen[sequence * length + at] != 0) {
                let at = sequence * length + position;
                // Positions beyond u32 are beyond every model.
                let position = u32::try_from(position).unwrap_or(u32::MAX);
                tokens.rows.push([ids[at], type_ids[at], position]);
            }
            tokens.lengths.push(tokens.rows.len() - before);
        }
        let (states, hidden) = (self.run(&tokens)?, self.config.hidden_size);
        let mut all = vec![0.0; batch * length * hidden];
        let rows = all.chunks_exact_mut(hidden).zip(&seen).filter(|(_, seen)| **seen != 0);
        for ((row, _), states) in rows.zip(states.chunks_exact(hidden)) {
            row.copy_from_slice(states);
        }
        Ok(Tensor::from_vec(all, (batch, length, hidden), &self.device)?)
    }

    /// The last hidden states of the tokens, row by row.
    fn run(&self, tokens: &Tokens) -> Result<Vec<f32>, NnError> {
        let hidden = self.config.hidden_size;
        let mut x = vec![0.0; tokens.rows.len() * hidden];
        for (row, token) in x.chunks_exact_mut(hidden).zip(&tokens.rows) {
            let tables = [
                (&self.words, "token", self.config.vocab_size),
                (&self.types, "segment", self.config.type_vocab_size),
                (&self.positions, "position", self.config.max_position_embeddings),
            ];
            for ((table, what, count), number) in tables.into_iter().zip(*token) {
                let outside = NnError::Token { what, number, count };
                table.add_row(number as usize, row).ok_or(outside)?;
            }
        }
        self.norm.run(&self.dispatcher, &mut x, None)?;
        let mut buffers = Buffers::new(&self.config, tokens.rows.len(), &self.dispatcher)?;
        for block in &self.blocks {
            block.forward(&self.dispatcher, &mut x, &tokens.lengths, &mut buffers)?;
        }
        Ok(x)
    }

    /// The model's shape.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Bytes that the weights of the encoder's products take in memory, kernel layouts included.
    pub fn weight_bytes(&self) -> usize {
        self.blocks.iter().flat_map(Block::products).map(|weight| weight.product.bytes()).sum()
    }

    /// Bytes of the embeddings, as they are kept: views of the checkpoint where they can be.
    pub fn embedding_bytes(&self) -> usize {
        [&self.words, &self.positions, &self.types].map(Embedding::bytes).iter().sum()
    }
}

/// Whole numbers of a tensor, in order. Those that u32 does not hold become u32's largest, which no
/// table reaches.
fn numbers(tensor: &Tensor) -> Result<Vec<u32>, NnError> {
    let flat = tensor.flatten_all()?;
    match tensor.dtype() {
        DType::U8 => Ok(flat.to_vec1::<u8>()?.into_iter().map(u32::from).collect()),
        DType::U32 => Ok(flat.to_vec1()?),
        DType::I64 => {
            let numbers = flat.to_vec1::<i64>()?.into_iter();
            Ok(numbers.map(|number| u32::try_from(number).unwrap_or(u32::MAX)).collect())
        }
        found => Err(NnError::Numbers { found }),
    }
}
