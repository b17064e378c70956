//! How does a network learn, step by step, dense or sparse? One stretch of training that can be left at any
//! step and taken up again.

mod saved;

pub(crate) use saved::{Position, Saved};

use crate::{
    Change, Epoch, Evaluation, Event, Moment, Observer, Phase, Regrow, SparseTraining, Split,
    Stretch, TrainError,
    allocator::keep_what_steps_free,
    distil::Teacher,
    evaluate,
    hold::{Hold, penalise},
    plan::Plan,
    pruner::{self, Masks},
    regrow,
    rewind::{Weights, restore, snapshot, state},
};
use candle_core::backprop::GradStore;
use candle_nn::loss::cross_entropy;
use rand::seq::SliceRandom;
use secateur_criteria::seed;
use secateur_mask::Sparsity;
use secateur_nn::{Dropout, Network};

/// What a [`Session`] does besides what a [`Stretch`] says.
#[derive(Debug, Default)]
pub(crate) struct Task<'a> {
    /// How masks come and go; they stay as they are without.
    pub plan: Option<Plan<'a>>,
    /// Another network to learn from.
    pub teacher: Option<Teacher>,
    /// The step to begin at.
    pub from_step: usize,
}

/// A stretch of training in progress.
pub(crate) struct Session<'a> {
    stretch: Stretch<'a>,
    task: Task<'a>,
    hold: Hold,
    masks: Masks,
    at: Position,
    best: Option<Best>,
    /// Steps of an epoch, between evaluations, in all.
    epoch: usize,
    between: usize,
    steps: usize,
    order: Option<(usize, Vec<u32>)>,
    dropout: Dropout,
    input_dropout: Dropout,
}

/// The network of the best evaluation.
#[derive(Debug)]
struct Best {
    weights: Weights,
    masks: Masks,
}

impl<'a> Session<'a> {
    /// A session that begins with the network's weights and the stretch's masks, which cut at once.
    pub fn new<N: Network + ?Sized>(
        network: &N,
        split: &Split,
        stretch: Stretch<'a>,
        task: Task<'a>,
    ) -> Result<Self, TrainError> {
        let Stretch { name, training, masks, seed } = stretch;
        training.check()?;
        keep_what_steps_free();
        let masks = masks.clone();
        let hold = Hold::new(training, network.parameters(), &masks, task.plan.as_ref())?;
        let epoch = split.train.len().div_ceil(training.batch_size);
        let sparsity = pruner::sparsity(&masks);
        let target = task.plan.as_ref().map_or(sparsity, |plan| plan.now.share());
        Ok(Self {
            at: Position { step: task.from_step, target, ..Position::default() },
            hold,
            best: None,
            epoch,
            between: training.evaluate.steps(epoch),
            steps: training.epochs.saturating_mul(epoch),
            order: None,
            dropout: Dropout::new(training.dropout_at(sparsity), seed, name),
            input_dropout: Dropout::new(training.input_dropout, seed, &format!("{name}/inputs")),
            masks,
            stretch,
            task,
        })
    }

    /// Tells the observer what is coming.
    pub fn announce(&self, observer: &mut dyn Observer) {
        let (name, sparsity) = (self.stretch.name.to_owned(), pruner::sparsity(&self.masks));
        observer.phase(&Phase { name, sparsity, steps: self.steps, done: self.at.step });
    }

    /// Ends after so many steps in all, whatever the number of epochs says.
    pub fn take_steps(&mut self, steps: usize) {
        self.steps = steps;
    }

    /// Steps done at the best evaluation so far.
    pub fn best_step(&self) -> usize {
        self.at.best_step
    }

    /// Steps done.
    pub fn step_count(&self) -> usize {
        self.at.step
    }

