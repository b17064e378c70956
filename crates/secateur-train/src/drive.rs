//! In which order does a run do what its choices say, and from where does it go on when it was killed?
//!
//! Legs: the dense training, then one for each round of the schedule. Each begins with a cut on the weights
//! trained so far, then goes back to the weights that [`Rewind`] names, then trains. Progress is saved
//! in the midst of a leg; everything else is made again from the run, the seed and the data.

use crate::{
    Checkpointing, Epoch, Event, Moment, Observer, Phase, Rewind, Round, Run, SparseTraining,
    Split, Stretch, TrainError, Training,
    distil::Teacher,
    observer::Change,
    plan::Plan,
    progress::{Progress, Still},
    pruner::{self, Masks},
    rewind::{Weights, restore, restore_all, shuffled, snapshot, state},
    schedule::Aim,
    session::{Session, Task},
};
use candle_core::{D, DType, Device, Tensor};
use secateur_mask::{Mask, Sparsity};
use secateur_nn::Network;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Instant,
};

/// A run under way.
pub(crate) struct Drive<'a, N> {
    run: &'a Run,
    network: N,
    split: &'a Split,
    recorder: Recorder<'a>,
    checkpointing: Option<&'a Checkpointing>,
    /// Says which run saved progress belongs to.
    description: String,
    initial: Weights,
    progress: Progress,
}

/// What is left once all is trained.
#[derive(Debug)]
pub(crate) struct Trained {
    pub dense: Weights,
    pub masks: Masks,
    pub rounds: Vec<Round>,
    pub chosen: usize,
}

/// A stretch of training and what it is for.
struct Leg<'a> {
    name: String,
    training: &'a Training,
    aim: Option<Aim>,
}

/// Remembers evaluations on their way to the observer.
struct Recorder<'a> {
    observer: &'a mut dyn Observer,
    epochs: Vec<Epoch>,
}

impl<'a, N: Network> Drive<'a, N> {
    /// A run at its beginning, or where the file of `checkpointing` says it was.
    pub fn new(
        run: &'a Run,
        network: N,
        split: &'a Split,
        observer: &'a mut dyn Observer,
        checkpointing: Option<&'a Checkpointing>,
    ) -> Result<Self, TrainError> {
        let initial = snapshot(&state(&network))?;
        let description = match checkpointing {
            Some(_) => describe(run, &initial, split)?,
            None => String::new(),
        };
        let mut progress = Progress::default();
        if let Some(Checkpointing { file, .. }) = checkpointing {
            let loaded = Progress::load(&description, file, &Device::Cpu)?;
            progress = loaded.unwrap_or_default();
        }
        if let Some(file) = checkpointing.map(|checkpointing| &checkpointing.file) {
            progress.check(&state(&network), file)?;
        }
        let epochs = std::mem::take(&mut progress.epochs);
        if progress.session.is_some() {
            observer.resumed(&epochs);
        }
        let recorder = Recorder { observer, epochs };
        Ok(Self { run, network, split, recorder, checkpointing, description, initial, progress })
    }

    /// Trains, prunes and retrains; leaves the network with the weights of the round that is the result.
    pub fn run(mut self) -> Result<(N, Trained), TrainError> {
        while let Some(leg) = self.leg() {
            self.run_leg(&leg)?;
        }
        let chosen = self.run.schedule.result(&self.progress.rounds)?;
        let masks = self.go_to(chosen)?;
        let Progress { dense, rounds, .. } = self.progress;
        Ok((self.network, Trained { dense, masks, rounds, chosen }))
    }

