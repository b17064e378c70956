//! What is the whole job? Train, prune, retrain, prove the pattern, pack, run packed, judge.

use crate::{
    Checkpointing, DataError, Distillation, Evaluation, Event, Moment, Observer, OneShot, Outcome,
    Rewind, Round, Schedule, SparseTraining, Split, TrainError, Training,
    drive::Drive,
    finish::finish,
    pruner::{self, Pruner},
};
use secateur_criteria::{Allocation, Criterion, Layer, LayerScores, Magnitude, Uniform};
use secateur_kernels::Dispatcher;
use secateur_mask::{MaskError, Pattern, Sparsity, Target};
use secateur_nn::Network;

/// The prune–retrain loop: independent choices, two training routines and a seed.
///
/// [`Run::new`] makes the plainest; replace what should be different:
///
/// ```
/// use secateur_train::{Every, Gradual, Rewind, Run, Training};
///
/// let target = "0.9".parse()?; // unstructured; `2:4` or `channel@0.5` work as well
/// let run = Run::new(target, Training::adam(20, 64, 1e-3));
/// let run = Run {
///     schedule: Box::new(Gradual::new(target.sparsity(), Every::Steps(100))?),
///     rewind: Rewind::None,
///     retraining: Training::adam(30, 64, 5e-4),
///     ..run
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The quick start of the facade crate executes one; `tests/custom.rs` one with its own criterion.
#[derive(Debug)]
pub struct Run {
    /// *Which* weights matter.
    pub criterion: Box<dyn Criterion>,
    /// In *what shape* they go.
    pub pattern: Pattern,
    /// *How much* of each layer goes.
    pub allocation: Box<dyn Allocation>,
    /// *When* how much goes.
    pub schedule: Box<dyn Schedule>,
    /// From where a pruned network goes on.
    pub rewind: Rewind,
    /// How it trains while sparse.
    pub sparse: SparseTraining,
    /// How the dense network is trained.
    pub training: Training,
    /// How it is retrained after each pruning, where weights are kept ([`Rewind::None`]); all other ways
    /// of going on repeat `training`.
    pub retraining: Training,
    /// What a sparse network learns from the dense one, besides the labels.
    pub distillation: Option<Distillation>,
    /// Whether units that nobody reads, or that are constant, are taken out of the result
    /// ([`fold_dead`](secateur_nn::fold_dead)): the same function of fewer parameters than the schedule asked
    /// for. Only where single weights are pruned ([`Pattern::Unstructured`]).
    pub fold_dead: bool,
    /// Where all random numbers come from.
    pub seed: u64,
}

/// Steps of a round that a check plays through, at most.
const MOST_PLAYED: usize = 1_000_000;

impl Run {
    /// Magnitude, the same share of every layer, all at once, and the training repeated on what is left.
    pub fn new(target: Target, training: Training) -> Self {
        Self {
            criterion: Box::new(Magnitude),
            pattern: target.pattern(),
            allocation: Box::new(Uniform),
            schedule: Box::new(OneShot(target.sparsity())),
            rewind: Rewind::LearningRate,
            sparse: SparseTraining::Masked,
            retraining: training.clone(),
            training,
            distillation: None,
            fold_dead: false,
            seed: 0,
        }
    }

    /// Runs the whole job on a freshly initialised `network`.
    ///
    /// All choices are made on training and validation samples. The test samples are looked at once,
    /// at the end, by the finished networks. The packed network is read back from the bytes that
    /// would be written, so the pattern is proved on those, and its outputs are compared with the
    /// masked network's: [`Proof::holds`](crate::Proof::holds) says whether they are.
    pub fn execute<N: Network>(
        &self,
        network: N,
        split: &Split,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<N>, TrainError> {
        self.drive(network, split, observer, None)
    }

    /// The same, saving its progress every now and then; if the file is there, it goes on from it.
    ///
    /// A run that was killed at any moment and resumed, on the same machine with the same version, ends with the
    /// same bytes as one that was not: weights, masks and evaluations. `network` is again freshly
    /// initialised from the same seed.
    pub fn execute_resumable<N: Network>(
        &self,
        network: N,
        split: &Split,
        observer: &mut dyn Observer,
        checkpointing: &Checkpointing,
    ) -> Result<Outcome<N>, TrainError> {
        self.drive(network, split, observer, Some(checkpointing))
    }

    fn drive<N: Network>(
        &self,
        network: N,
        split: &Split,
        observer: &mut dyn Observer,
        checkpointing: Option<&Checkpointing>,
    ) -> Result<Outcome<N>, TrainError> {
        self.check(&network, split)?;
        // Not `probe`: what was once measured on this machine must not decide about bytes of a report.
        let dispatcher = Dispatcher::built_in()?;
        let (network, trained) =
            Drive::new(self, network, split, observer, checkpointing)?.run()?;
        finish(network, trained, (self.pattern, self.fold_dead), split, &dispatcher)
    }

    /// How a pruned network is trained.
    pub(crate) fn routine(&self) -> &Training {
        match self.rewind {
            Rewind::None => &self.retraining,
            _ => &self.training,
        }
    }

    pub(crate) fn pruner(&self) -> Pruner<'_> {
        Pruner { criterion: &*self.criterion, pattern: self.pattern, allocation: &*self.allocation }
    }

