//! How does a killed run go on as if nothing had happened? By a file that holds all it depends on.
//!
//! The file is a checkpoint of ours: tensors and masks under prefixes (`now/`, `dense/`, …), numbers as TOML (which
//! reads every f64 back to the bit) in its metadata. It is written whole or not at all, in the midst of a stretch of training.

use crate::{
    Epoch, Round, TrainError,
    pruner::Masks,
    rewind::{Weights, check_all},
    session::{Position, Saved},
};
use candle_core::{DType, Device, Tensor, Var};
use secateur_storage::{Checkpoint, Dense};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where and how often a run saves its progress; see [`Run::execute_resumable`](crate::Run::execute_resumable).
#[derive(Debug, Clone)]
pub struct Checkpointing {
    /// The file. If it is there, the run goes on from it.
    pub file: PathBuf,
    /// How often.
    pub every: Interval,
}

/// How often progress is saved. It never changes what a run comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Interval {
    /// Every so many training steps.
    Steps(usize),
    /// Whenever this much time has passed.
    Time(Duration),
}

impl Interval {
    /// Whether it is time, `steps` after the last save.
    pub(crate) fn is_over(self, steps: usize, since: Instant) -> bool {
        match self {
            Self::Steps(every) => steps >= every.max(1),
            Self::Time(every) => since.elapsed() >= every,
        }
    }
}

/// A network at rest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Still {
    pub weights: Weights,
    pub masks: Masks,
}

/// How far a run has got.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// What the stretches so far came to, the dense one first.
    pub rounds: Vec<Round>,
    /// Every evaluation so far.
    pub epochs: Vec<Epoch>,
    /// The dense network, once it is trained.
    pub dense: Weights,
    /// The network at the step of the dense training that is rewound to.
    pub early: Weights,
    /// The network that the schedule would choose if it ended here, and its place in `rounds`.
    pub chosen: Option<(usize, Still)>,
    /// The stretch that was under way.
    pub session: Option<(Position, Saved)>,
}

/// The numbers of a [`Progress`].
#[derive(Debug, Serialize, Deserialize)]
struct Numbers {
    run: String,
    rounds: Vec<Round>,
    epochs: Vec<Epoch>,
    chosen: Option<usize>,
    position: Position,
    /// Optimizer state that is whole numbers.
    counters: BTreeMap<String, Vec<u32>>,
}

const NUMBERS: &str = "progress";

impl Progress {
    /// Writes the file. `run` describes the run, so that another one does not go on from it.
    pub fn save(
        &self,
        (position, saved): (Position, Saved),
        run: &str,
        file: &Path,
    ) -> Result<(), TrainError> {
        let mut checkpoint = Checkpoint::default();
        let mut counters = BTreeMap::new();
        for (name, tensor) in &saved.optimizer {
            if tensor.dtype() == DType::U32 {
                counters.insert(name.clone(), tensor.flatten_all()?.to_vec1::<u32>()?);
            }
        }
        let (chosen, still) = self.chosen.clone().unzip();
        let still = still.unwrap_or_default();
        for (prefix, weights) in [
            ("now", &saved.weights),
            ("behind", &saved.dense),
            ("optimizer", &saved.optimizer),
            ("best", &saved.best),
            ("dense", &self.dense),
            ("early", &self.early),
            ("chosen", &still.weights),
        ] {
            for (name, tensor) in weights.iter().filter(|(_, t)| t.dtype() != DType::U32) {
                let values = tensor.flatten_all()?.to_vec1::<f32>()?;
                let dense = Dense::new(values, tensor.dims())?;
                checkpoint.tensors.insert(format!("{prefix}/{name}"), dense.into());
            }
        }
        for (prefix, masks) in [
            ("mask-now", &saved.masks),
            ("mask-best", &saved.best_masks),
            ("mask-chosen", &still.masks),
        ] {
            for (name, mask) in masks {
                checkpoint.masks.insert(format!("{prefix}/{name}"), mask.clone());
            }
        }
        let (rounds, epochs) = (self.rounds.clone(), self.epochs.clone());
        let numbers = Numbers { run: run.into(), rounds, epochs, chosen, position, counters };
        let text = toml::to_string(&numbers).map_err(|error| refused(file, error.to_string()))?;
        checkpoint.metadata.insert(NUMBERS.into(), text);
        Ok(checkpoint.save(file)?)
    }

    /// Errors if a file that was read lacks what later rounds go back to.
    pub fn check(&self, state: &BTreeMap<String, Var>, file: &Path) -> Result<(), TrainError> {
        let lacking = |what: &str| refused(file, format!("{what} is not whole in it"));
        if !self.rounds.is_empty() {
            check_all(state, &self.dense).map_err(|_| lacking("the dense network"))?;
        }
        if !self.early.is_empty() {
            check_all(state, &self.early).map_err(|_| lacking("the early network"))?;
        }
        if let Some((at, still)) = &self.chosen {
            check_all(state, &still.weights).map_err(|_| lacking("the network chosen"))?;
            if *at >= self.rounds.len() {
                return Err(lacking("the list of rounds"));
            }
        }
        Ok(())
    }

    /// Reads what [`Self::save`] wrote; nothing, if there is no file. Errors if it is damaged or another run's.
    pub fn load(run: &str, file: &Path, device: &Device) -> Result<Option<Self>, TrainError> {
        if !file.exists() {
            return Ok(None);
        }
        let checkpoint = Checkpoint::load(file)?;
        let text = checkpoint.metadata.get(NUMBERS);
        let text = text.ok_or_else(|| refused(file, "it holds no progress".into()))?;
        let numbers: Numbers =
            toml::from_str(text).map_err(|error| refused(file, error.to_string()))?;
        if numbers.run != run {
            let reason = "it belongs to a run with other settings, or to another version";
            return Err(refused(file, reason.into()));
        }
        let mut weights: BTreeMap<String, Weights> = BTreeMap::new();
        for (name, packed) in &checkpoint.tensors {
            let (prefix, name) = name.split_once('/').unwrap_or(("", name));
            let values = packed.unpack().to_f32()?.into_owned();
            let tensor = Tensor::from_vec(values, packed.shape(), device)?;
            weights.entry(prefix.into()).or_default().insert(name.into(), tensor);
        }
        let mut masks: BTreeMap<String, Masks> = BTreeMap::new();
        for (name, mask) in checkpoint.masks {
            let (prefix, name) = name.split_once('/').unwrap_or(("", &name));
            masks.entry(prefix.into()).or_default().insert(name.into(), mask);
        }
        let mut weights = |prefix: &str| weights.remove(prefix).unwrap_or_default();
        let mut masks = |prefix: &str| masks.remove(prefix).unwrap_or_default();
        let mut optimizer = weights("optimizer");
        for (name, counter) in numbers.counters {
            let counter = Tensor::new(counter, &Device::Cpu)?;
            optimizer.insert(name, counter);
        }
        let saved = Saved {
            weights: weights("now"),
            dense: weights("behind"),
            optimizer,
            masks: masks("mask-now"),
            best: weights("best"),
            best_masks: masks("mask-best"),
        };
        let still = Still { weights: weights("chosen"), masks: masks("mask-chosen") };
        Ok(Some(Self {
            rounds: numbers.rounds,
            epochs: numbers.epochs,
            dense: weights("dense"),
            early: weights("early"),
            chosen: numbers.chosen.map(|at| (at, still)),
            session: Some((numbers.position, saved)),
        }))
    }
}

fn refused(file: &Path, reason: String) -> TrainError {
    TrainError::Resume { file: file.to_owned(), reason }
}
