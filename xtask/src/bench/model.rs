//! How much faster is a whole network? A product alone leaves out attention, norms and activations.

use anyhow::{Result, bail};
use clap::ValueEnum;

/// The networks that can be timed end to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Model {
    /// all-MiniLM-L6-v2, an encoder of 22 M parameters
    Minilm,
}

/// Times `model`, dense and packed, in sequences of 16 and 128 tokens, in batches of 1 and 8.
///
/// Rows have the shape `minilm`, and `tokens`, `batch`, `speedup`, `speedup_candle` and `weights_share`.
pub fn run(model: Model) -> Result<()> {
    match model {
        Model::Minilm => bail!(
            "--model minilm cannot be timed yet: it needs a BERT encoder in secateur-nn whose layers are \
             dense or packed; without --model, the products of its shapes (1536x384, 384x1536, 384x384) \
             are timed"
        ),
    }
}
