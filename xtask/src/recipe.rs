//! What does a recipe say? Model, data, training, pruning, retraining and seed, as TOML.

use crate::{
    methods::{AllocationName, CriterionName},
    workspace,
};
use anyhow::{Context, Result, anyhow, bail};
use secateur::{
    criteria::{Allocation, Criterion, Refit},
    mask::{MaskError, Pattern, Sparsity, Target},
    train::{
        ConstantWithRegrowth, Distillation, Every, Gradual, Iterative, MinAccuracy, OneShot,
        Regrow, Rewind, Schedule, SparseTraining, Training,
    },
};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// A recipe, as `xtask/recipes/*.toml` hold it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// One sentence: what it shows.
    pub about: String,
    /// The network.
    pub model: Model,
    /// The data set.
    pub data: Data,
    /// Training samples set aside for early stopping and every other choice.
    pub validation: usize,
    /// Where all random numbers come from; `--seed` overrides it.
    #[serde(default)]
    pub seed: u64,
    /// How the dense network is trained.
    pub training: Training,
    /// What is cut.
    pub pruning: Pruning,
    /// How it is retrained after each cut; left out, the training is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retraining: Option<Training>,
    /// What sparse networks learn from the dense one, besides the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<Distillation>,
}

/// The networks; inputs and outputs are the data set's.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// Hidden layers of 300 and 100 units.
    #[serde(rename = "lenet-300-100")]
    Lenet300100,
    /// Two hidden layers of 128 units.
    DigitsMlp,
    /// Two convolutions and two full layers, for images of 28×28.
    #[serde(rename = "lenet-5")]
    Lenet5,
    /// Four convolutions with batch normalisations and a full layer, for images of 28×28.
    ConvNet,
}

/// The data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// 1797 digits of 8×8 pixels, embedded.
    Digits,
    /// MNIST, or whatever IDX files `--data-dir` holds.
    Mnist,
}

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

