//! What does a recipe say about pruning? Which weights, in what shape, how much, when, and from where it goes on.

use crate::methods::{AllocationName, CriterionName};
use anyhow::{Result, bail};
use secateur::{
    mask::{MaskError, Pattern, Sparsity, Target},
    train::{
        ConstantWithRegrowth, Every, Gradual, Iterative, MinAccuracy, OneShot, Regrow, Rewind,
        Schedule, SparseTraining,
    },
};
use serde::{Deserialize, Serialize};

/// The `[pruning]` table: which, what shape, how much, when.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pruning {
    /// Which weights matter.
    pub criterion: CriterionName,
    /// Whether the survivors are set to the least-squares solution before retraining.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refit: bool,
    /// In what shape they go: `unstructured`, `2:4`, `block4x1`, `channel`, …, or with how much of it
    /// in one word: `0.9`, `block4x1@0.8`.
    pub pattern: Shape,
    /// How much of each layer goes.
    #[serde(default)]
    pub allocation: AllocationName,
    /// Weights that stay dense, by name, such as the output layer's `fc3.weight`; `sparsity` is the share of the
    /// others then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spare: Vec<String>,
    /// The share of weights that goes in all; `N:M` knows it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<Sparsity>,
    /// Instead of a sparsity: as much as the share of validation samples classified rightly allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_accuracy: Option<f64>,
    /// In how many rounds of prune and retrain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<usize>,
    /// In one round, little by little along a cubic (Zhu & Gupta 2017).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradual: Option<GradualTable>,
    /// In one round, all at once, and then connections are exchanged (RigL, SET).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regrowth: Option<RegrowthTable>,
    /// Whether units that nobody reads, or that are constant, are taken out at the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fold_dead: bool,
    /// From where a pruned network goes on; `none` with `[retraining]`, otherwise `learning-rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewind: Option<Rewind>,
    /// How it trains while sparse.
    #[serde(default)]
    pub sparse: SparseName,
    /// What a cut weight feels of itself in its gradient, for `sr-ste`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<f64>,
    /// Steps between two choices of masks, for `ste` and `sr-ste`; 1 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_every: Option<usize>,
}

/// `gradual = { every = { steps = 100 }, … }`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradualTable {
    /// How often is cut.
    pub every: Every,
    /// The sparsity at the first cut; dense if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Sparsity>,
    /// Where cutting begins, as a share of the round; 0 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<f64>,
    /// Where it ends; 0.75 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<f64>,
}

/// `regrowth = { every = { steps = 100 }, … }`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegrowthTable {
    /// How often connections are exchanged.
    pub every: Every,
    /// The share exchanged at first; 0.3 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Where it ends, as a share of the round; 0.75 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<f64>,
    /// Which come back.
    #[serde(default)]
    pub by: Regrow,
}

/// How a network trains while it is sparse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SparseName {
    /// What is cut stays zero.
    #[default]
    Masked,
    /// Dense weights behind the masked ones learn on, masks are chosen anew from them.
    Ste,
    /// The same, and what is cut fades (Zhou et al. 2021).
    SrSte,
}

/// A pattern, with or without its sparsity in the same word.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Shape {
    Alone(Pattern),
    With(Target),
}

impl TryFrom<String> for Shape {
    type Error = MaskError;
    fn try_from(text: String) -> Result<Self, MaskError> {
        match text.contains('@') || text.parse::<f64>().is_ok() {
            true => text.parse().map(Self::With),
            false => text.parse().map(Self::Alone),
        }
    }
}

impl From<Shape> for String {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Alone(pattern) => pattern.to_string(),
            Shape::With(target) => target.to_string(),
        }
    }
}

impl Pruning {
    /// Looks for as much sparsity as this accuracy on validation samples allows, instead of a given one.
    pub fn search(&mut self, floor: f64) {
        let pattern = Shape::Alone(self.pattern());
        let min_accuracy = Some(floor);
        *self = Self {
            min_accuracy,
            pattern,
            sparsity: None,
            rounds: None,
            gradual: None,
            regrowth: None,
            ..self.clone()
        };
    }