    /// One step, an evaluation if it is time, and whether there is more to do.
    pub fn advance<N: Network + ?Sized>(
        &mut self,
        network: &mut N,
        split: &Split,
        observer: &mut dyn Observer,
    ) -> Result<bool, TrainError> {
        if self.at.stopped || self.at.step >= self.steps {
            return Ok(false);
        }
        let exchange = self.event(network, split, observer)?;
        let gradients = self.learn(network, split)?;
        self.at.step += 1;
        if let Some((exchanged, regrow)) = exchange {
            self.exchange(network, &gradients, exchanged, regrow)?;
        }
        if let (Hold::Through(_), Some(plan)) = (&self.hold, &self.task.plan)
            && let SparseTraining::StraightThrough { every, .. } = plan.sparse
            && self.at.step.is_multiple_of(every.max(1))
        {
            self.choose_again()?;
        }
        observer.step();
        if self.at.step.is_multiple_of(self.between) || self.at.step == self.steps {
            self.judge(network, split, observer)?;
        }
        Ok(!self.at.stopped && self.at.step < self.steps)
    }

    /// Leaves the network with the weights of the best evaluation; returns it and its masks.
    pub fn finish<N: Network + ?Sized>(
        self,
        network: &N,
    ) -> Result<(Evaluation, Masks), TrainError> {
        let (Some(evaluation), Some(best)) = (self.at.best, self.best) else {
            return Err(TrainError::Setting {
                what: "epochs",
                value: self.stretch.training.epochs.to_string(),
                must: "enough for an evaluation once the schedule has reached its sparsity",
            });
        };
        restore(&state(network), &best.weights)?;
        Ok((evaluation, best.masks))
    }

    /// Cuts if the schedule says so; returns what it says about an exchange, which needs gradients.
    fn event<N: Network + ?Sized>(
        &mut self,
        network: &mut N,
        split: &Split,
        observer: &mut dyn Observer,
    ) -> Result<Option<(f64, Regrow)>, TrainError> {
        let Some(plan) = &self.task.plan else { return Ok(None) };
        // What happens at the first step happened before the network was rewound.
        if self.at.step == self.task.from_step {
            return Ok(None);
        }
        let moment = Moment { step: self.at.step, steps: self.steps, epoch: self.epoch };
        match plan.schedule.event(plan.aim, moment) {
            None => Ok(None),
            Some(Event::Exchange { exchanged, regrow }) => Ok(Some((exchanged, regrow))),
            Some(Event::Prune(target)) => {
                self.at.target = target.share();
                if let Hold::Through(_) = self.hold {
                    self.choose_again()?;
                } else {
                    let masks = plan.pruner.cut(network, &self.masks, target, &split.train)?;
                    self.set_masks(masks)?;
                }
                self.best = None;
                (self.at.best, self.at.since_best) = (None, 0);
                let (phase, sparsity) =
                    (self.stretch.name.to_owned(), pruner::sparsity(&self.masks));
                observer.change(&Change { phase, step: self.at.step, sparsity });
                Ok(None)
            }
        }
    }

    /// Masks from the dense weights as they are now.
    fn choose_again(&mut self) -> Result<(), TrainError> {
        if let (Hold::Through(through), Some(plan)) = (&self.hold, &self.task.plan) {
            let target = Sparsity::new(self.at.target)?;
            let masks = plan.pruner.choose(&through.dense(), target)?;
            self.set_masks(masks)?;
        }
        Ok(())
    }

    fn exchange<N: Network + ?Sized>(
        &mut self,
        network: &N,
        gradients: &GradStore,
        exchanged: f64,
        by: Regrow,
    ) -> Result<(), TrainError> {
        let mut masks = Masks::new();
        for (name, var) in pruner::weights(network) {
            let Some(mask) = self.masks.get(&name) else { continue };
            let purpose = format!("regrow/{}/{}/{name}", self.stretch.name, self.at.step);
            let mut stream = seed::stream(self.stretch.seed, &purpose);
            let how = (by, gradients.get(&var));
            masks.insert(name, regrow::exchange(mask, &var, exchanged, how, &mut stream)?);
        }
        self.set_masks(masks)
    }

