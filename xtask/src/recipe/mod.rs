//! What does a recipe say? Model, data, training, pruning, retraining and seed, as TOML.

mod pruning;

pub use pruning::Pruning;

use crate::{methods::CriterionName, workspace};
use anyhow::{Context, Result, anyhow, bail};
use secateur::{
    criteria::{Allocation, Criterion, Refit, Spare},
    train::{Distillation, Rewind, Training},
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

    /// Errors on choices that do not go together.
    pub fn check(&self) -> Result<()> {
        self.pruning.schedule()?;
        self.pruning.sparse()?;
        self.rewind()?;
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

    /// Which weights matter.
    pub fn criterion(&self) -> Box<dyn Criterion> {
        let criterion = self.pruning.criterion.criterion(self.seed);
        if self.pruning.refit { Box::new(Refit::new(criterion)) } else { criterion }
    }

    /// How much of each layer goes.
    pub fn allocation(&self) -> Box<dyn Allocation> {
        let (spare, allocation) = (&self.pruning.spare, self.pruning.allocation.allocation());
        if spare.is_empty() { allocation } else { Box::new(Spare::new(spare, allocation)) }
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
            // `lr` is short for `learning_rate`, however many letters that takes.
            let short = |word: &str| {
                word.split('_').filter_map(|part| part.chars().next()).eq(wrong.chars())
            };
            let closeness = |word: &str| match wrong.len() > 1 && short(word) {
                true => 1.0,
                false => strsim::normalized_damerau_levenshtein(wrong, word),
            };
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

    const TEXT: &str = r#"about = "a recipe"
model = "lenet-300-100"
data = "mnist"
validation = 5000
seed = 0

[training]
epochs = 40
batch_size = 128
learning_rate = 2e-3

[pruning]
criterion = "magnitude"
pattern = "unstructured"
sparsity = 0.92
rounds = 5
"#;

    fn with(from: &str, to: &str) -> String {
        assert!(TEXT.contains(from), "{from}");
        match Recipe::parse(&TEXT.replacen(from, to, 1)) {
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
            with("rounds = 5", "rounds = 5\nmin_accuracy = 0.9"),
            with("rounds = 5", "gradual = { every = { steps = 10 }, begin = 0.9, end = 0.5 }"),
            with("rounds = 5", "rewind = \"none\""),
            with("rounds = 5", "rewind = \"inital\""),
            with("rounds = 5", "sparse = \"ste\"\ndecay = 0.1"),
            with("sparsity = 0.92\nrounds = 5", "min_accuracy = 1.5"),
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
        assert!(
            error.contains("shipped are conv-net, conv-net-filters, digits-2of4, lenet-300-100"),
            "{error}"
        );
    }
}
