//! What is to become of a checkpoint, and what became of it?

use crate::{Format, Layout};
use secateur_mask::Target;
use std::collections::BTreeMap;

/// What to make of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    /// How the tensors are written.
    pub to: Layout,
    /// Cut each float tensor of two or more sides to this first, by magnitude.
    pub prune: Option<Target>,
}

/// What became of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// Its name.
    pub name: String,
    /// How its values lie now.
    pub format: Format,
    /// Bytes before.
    pub from_bytes: u64,
    /// Bytes after.
    pub to_bytes: u64,
    /// Why it is dense (or left out, if only masks are written), where the layout packs weights.
    pub left: Option<&'static str>,
}

/// What a folder's index and configuration say about all its tensors.
#[derive(Default)]
pub(crate) struct Totals {
    pub size: u64,
    pub files: BTreeMap<String, String>,
    /// Modules whose packed weight has other than two sides: none of a linear layer.
    pub targets: Vec<String>,
    /// Modules whose matrix was left dense.
    pub ignore: Vec<String>,
    pub entries: u64,
    pub zeros: u64,
}

impl Totals {
    pub fn count(&mut self, entries: usize, zeros: usize) {
        self.entries += entries as u64;
        self.zeros += zeros as u64;
    }
}
