//! What does one encoder layer do? Attention, then a feed-forward block, each added to its input and
//! normed (post-norm, as BERT was published).
//!
//! Where all products are sparse, a layer works through its tokens in chunks of a panel: packed once for
//! queries, keys and values, kept feature-major across the feed-forward block, normed while they are in
//! cache. Dense products want all tokens at once, as they come; so do sparse ones when there are few.

use super::config::{BertConfig, HiddenAct};
use crate::{NnError, VarBuilder, packed::PackedWeight};
use secateur_kernels::{Activation, Dispatcher, Panels, attention, elementwise};

/// Up to this many tokens, kernels for few are faster than panels.
const FEW: usize = 4;
/// Tokens of a chunk, for each thread: the widest panel. What is between the products of a feed-forward
/// block then stays in the second cache.
const CHUNK: usize = 128;

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
    /// Whether every product prefers panels.
    panels: bool,
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
    between: Between,
}

/// Activations inside a feed-forward block, as they came or in panels; and a chunk of tokens in panels.
#[derive(Debug)]
struct Between {
    plain: Vec<f32>,
    wide: Panels,
    narrow: Panels,
}

impl Buffers {
    /// For a number of tokens.
    pub fn new(
        config: &BertConfig,
        tokens: usize,
        dispatcher: &Dispatcher,
    ) -> Result<Self, NnError> {
        let [q, k, v, mixed] = [(); 4].map(|()| vec![0.0; tokens * config.hidden_size]);
        // Grown by whoever needs them.
        let between = Between {
            plain: Vec::new(),
            wide: Panels::zeros(0, config.intermediate_size, dispatcher)?,
            narrow: Panels::zeros(0, config.hidden_size, dispatcher)?,
        };
        Ok(Self { q, k, v, mixed, between })
    }
}

impl Block {
    pub fn load(vb: &VarBuilder<'_>, config: &BertConfig) -> Result<Self, NnError> {
        let (hidden, between) = (config.hidden_size, config.intermediate_size);
        let attention = vb.pp("attention");
        let linear = |name: &str| attention.pp(name).product(hidden, hidden);
        let mut block = Self {
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
            panels: false,
        };
        block.panels = block.products().iter().all(|product| product.prefers_panels());
        Ok(block)
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
        let Buffers { q, k, v, mixed, between } = buffers;
        let hidden = self.query.product.cols();
        let in_panels = self.panels && x.len() > FEW * hidden;
        let chunk =
            if in_panels { CHUNK * rayon::current_num_threads() * hidden } else { x.len().max(1) };

        let queries = q.chunks_mut(chunk).zip(k.chunks_mut(chunk)).zip(v.chunks_mut(chunk));
        for (x, ((q, k), v)) in x.chunks(chunk).zip(queries) {
            let products = [(&self.query, q), (&self.key, k), (&self.value, v)];
            if in_panels {
                between.narrow.repack(x)?;
            }
            for (product, y) in products {
                if in_panels {
                    product.leave_panels(&between.narrow, y)?;
                } else {
                    product.run(x, y)?;
                }
            }
        }
        attention(dispatcher, self.heads, lengths, [&*q, &*k, &*v], mixed)?;
        let chunks = x.chunks_mut(chunk).zip(mixed.chunks(chunk)).zip(q.chunks_mut(chunk));
        for ((x, mixed), attended) in chunks {
            self.output.run(mixed, attended)?;
            self.attention_norm.run(dispatcher, attended, Some(x))?;
            if in_panels {
                self.feed_forward.run_panels(attended, between, x)?;
            } else {
                self.feed_forward.run(dispatcher, attended, &mut between.plain, x)?;
            }
            self.norm.run(dispatcher, x, Some(attended))?;
        }
        Ok(())
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
        between: &mut Vec<f32>,
        y: &mut [f32],
    ) -> Result<(), NnError> {
        between.resize(x.len() / self.up.product.cols() * self.up.product.rows(), 0.0);
        self.up.run(x, between)?;
        match self.act {
            HiddenAct::Gelu => elementwise::gelu(dispatcher, between),
            HiddenAct::Relu => {
                between.iter_mut().filter(|x| **x < 0.0).for_each(|x| *x = 0.0);
            }
        }
        self.down.run(between, y)
    }

    /// The same, feature-major between its two transposes.
    fn run_panels(&self, x: &[f32], between: &mut Between, y: &mut [f32]) -> Result<(), NnError> {
        let Between { narrow, wide, .. } = between;
        let activation = match self.act {
            HiddenAct::Gelu => Activation::Gelu,
            HiddenAct::Relu => Activation::Relu,
        };
        narrow.repack(x)?;
        self.up.run_panels(narrow, activation, wide)?;
        self.down.leave_panels(wide, y)
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