    fn set_masks(&mut self, masks: Masks) -> Result<(), TrainError> {
        let before = pruner::sparsity(&self.masks);
        self.hold.set_masks(&masks)?;
        self.masks = masks;
        let sparsity = pruner::sparsity(&self.masks);
        if sparsity != before {
            let Stretch { name, training, seed, .. } = self.stretch;
            self.dropout = Dropout::new(training.dropout_at(sparsity), seed, name);
        }
        Ok(())
    }

    /// Forward, backward, penalties, a move.
    fn learn<N: Network + ?Sized>(
        &mut self,
        network: &N,
        split: &Split,
    ) -> Result<GradStore, TrainError> {
        let Stretch { training, .. } = self.stretch;
        self.hold.optimizer_mut().set_learning_rate(training.rate(self.at.step, self.steps));
        let indices = self.batch(split.train.len());
        let batch = split.train.take(&indices)?;
        self.input_dropout.at(self.at.step as u64);
        self.dropout.at(self.at.step as u64);
        let xs = self.input_dropout.forward(batch.xs())?;
        let logits = network.forward_train(&xs, &mut self.dropout)?;
        let loss = match &self.task.teacher {
            Some(teacher) => teacher.loss(&logits, batch.ys(), &indices)?,
            None => cross_entropy(&logits, batch.ys())?,
        };
        let mut gradients = loss.backward()?;
        penalise(network, training, &mut gradients)?;
        self.hold.step(&mut gradients)?;
        self.at.loss += f64::from(loss.to_scalar::<f32>()?) * indices.len() as f64;
        self.at.samples += indices.len();
        Ok(gradients)
    }

    /// The training samples of the next step, in an order drawn for each epoch.
    fn batch(&mut self, samples: usize) -> Vec<u32> {
        let Stretch { name, training, seed, .. } = self.stretch;
        let epoch = self.at.step / self.epoch;
        if self.order.as_ref().is_none_or(|(drawn, _)| *drawn != epoch) {
            let mut order: Vec<u32> = (0..samples as u32).collect();
            order.shuffle(&mut seed::stream(seed, &format!("shuffle/{name}/{epoch}")));
            self.order = Some((epoch, order));
        }
        let order = self.order.as_ref().map_or(&[][..], |(_, order)| order);
        let start = self.at.step % self.epoch * training.batch_size;
        order[start..(start + training.batch_size).min(samples)].to_vec()
    }

    fn judge<N: Network + ?Sized>(
        &mut self,
        network: &N,
        split: &Split,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let Stretch { name, training, .. } = self.stretch;
        let train_loss = self.at.loss / self.at.samples.max(1) as f64;
        (self.at.loss, self.at.samples) = (0.0, 0);
        let found = evaluate(network, &split.validation)?;
        let epoch = self.at.step.div_ceil(self.epoch);
        if let Some(loss) = [train_loss, found.loss].into_iter().find(|loss| !loss.is_finite()) {
            if let Some(best) = &self.best {
                restore(&state(network), &best.weights)?;
            }
            return Err(TrainError::Diverged { loss, phase: name.to_owned(), epoch });
        }
        // On the way to its sparsity a network may be better than any that got there.
        let arrived = self.task.plan.as_ref().is_none_or(|p| p.aim.share() == self.at.target);
        let beats = |before: &Evaluation| found.beats(before, training.best_by);
        let is_best = arrived && self.at.best.as_ref().is_none_or(beats);
        if is_best {
            let (weights, masks) = (snapshot(&state(network))?, self.masks.clone());
            self.best = Some(Best { weights, masks });
            self.at.best = Some(found);
            (self.at.best_step, self.at.since_best) = (self.at.step, 0);
        } else if arrived {
            self.at.since_best += 1;
        }
        self.at.stopped = training.patience.is_some_and(|most| self.at.since_best >= most);
        observer.epoch(&Epoch {
            phase: name.to_owned(),
            epoch,
            step: self.at.step,
            sparsity: pruner::sparsity(&self.masks),
            learning_rate: self.hold.optimizer().learning_rate(),
            train_loss,
            validation_loss: found.loss,
            validation_accuracy: found.accuracy,
            best: is_best,
        });
        Ok(())
    }
}
