//! Do criteria, patterns and allocations combine freely, through the whole job and on real data?

use secateur::{
    criteria::{Alps, Grasp, MagnitudeL2, Obs, Ria, Snip, SynFlow, Taylor},
    prelude::*,
    train::{Outcome, Split},
};

fn split() -> Split {
    digits(&Device::Cpu).unwrap().split(200, 1).unwrap()
}

fn run(criterion: Box<dyn Criterion>, target: &str, epochs: usize, split: &Split) -> Outcome<Mlp> {
    let run = Run {
        criterion,
        rewind: Rewind::None,
        retraining: Training::adam(epochs, 32, 1e-3),
        seed: 1,
        ..Run::new(target.parse().unwrap(), Training::adam(12, 32, 2e-3))
    };
    run.execute(Mlp::digits(1, &Device::Cpu).unwrap(), split, &mut ()).unwrap()
}

#[test]
fn every_criterion_runs_through_the_whole_job() {
    let split = split();
    let criteria: Vec<Box<dyn Criterion>> = vec![
        Box::new(Magnitude),
        Box::new(MagnitudeL2),
        Box::new(Random { seed: 1 }),
        Box::new(Wanda),
        Box::new(Ria),
        Box::new(SparseGpt::default()),
        Box::new(Refit::new(SparseGpt::default())),
        Box::new(Refit::new(Alps::default())),
        Box::new(Snip),
        Box::new(Taylor),
        Box::new(Grasp),
        Box::new(SynFlow { steps: 10 }),
        Box::new(Obs),
    ];
    let mut masks = std::collections::BTreeSet::new();
    for criterion in criteria {
        let name = criterion.name().to_owned();
        let outcome = run(criterion, "0.6", 8, &split);
        for (layer, mask) in &outcome.masks.masks {
            // Those that compare within rows or groups of columns round there.
            assert!((mask.density() - 0.4).abs() < 0.01, "{name} {layer}: {}", mask.density());
        }
        assert!(outcome.proof.holds(), "{name}");
        // After training, GraSP's product has little to say; the others keep a network.
        let accuracy = outcome.pruned_test.accuracy;
        assert!(accuracy > if name == "grasp" { 0.5 } else { 0.88 }, "{name}: {accuracy}");
        masks.insert(format!("{:?}", outcome.masks.masks["fc1.weight"].words()));
    }
    // Squares rank as magnitudes do, SNIP and Taylor are one product, refit keeps the mask.
    assert_eq!(masks.len(), 13 - 3, "two criteria were the same, or one was not asked");
}

#[test]
fn every_pattern_runs_through_the_whole_job() {
    let split = split();
    for target in [
        "0.7",
        "unstructured-row@0.7",
        "2:4",
        "8:16",
        "output-2:4",
        "transposable-2:4",
        "16:2:8",
        "block4x1@0.5",
        "channel@0.25",
        "input-channel@0.25",
    ] {
        let outcome = run(Box::new(Refit::new(Magnitude)), target, 3, &split);
        let pattern = target.parse::<Target>().unwrap().pattern();
        for mask in outcome.masks.masks.values() {
            mask.verify(&pattern).unwrap();
        }
        assert!(outcome.proof.holds(), "{target}");
        assert!(outcome.pruned_test.accuracy > 0.4, "{target}: {}", outcome.pruned_test.accuracy);
    }
}

/// On data that the layers really see, repairing beats choosing: the network before any retraining.
#[test]
fn without_retraining_repaired_networks_are_better() {
    let split = split();
    let loss = |criterion: Box<dyn Criterion>| {
        // One epoch at a rate of zero: judged as pruned.
        let run = Run {
            criterion,
            rewind: Rewind::None,
            retraining: Training::adam(1, 32, 1e-12),
            seed: 1,
            ..Run::new("2:4".parse().unwrap(), Training::adam(12, 32, 2e-3))
        };
        let outcome = run.execute(Mlp::digits(1, &Device::Cpu).unwrap(), &split, &mut ()).unwrap();
        outcome.pruned_test.loss
    };
    let random = loss(Box::new(Random { seed: 1 }));
    let magnitude = loss(Box::new(Magnitude));
    let sparsegpt = loss(Box::new(Refit::new(SparseGpt::default())));
    assert!(sparsegpt < magnitude && magnitude < random, "{sparsegpt} {magnitude} {random}");
}
