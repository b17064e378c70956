//! Who watches a run? Progress bars and metrics files hook in here; the loop itself prints nothing.

use serde::Serialize;

/// One uninterrupted stretch of training.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// `dense`, `retrain 1/6`, …
    pub name: String,
    /// The share of prunable weights that are held at zero.
    pub sparsity: f64,
    /// Epochs, at most.
    pub epochs: usize,
    /// Steps in each epoch.
    pub steps: usize,
}

/// What an epoch gave: a line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Epoch {
    /// The phase's name.
    pub phase: String,
    /// From 1.
    pub epoch: usize,
    /// The share of prunable weights that are held at zero.
    pub sparsity: f64,
    /// The learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Mean cross-entropy over the epoch's batches, in nats, dropout included.
    pub train_loss: f64,
    /// Mean cross-entropy on the validation samples, in nats.
    pub validation_loss: f64,
    /// Share of validation samples classified rightly.
    pub validation_accuracy: f64,
    /// Whether these weights are the best of the phase so far.
    pub best: bool,
}

/// Is told what happens. Every method does nothing by default; `()` is the silent observer.
pub trait Observer {
    /// A phase begins.
    fn phase(&mut self, phase: &Phase) {
        let _ = phase;
    }
    /// A step is done.
    fn step(&mut self) {}
    /// An epoch is done.
    fn epoch(&mut self, epoch: &Epoch) {
        let _ = epoch;
    }
}

impl Observer for () {}
