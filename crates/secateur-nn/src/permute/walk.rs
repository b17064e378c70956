//! What does each step do to the channels? One rule per step, and the checks that tensors fit it.

use super::{
    Reason, Space, Step,
    streams::{Stream, Streams},
};
use crate::{NnError, weight_name};
use candle_core::Tensor;
use std::collections::BTreeMap;

/// The spaces that the layers of `steps` read from.
pub(super) fn walk(
    steps: &[Step],
    tensors: &BTreeMap<String, Tensor>,
) -> Result<Vec<Space>, NnError> {
    let (streams, saved) = (Streams::default(), BTreeMap::new());
    let mut walk = Walk { tensors, streams, saved };
    let mut now = walk.streams.fixed(Reason::Inputs);
    let mut just_saved = false;
    for step in steps {
        now = match step {
            Step::Linear(name) => walk.linear(name, now)?,
            Step::Conv2d(name) => walk.conv(name, 1, now)?,
            Step::GroupedConv2d { name, groups } => {
                walk.streams.fix(now, Reason::GroupedConv2d(name.clone()));
                let made = walk.conv(name, *groups, now)?;
                walk.streams.fix(made, Reason::GroupedConv2d(name.clone()));
                made
            }
            Step::BatchNorm(name) => {
                walk.norm(name, &["running_mean", "running_var"], &["weight", "bias"], now)?
            }
            Step::LayerNorm(name) => walk.norm(name, &["weight"], &["bias"], now)?,
            Step::GroupNorm(name) => {
                walk.streams.fix(now, Reason::GroupNorm(name.clone()));
                now
            }
            Step::Elementwise => now,
            Step::Flatten { spatial } => {
                Stream { repeat: now.repeat.saturating_mul(*spatial), ..now }
            }
            Step::Save(label) => {
                walk.save(label, now);
                now
            }
            Step::Load(label) => {
                if !just_saved {
                    walk.streams.fix(now, Reason::Outputs);
                }
                walk.load(label)?
            }
            Step::Add(label) => walk.join(label, now)?,
            Step::Opaque(name) => {
                walk.streams.fix(now, Reason::Opaque(name.clone()));
                walk.streams.fixed(Reason::Opaque(name.clone()))
            }
        };
        just_saved = matches!(step, Step::Save(_));
    }
    walk.streams.fix(now, Reason::Outputs);
    for (label, (stream, read)) in walk.saved {
        if !read {
            walk.streams.fix(stream, Reason::Unread(label));
        }
    }
    Ok(walk.streams.finish())
}

struct Walk<'a> {
    tensors: &'a BTreeMap<String, Tensor>,
    streams: Streams,
    /// What was saved, and whether it was read.
    saved: BTreeMap<String, (Stream, bool)>,
}

