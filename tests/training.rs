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
