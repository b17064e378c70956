//! What do dead units leave behind? A chain of weights as matrices, from which constants and unread units go.

use super::{Stage, weight_of};
use crate::{Network, NnError, batch_norm::EPSILON, layer::Kind};
use std::collections::{BTreeMap, BTreeSet};

/// The numbers of a network that is a chain.
pub(super) struct Chain {
    pub stages: Vec<Stage>,
    /// Weights, biases, and all four tensors of norms, by name.
    pub tensors: BTreeMap<String, Numbers>,
    /// By stage, whether zeros are put around its inputs.
    padded: Vec<bool>,
}

/// A tensor.
#[derive(Clone)]
pub(super) struct Numbers {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Numbers {
    fn cols(&self) -> usize {
        self.shape[1..].iter().product()
    }
}

impl Chain {
    /// Copies the numbers of `network`. Errors when it is not a chain, or packed.
    pub fn of<N: Network + ?Sized>(network: &N) -> Result<Self, NnError> {
        let (stages, layers) = (network.chain(), network.layers());
        if stages.is_empty() {
            return Err(NnError::NotAChain("it does not say that it is one".into()));
        }
        let (mut padded, mut units): (_, Option<usize>) = (Vec::new(), None);
        for stage in &stages {
            let name = weight_of(stage);
            let layer =
                layers.get(&stage.layer).ok_or_else(|| NnError::MissingTensor(name.clone()))?;
            if layer.weight().is_none() {
                return Err(NnError::Packed("rid of dead units"));
            }
            padded.push(match layer.kind() {
                Kind::Conv2d(geometry) if geometry.groups > 1 => {
                    return Err(NnError::NotAChain(format!("{} has groups", stage.layer)));
                }
                Kind::Conv2d(geometry) => geometry.padding > 0,
                Kind::Linear => false,
            });
            if let Some(before) = units
                && (before == 0 || !layer.shape()[1].is_multiple_of(before))
            {
                let inputs = layer.shape()[1];
                let what = format!("{before} units come to the {inputs} inputs of {}", stage.layer);
                return Err(NnError::NotAChain(what));
            }
            units = Some(layer.shape()[0]);
        }
        let mut tensors = BTreeMap::new();
        for (name, var) in network.parameters().into_iter().chain(network.buffers()) {
            let values = var.flatten_all()?.to_vec1()?;
            tensors.insert(name, Numbers { shape: var.dims().to_vec(), values });
        }
        Ok(Self { stages, tensors, padded })
    }

    fn weight(&self, at: usize) -> &Numbers {
        &self.tensors[&weight_of(&self.stages[at])]
    }

    fn units(&self, at: usize) -> usize {
        self.weight(at).shape[0]
    }

    /// The columns of a stage's weight that belong to one unit before it.
    fn share(&self, at: usize) -> usize {
        self.weight(at).cols() / if at == 0 { 1 } else { self.units(at - 1) }
    }

    /// Whether a unit has an incoming weight.
    fn is_fed(&self, at: usize, unit: usize) -> bool {
        let weight = self.weight(at);
        weight.values[unit * weight.cols()..][..weight.cols()].iter().any(|w| *w != 0.0)
    }

    /// The outgoing weights of a unit, by row of the next stage's weight.
    fn outgoing(&self, at: usize, unit: usize) -> impl Iterator<Item = &[f32]> {
        let (next, share) = (self.weight(at + 1), self.share(at + 1));
        next.values.chunks_exact(next.cols()).map(move |row| &row[unit * share..][..share])
    }

    fn is_read(&self, at: usize, unit: usize) -> bool {
        self.outgoing(at, unit).flatten().any(|w| *w != 0.0)
    }

    /// The number of a unit in a vector of its layer or norm, if there is such a vector.
    fn entry(&mut self, owner: &str, what: &str, unit: usize) -> Option<&mut f32> {
        self.tensors.get_mut(&format!("{owner}.{what}"))?.values.get_mut(unit)
    }

    /// Folds constants, first stage first, because a stage that lost its inputs makes further ones; then
    /// silences what nobody reads, last stage first, for the same reason. Nothing is left to do then. Returns
    /// the dead units by stage; the last stage's are the network's outputs and stay.
    pub fn fold(&mut self) -> Vec<Vec<usize>> {
        let last = self.stages.len() - 1;
        for at in 0..last {
            for unit in 0..self.units(at) {
                if !self.is_fed(at, unit) && self.is_read(at, unit) && self.absorb(at, unit) {
                    self.cut_outgoing(at, unit);
                }
            }
        }
        let mut dead = vec![Vec::new(); last + 1];
        for at in (0..last).rev() {
            dead[at] = (0..self.units(at)).filter(|unit| !self.is_read(at, *unit)).collect();
            for unit in &dead[at] {
                self.silence(at, *unit);
            }
        }
        dead
    }

