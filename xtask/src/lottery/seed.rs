//! What does one seed go through? Train, prune by magnitude, rewind, train again: a process of its own, on
//! one core.
//!
//! A finished training is written at once, the next round's masks before it. Everything else is drawn again
//! from the seed, so that a seed that was killed goes on after its last finished training.

use super::{Settings, lock};
use anyhow::{Context, Result};
use candle_core::Tensor;
use rand::RngExt;
use secateur::{
    criteria::seed::stream,
    nn::{Network, weight_name},
    prelude::*,
    storage::write_atomically,
    train::{BestBy, Decay, Epoch, Split, Stretch, evaluate, fit_steps},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    time::Instant,
};

/// Rounds of pruning after the dense training: down to 3.6 % of the weights.
pub const ROUNDS: usize = 15;
/// Iterations between two looks at the validation samples.
const EVALUATE: usize = 100;
const BATCH: usize = 60;
const TRAININGS: &str = "trainings.jsonl";

/// Train one seed of the lottery-ticket experiment (a child of lottery).
#[derive(clap::Args)]
pub struct SeedArgs {
    /// The experiment's folder, which holds its settings
    out: PathBuf,
    seed: u64,
    /// Rounds whose tickets are re-initialised
    controls: Vec<usize>,
}

/// Where a network's weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The initial weights; round 0 is the dense network.
    Ticket,
    /// Another draw, with the ticket's masks.
    Control,
}

/// What a training came to: a line of `trainings.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    pub kind: Kind,
    /// Rounds of pruning before it.
    pub round: usize,
    /// The share of weights that it has.
    pub kept: f64,
    /// The early-stopping iteration: that of least validation loss.
    pub stop: usize,
    /// Of the weights at that iteration: the only look at the test set.
    pub test_accuracy: f64,
    /// At that iteration.
    pub validation_loss: f64,
    /// After the last iteration.
    pub end_validation_accuracy: f64,
    pub seconds: f64,
}

/// The trainings of a seed in order: each ticket, and its control after it.
pub fn plan(controls: &[usize]) -> Vec<(Kind, usize)> {
    let control = |round| controls.contains(&round).then_some((Kind::Control, round));
    (0..=ROUNDS).flat_map(|round| [Some((Kind::Ticket, round)), control(round)]).flatten().collect()
}

/// Where a seed's results and masks are.
pub fn folder(out: &Path, seed: u64) -> PathBuf {
    out.join(format!("seed{seed}"))
}

/// What was trained so far; nothing, if nothing was.
pub fn finished(folder: &Path) -> Result<Vec<Trained>> {
    let file = folder.join(TRAININGS);
    match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        text => {
            let lines = text?;
            let parsed = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>();
            parsed.with_context(|| format!("{} is damaged", file.display()))
        }
    }
}

/// Trains whatever of the plan is missing.
pub fn run(args: &SeedArgs) -> Result<()> {
    let settings = Settings::read(&args.out)?;
    let folder = folder(&args.out, args.seed);
    fs::create_dir_all(&folder)?;
    // A child of a killed experiment may still be about to notice.
    let lock = lock(&folder)?;
    lock.lock()?;
    let mut done = finished(&folder)?;
    let data = settings.load()?;
    let split = data.split(settings.validation, args.seed)?;
    for (trained, (kind, round)) in plan(&args.controls).into_iter().enumerate() {
        if !done.iter().any(|found| (found.kind, found.round) == (kind, round)) {
            let job = Job { kind, round, seed: args.seed, settings: &settings, folder: &folder };
            let widths = [data.features, 300, 100, data.classes];
            done.push(job.run(&widths, &split, trained.saturating_mul(settings.iterations))?);
            let lines: Vec<String> =
                done.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
            let text = lines.join("\n") + "\n";
            write_atomically(&folder.join(TRAININGS), text.as_bytes())?;
        }
    }
    Ok(())
}

/// One training.
struct Job<'a> {
    kind: Kind,
    round: usize,
    seed: u64,
    settings: &'a Settings,
    folder: &'a Path,
}

