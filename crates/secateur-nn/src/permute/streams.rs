//! Which channels are the same channels? A union-find over the spaces that layers open.
//!
//! Every layer opens a new space of channels. Residuals and shared layers join spaces; what depends
//! on an order leaves a reason at them. Both are put together at the end, so that a reason holds for
//! everything that is joined later.

use super::{Reason, Space, space::Move};
use crate::NnError;
use std::collections::BTreeMap;

/// Activations between two steps: whose channels, and features per channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub space: usize,
    pub repeat: usize,
}

/// All spaces of a network, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// The union-find: a space's number leads to that of the space it was joined to.
    parents: Vec<usize>,
    /// Channels of each space, once known; current at the roots.
    channels: Vec<Option<usize>>,
    /// Each tensor's axis carries one stream; the second use of a layer finds the first's here.
    carried: BTreeMap<(String, usize), Stream>,
    /// Layers, the space they read, and their columns per channel.
    readers: Vec<(String, usize, usize)>,
    reasons: Vec<(usize, Reason)>,
}

impl Streams {
    /// A new space, with one feature per channel.
    pub fn open(&mut self, channels: Option<usize>) -> Stream {
        self.parents.push(self.parents.len());
        self.channels.push(channels);
        Stream { space: self.parents.len() - 1, repeat: 1 }
    }

    /// Channels of which nothing but a reason is known.
    pub fn fixed(&mut self, reason: Reason) -> Stream {
        let stream = self.open(None);
        self.fix(stream, reason);
        stream
    }

    /// Leaves a reason why these channels, and all that are joined to them, keep their order.
    pub fn fix(&mut self, stream: Stream, reason: Reason) {
        self.reasons.push((stream.space, reason));
    }

    fn root(&self, mut space: usize) -> usize {
        while self.parents[space] != space {
            space = self.parents[space];
        }
        space
    }

    /// From now on, the channels of `a` and `b` are the same. Both have as many.
    pub fn unite(&mut self, a: Stream, b: Stream) {
        let (a, b) = (self.root(a.space), self.root(b.space));
        self.channels[a] = self.channels[a].or(self.channels[b]);
        self.parents[b] = a;
    }

    /// How wide the activations are, if that is known.
    pub fn width(&self, stream: Stream) -> Option<usize> {
        self.channels[self.root(stream.space)]
            .map(|channels| channels.saturating_mul(stream.repeat))
    }

    /// Learns or checks that `stream` is `width` wide, as the tensor `name` of `found` shape wants
    /// along `axis`.
    pub fn check(
        &mut self,
        stream: Stream,
        width: usize,
        (name, found, axis): (&str, &[usize], usize),
    ) -> Result<(), NnError> {
        if let Some(known) = self.width(stream) {
            if known == width {
                return Ok(());
            }
            let mut expected = found.to_vec();
            expected[axis] = known;
            return Err(NnError::Shape { name: name.to_owned(), found: found.to_vec(), expected });
        }
        let channels = width.checked_div(stream.repeat).unwrap_or(0);
        if channels * stream.repeat != width {
            let (name, spatial) = (name.to_owned(), stream.repeat);
            return Err(NnError::Flatten { name, width, spatial });
        }
        let root = self.root(stream.space);
        self.channels[root] = Some(channels);
        Ok(())
    }

    /// Records that an axis of a tensor carries `stream`, along with what it carried before.
    pub fn carry(&mut self, tensor: &str, axis: usize, stream: Stream) {
        match self.carried.get(&(tensor.to_owned(), axis)).copied() {
            None => {
                self.carried.insert((tensor.to_owned(), axis), stream);
            }
            Some(before) if before.repeat == stream.repeat => {
                self.unite(before, stream);
            }
            Some(before) => {
                self.fix(before, Reason::Shared(tensor.to_owned()));
                self.fix(stream, Reason::Shared(tensor.to_owned()));
            }
        }
    }

    /// Records that a layer reads `stream`, each feature as `kernel` columns of its weight.
    pub fn read(&mut self, layer: &str, stream: Stream, kernel: usize) {
        self.readers.push((layer.to_owned(), stream.space, stream.repeat * kernel));
    }

    /// Puts together what was recorded: one [`Space`] per root that a layer reads.
    pub fn finish(self) -> Vec<Space> {
        let mut spaces: Vec<Space> = Vec::new();
        let mut places: BTreeMap<usize, usize> = BTreeMap::new();
        for (layer, space, columns) in &self.readers {
            let root = self.root(*space);
            let place = *places.entry(root).or_insert(spaces.len());
            if place == spaces.len() {
                spaces.push(Space {
                    layers: Vec::new(),
                    channels: self.channels[root].unwrap_or(0),
                    columns: Some(*columns),
                    fixed: None,
                    moves: Vec::new(),
                });
            }
            let space = &mut spaces[place];
            if !space.layers.contains(layer) {
                space.layers.push(layer.clone());
            }
            if space.columns != Some(*columns) {
                space.columns = None;
            }
        }
        for (space, reason) in &self.reasons {
            if let Some(place) = places.get(&self.root(*space)) {
                spaces[*place].fixed.get_or_insert_with(|| reason.clone());
            }
        }
        for ((tensor, axis), stream) in &self.carried {
            if let Some(place) = places.get(&self.root(stream.space)) {
                let (tensor, axis, repeat) = (tensor.clone(), *axis, stream.repeat);
                spaces[*place].moves.push(Move { tensor, axis, repeat });
            }
        }
        spaces
    }
}
