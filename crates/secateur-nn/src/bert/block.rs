//! What does one encoder layer do? Attention, then a feed-forward block, each added to its input and
//! normed (post-norm, as BERT was published).
//!
//! Activations are plain `[tokens, features]` slices from the first product to the last, so that what
//! is no product costs a pass or two over numbers that are in cache.

use super::config::{BertConfig, HiddenAct};
use crate::{NnError, VarBuilder, packed::PackedWeight};
use secateur_kernels::{Dispatcher, attention, elementwise};

/// One layer of the encoder.
#[derive(Debug)]
pub(super) struct Block {
    query: PackedWeight,
    key: PackedWeight,
    value: PackedWeight,
    output: PackedWeight,
    attention_norm: Norm,
    feed_forward: FeedForward,
    norm: Norm,
    heads: (usize, usize),
}

/// A product up, an activation, a product down.
#[derive(Debug)]
struct FeedForward {
    up: PackedWeight,
    act: HiddenAct,
    down: PackedWeight,
}

/// A layer norm.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

/// Activations between products, kept from layer to layer.
#[derive(Debug)]
pub(super) struct Buffers {
    /// Queries, then what attention gives.
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    mixed: Vec<f32>,
    up: Vec<f32>,
}

impl Buffers {
    /// For a number of tokens.
    pub fn new(config: &BertConfig, tokens: usize) -> Self {
        let [q, k, v, mixed] = [(); 4].map(|()| vec![0.0; tokens * config.hidden_size]);
        Self { q, k, v, mixed, up: vec![0.0; tokens * config.intermediate_size] }
    }
}

impl Block {
    pub fn load(vb: &VarBuilder<'_>, config: &BertConfig) -> Result<Self, NnError> {
        let (hidden, between) = (config.hidden_size, config.intermediate_size);
        let attention = vb.pp("attention");
        let linear = |name: &str| attention.pp(name).product(hidden, hidden);
        Ok(Self {
            query: linear("self.query")?,
            key: linear("self.key")?,
            value: linear("self.value")?,
            output: linear("output.dense")?,
            attention_norm: Norm::load(&attention.pp("output.LayerNorm"), config)?,
            feed_forward: FeedForward {
                up: vb.pp("intermediate.dense").product(hidden, between)?,
                act: config.hidden_act,
                down: vb.pp("output.dense").product(between, hidden)?,
            },
            norm: Norm::load(&vb.pp("output.LayerNorm"), config)?,
            heads: (config.num_attention_heads, hidden / config.num_attention_heads),
        })
    }

    /// Replaces `x` `[tokens, hidden]`, sequences of `lengths` one after the other, by the layer's
    /// output.
    pub fn forward(
        &self,
        dispatcher: &Dispatcher,
        x: &mut [f32],
        lengths: &[usize],
        buffers: &mut Buffers,
    ) -> Result<(), NnError> {
        let Buffers { q, k, v, mixed, up } = buffers;
        self.query.run(x, q)?;
        self.key.run(x, k)?;
        self.value.run(x, v)?;
        attention(dispatcher, self.heads, lengths, [&*q, &*k, &*v], mixed)?;
        let attended = q;
        self.output.run(mixed, attended)?;
        self.attention_norm.run(dispatcher, attended, Some(x))?;
        self.feed_forward.run(dispatcher, attended, up, x)?;
        self.norm.run(dispatcher, x, Some(attended))
    }

    /// The products, for counting what they weigh.
    pub fn products(&self) -> [&PackedWeight; 6] {
        let FeedForward { up, down, .. } = &self.feed_forward;
        [&self.query, &self.key, &self.value, &self.output, up, down]
    }
}

impl FeedForward {
    /// `y = down(act(up(x)))`, with `between` for what is between.
    fn run(
        &self,
        dispatcher: &Dispatcher,
        x: &[f32],
        between: &mut [f32],
        y: &mut [f32],
    ) -> Result<(), NnError> {
        self.up.run(x, between)?;
        match self.act {
            HiddenAct::Gelu => elementwise::gelu(dispatcher, between),
            HiddenAct::Relu => between.iter_mut().for_each(|x| *x = x.max(0.0)),
        }
        self.down.run(between, y)
    }
}

impl Norm {
    pub fn load(vb: &VarBuilder<'_>, config: &BertConfig) -> Result<Self, NnError> {
        let values = |name: &str| vb.values(&[config.hidden_size], name);
        let (weight, bias) = (values("weight")?, values("bias")?);
        Ok(Self { weight, bias, epsilon: config.layer_norm_eps as f32 })
    }

    /// Replaces `x` by the norm of `x + residual`.
    pub fn run(
        &self,
        dispatcher: &Dispatcher,
        x: &mut [f32],
        residual: Option<&[f32]>,
    ) -> Result<(), NnError> {
        let Self { weight, bias, epsilon } = self;
        Ok(elementwise::layer_norm(dispatcher, x, residual, weight, bias, *epsilon)?)
    }
}
