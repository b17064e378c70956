//! Does a convolutional network go through the whole job? LeNet-5 on real digits, blown up to its size.

use secateur::{
    nn::{LeNet5, Network, State},
    prelude::*,
    train::{Samples, evaluate},
};

/// The 8×8 digits three times as large, two pixels of background around them: 28×28. Some of them.
fn blown_up(samples: &Samples, count: usize) -> Samples {
    let samples = samples.slice(0, count).unwrap();
    let xs = samples.xs().reshape((count, 1, 8, 8)).unwrap().upsample_nearest2d(24, 24).unwrap();
    let xs = xs.pad_with_zeros(2, 2, 2).unwrap().pad_with_zeros(3, 2, 2).unwrap();
    Samples::new(xs.flatten_from(1).unwrap(), samples.ys().clone()).unwrap()
}

#[test]
fn a_convolutional_network_is_pruned_packed_saved_and_judged() {
    let mut split = digits(&Device::Cpu).unwrap().split(200, 3).unwrap();
    split.train = blown_up(&split.train, 400);
    split.validation = blown_up(&split.validation, 100);
    split.test = blown_up(&split.test, 100);
    let training = Training::adam(3, 20, 1e-3);
    let cases: [(Box<dyn Criterion>, &str, f64); 2] =
        [(Box::new(Magnitude), "unstructured", 0.8), (Box::new(Wanda), "2:4", 0.5)];
    for (criterion, pattern, sparsity) in cases {
        let sparsity = Sparsity::new(sparsity).unwrap();
        let target = Target::new(pattern.parse().unwrap(), Some(sparsity)).unwrap();
        let run = Run {
            criterion,
            rewind: Rewind::None,
            retraining: Training { epochs: 1, ..training.clone() },
            seed: 1,
            ..Run::new(target, training.clone())
        };
        let network = LeNet5::new(1, &Device::Cpu).unwrap();
        let outcome = run.execute(network, &split, &mut ()).unwrap();
        assert!(outcome.dense_test.accuracy > 0.8, "{}", outcome.dense_test.accuracy);
        assert!(outcome.pruned_test.accuracy > 0.8, "{pattern} {}", outcome.pruned_test.accuracy);
        for (name, layer) in outcome.network.layers() {
            assert!(matches!(layer.state(), State::Packed { .. }), "{pattern} {name}");
        }

        let checkpoint = Checkpoint::from_bytes(outcome.pruned.to_bytes().unwrap()).unwrap();
        let dispatcher = Dispatcher::probe().unwrap();
        let network = LeNet5::load(&checkpoint, &dispatcher, &Device::Cpu).unwrap();
        assert_eq!(evaluate(&network, &split.test).unwrap(), outcome.pruned_test, "{pattern}");
        let dense = LeNet5::load(&outcome.dense, &dispatcher, &Device::Cpu).unwrap();
        assert_eq!(evaluate(&dense, &split.test).unwrap(), outcome.dense_test, "{pattern}");
    }
}
