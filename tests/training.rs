//! Is the best epoch kept, is training stopped in time, and does the test set decide nothing?

use secateur::{
    prelude::*,
    train::{Epoch, Samples, Stretch, TrainError, evaluate, fit},
};
use std::collections::BTreeMap;

#[derive(Default)]
struct Epochs(Vec<Epoch>);

impl Observer for Epochs {
    fn epoch(&mut self, epoch: &Epoch) {
        self.0.push(epoch.clone());
    }
}

fn stretch<'a>(training: &'a Training, masks: &'a BTreeMap<String, Mask>) -> Stretch<'a> {
    Stretch { name: "test", training, masks, seed: 1 }
}

/// A constant, high learning rate makes the last epoch a bad one.
fn wild(epochs: usize, patience: Option<usize>) -> Training {
    let decay = secateur::train::Decay::Constant;
    Training { decay, patience, ..Training::adam(epochs, 16, 0.02) }
}

#[test]
fn the_best_epochs_weights_are_kept() {
    let split = digits(&Device::Cpu).unwrap().split(100, 1).unwrap();
    let mut network = Mlp::digits(1, &Device::Cpu).unwrap();
    let (training, masks, mut seen) = (wild(12, None), BTreeMap::new(), Epochs::default());
    let best = fit(&mut network, &split, &stretch(&training, &masks), &mut seen).unwrap();
    let accuracies: Vec<f64> = seen.0.iter().map(|epoch| epoch.validation_accuracy).collect();
    let highest = accuracies.iter().fold(0.0_f64, |a, b| a.max(*b));
    assert!(accuracies.last().unwrap() < &highest, "the last epoch was the best, nothing is shown");
    assert_eq!(best.accuracy, highest);
    assert_eq!(evaluate(&network, &split.validation).unwrap(), best);
}

#[test]
fn patience_ends_a_routine_that_no_longer_improves() {
    let split = digits(&Device::Cpu).unwrap().split(100, 1).unwrap();
    let mut network = Mlp::digits(1, &Device::Cpu).unwrap();
    let (training, masks, mut seen) = (wild(60, Some(3)), BTreeMap::new(), Epochs::default());
    fit(&mut network, &split, &stretch(&training, &masks), &mut seen).unwrap();
    let last_best = seen.0.iter().rposition(|epoch| epoch.best).unwrap();
    assert!(seen.0.len() < 60, "it never stopped");
    assert_eq!(seen.0.len(), last_best + 1 + 3);
}

#[test]
fn divergence_is_an_error() {
    let split = digits(&Device::Cpu).unwrap().split(100, 1).unwrap();
    let mut network = Mlp::digits(1, &Device::Cpu).unwrap();
    let training = Training { learning_rate: 1e18, ..wild(5, None) };
    let masks = BTreeMap::new();
    let error = fit(&mut network, &split, &stretch(&training, &masks), &mut ()).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
}

/// Two runs whose test samples have nothing in common give the same bytes.
#[test]
fn the_test_set_decides_nothing() {
    let honest = digits(&Device::Cpu).unwrap().split(200, 1).unwrap();
    let mut scrambled = honest.clone();
    let labels = honest.test.ys().to_vec1::<u32>().unwrap();
    let wrong: Vec<u32> = labels.iter().map(|label| (label + 1) % 10).collect();
    let inputs = (honest.test.xs() * -1.0).unwrap();
    let wrong = candle_core::Tensor::new(wrong, &Device::Cpu).unwrap();
    scrambled.test = Samples::new(inputs, wrong).unwrap();
    let run = |split| {
        let training = Training::adam(4, 32, 2e-3);
        let run = Run {
            allocation: Box::new(Global),
            seed: 1,
            ..Run::new("0.8".parse().unwrap(), training)
        };
        run.execute(Mlp::digits(1, &Device::Cpu).unwrap(), split, &mut ()).unwrap()
    };
    let (a, b) = (run(&honest), run(&scrambled));
    assert_ne!(a.pruned_test, b.pruned_test);
    for (a, b) in [(a.dense, b.dense), (a.pruned, b.pruned), (a.masks, b.masks)] {
        assert!(a.to_bytes().unwrap() == b.to_bytes().unwrap());
    }
}

/// Remembers which samples it was shown, and in which order.
struct Spy<'a> {
    network: Mlp,
    seen: &'a std::cell::RefCell<Vec<Vec<u32>>>,
}

impl Spy<'_> {
    fn look(&self, xs: &Tensor) -> candle_core::Result<()> {
        let rows = xs.to_vec2::<f32>()?.into_iter();
        let bits = rows.map(|row| row.into_iter().map(f32::to_bits).collect::<Vec<u32>>());
        self.seen.borrow_mut().extend(bits);
        Ok(())
    }
}

impl Network for Spy<'_> {
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.look(xs)?;
        self.network.forward(xs)
    }
    fn layers(&self) -> BTreeMap<String, &PrunableLayer> {
        self.network.layers()
    }
    fn layers_mut(&mut self) -> BTreeMap<String, &mut PrunableLayer> {
        self.network.layers_mut()
    }
}

/// Whatever a run may do with data (a criterion that looks, rounds, a search, a teacher, early stopping), the
/// test samples come after everything else, once for each of the three networks that are judged and compared:
/// dense, masked, packed.
#[test]
fn the_test_set_is_read_once_at_the_end() {
    let split = digits(&Device::Cpu).unwrap().split(200, 1).unwrap();
    let rows = |samples: &Samples| -> std::collections::BTreeSet<Vec<u32>> {
        let rows = samples.xs().to_vec2::<f32>().unwrap().into_iter();
        rows.map(|row| row.into_iter().map(f32::to_bits).collect()).collect()
    };
    let others = &rows(&split.train) | &rows(&split.validation);
    let test = &rows(&split.test) - &others;
    assert!(test.len() > 300);
    let training = Training { patience: Some(2), ..Training::adam(4, 32, 2e-3) };
    let run = Run {
        criterion: Box::new(Wanda),
        schedule: Box::new(secateur::train::MinAccuracy::new(0.9).unwrap()),
        distillation: Some(secateur::train::Distillation { weight: 0.5, temperature: 2.0 }),
        seed: 1,
        ..Run::new("0.5".parse().unwrap(), training)
    };
    let seen = std::cell::RefCell::new(Vec::new());
    let network = Spy { network: Mlp::digits(1, &Device::Cpu).unwrap(), seen: &seen };
    run.execute(network, &split, &mut ()).unwrap();
    let seen = seen.into_inner();
    let first = seen.iter().position(|row| test.contains(row)).unwrap();
    let (before, after) = seen.split_at(first);
    assert!(before.len() > 10_000, "{}", before.len());
    // Nothing but test samples from then on: no choice was made after the first look.
    assert_eq!(after.len(), 3 * split.test.len());
    let whole: Vec<&Vec<u32>> = after[..split.test.len()].iter().collect();
    for look in after.chunks(split.test.len()) {
        assert_eq!(look.iter().collect::<Vec<_>>(), whole, "each sees all of them, in order");
    }
}
