//! What does a text mean, as one vector? The mean of its tokens' hidden states, at length one
//! (Reimers & Gurevych 2019).

use super::{Bert, BertConfig, Tokens};
use crate::{NnError, VarBuilder};
use candle_core::{Device, Tensor};
use secateur_kernels::Dispatcher;
use secateur_storage::Source;
use serde_json::Value;
use std::{fs, path::Path};
use tokenizers::{
    Encoding, Tokenizer,
    tokenizer::{PostProcessor, TruncationParams},
};

/// Texts whose tokens are held at once.
const TEXTS: usize = 64;
/// Tokens whose activations are held at once; a single text may have more.
const TOKENS: usize = 2048;
/// A tokenizer.json beyond this is none.
const MOST_JSON: u64 = 1 << 28;

/// A BERT with its tokenizer: texts in, vectors out.
///
/// ```no_run
/// use candle_core::Device;
/// use secateur_kernels::Dispatcher;
/// use secateur_nn::SentenceEncoder;
///
/// // A folder fetched by `cargo xtask data minilm`, or packed by `cargo xtask convert`.
/// let encoder = SentenceEncoder::open("data/minilm".as_ref(), &Dispatcher::probe()?, &Device::Cpu)?;
/// let vectors = encoder.encode(&["A cat sat on the mat.", "Pruning roses in March"])?;
/// assert_eq!(vectors.dims(), [2, 384]);
/// # Ok::<(), secateur_nn::NnError>(())
/// ```
#[derive(Debug)]
pub struct SentenceEncoder {
    bert: Bert,
    tokenizer: Tokenizer,
}

impl SentenceEncoder {
    /// The model in a folder: `config.json`, `tokenizer.json` and the weights, in any layout that
    /// [`Source`] reads. Texts are cut at the length in `sentence_bert_config.json`, if that is there,
    /// or at the model's.
    ///
    /// Errors when a file is missing or damaged, the weights do not fit the configuration, or the
    /// folder asks for another pooling than the mean.
    pub fn open(folder: &Path, dispatcher: &Dispatcher, device: &Device) -> Result<Self, NnError> {
        let source = Source::open(folder)?;
        let none = || NnError::Config("it is missing beside the weights".into());
        let config = BertConfig::from_json(source.config().ok_or_else(none)?)?;
        if let Some(pooling) = read_json(&folder.join("1_Pooling/config.json"))?
            && pooling["pooling_mode_mean_tokens"] != Value::Bool(true)
        {
            let reason = "1_Pooling asks for another pooling than the mean over tokens".into();
            return Err(NnError::Config(reason));
        }
        let length = read_json(&folder.join("sentence_bert_config.json"))?
            .and_then(|json| usize::try_from(json["max_seq_length"].as_u64()?).ok());
        let bert = Bert::load(&VarBuilder::from_source(&source, dispatcher, device), config)?;
        let tokenizer = read(&folder.join("tokenizer.json"))?;
        Self::new(bert, &tokenizer, length)
    }

    /// A model with the tokenizer in the bytes of a `tokenizer.json`. What that says of padding and
    /// truncation is not used: texts are cut at `length` tokens, at most those the model has positions
    /// for, and not padded. Errors when it is no tokenizer, or adds more tokens than `length`.
    pub fn new(bert: Bert, tokenizer: &[u8], length: Option<usize>) -> Result<Self, NnError> {
        let mut tokenizer = Tokenizer::from_bytes(tokenizer).map_err(NnError::Tokenizer)?;
        let positions = bert.config.max_position_embeddings;
        let length = length.map_or(positions, |length| length.min(positions));
        // The crate would subtract without looking.
        let added = tokenizer.get_post_processor().map_or(0, |added| added.added_tokens(false));
        if length <= added {
            let reason = format!("it adds {added} tokens to texts of at most {length}");
            return Err(NnError::Tokenizer(reason.into()));
        }
        let truncation = TruncationParams { max_length: length, ..TruncationParams::default() };
        tokenizer.with_padding(None);
        tokenizer.with_truncation(Some(truncation)).map_err(NnError::Tokenizer)?;
        Ok(Self { bert, tokenizer })
    }

    /// One vector of length one for each text: `[texts, hidden]`, f32. Texts of any length may be mixed;
    /// what is beyond the longest that the model takes is cut off. A text without any token, which only a
    /// tokenizer without special tokens makes, becomes zeros.
    pub fn encode(&self, texts: &[&str]) -> Result<Tensor, NnError> {
        let hidden = self.bert.config.hidden_size;
        let mut vectors = Vec::with_capacity(texts.len() * hidden);
        for texts in texts.chunks(TEXTS) {
            let mut tokens = Tokens::default();
            for encoding in self.tokenize(texts)? {
                let rows = encoding.get_ids().iter().zip(encoding.get_type_ids());
                let rows = rows.zip(0..).map(|((id, type_id), position)| [*id, *type_id, position]);
                tokens.rows.extend(rows);
                tokens.lengths.push(encoding.len());
                if tokens.rows.len() >= TOKENS {
                    self.pool(&tokens, &mut vectors)?;
                    tokens = Tokens::default();
                }
            }
            self.pool(&tokens, &mut vectors)?;
        }
        Ok(Tensor::from_vec(vectors, (texts.len(), hidden), &self.bert.device)?)
    }

    /// What the model sees of each text: token numbers and segments, special tokens included.
    pub fn tokenize(&self, texts: &[&str]) -> Result<Vec<Encoding>, NnError> {
        self.tokenizer.encode_batch_fast(texts.to_vec(), true).map_err(NnError::Tokenizer)
    }

    /// Adds the vectors of some texts.
    fn pool(&self, tokens: &Tokens, vectors: &mut Vec<f32>) -> Result<(), NnError> {
        let (states, hidden) = (self.bert.run(tokens)?, self.bert.config.hidden_size);
        let mut rows = states.chunks_exact(hidden);
        for length in &tokens.lengths {
            let at = vectors.len();
            vectors.resize(at + hidden, 0.0_f32);
            let vector = &mut vectors[at..];
            for row in rows.by_ref().take(*length) {
                vector.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            // The mean differs from the sum by a factor, which the length takes away again.
            let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            let scale = if square > 0.0 { (1.0 / square.sqrt()) as f32 } else { 1.0 };
            vector.iter_mut().for_each(|x| *x *= scale);
        }
        Ok(())
    }

    /// The encoder.
    pub fn bert(&self) -> &Bert {
        &self.bert
    }
}

/// A file of the folder.
fn read(path: &Path) -> Result<Vec<u8>, NnError> {
    let failed = |source| NnError::File { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > MOST_JSON {
        return Err(failed(std::io::Error::other("it is far too large for what it should be")));
    }
    fs::read(path).map_err(failed)
}

/// A JSON file of the folder, if it is there.
fn read_json(path: &Path) -> Result<Option<Value>, NnError> {
    if !path.exists() {
        return Ok(None);
    }
    let failed =
        |error: serde_json::Error| NnError::File { path: path.to_owned(), source: error.into() };
    serde_json::from_slice(&read(path)?).map(Some).map_err(failed)
}
