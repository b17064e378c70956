//! Which layouts are there, and what can they not hold?
//!
//! Our own keeps places as they lie in memory and claims what it can prove; `dense` spells every zero;
//! the two of compressed-tensors are what vLLM and transformers read; `masks` are the places alone.

use crate::{Format, Packed, values::is_float};
use std::{fmt, str::FromStr};

/// How a checkpoint's tensors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// `secateur`: packed, with the pattern and the hash of every mask (`docs/format.md`).
    Secateur,
    /// `dense`: plain safetensors, every zero spelled out.
    Dense,
    /// `sparse-24-bitmask` of compressed-tensors: 2:4, a bit per element.
    Sparse24Bitmask,
    /// `sparse-bitmask` of compressed-tensors: any sparsity, a bit per element.
    SparseBitmask,
    /// `masks`: which elements are kept, without the values.
    Masks,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Self; 5] =
        [Self::Secateur, Self::Dense, Self::Sparse24Bitmask, Self::SparseBitmask, Self::Masks];

    /// The name on the command line, and in compressed-tensors' configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secateur => "secateur",
            Self::Dense => "dense",
            Self::Sparse24Bitmask => "sparse-24-bitmask",
            Self::SparseBitmask => "sparse-bitmask",
            Self::Masks => "masks",
        }
    }

    /// Whether it is one of compressed-tensors', which need a `config.json`.
    pub fn is_compressed_tensors(self) -> bool {
        matches!(self, Self::Sparse24Bitmask | Self::SparseBitmask)
    }

    /// Whether tensors are named by the `secateur` claims.
    pub(crate) fn has_claims(self) -> bool {
        matches!(self, Self::Secateur | Self::Masks)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|layout| layout.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is no layout; there are {names}")
        })
    }
}

/// Why a layout cannot hold the tensor `name` in packed form.
pub(crate) fn refusal(layout: Layout, name: &str, packed: &Packed) -> Option<&'static str> {
    match layout {
        Layout::Secateur | Layout::Dense => None,
        Layout::Masks if packed.shape().len() < 2 => Some("it is no weight of two or more sides"),
        Layout::Masks if packed.format() == Format::Dense && !is_float(packed.dtype()) => {
            Some("it holds no floats")
        }
        Layout::Masks => None,
        _ if packed.format() == Format::Dense => Some(match packed.shape().len() {
            0 | 1 => "it is no weight of two or more sides",
            _ if !is_float(packed.dtype()) => "it holds no floats",
            _ => "it has too few zeros to become smaller",
        }),
        _ if packed.values().scales().is_some() => Some("its values are scaled by row"),
        _ if unreadable(name).is_some() => unreadable(name),
        Layout::SparseBitmask => None,
        Layout::Sparse24Bitmask if packed.shape().len() != 2 => Some("it has not two sides"),
        Layout::Sparse24Bitmask if !packed.matrix().1.is_multiple_of(4) => {
            Some("its columns are no multiple of four")
        }
        Layout::Sparse24Bitmask if packed.format() != Format::TWO_OF_FOUR => Some("it is not 2:4"),
        Layout::Sparse24Bitmask => None,
    }
}

/// Why compressed-tensors' readers would not find a weight of this name. They call whatever they
/// unpack `MODULE.weight`, and unpack linear layers (and what [`crate::compressed_tensors::configure`]
/// names beside), but no embeddings: those would be left as they were initialised, with a warning.
pub(crate) fn unreadable(name: &str) -> Option<&'static str> {
    let Some(module) = name.strip_suffix(".weight") else {
        return Some("its name does not end in .weight");
    };
    let last = module.rsplit('.').next().unwrap_or(module);
    if ["weight", "bias"].contains(&last) {
        return Some("its module is called as if it were a tensor");
    }
    let embedding = last.split('_').any(|word| word.starts_with("emb"))
        || ["wte", "wpe", "shared", "relative_attention_bias"].contains(&last);
    embedding.then_some("it is an embedding by its name, which readers want dense")
}