impl Recipe {
    /// The recipe shipped as `name`, or the one in the file of that path.
    pub fn find(name: &str) -> Result<(String, Self)> {
        let shipped = workspace::recipes().join(format!("{name}.toml"));
        let path = if shipped.is_file() { shipped } else { name.into() };
        if !path.is_file() {
            bail!(
                "there is no recipe {name:?}, neither shipped nor a file; shipped are {}",
                shipped_names().join(", ")
            );
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let recipe = Self::parse(&text).with_context(|| format!("in {}", shown(&path)))?;
        Ok((stem, recipe))
    }

    /// Reads a recipe; errors name the line and, for a misspelt word, the nearest one that is valid.
    pub fn parse(text: &str) -> Result<Self> {
        let recipe: Self = toml::from_str(text).map_err(|error| explain(text, &error))?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Looks for as much sparsity as this accuracy on validation samples allows, instead of a given one.
    pub fn search(&mut self, floor: f64) {
        let pattern = Shape::Alone(self.pattern());
        let min_accuracy = Some(floor);
        self.pruning = Pruning {
            min_accuracy,
            pattern,
            sparsity: None,
            rounds: None,
            gradual: None,
            regrowth: None,
            ..self.pruning.clone()
        };
    }

    /// Errors on choices that do not go together.
    pub fn check(&self) -> Result<()> {
        self.schedule()?;
        self.rewind()?;
        self.sparse()?;
        if self.pruning.criterion == CriterionName::Movement {
            bail!(
                "[pruning] movement adds up its scores while training, which recipes do not do yet; \
                 take taylor, or secateur's Movement in a program of your own"
            );
        }
        self.training.check().context("[training]")?;
        self.retraining().check().context("[retraining]")?;
        self.distillation.map_or(Ok(()), |distillation| distillation.check())?;
        Ok(())
    }

    /// The retraining routine: the training repeated unless the recipe says otherwise.
    pub fn retraining(&self) -> &Training {
        self.retraining.as_ref().unwrap_or(&self.training)
    }

    /// From where a pruned network goes on.
    pub fn rewind(&self) -> Result<Rewind> {
        match (self.pruning.rewind, &self.retraining) {
            (None | Some(Rewind::None), Some(_)) => Ok(Rewind::None),
            (None, None) => Ok(Rewind::LearningRate),
            (Some(Rewind::None), None) => {
                bail!("[pruning] rewind = \"none\" is fine-tuning: say how in [retraining]")
            }
            (Some(_), Some(_)) => bail!(
                "[pruning] to rewind is to repeat the training: leave [retraining] out, or take \
                 rewind = \"none\""
            ),
            (Some(rewind), None) => Ok(rewind),
        }
    }

    /// How it trains while sparse.
    pub fn sparse(&self) -> Result<SparseTraining> {
        let Pruning { sparse, decay, mask_every, .. } = self.pruning;
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
        match self.pruning.pattern {
            Shape::Alone(pattern) => pattern,
            Shape::With(target) => target.pattern(),
        }
    }

    /// In what shape how much goes in all.
    fn target(&self) -> Result<Target> {
        let (pattern, sparsity) = match (self.pruning.pattern, self.pruning.sparsity) {
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
        let Pruning { min_accuracy, rounds, gradual, regrowth, .. } = &self.pruning;
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
            if self.pruning.sparsity.is_some() || matches!(self.pruning.pattern, Shape::With(_)) {
                bail!("[pruning] min_accuracy finds the sparsity; leave it out");
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

    /// Which weights matter.
    pub fn criterion(&self) -> Box<dyn Criterion> {
        let criterion = self.pruning.criterion.criterion(self.seed);
        if self.pruning.refit { Box::new(Refit::new(criterion)) } else { criterion }
    }

    /// How much of each layer goes.
    pub fn allocation(&self) -> Box<dyn Allocation> {
        self.pruning.allocation.allocation()
    }
}

/// Shipped recipes below the workspace are shown from there, whatever the machine.
fn shown(path: &Path) -> String {
    path.strip_prefix(workspace::root()).unwrap_or(path).display().to_string()
}

fn shipped_names() -> Vec<String> {
    let entries = fs::read_dir(workspace::recipes()).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

/// The parser's complaint with its line, and the valid word nearest to a misspelt one.
fn explain(text: &str, error: &toml::de::Error) -> anyhow::Error {
    // A key missing at the top has no line of its own.
    let nowhere = error.span().is_none_or(|span| span.start == 0);
    if nowhere && error.message().starts_with("missing field") {
        return anyhow!("{}", error.message());
    }
    let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
    let mut quoted = error.message().split('`').skip(1).step_by(2);
    let nearest = quoted.next().and_then(|wrong| {
        quoted.max_by(|a, b| {
            let closeness = |word| strsim::normalized_damerau_levenshtein(wrong, word);
            closeness(a).total_cmp(&closeness(b))
        })
    });
    match nearest {
        Some(word) => anyhow!("line {line}: {}; did you mean `{word}`?", error.message()),
        None => anyhow!("line {line}: {}", error.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(from: &str, to: &str) -> String {
        let path = workspace::recipes().join("lenet-300-100.toml");
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{from}");
        match Recipe::parse(&text.replacen(from, to, 1)) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn mistakes_are_explained() {
        let mistakes = [
            with("criterion =", "criterium ="),
            with("\"magnitude\"", "\"magnitud\""),
            with("\"unstructured\"", "\"2:1\""),
            with("\"unstructured\"", "\"4of8\""),
            with("\"unstructured\"", "\"2:4\""),
            with("batch_size", "batchsize"),
            with("learning_rate", "lr"),
            with("model = ", "# "),
            with("[pruning]", "[prunning]"),
            with("rounds = ", "rounds = 0 # "),
            with("sparsity = ", "# "),
            with("sparsity = ", "sparsity = 1.5 # "),
            with("learning_rate = ", "learning_rate = -"),
            with("seed = 0", "seed = -1"),
            with("model = ", "model = lenet # "),
        ];
        insta::assert_snapshot!(mistakes.join("\n"));
    }

    #[test]
    fn every_shipped_recipe_is_valid() {
        let names = shipped_names();
        for needed in ["digits-2of4", "lenet-300-100", "lenet-300-100-2of4"] {
            assert!(names.iter().any(|name| name == needed), "{needed} is not shipped");
        }
        for name in names {
            Recipe::find(&name).unwrap();
        }
    }

    #[test]
    fn an_unknown_recipe_lists_the_shipped_ones() {
        let error = Recipe::find("lenet-5000").unwrap_err().to_string();
        assert!(error.contains("shipped are digits-2of4, lenet-300-100"), "{error}");
    }
}
