//! What shape does a BERT have? What its `config.json` says, if that can be.

use crate::NnError;
use serde::Deserialize;
use serde_json::Value;

/// The shape of a BERT encoder, under the names of `config.json`. What only training needs is ignored.
///
/// ```
/// use secateur_nn::BertConfig;
///
/// let json = serde_json::json!({
///     "vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
///     "intermediate_size": 1536, "hidden_act": "gelu", "max_position_embeddings": 512,
/// });
/// assert_eq!(BertConfig::from_json(&json)?.layer_norm_eps, 1e-12);
/// # Ok::<(), secateur_nn::NnError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BertConfig {
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Features of a token.
    pub hidden_size: usize,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads; they share the features evenly.
    pub num_attention_heads: usize,
    /// Features between the two products of a feed-forward block.
    pub intermediate_size: usize,
    /// What is between them.
    pub hidden_act: HiddenAct,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// Kinds of segments.
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    /// Added to variances.
    #[serde(default = "epsilon")]
    pub layer_norm_eps: f64,
    /// How positions are told.
    #[serde(default)]
    pub position_embedding_type: PositionEmbeddingType,
    /// The family; `bert` if it is given at all.
    #[serde(default)]
    pub model_type: Option<String>,
}

/// The activation of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HiddenAct {
    /// The exact GELU, by the error function.
    Gelu,
    /// What is below zero becomes zero.
    Relu,
}

/// How a token's position is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PositionEmbeddingType {
    /// A learned vector for each position.
    #[default]
    Absolute,
}

fn two() -> usize {
    2
}

fn epsilon() -> f64 {
    1e-12
}

/// No BERT has a size as large; products of two of them still fit an address.
const MOST: usize = 1 << 24;
/// Nor as many layers.
const MOST_LAYERS: usize = 1 << 12;

impl BertConfig {
    /// The configuration in a model folder's `config.json`. Errors when something is missing, of the
    /// wrong type or unknown here, and when [`Self::validate`] does.
    pub fn from_json(json: &Value) -> Result<Self, NnError> {
        let config: Self =
            Self::deserialize(json).map_err(|error| NnError::Config(error.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// Errors when no model can have this shape: a size of zero or beyond 2²⁴, heads that cannot share
    /// the features, an epsilon that is negative or no number, another family.
    pub fn validate(&self) -> Result<(), NnError> {
        let refuse = |reason: String| Err(NnError::Config(reason));
        let sizes = [
            ("vocab_size", self.vocab_size, MOST),
            ("hidden_size", self.hidden_size, MOST),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MOST),
            ("intermediate_size", self.intermediate_size, MOST),
            ("max_position_embeddings", self.max_position_embeddings, MOST),
            ("type_vocab_size", self.type_vocab_size, MOST),
        ];
        for (name, size, most) in sizes {
            if !(1..=most).contains(&size) {
                return refuse(format!("{name} is {size}, it must be from 1 to {most}"));
            }
        }
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if !hidden.is_multiple_of(heads) {
            return refuse(format!(
                "hidden_size {hidden} cannot be shared by {heads} heads evenly"
            ));
        }
        if !(self.layer_norm_eps >= 0.0 && self.layer_norm_eps < 1.0) {
            let epsilon = self.layer_norm_eps;
            return refuse(format!("layer_norm_eps is {epsilon}, it must be from 0 to below 1"));
        }
        match self.model_type.as_deref() {
            None | Some("bert") => Ok(()),
            Some(other) => refuse(format!("model_type is {other:?}, only \"bert\" is known here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn configurations_that_cannot_be_are_refused_with_their_reason() {
        let good = json!({
            "vocab_size": 10, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3,
            "intermediate_size": 8, "hidden_act": "gelu", "max_position_embeddings": 6,
            "initializer_range": 0.02, "model_type": "bert",
        });
        assert_eq!(BertConfig::from_json(&good).unwrap().type_vocab_size, 2);
        for (key, value, said) in [
            ("vocab_size", json!(0), "vocab_size is 0"),
            ("vocab_size", json!(-1), "-1"),
            ("hidden_size", json!(1e30), "1e+30"),
            ("hidden_size", json!(u64::MAX), "hidden_size is 18446744073709551615"),
            ("num_hidden_layers", json!(1_000_000), "num_hidden_layers is 1000000"),
            ("num_attention_heads", json!(5), "shared by 5 heads"),
            ("num_attention_heads", json!(0), "num_attention_heads is 0"),
            ("hidden_act", json!("swish"), "swish"),
            ("position_embedding_type", json!("relative_key"), "relative_key"),
            ("layer_norm_eps", json!(-1.0), "layer_norm_eps is -1"),
            ("layer_norm_eps", json!(null), "null"),
            ("model_type", json!("llama"), "llama"),
            ("intermediate_size", json!("many"), "many"),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            let error = BertConfig::from_json(&bad).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("config.json"), "{key}: {error}");
        }
        let error = BertConfig::from_json(&json!({})).unwrap_err().to_string();
        assert!(error.contains("vocab_size"), "{error}");
        assert!(BertConfig::from_json(&json!([])).is_err());
    }
}