    /// Has the next stage add what a constant unit gives it, if that is exact everywhere.
    fn absorb(&mut self, at: usize, unit: usize) -> bool {
        let constant = self.constant(at, unit);
        if constant == 0.0 {
            return true;
        }
        let sums: Vec<f64> = self
            .outgoing(at, unit)
            .map(|weights| weights.iter().map(|w| f64::from(*w)).sum::<f64>() * constant)
            .collect();
        let Stage { layer, norm } = self.stages[at + 1].clone();
        let (owner, what, sign) = match &norm {
            Some(norm) => (norm, "running_mean", -1.0),
            None => (&layer, "bias", 1.0),
        };
        if self.padded[at + 1] || !self.tensors.contains_key(&format!("{owner}.{what}")) {
            return false;
        }
        for (row, sum) in sums.into_iter().enumerate() {
            if let Some(entry) = self.entry(owner, what, row) {
                *entry = (f64::from(*entry) + sign * sum) as f32;
            }
        }
        true
    }

    /// What a unit without incoming weights gives.
    fn constant(&mut self, at: usize, unit: usize) -> f64 {
        let Stage { layer, norm } = self.stages[at].clone();
        let mut of =
            |owner: &str, what| self.entry(owner, what, unit).map(|entry| f64::from(*entry));
        let mut constant = of(&layer, "bias").unwrap_or(0.0);
        if let Some(norm) = norm {
            let deviation = (of(&norm, "running_var").unwrap_or(1.0) + EPSILON).sqrt();
            constant = (constant - of(&norm, "running_mean").unwrap_or(0.0)) / deviation;
            constant =
                constant * of(&norm, "weight").unwrap_or(1.0) + of(&norm, "bias").unwrap_or(0.0);
        }
        constant.max(0.0)
    }

    fn cut_outgoing(&mut self, at: usize, unit: usize) {
        let (share, cols) = (self.share(at + 1), self.weight(at + 1).cols());
        if let Some(next) = self.tensors.get_mut(&weight_of(&self.stages[at + 1])) {
            for row in next.values.chunks_exact_mut(cols) {
                row[unit * share..][..share].fill(0.0);
            }
        }
    }

    /// Makes a unit that nobody reads zero: its incoming weights, its bias, and its norm's weight and bias.
    fn silence(&mut self, at: usize, unit: usize) {
        let Stage { layer, norm } = self.stages[at].clone();
        if let Some(weight) = self.tensors.get_mut(&weight_of(&self.stages[at])) {
            let cols = weight.cols();
            weight.values[unit * cols..][..cols].fill(0.0);
        }
        let norms = norm.iter().flat_map(|norm| [(norm, "weight"), (norm, "bias")]);
        for (owner, what) in norms.chain([(&layer, "bias")]) {
            if let Some(entry) = self.entry(owner, what, unit) {
                *entry = 0.0;
            }
        }
    }

    /// By weight of a stage, whether it joins units that are not dead.
    pub fn live(&self, at: usize, dead: &[Vec<usize>]) -> Vec<bool> {
        let (cols, share) = (self.weight(at).cols(), self.share(at));
        let set = |dead: &[usize]| dead.iter().copied().collect::<BTreeSet<_>>();
        let rows = set(&dead[at]);
        let columns = if at == 0 { BTreeSet::new() } else { set(&dead[at - 1]) };
        let columns: Vec<bool> = (0..cols).map(|col| !columns.contains(&(col / share))).collect();
        (0..self.units(at))
            .flat_map(|row| {
                columns.iter().map(|live| *live && !rows.contains(&row)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// All tensors, without the entries of dead units. Of a layer that is dead as a whole the first unit stays:
    /// there are no layers of none.
    pub fn without(mut self, mut dead: Vec<Vec<usize>>) -> BTreeMap<String, Numbers> {
        for (at, dead) in dead.iter_mut().enumerate() {
            if dead.len() == self.units(at) {
                dead.remove(0);
            }
        }
        let mut smaller = BTreeMap::new();
        for (at, Stage { layer, norm }) in self.stages.iter().enumerate() {
            let units = self.units(at) - dead[at].len();
            let weight = self.weight(at);
            let live = self.live(at, &dead).into_iter().zip(&weight.values);
            let values: Vec<f32> = live.filter_map(|(live, w)| live.then_some(*w)).collect();
            let taps: usize = weight.shape[2..].iter().product();
            let mut shape = vec![units, values.len() / (units * taps).max(1)];
            shape.extend(&weight.shape[2..]);
            smaller.insert(weight_of(&self.stages[at]), Numbers { shape, values });
            let dead: BTreeSet<usize> = dead[at].iter().copied().collect();
            let vectors = ["weight", "bias", "running_mean", "running_var"].into_iter();
            let norms = norm.iter().flat_map(|norm| vectors.clone().map(move |what| (norm, what)));
            for (owner, what) in norms.chain([(layer, "bias")]) {
                let name = format!("{owner}.{what}");
                if let Some(vector) = self.tensors.get(&name) {
                    let entries = vector.values.iter().enumerate();
                    let values = entries.filter(|(unit, _)| !dead.contains(unit));
                    let values = values.map(|(_, value)| *value).collect();
                    smaller.insert(name, Numbers { shape: vec![units], values });
                }
            }
        }
        // What belongs to no stage stays as it is.
        self.tensors.append(&mut smaller);
        self.tensors
    }
}