impl<'a> Walk<'a> {
    fn get(&self, name: &str) -> Result<&'a Tensor, NnError> {
        self.tensors.get(name).ok_or_else(|| NnError::MissingTensor(name.to_owned()))
    }

    /// A tensor of the layer that no rule reorders would be left behind. One number has no order.
    fn refuse_unknown(&self, layer: &str, known: &[&str]) -> Result<(), NnError> {
        let prefix = format!("{layer}.");
        for (name, tensor) in self.tensors.range(prefix.clone()..) {
            let Some(what) = name.strip_prefix(&prefix) else { break };
            if !known.contains(&what) && tensor.elem_count() > 1 {
                let (name, layer) = (name.clone(), layer.to_owned());
                return Err(NnError::UnknownTensor { name, layer });
            }
        }
        Ok(())
    }

    /// A vector with one number per feature of `stream`.
    fn ride(&mut self, name: &str, stream: Stream) -> Result<(), NnError> {
        let found = self.get(name)?.dims();
        let &[width] = found else {
            let width = self.streams.width(stream).unwrap_or(found.iter().product());
            let (name, found, expected) = (name.to_owned(), found.to_vec(), vec![width]);
            return Err(NnError::Shape { name, found, expected });
        };
        self.streams.check(stream, width, (name, found, 0))?;
        self.streams.carry(name, 0, stream);
        Ok(())
    }

    /// Vectors that ride along: those `needed`, and those `optional` that are there.
    fn norm(
        &mut self,
        layer: &str,
        needed: &[&str],
        optional: &[&str],
        stream: Stream,
    ) -> Result<Stream, NnError> {
        self.refuse_unknown(layer, &[needed, optional].concat())?;
        for what in needed {
            self.ride(&format!("{layer}.{what}"), stream)?;
        }
        for name in optional.iter().map(|what| format!("{layer}.{what}")) {
            if self.tensors.contains_key(&name) {
                self.ride(&name, stream)?;
            }
        }
        Ok(stream)
    }

    fn linear(&mut self, layer: &str, stream: Stream) -> Result<Stream, NnError> {
        let name = weight_name(layer);
        let found = self.get(&name)?.dims();
        let &[outputs, inputs] = found else {
            return Err(NnError::Rank { name, found: found.to_vec() });
        };
        self.streams.check(stream, inputs, (&name, found, 1))?;
        self.mix(layer, outputs, 1, stream)
    }

    /// With more than one group, the caller fixes both sides.
    fn conv(&mut self, layer: &str, groups: usize, stream: Stream) -> Result<Stream, NnError> {
        let name = weight_name(layer);
        let found = self.get(&name)?.dims();
        let &[outputs, inputs, height, width] = found else {
            return Err(NnError::ConvRank { name, found: found.to_vec() });
        };
        let all = inputs.saturating_mul(groups);
        if let Some(channels) = self.streams.width(stream)
            && channels != all
        {
            return Err(NnError::Groups { name, inputs, groups, channels });
        }
        self.streams.check(stream, all, (&name, found, 1))?;
        self.mix(layer, outputs, height * width, stream)
    }

    /// A layer that mixes channels: it reads `stream` and opens a space of its own.
    fn mix(
        &mut self,
        layer: &str,
        outputs: usize,
        kernel: usize,
        stream: Stream,
    ) -> Result<Stream, NnError> {
        self.refuse_unknown(layer, &["weight", "bias"])?;
        let (made, weight) = (self.streams.open(Some(outputs)), weight_name(layer));
        self.streams.carry(&weight, 1, stream);
        self.streams.carry(&weight, 0, made);
        let bias = format!("{layer}.bias");
        if self.tensors.contains_key(&bias) {
            self.ride(&bias, made)?;
        }
        self.streams.read(layer, stream, kernel);
        Ok(made)
    }

    fn save(&mut self, label: &str, stream: Stream) {
        if let Some((before, false)) = self.saved.insert(label.to_owned(), (stream, false)) {
            self.streams.fix(before, Reason::Unread(label.to_owned()));
        }
    }

    fn load(&mut self, label: &str) -> Result<Stream, NnError> {
        let (stream, read) = self
            .saved
            .get_mut(label)
            .ok_or_else(|| NnError::UnknownLabel { label: label.to_owned() })?;
        *read = true;
        Ok(*stream)
    }

    /// Two streams become one; where their channels do not match up, both are fixed.
    fn join(&mut self, label: &str, now: Stream) -> Result<Stream, NnError> {
        let saved = self.load(label)?;
        if let (Some(saved), Some(now)) = (self.streams.width(saved), self.streams.width(now))
            && saved != now
        {
            return Err(NnError::Join { label: label.to_owned(), saved, now });
        }
        if saved.repeat == now.repeat {
            self.streams.unite(saved, now);
        } else {
            self.streams.fix(saved, Reason::Join(label.to_owned()));
            self.streams.fix(now, Reason::Join(label.to_owned()));
        }
        Ok(now)
    }
}
