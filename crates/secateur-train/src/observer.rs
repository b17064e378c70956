//! Who watches a run? Progress bars and metrics files hook in here; the loop itself prints nothing.

use serde::{Deserialize, Serialize};

/// One uninterrupted stretch of training.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// `dense`, `retrain 1/6`, …
    pub name: String,
    /// The share of prunable weights that are held at zero.
    pub sparsity: f64,
    /// Steps, at most.
    pub steps: usize,
    /// Steps done already: in a resumed run, or where the network was rewound to.
    pub done: usize,
}

/// What an epoch, or another stretch between two evaluations, gave: a line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// The phase's name.
    pub phase: String,
    /// From 1; the epoch that the evaluation lies in or ends.
    pub epoch: usize,
    /// Steps of the phase done.
    pub step: usize,
    /// The share of prunable weights that are held at zero.
    pub sparsity: f64,
    /// The learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Mean loss over the batches since the last evaluation, in nats, dropout, distillation and nothing of the
    /// penalties included.
    pub train_loss: f64,
    /// Mean cross-entropy on the validation samples, in nats.
    pub validation_loss: f64,
    /// Share of validation samples classified rightly.
    pub validation_accuracy: f64,
    /// Whether these weights are the best of the phase so far.
    pub best: bool,
}

/// A change of masks while a phase runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The phase's name.
    pub phase: String,
    /// Steps of the phase done.
    pub step: usize,
    /// The share of prunable weights that are held at zero from now on.
    pub sparsity: f64,
}

/// Is told what happens. Every method does nothing by default; `()` is the silent observer.
pub trait Observer {
    /// A phase begins.
    fn phase(&mut self, phase: &Phase) {
        let _ = phase;
    }
    /// A killed run goes on; these epochs were recorded before.
    fn resumed(&mut self, epochs: &[Epoch]) {
        let _ = epochs;
    }
    /// Masks changed in the midst of a phase.
    fn change(&mut self, change: &Change) {
        let _ = change;
    }
    /// A step is done.
    fn step(&mut self) {}
    /// An epoch is done.
    fn epoch(&mut self, epoch: &Epoch) {
        let _ = epoch;
    }
}

impl Observer for () {}
