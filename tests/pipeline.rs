//! Do the files of a run hold the network that was judged, and the same bytes for the same seed?

use secateur::{
    nn::{Network, State},
    prelude::*,
    train::{Outcome, Split, evaluate, logits},
};

fn split() -> Split {
    digits(&Device::Cpu).unwrap().split(200, 3).unwrap()
}

fn run(pattern: &str, sparsity: f64, seed: u64) -> Outcome<Mlp> {
    let training = Training { dropout: 0.1, ..Training::adam(8, 32, 2e-3) };
    let pattern = pattern.parse().unwrap();
    let target = Target::new(pattern, Some(Sparsity::new(sparsity).unwrap())).unwrap();
    let run = Run { allocation: Box::new(Global), seed, ..Run::new(target, training) };
    run.execute(Mlp::digits(seed, &Device::Cpu).unwrap(), &split(), &mut ()).unwrap()
}

#[test]
fn every_pattern_goes_through_files_and_comes_back_as_the_network_that_was_judged() {
    let folder = tempfile::tempdir().unwrap();
    let (split, dispatcher) = (split(), Dispatcher::probe().unwrap());
    for (pattern, sparsity) in [
        ("2:4", 0.5),
        ("1:4", 0.75),
        ("unstructured", 0.9),
        ("block4x1", 0.5),
        ("input-channel", 0.3),
    ] {
        let outcome = run(pattern, sparsity, 5);
        let path = folder.path().join("pruned.safetensors");
        outcome.pruned.save(&path).unwrap();
        let checkpoint = Checkpoint::load(&path).unwrap();
        let network = Mlp::load(&checkpoint, &dispatcher, &Device::Cpu).unwrap();
        let claimed: Pattern = pattern.parse().unwrap();
        for (name, layer) in network.layers() {
            let name = format!("{name}.weight");
            let Some(mask) = checkpoint.tensors[&name].mask() else {
                // Global allocation may leave a layer whole; then it is stored dense.
                assert_eq!(outcome.masks.masks[&name].density(), 1.0, "{pattern} {name}");
                continue;
            };
            assert!(matches!(layer.state(), State::Packed { .. }), "{pattern} {name}");
            mask.verify(&claimed).unwrap();
            assert_eq!(checkpoint.patterns[&name], claimed);
        }
        let judged = evaluate(&network, &split.test).unwrap();
        assert_eq!(judged, outcome.pruned_test, "{pattern}");
        assert!(judged.accuracy > 0.85, "{pattern}: {}", judged.accuracy);
        let dense = Mlp::load(&outcome.dense, &dispatcher, &Device::Cpu).unwrap();
        assert_eq!(evaluate(&dense, &split.test).unwrap(), outcome.dense_test);
    }
}

#[test]
fn what_is_packed_equals_what_is_masked() {
    let outcome = run("2:4", 0.5, 6);
    let (split, dispatcher) = (split(), Dispatcher::probe().unwrap());
    let mut masked = outcome.pruned.clone();
    for packed in masked.tensors.values_mut() {
        *packed = packed.unpack().into();
    }
    let masked = Mlp::load(&masked, &dispatcher, &Device::Cpu).unwrap();
    let flat = |network: &Mlp| -> Vec<Vec<f32>> {
        logits(network, &split.test).unwrap().to_vec2().unwrap()
    };
    let (masked, packed) = (flat(&masked), flat(&outcome.network));
    for (masked, packed) in masked.iter().zip(&packed) {
        let largest = masked.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        for (m, p) in masked.iter().zip(packed) {
            assert!((m - p).abs() <= 1e-5 * largest, "{m} {p}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let bytes = |seed| {
        let outcome = run("unstructured", 0.8, seed);
        [outcome.dense, outcome.pruned, outcome.masks].map(|file| file.to_bytes().unwrap())
    };
    let first = bytes(1);
    assert_eq!(first, bytes(1));
    let other = bytes(2);
    for (a, b) in first.iter().zip(&other) {
        assert_ne!(a, b);
    }
}
