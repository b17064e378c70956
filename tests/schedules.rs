//! Does every way of cutting, going on and training sparse do what its paper says, through the whole job?

use secateur::{
    criteria::Spare,
    prelude::*,
    train::{Change, ConstantWithRegrowth, Epoch, MinAccuracy, Proof, Split, TrainError, logits},
};
use std::collections::BTreeMap;

fn split() -> Split {
    digits(&Device::Cpu).unwrap().split(200, 2).unwrap()
}

fn run(target: &str) -> Run {
    Run { seed: 2, ..Run::new(target.parse().unwrap(), Training::adam(6, 64, 3e-3)) }
}

#[derive(Default)]
struct Watch(Vec<Epoch>, Vec<Change>);

impl Observer for Watch {
    fn epoch(&mut self, epoch: &Epoch) {
        self.0.push(epoch.clone());
    }
    fn change(&mut self, change: &Change) {
        self.1.push(change.clone());
    }
}

fn execute(run: &Run) -> (secateur::train::Outcome<Mlp>, Watch) {
    let mut watch = Watch::default();
    let network = Mlp::digits(2, &Device::Cpu).unwrap();
    (run.execute(network, &split(), &mut watch).unwrap(), watch)
}

#[test]
fn gradual_pruning_cuts_on_the_way_and_judges_only_what_has_arrived() {
    let schedule = Gradual::new(Sparsity::new(0.8).unwrap(), Every::Epochs(2)).unwrap();
    let training = Training::adam(12, 64, 3e-3);
    let base = Run { seed: 2, ..Run::new("0.8".parse().unwrap(), training) };
    let (outcome, watch) = execute(&Run { schedule: Box::new(schedule), ..base });
    let sparsities: Vec<f64> = watch.1.iter().map(|change| change.sparsity).collect();
    assert_eq!(sparsities.len(), 4, "{sparsities:?}");
    assert!(sparsities.is_sorted() && sparsities[0] > 0.3);
    assert!(watch.0.iter().filter(|e| e.phase != "dense" && e.best).all(|e| e.sparsity > 0.79));
    assert!((outcome.rounds[1].sparsity - 0.8).abs() < 1e-3);
    assert!(outcome.pruned_test.accuracy > 0.85, "{}", outcome.pruned_test.accuracy);
}

#[test]
fn regrowth_exchanges_connections_at_constant_sparsity() {
    let sparsity = Sparsity::new(0.9).unwrap();
    let schedule = ConstantWithRegrowth::new(sparsity, Every::Steps(20)).unwrap();
    let with = Run { schedule: Box::new(schedule), rewind: Rewind::Initial, ..run("0.9") };
    let without = Run { rewind: Rewind::Initial, ..run("0.9") };
    let ((with, watch), (without, _)) = (execute(&with), execute(&without));
    assert!(watch.0.iter().filter(|e| e.phase != "dense").all(|e| (e.sparsity - 0.9).abs() < 1e-3));
    for (name, mask) in &with.masks.masks {
        let fixed = &without.masks.masks[name];
        assert_eq!(mask.count_kept(), fixed.count_kept(), "{name}");
        assert!(mask != fixed, "{name}: nothing was exchanged");
    }
    let wrong = Run { schedule: Box::new(schedule), ..run("block4x1@0.9") };
    let network = Mlp::digits(2, &Device::Cpu).unwrap();
    let error = wrong.execute(network, &split(), &mut ()).unwrap_err();
    assert!(matches!(error, TrainError::Combination(_)), "{error}");
}

/// A training of rate zero shows where it began.
#[test]
fn every_rewinding_begins_where_it_says() {
    let still = Training { weight_decay: 0.0, ..Training::adam(1, 64, 1e-30) };
    let initial = Mlp::digits(2, &Device::Cpu).unwrap();
    let initial: BTreeMap<String, Vec<f32>> = initial
        .parameters()
        .into_iter()
        .map(|(name, var)| (name, var.flatten_all().unwrap().to_vec1().unwrap()))
        .collect();
    let weights = |checkpoint: &Checkpoint, name: &str| -> Vec<f32> {
        checkpoint.tensors[name].unpack().to_f32().unwrap().to_vec()
    };
    let kept_equal =
        |sparse: &[f32], other: &[f32]| sparse.iter().zip(other).all(|(w, o)| *w == 0.0 || w == o);
    let of = |rewind, training: &Training| {
        let retraining = still.clone();
        execute(&Run { rewind, retraining, training: training.clone(), ..run("0.5") }).0
    };
    let name = "fc2.weight";
    let (learning, dense) = (Training::adam(2, 64, 3e-3), "the dense network");
    let kept = of(Rewind::None, &learning);
    assert!(kept_equal(&weights(&kept.pruned, name), &weights(&kept.dense, name)), "{dense}");
    assert!(!kept_equal(&weights(&kept.pruned, name), &initial[name]));
    // The masks are those of the trained weights, whatever is trained from.
    let ticket = of(Rewind::Initial, &learning);
    let control = of(Rewind::Random, &learning);
    assert_eq!(ticket.masks.masks, kept.masks.masks);
    assert_eq!(control.masks.masks, kept.masks.masks);

    let standing = of(Rewind::Initial, &still);
    assert!(kept_equal(&weights(&standing.pruned, name), &initial[name]));
    let drawn = weights(&of(Rewind::Random, &still).pruned, name);
    assert!(!kept_equal(&drawn, &initial[name]));
    assert!(drawn.iter().all(|w| *w == 0.0 || initial[name].contains(w)), "another distribution");
}