    /// What has to be done next.
    fn leg(&self) -> Option<Leg<'a>> {
        let rounds = &self.progress.rounds;
        if rounds.is_empty() {
            return Some(Leg { name: "dense".into(), training: &self.run.training, aim: None });
        }
        let aim = self.run.schedule.next(rounds)?;
        let name = match self.run.schedule.rounds() {
            Some(all) => format!("retrain {}/{all}", rounds.len()),
            None => format!("retrain {}", rounds.len()),
        };
        Some(Leg { name, training: self.run.routine(), aim: Some(aim) })
    }

    fn run_leg(&mut self, leg: &Leg<'_>) -> Result<(), TrainError> {
        let saved = self.progress.session.take();
        let (mut task, mut masks) = (Task::default(), Masks::new());
        if let Some(aim) = leg.aim {
            let teacher = self.teacher()?;
            let (plan, cut) = self.begin(leg, aim, saved.is_some())?;
            masks = cut;
            let from_step = match self.run.rewind {
                Rewind::Step(step) => step,
                _ => 0,
            };
            task = Task { plan: Some(plan), teacher, from_step };
        }
        if let Some((_, saved)) = &saved {
            masks = saved.masks.clone();
            // Pruning gives every layer a mask; some of them would leave the others free.
            let all = pruner::weights(&self.network);
            let may_be_none = masks.is_empty() && (leg.aim.is_none() || saved.dense.is_empty());
            if let Some(name) = all.keys().find(|name| !masks.contains_key(*name))
                && !may_be_none
            {
                return Err(TrainError::State(format!("the mask of {name} is missing")));
            }
        }
        let Leg { name, training, .. } = leg;
        let stretch = Stretch { name, training, masks: &masks, seed: self.run.seed };
        let mut session = Session::new(&self.network, self.split, stretch, task)?;
        if let Some((position, saved)) = saved {
            session.load(&self.network, position, saved)?;
        }
        session.announce(&mut self.recorder);
        let mut last = (session.step_count(), Instant::now());
        loop {
            if leg.aim.is_none() && self.run.rewind == Rewind::Step(session.step_count()) {
                self.progress.early = snapshot(&state(&self.network))?;
            }
            if !session.advance(&mut self.network, self.split, &mut self.recorder)? {
                break;
            }
            if let Some(Checkpointing { file, every }) = self.checkpointing
                && every.is_over(session.step_count() - last.0, last.1)
            {
                self.progress.epochs.clone_from(&self.recorder.epochs);
                self.progress.save(session.save(&self.network)?, &self.description, file)?;
                last = (session.step_count(), Instant::now());
            }
        }
        let (validation, masks) = session.finish(&self.network)?;
        self.end(leg, validation, masks)
    }

    /// Cuts, and goes back to where the run says. Of a leg that is resumed only the plan is needed.
    fn begin(
        &mut self,
        leg: &Leg<'_>,
        aim: Aim,
        resumed: bool,
    ) -> Result<(Plan<'a>, Masks), TrainError> {
        let (run, pruner) = (self.run, self.run.pruner());
        let (schedule, sparse) = (&*run.schedule, run.sparse);
        let mut plan = Plan { pruner, schedule, aim: aim.sparsity, now: Sparsity::DENSE, sparse };
        if resumed {
            return Ok((plan, Masks::new()));
        }
        let mut masks = self.go_to(aim.from)?;
        let epoch = self.split.train.len().div_ceil(leg.training.batch_size);
        let steps = leg.training.epochs.saturating_mul(epoch);
        let moment = Moment { step: 0, steps, epoch };
        if let Some(Event::Prune(target)) = schedule.event(aim.sparsity, moment) {
            masks = pruner.cut(&mut self.network, &masks, target, &self.split.train)?;
            plan.now = target;
        }
        let weights = match run.rewind {
            Rewind::None | Rewind::LearningRate => None,
            Rewind::Initial => Some(self.initial.clone()),
            Rewind::Step(_) => Some(self.progress.early.clone()),
            Rewind::Random => Some(shuffled(&self.initial, run.seed, self.progress.rounds.len())?),
        };
        let rewound = weights.is_some();
        if let Some(weights) = weights {
            restore_all(&state(&self.network), &weights)?;
        }
        if run.sparse != SparseTraining::Masked && (rewound || masks.is_empty()) {
            masks = self.masks_of_now(plan.now)?;
        }
        Ok((plan, masks))
    }

    /// The masks that straight-through training begins with: those of the weights behind them, or full ones
    /// where nothing is cut yet, as all of it may be later.
    fn masks_of_now(&self, sparsity: Sparsity) -> Result<Masks, TrainError> {
        let weights = pruner::weights(&self.network).into_iter();
        if sparsity == Sparsity::DENSE {
            return weights.map(|(name, var)| Ok((name, Mask::full(var.dims())?))).collect();
        }
        let weights = weights.map(|(name, var)| (name, var.as_tensor().clone())).collect();
        self.run.pruner().choose(&weights, sparsity)
    }

    /// Leaves the network with the weights that it had after round `at`, and returns its masks.
    fn go_to(&mut self, at: usize) -> Result<Masks, TrainError> {
        let still = match &self.progress.chosen {
            Some((chosen, still)) if *chosen == at => still.clone(),
            _ if at == 0 => Still { weights: self.progress.dense.clone(), masks: Masks::new() },
            _ => return Err(TrainError::State(format!("the network of round {at} is not there"))),
        };
        restore_all(&state(&self.network), &still.weights)?;
        Ok(still.masks)
    }

    /// What the dense network says, if the sparse ones learn from it.
    fn teacher(&self) -> Result<Option<Teacher>, TrainError> {
        let Some(settings) = self.run.distillation else { return Ok(None) };
        let now = snapshot(&state(&self.network))?;
        restore(&state(&self.network), &self.progress.dense)?;
        let teacher = Teacher::new(&self.network, &self.split.train, settings);
        restore(&state(&self.network), &now)?;
        teacher.map(Some)
    }

    fn end(
        &mut self,
        leg: &Leg<'_>,
        validation: crate::Evaluation,
        masks: Masks,
    ) -> Result<(), TrainError> {
        let (name, sparsity) = (leg.name.clone(), pruner::sparsity(&masks));
        self.progress.rounds.push(Round { name, sparsity, validation });
        let weights = snapshot(&state(&self.network))?;
        let last = self.progress.rounds.len() - 1;
        if leg.aim.is_none() {
            self.progress.dense = weights.clone();
        }
        // A search that has found nothing yet goes on from the dense network.
        let is_result = |found: Result<usize, TrainError>| found.is_ok_and(|at| at == last);
        if is_result(self.run.schedule.result(&self.progress.rounds)) {
            self.progress.chosen = Some((last, Still { weights, masks }));
        }
        Ok(())
    }
}