impl Job<'_> {
    fn run(&self, widths: &[usize], split: &Split, before: usize) -> Result<Trained> {
        let start = Instant::now();
        let iterations = self.settings.iterations;
        let masks = match self.round {
            0 => BTreeMap::new(),
            round => Checkpoint::load(&self.masks(round))?.masks,
        };
        let mut network = Mlp::new(widths, self.seed, &Device::Cpu)?;
        let (purpose, name) = match self.kind {
            Kind::Ticket => ("initialise".to_owned(), format!("ticket {}", self.round)),
            Kind::Control => {
                (format!("reinitialise/{}", self.round), format!("control {}", self.round))
            }
        };
        initialise(&network, self.seed, &purpose)?;
        let training = Training {
            decay: Decay::Constant,
            evaluate: Every::Steps(EVALUATE),
            best_by: BestBy::Loss,
            ..Training::adam(1, BATCH, 1.2e-3)
        };
        let stretch = Stretch { name: &name, training: &training, masks: &masks, seed: self.seed };
        let mut reporter = Reporter { before, accuracy: 0.0 };
        let fitted = fit_steps(&mut network, split, &stretch, iterations, &mut reporter)?;
        if self.kind == Kind::Ticket && self.round < ROUNDS {
            let masks = prune(&network, &fitted.last, &masks, self.round + 1)?;
            Checkpoint { masks, ..Checkpoint::default() }.save(&self.masks(self.round + 1))?;
        }
        Ok(Trained {
            kind: self.kind,
            round: self.round,
            kept: kept(&masks),
            stop: fitted.best_step,
            test_accuracy: evaluate(&network, &split.test)?.accuracy,
            validation_loss: fitted.best.loss,
            end_validation_accuracy: reporter.accuracy,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    fn masks(&self, round: usize) -> PathBuf {
        self.folder.join(format!("masks{round}.safetensors"))
    }
}

/// Glorot's normal distribution for weights (Glorot & Bengio 2010), zero for biases.
fn initialise(network: &Mlp, seed: u64, purpose: &str) -> Result<()> {
    for (name, var) in network.parameters() {
        let values = match *var.dims() {
            [outputs, inputs] => {
                let deviation = (2.0 / (inputs + outputs) as f64).sqrt();
                let mut stream = stream(seed, &format!("{purpose}/{name}"));
                // Box and Muller (1958).
                let mut normal = || {
                    let (u, v) = (1.0 - stream.random::<f64>(), stream.random::<f64>());
                    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
                };
                (0..inputs * outputs).map(|_| (normal() * deviation) as f32).collect()
            }
            _ => vec![0.0; var.elem_count()],
        };
        var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
    }
    Ok(())
}

/// The masks of `round`: in each layer a fifth of what is left goes, in the output layer a tenth.
fn prune(
    network: &Mlp,
    weights: &BTreeMap<String, Tensor>,
    before: &BTreeMap<String, Mask>,
    round: usize,
) -> Result<BTreeMap<String, Mask>> {
    let layers = network.layers();
    let output = layers.keys().next_back().map(|name| weight_name(name));
    let mut masks = BTreeMap::new();
    for layer in layers.keys() {
        let name = weight_name(layer);
        let keep = if Some(&name) == output.as_ref() { 0.9_f64 } else { 0.8 };
        let amount = Sparsity::new(1.0 - keep.powi(round as i32))?;
        let seen = Layer::new(&name, &weights[&name]).with_mask(before.get(&name));
        let mask = Magnitude.prune(&seen, Pattern::Unstructured, amount)?.mask;
        masks.insert(name, mask);
    }
    Ok(masks)
}

fn kept(masks: &BTreeMap<String, Mask>) -> f64 {
    let all: usize = masks.values().map(Mask::len).sum();
    let kept: usize = masks.values().map(Mask::count_kept).sum();
    if all == 0 { 1.0 } else { kept as f64 / all as f64 }
}

/// Tells the parent how many iterations are done, and ends when nobody listens: the parent was killed.
struct Reporter {
    /// Iterations of the trainings before this one.
    before: usize,
    /// Validation accuracy at the last evaluation.
    accuracy: f64,
}

impl Observer for Reporter {
    fn epoch(&mut self, epoch: &Epoch) {
        self.accuracy = epoch.validation_accuracy;
        let told = writeln!(io::stdout(), "{}", self.before + epoch.step);
        if told.and_then(|()| io::stdout().flush()).is_err() {
            process::exit(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shares of the paper's figures come out, and what was cut stays cut.
    #[test]
    fn rounds_keep_the_published_shares() {
        let network = Mlp::lenet_300_100(1, &Device::Cpu).unwrap();
        initialise(&network, 1, "initialise").unwrap();
        let weights: BTreeMap<String, Tensor> = network
            .parameters()
            .into_iter()
            .map(|(name, var)| (name, var.as_tensor().clone()))
            .collect();
        let mut masks = BTreeMap::new();
        for round in 1..=ROUNDS {
            let next = prune(&network, &weights, &masks, round).unwrap();
            for (name, mask) in &masks {
                let mask: &Mask = mask;
                assert!(next[name].iter().zip(mask.iter()).all(|(new, old)| old || !new));
            }
            masks = next;
            let percent = (kept(&masks) * 1000.0).round() / 10.0;
            match round {
                1 => assert_eq!(masks["fc3.weight"].count_kept(), 900),
                3 => assert_eq!(percent, 51.3),
                7 => assert_eq!(percent, 21.1),
                9 => assert_eq!(percent, 13.5),
                15 => assert_eq!(percent, 3.6),
                _ => {}
            }
        }
        assert_eq!(masks["fc3.weight"].count_kept(), 206);
        assert_eq!(plan(&[7]).len(), 17);
        assert_eq!(plan(&[3, 7, 15])[4..6], [(Kind::Control, 3), (Kind::Ticket, 4)]);
    }

    #[test]
    fn weights_are_glorot_normal_and_biases_zero() {
        let network = Mlp::lenet_300_100(1, &Device::Cpu).unwrap();
        let draw = |purpose: &str| {
            initialise(&network, 1, purpose).unwrap();
            let values = |name: &str| -> Vec<f32> {
                network.parameters()[name].flatten_all().unwrap().to_vec1().unwrap()
            };
            (values("fc1.weight"), values("fc1.bias"))
        };
        let (weights, biases) = draw("initialise");
        assert!(biases.iter().all(|bias| *bias == 0.0));
        let n = weights.len() as f64;
        let moment = |power| weights.iter().map(|w| f64::from(*w).powi(power)).sum::<f64>() / n;
        let variance = 2.0 / 1084.0;
        assert!(moment(1).abs() < 4.0 * (variance / n).sqrt());
        assert!((moment(2) / variance - 1.0).abs() < 0.02);
        // What tells a normal distribution from others of this variance.
        assert!((moment(4) / (3.0 * variance * variance) - 1.0).abs() < 0.05);
        assert_eq!(draw("initialise").0, weights);
        assert_ne!(draw("reinitialise/7").0, weights);
    }
}