    /// How it trains while sparse.
    pub fn sparse(&self) -> Result<SparseTraining> {
        let &Self { sparse, decay, mask_every, .. } = self;
        if sparse == SparseName::Masked && mask_every.is_some() {
            bail!("[pruning] mask_every is for sparse = \"ste\" and \"sr-ste\"");
        }
        if sparse != SparseName::SrSte && decay.is_some() {
            bail!("[pruning] decay is for sparse = \"sr-ste\"");
        }
        let every = mask_every.unwrap_or(1);
        Ok(match sparse {
            SparseName::Masked => SparseTraining::Masked,
            SparseName::Ste => SparseTraining::StraightThrough { decay: 0.0, every },
            SparseName::SrSte => {
                SparseTraining::StraightThrough { decay: decay.unwrap_or(2e-4), every }
            }
        })
    }

    /// In what shape weights go.
    pub fn pattern(&self) -> Pattern {
        match self.pattern {
            Shape::Alone(pattern) => pattern,
            Shape::With(target) => target.pattern(),
        }
    }

    /// In what shape how much goes in all.
    fn target(&self) -> Result<Target> {
        let (pattern, sparsity) = match (self.pattern, self.sparsity) {
            (Shape::Alone(pattern), sparsity) => (pattern, sparsity),
            (Shape::With(target), None) => return Ok(target),
            (Shape::With(target), Some(_)) => {
                bail!("[pruning] {target} says how much goes; leave `sparsity` out")
            }
        };
        match (sparsity, pattern.fixed_sparsity()) {
            (Some(asked), Some(fixed)) if asked != fixed => {
                bail!("[pruning] {pattern} fixes the sparsity at {fixed}; leave `sparsity` out")
            }
            (None, None) => bail!("[pruning] {pattern} needs a `sparsity`, such as 0.9"),
            _ => Ok(Target::new(pattern, sparsity)?),
        }
    }

    /// When how much is cut.
    pub fn schedule(&self) -> Result<Box<dyn Schedule>> {
        let Self { min_accuracy, rounds, gradual, regrowth, .. } = self;
        let said =
            [rounds.is_some(), gradual.is_some(), regrowth.is_some(), min_accuracy.is_some()];
        if said.into_iter().filter(|said| *said).count() > 1 {
            bail!("[pruning] of rounds, gradual, regrowth and min_accuracy only one can be");
        }
        if let Some(floor) = *min_accuracy {
            let pattern = self.pattern();
            if let Some(fixed) = pattern.fixed_sparsity() {
                bail!(
                    "[pruning] {pattern} fixes the sparsity at {fixed}; min_accuracy has nothing to choose"
                );
            }
            if self.sparsity.is_some() || matches!(self.pattern, Shape::With(_)) {
                bail!("[pruning] min_accuracy finds the sparsity; leave it out");
            }
            if !self.spare.is_empty() {
                bail!(
                    "[pruning] min_accuracy counts all layers, and spare leaves some out of what is asked for; \
                     take one of them"
                );
            }
            return Ok(Box::new(MinAccuracy::new(floor)?));
        }
        let target = self.target()?.sparsity();
        if let Some(table) = *gradual {
            let plain = Gradual::new(target, table.every)?;
            let schedule = Gradual {
                initial: table.initial.unwrap_or(plain.initial),
                begin: table.begin.unwrap_or(plain.begin),
                end: table.end.unwrap_or(plain.end),
                ..plain
            };
            schedule.check()?;
            return Ok(Box::new(schedule));
        }
        if let Some(table) = *regrowth {
            let plain = ConstantWithRegrowth::new(target, table.every)?;
            let schedule = ConstantWithRegrowth {
                share: table.share.unwrap_or(plain.share),
                until: table.until.unwrap_or(plain.until),
                regrow: table.by,
                ..plain
            };
            schedule.check()?;
            return Ok(Box::new(schedule));
        }
        Ok(match rounds.unwrap_or(1) {
            0 => bail!("[pruning] rounds = 0 prunes nothing; 1 is one-shot"),
            1 => Box::new(OneShot(target)),
            _ if self.pattern().fixed_sparsity().is_some() => {
                bail!("[pruning] {} is reached in one round; leave `rounds` out", self.pattern())
            }
            rounds => Box::new(Iterative::new(target, rounds)?),
        })
    }
}