/// In words, and in one number for the data, all that decides what a run comes to.
fn describe(run: &Run, initial: &Weights, split: &Split) -> Result<String, TrainError> {
    let mut hasher = DefaultHasher::new();
    let mut add = |tensor: &Tensor| -> Result<(), TrainError> {
        for value in tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()? {
            value.to_bits().hash(&mut hasher);
        }
        Ok(())
    };
    for weight in initial.values() {
        add(weight)?;
    }
    for part in [&split.train, &split.validation, &split.test] {
        // Sums of rows: a hundredth of the numbers, and none that changes alone goes unseen.
        add(&part.xs().flatten_from(1)?.sum(D::Minus1)?)?;
        add(part.ys())?;
    }
    let contents = hasher.finish();
    let shapes: Vec<_> = initial.iter().map(|(name, weight)| (name, weight.dims())).collect();
    let samples = (split.train.len(), split.validation.len());
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!("secateur {version}: {run:?}, {shapes:?}, {samples:?} samples, {contents:016x}"))
}

impl Observer for Recorder<'_> {
    fn phase(&mut self, phase: &Phase) {
        self.observer.phase(phase);
    }
    fn change(&mut self, change: &Change) {
        self.observer.change(change);
    }
    fn step(&mut self) {
        self.observer.step();
    }
    fn epoch(&mut self, epoch: &Epoch) {
        self.epochs.push(epoch.clone());
        self.observer.epoch(epoch);
    }
}
