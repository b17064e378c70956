//! How is a network trained? The settings of one routine, dense or sparse.

use crate::{AdamW, Every, Optimizer, Sgd, TrainError};
use candle_core::Var;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One training routine: what a recipe's `[training]` and `[retraining]` hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Passes over the training samples, at most.
    pub epochs: usize,
    /// Samples per step.
    pub batch_size: usize,
    /// What moves the weights.
    #[serde(default)]
    pub optimizer: OptimizerKind,
    /// The learning rate at the start.
    pub learning_rate: f64,
    /// How the learning rate falls.
    #[serde(default)]
    pub decay: Decay,
    /// Weight decay; 0 by default.
    #[serde(default)]
    pub weight_decay: f64,
    /// λ of an L1 penalty `λ Σ|w|` on prunable weights, in the loss (Han et al. 2015, section 3.1). 0 by
    /// default.
    #[serde(default)]
    pub l1: f64,
    /// λ of an L2 penalty `λ/2 Σw²` on prunable weights, in the loss; unlike `weight_decay` it goes through
    /// the optimizer's moments. 0 by default.
    #[serde(default)]
    pub l2: f64,
    /// Dropout probability for hidden units. 0 by default.
    #[serde(default)]
    pub dropout: f64,
    /// Whether dropout shrinks with the square root of the density while sparse, as a sparse network
    /// overfits less (Han et al. 2015, section 3.2, equation 2). True by default.
    #[serde(default = "yes")]
    pub dropout_correction: bool,
    /// Dropout probability for inputs, dense and sparse alike (Srivastava et al. 2014, appendix A.4:
    /// 0.2 for images). 0 by default.
    #[serde(default)]
    pub input_dropout: f64,
    /// How often the network is judged by the validation samples; every epoch by default.
    #[serde(default = "every_epoch")]
    pub evaluate: Every,
    /// Which of the evaluations is the best.
    #[serde(default)]
    pub best_by: BestBy,
    /// Stops after this many evaluations without a better one; never by default. The best one's weights
    /// are kept in either case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
}

fn yes() -> bool {
    true
}

fn every_epoch() -> Every {
    Every::Epochs(1)
}

/// What makes one evaluation better than another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BestBy {
    /// More samples right; among equals, less loss.
    #[default]
    Accuracy,
    /// Less loss; among equals, more samples right (the early-stopping iteration of Frankle & Carbin 2019).
    Loss,
}

/// The optimizers of this crate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// [`AdamW`]; with no weight decay, Adam.
    #[default]
    AdamW,
    /// [`Sgd`] with momentum 0.9.
    Sgd,
}

/// How the learning rate falls over a routine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine, down to zero (Loshchilov & Hutter 2017).
    #[default]
    Cosine,
    /// Not at all.
    Constant,
}

impl Training {
    /// Adam with a cosine decay: no weight decay, no dropout, every epoch run.
    pub fn adam(epochs: usize, batch_size: usize, learning_rate: f64) -> Self {
        Self {
            epochs,
            batch_size,
            optimizer: OptimizerKind::AdamW,
            learning_rate,
            decay: Decay::Cosine,
            weight_decay: 0.0,
            l1: 0.0,
            l2: 0.0,
            dropout: 0.0,
            dropout_correction: true,
            input_dropout: 0.0,
            evaluate: every_epoch(),
            best_by: BestBy::Accuracy,
            patience: None,
        }
    }

    /// Errors on settings that cannot train: nothing to do, rates out of range.
    pub fn check(&self) -> Result<(), TrainError> {
        let check = |ok, what, value: String, must| {
            if ok { Ok(()) } else { Err(TrainError::Setting { what, value, must }) }
        };
        let positive = |x: f64| x.is_finite() && x > 0.0;
        check(self.epochs > 0, "epochs", self.epochs.to_string(), "at least 1")?;
        check(self.batch_size > 0, "batch_size", self.batch_size.to_string(), "at least 1")?;
        let (rate, decay) = (self.learning_rate, self.weight_decay);
        check(positive(rate), "learning_rate", rate.to_string(), "above 0")?;
        check(decay == 0.0 || positive(decay), "weight_decay", decay.to_string(), "0 or more")?;
        for (what, value) in [("l1", self.l1), ("l2", self.l2)] {
            check(value == 0.0 || positive(value), what, value.to_string(), "0 or more")?;
        }
        check(self.patience != Some(0), "patience", "0".to_owned(), "at least 1")?;
        let (hidden, input) = (self.dropout, self.input_dropout);
        check((0.0..1.0).contains(&hidden), "dropout", hidden.to_string(), "in 0..1")?;
        check((0.0..1.0).contains(&input), "input_dropout", input.to_string(), "in 0..1")
    }

    /// Dropout for hidden units at this share of cut weights.
    pub(crate) fn dropout_at(&self, sparsity: f64) -> f64 {
        self.dropout * if self.dropout_correction { (1.0 - sparsity).sqrt() } else { 1.0 }
    }

    /// The learning rate at `step` of `steps`.
    pub(crate) fn rate(&self, step: usize, steps: usize) -> f64 {
        match self.decay {
            Decay::Constant => self.learning_rate,
            Decay::Cosine => {
                let done = step as f64 / steps.max(1) as f64;
                self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }

    pub(crate) fn optimizer(
        &self,
        parameters: BTreeMap<String, Var>,
    ) -> Result<Box<dyn Optimizer>, TrainError> {
        let (rate, decay) = (self.learning_rate, self.weight_decay);
        Ok(match self.optimizer {
            OptimizerKind::AdamW => Box::new(AdamW::new(parameters, rate, decay)?),
            OptimizerKind::Sgd => Box::new(Sgd::new(parameters, rate, 0.9, decay)?),
        })
    }
}