    /// Refuses what would fail after hours of training: settings out of range, choices that do not go together,
    /// data that is not there. [`Self::execute`] begins with it.
    pub fn check<N: Network + ?Sized>(&self, network: &N, split: &Split) -> Result<(), TrainError> {
        self.training.check()?;
        self.retraining.check()?;
        if let Some(distillation) = self.distillation {
            distillation.check()?;
        }
        for (part, samples) in
            [("training", &split.train), ("validation", &split.validation), ("test", &split.test)]
        {
            if samples.is_empty() {
                return Err(DataError::Inconsistent(format!("the {part} part is empty")).into());
            }
        }
        if self.fold_dead && self.pattern != Pattern::Unstructured {
            return Err(TrainError::Combination(format!(
                "without its dead units a network would not be {} any more; fold_dead needs unstructured",
                self.pattern
            )));
        }
        if self.fold_dead && network.chain().is_empty() {
            let reason = "fold_dead needs a network that is a chain; this one says it is none";
            return Err(TrainError::Combination(reason.into()));
        }
        if let SparseTraining::StraightThrough { decay, .. } = self.sparse {
            self.pruner().check_weights_suffice()?;
            if !(decay.is_finite() && decay >= 0.0) {
                let (what, value) = ("the decay of cut weights", decay.to_string());
                return Err(TrainError::Setting { what, value, must: "0 or more" });
            }
        }
        let epoch = split.train.len().div_ceil(self.routine().batch_size);
        let steps = self.routine().epochs.saturating_mul(epoch);
        if let Rewind::Step(step) = self.rewind
            && step >= steps
        {
            let (what, value) = ("the step rewound to", step.to_string());
            return Err(TrainError::Setting { what, value, must: "before the training's end" });
        }
        for training in [&self.training, self.routine()] {
            let epoch = split.train.len().div_ceil(training.batch_size);
            if training.epochs.saturating_mul(epoch) > u32::MAX as usize {
                let (what, value) = ("epochs", training.epochs.to_string());
                return Err(TrainError::Setting { what, value, must: "less than 2³² steps" });
            }
        }
        if matches!(self.rewind, Rewind::Step(_)) && self.training.patience.is_some() {
            let reason = "patience may end the dense training before the step that is rewound to; \
                          leave one of them out";
            return Err(TrainError::Combination(reason.into()));
        }
        self.check_allocation(network)?;
        self.check_events(steps, epoch)
    }

    /// Shares the first target out among the layers as they are, to hear what speaks against it, such as a layer of a
    /// name that is not there. The scores will be others once it counts, so the criterion is not asked.
    fn check_allocation<N: Network + ?Sized>(&self, network: &N) -> Result<(), TrainError> {
        let judged = Evaluation { loss: 0.0, accuracy: 1.0, samples: 1 };
        let dense = Round { name: String::new(), sparsity: 0.0, validation: judged };
        let Some(aim) = self.schedule.next(&[dense]) else { return Ok(()) };
        let weights = pruner::weights(network);
        let scored: Vec<LayerScores<'_>> = weights
            .iter()
            .map(|(name, var)| {
                let scores = move || Magnitude.checked_scores(&Layer::new(name, var));
                LayerScores::new(name, var.dims(), scores)
            })
            .collect();
        self.allocation.allocate(&scored, self.pattern, aim.sparsity)?;
        Ok(())
    }

    /// Plays the schedule through: a pattern that fixes its sparsity is cut to that one or not at all, and only
    /// single weights can be exchanged.
    fn check_events(&self, steps: usize, epoch: usize) -> Result<(), TrainError> {
        let evaluation = Evaluation { loss: 0.0, accuracy: 1.0, samples: 1 };
        let round = |sparsity| Round { name: String::new(), sparsity, validation: evaluation };
        let mut played = vec![round(0.0)];
        while let Some(aim) = self.schedule.next(&played) {
            // Events come early in a round or never, and nobody waits for a check.
            for step in 0..steps.min(MOST_PLAYED) {
                let event = self.schedule.event(aim.sparsity, Moment { step, steps, epoch });
                if event.is_some()
                    && let Rewind::Step(from) = self.rewind
                    && (1..=from).contains(&step)
                {
                    return Err(TrainError::Combination(format!(
                        "the schedule changes masks at step {step}, which a network rewound to a later step \
                         never sees; let it cut at once, or rewind to an earlier step"
                    )));
                }
                match event {
                    Some(Event::Prune(asked)) => self.check_sparsity(asked)?,
                    Some(Event::Exchange { .. }) => self.check_exchange()?,
                    None => {}
                }
            }
            played.push(round(aim.sparsity.share()));
            // A search among sparsities has shown by now what it asks for.
            if self.schedule.rounds().is_none_or(|rounds| played.len() > rounds) {
                break;
            }
        }
        Ok(())
    }

    fn check_sparsity(&self, asked: Sparsity) -> Result<(), TrainError> {
        match self.pattern.fixed_sparsity() {
            Some(fixed) if fixed != asked => {
                let pattern = self.pattern;
                Err(MaskError::FixedSparsity { pattern, fixed, asked }.into())
            }
            _ => Ok(()),
        }
    }

    fn check_exchange(&self) -> Result<(), TrainError> {
        if self.pattern == Pattern::Unstructured && self.sparse == SparseTraining::Masked {
            return Ok(());
        }
        Err(TrainError::Combination(format!(
            "regrowth exchanges single weights under a mask; it needs the pattern unstructured (not {}) and \
             no straight-through training",
            self.pattern
        )))
    }
}