/// Masks are chosen from the weights behind them, so those left behind by rewinding have no say.
#[test]
fn straight_through_begins_with_the_masks_of_the_weights_it_begins_with() {
    let never = SparseTraining::StraightThrough { decay: 0.0, every: usize::MAX };
    let still = Training::adam(1, 64, 1e-30);
    let masks = |rewind, sparse, training: Training| {
        let retraining = still.clone();
        execute(&Run { rewind, sparse, retraining, training, ..run("2:4") }).0.masks.masks
    };
    let learning = Training::adam(2, 64, 3e-3);
    let of_trained = masks(Rewind::Initial, SparseTraining::Masked, learning.clone());
    let of_initial = masks(Rewind::None, SparseTraining::Masked, still.clone());
    let from_scratch = masks(Rewind::Initial, never, learning);
    assert_eq!(from_scratch, of_initial);
    assert_ne!(from_scratch, of_trained);
}

/// Rewound to a step with nothing cut, the same training gives the same network.
#[test]
fn late_rewinding_repeats_the_rest_of_the_training() {
    let nothing = "0.0".parse().unwrap();
    let training = Training { epochs: 2, ..Training::adam(2, 64, 3e-3) };
    let run = |rewind| Run { rewind, seed: 2, ..Run::new(nothing, training.clone()) };
    let steps = |watch: &Watch| watch.0.iter().map(|epoch| epoch.step).collect::<Vec<_>>();
    let (_, late) = execute(&run(Rewind::Step(30)));
    let (_, whole) = execute(&run(Rewind::Initial));
    assert_eq!(steps(&late), [20, 40, 40], "one evaluation is left after step 30");
    assert_eq!(steps(&whole), [20, 40, 20, 40]);
    let network = Mlp::digits(2, &Device::Cpu).unwrap();
    let error = run(Rewind::Step(40)).execute(network, &split(), &mut ()).unwrap_err();
    assert!(matches!(error, TrainError::Setting { .. }), "{error}");
}

#[test]
fn straight_through_lets_groups_change_and_sr_ste_calms_them() {
    let masks = |sparse, lr| {
        let training = Training { epochs: 8, ..Training::adam(8, 64, lr) };
        let base = Run { seed: 2, ..Run::new("2:4".parse().unwrap(), training) };
        let (outcome, _) = execute(&Run { sparse, rewind: Rewind::Initial, ..base });
        assert!(outcome.pruned_test.accuracy > 0.9, "{}", outcome.pruned_test.accuracy);
        outcome.masks.masks
    };
    let ste = SparseTraining::StraightThrough { decay: 0.0, every: 1 };
    let (fixed, ste, sr_ste) = (
        masks(SparseTraining::Masked, 3e-3),
        masks(ste, 3e-3),
        masks(SparseTraining::SR_STE, 3e-3),
    );
    assert!(fixed != ste && ste != sr_ste);
    for mask in sr_ste.values() {
        mask.verify(&Pattern::TWO_OF_FOUR).unwrap();
    }
    let data = Run { criterion: Box::new(Wanda), sparse: SparseTraining::SR_STE, ..run("2:4") };
    let network = Mlp::digits(2, &Device::Cpu).unwrap();
    let error = data.execute(network, &split(), &mut ()).unwrap_err();
    assert!(matches!(error, TrainError::Combination(_)), "{error}");
}

#[test]
fn the_search_finds_the_sparsest_network_above_the_threshold() {
    let schedule = MinAccuracy::new(0.9).unwrap();
    let (outcome, _) = execute(&Run { schedule: Box::new(schedule), ..run("0.5") });
    let met = |accuracy: f64| accuracy >= 0.9;
    let chosen = &outcome.rounds[outcome.chosen];
    assert!(met(chosen.validation.accuracy) && chosen.sparsity > 0.5);
    assert_eq!(outcome.rounds.iter().filter(|r| !met(r.validation.accuracy)).count(), 4);
    let sparser = outcome.rounds.iter().filter(|round| round.sparsity > chosen.sparsity);
    assert!(sparser.clone().count() > 0 && sparser.clone().all(|r| !met(r.validation.accuracy)));
    let kept: usize = outcome.masks.masks.values().map(Mask::count_kept).sum();
    let total: usize = outcome.masks.masks.values().map(Mask::len).sum();
    assert!((1.0 - kept as f64 / total as f64 - chosen.sparsity).abs() < 1e-12);

    let impossible = MinAccuracy { floor: 1.0, ..schedule };
    let run = Run { schedule: Box::new(impossible), ..run("0.5") };
    let error = run.execute(Mlp::digits(2, &Device::Cpu).unwrap(), &split(), &mut ()).unwrap_err();
    assert!(matches!(error, TrainError::Threshold { .. }), "{error}");
}

