//! Does a scan of a real network say what each layer bears, and is pruning by it kept above a threshold?

use secateur::{
    prelude::*,
    train::{Stretch, evaluate, fit, sensitivity},
};
use std::collections::BTreeMap;

#[test]
fn layers_go_as_far_as_the_network_bears() {
    let split = digits(&Device::Cpu).unwrap().split(300, 1).unwrap();
    let mut network = Mlp::digits(1, &Device::Cpu).unwrap();
    let (training, masks) = (Training::adam(15, 32, 2e-3), BTreeMap::new());
    let stretch = Stretch { name: "dense", training: &training, masks: &masks, seed: 1 };
    fit(&mut network, &split, &stretch, &mut ()).unwrap();
    let dense = evaluate(&network, &split.validation).unwrap().accuracy;

    let steps: Vec<Sparsity> =
        [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95].map(|share| Sparsity::new(share).unwrap()).to_vec();
    let pattern = Pattern::Unstructured;
    let scan = sensitivity(&mut network, &split, &Magnitude, pattern, &steps).unwrap();
    assert_eq!(evaluate(&network, &split.validation).unwrap().accuracy, dense, "weights changed");
    for curve in scan.curves().values() {
        assert_eq!(curve[0], (Sparsity::DENSE, dense));
        assert!(curve.last().unwrap().1 < dense, "95 % of a layer cost nothing: {curve:?}");
    }

    // Each layer alone, pruned as far as the threshold allows, stays above it.
    let threshold = dense - 0.02;
    let budgets = scan.prune_to(threshold);
    for (name, curve) in scan.curves() {
        let measured = curve.iter().filter(|(sparsity, _)| *sparsity <= budgets[name]);
        assert!(measured.clone().count() > 1, "{name} bears nothing");
        assert!(measured.clone().all(|(_, accuracy)| *accuracy >= threshold), "{name}");
    }
    // As an allocation it meets the target exactly, and beats the same share everywhere.
    let judge = |allocation: Box<dyn Allocation>| {
        let sparsity = Sparsity::new(0.75).unwrap();
        let run = Run {
            allocation,
            rewind: Rewind::None,
            retraining: Training::adam(1, 32, 1e-12),
            seed: 1,
            ..Run::new(Target::new(pattern, Some(sparsity)).unwrap(), training.clone())
        };
        let outcome = run.execute(Mlp::digits(1, &Device::Cpu).unwrap(), &split, &mut ()).unwrap();
        let kept: usize = outcome.masks.masks.values().map(Mask::count_kept).sum();
        let total: usize = outcome.masks.masks.values().map(Mask::len).sum();
        assert_eq!(total - kept, Sparsity::new(0.75).unwrap().cut_of(total));
        outcome.pruned_test.loss
    };
    let (scanned, uniform) = (judge(Box::new(scan)), judge(Box::new(Uniform)));
    assert!(scanned < uniform, "{scanned} {uniform}");
}