/// What is punished becomes small.
#[test]
fn penalties_make_weights_small() {
    let size = |l1, l2| {
        let training = Training { l1, l2, ..Training::adam(4, 64, 3e-3) };
        let (outcome, _) = execute(&Run { seed: 2, ..Run::new("0.5".parse().unwrap(), training) });
        let weight = outcome.dense.tensors["fc1.weight"].unpack().to_f32().unwrap().to_vec();
        weight.iter().map(|w| f64::from(w.abs())).sum::<f64>()
    };
    let plain = size(0.0, 0.0);
    assert!(size(1e-2, 0.0) < 0.7 * plain && size(0.0, 1e-1) < 0.7 * plain);
}

/// Without its dead units a network computes the same, of fewer parameters than were asked for.
#[test]
fn dead_units_leave_when_asked() {
    let with = execute(&Run { fold_dead: true, allocation: Box::new(Global), ..run("0.97") }).0;
    let without = execute(&Run { allocation: Box::new(Global), ..run("0.97") }).0;
    let kept = |outcome: &secateur::train::Outcome<Mlp>| -> usize {
        outcome.masks.masks.values().map(Mask::count_kept).sum()
    };
    assert!(kept(&with) < kept(&without), "nothing was dead");
    assert_eq!(with.pruned_test.accuracy, without.pruned_test.accuracy);
    assert!((with.pruned_test.loss - without.pruned_test.loss).abs() < 1e-5);
    let wrong = Run { fold_dead: true, ..run("2:4") };
    let error =
        wrong.execute(Mlp::digits(2, &Device::Cpu).unwrap(), &split(), &mut ()).unwrap_err();
    assert!(matches!(error, TrainError::Combination(_)), "{error}");
}

/// Whole units go, and what computes the same without them is handed out: half of each hidden layer, all outputs.
#[test]
fn pruned_units_leave_a_smaller_dense_network() {
    let spare = |name| Box::new(Spare::new([name], Box::new(Uniform)));
    let units = Run { allocation: spare("fc3.weight"), ..run("channel@0.5") };
    let (outcome, _) = execute(&units);
    let dispatcher = Dispatcher::built_in().unwrap();
    let smaller = Mlp::load(outcome.shrunk.as_ref().unwrap(), &dispatcher, &Device::Cpu).unwrap();
    let shapes: Vec<Vec<usize>> =
        smaller.layers().values().map(|layer| layer.shape().to_vec()).collect();
    assert_eq!(shapes, [[64, 64], [64, 64], [10, 64]]);
    let samples = &split().validation;
    let [small, pruned] = [&smaller, &outcome.network].map(|net| logits(net, samples).unwrap());
    assert!(Proof::of(&small, &pruned).unwrap().holds());
    assert!(outcome.pruned_test.accuracy > 0.85, "{}", outcome.pruned_test.accuracy);

    assert!(execute(&run("2:4")).0.shrunk.is_none(), "no unit has gone");
    let network = Mlp::digits(2, &Device::Cpu).unwrap();
    let unknown = Run { allocation: spare("fc4.weight"), ..run("channel@0.5") };
    let error = unknown.check(&network, &split()).unwrap_err().to_string();
    assert!(error.contains("fc4.weight") && error.contains("fc3.weight"), "{error}");
}

/// What would fail after the dense training is refused before it.
#[test]
fn choices_that_do_not_go_together_are_refused_at_once() {
    let tenth = |begin| {
        let gradual = Gradual::new(Sparsity::new(0.9).unwrap(), Every::Steps(10)).unwrap();
        Box::new(Gradual { begin, ..gradual })
    };
    let patient = Training { patience: Some(1), ..Training::adam(6, 64, 3e-3) };
    let endless = Training::adam(usize::MAX, 64, 3e-3);
    let ste = |decay| SparseTraining::StraightThrough { decay, every: 1 };
    let network = Mlp::digits(2, &Device::Cpu).unwrap();
    for (what, run) in [
        ("late and patient", Run { rewind: Rewind::Step(5), training: patient, ..run("0.9") }),
        ("late and gradual", Run { rewind: Rewind::Step(25), schedule: tenth(0.0), ..run("0.9") }),
        ("endless", Run { training: endless, ..run("0.9") }),
        ("a decay that grows", Run { sparse: ste(-0.1), ..run("2:4") }),
        ("a decay that is none", Run { sparse: ste(f64::NAN), ..run("2:4") }),
    ] {
        assert!(run.check(&network, &split()).is_err(), "{what}");
    }
    // Straight through, and nothing cut at first: it goes.
    let run = Run { sparse: ste(0.0), schedule: tenth(0.3), ..run("0.9") };
    let (outcome, watch) = execute(&run);
    assert!(watch.1.first().unwrap().step > 0 && (outcome.rounds[1].sparsity - 0.9).abs() < 1e-3);
}
