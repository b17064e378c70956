//! Which criterion hurts least when nothing is retrained? One trained network, pruned by all of them.
//!
//! `cargo run --release -p secateur --example one_shot [FOLDER]`: without a folder on the embedded
//! digits, with one (four IDX files, as MNIST has) LeNet-300-100 on those. Statistics come from 1024
//! training samples; the test set is only reported.

use secateur::{
    criteria::{
        Alps, Erk, Grasp, Lamp, Needs, Obs, Owl, Ria, Snip, SynFlow, Taylor, prune_in_steps,
    },
    nn::weight_name,
    prelude::*,
    train::{Split, Stretch, calibrate, evaluate, fit},
};
use std::collections::BTreeMap;

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Anyhow<()> {
    let device = Device::Cpu;
    let (split, mut network, epochs) = match std::env::args().nth(1) {
        None => (digits(&device)?.split(200, 0)?, Mlp::digits(0, &device)?, 30),
        Some(folder) => {
            let data = load_idx(folder.as_ref(), "idx", &device)?;
            (data.split(5000, 0)?, Mlp::lenet_300_100(0, &device)?, 20)
        }
    };
    let training = Training { weight_decay: 0.01, ..Training::adam(epochs, 64, 2e-3) };
    let stretch = Stretch { name: "dense", training: &training, masks: &BTreeMap::new(), seed: 0 };
    fit(&mut network, &split, &stretch, &mut ())?;
    let error = 100.0 * evaluate(&network, &split.test)?.error();
    println!("dense: {error:.2} % test error. Pruned, not retrained:\n");
    println!("| criterion | 2:4 | 8:16 | 50 % | 80 % | 80 %, global |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for criterion in criteria() {
        let mut line = format!("| {} |", criterion.name());
        for target in ["2:4", "8:16", "0.5", "0.8"] {
            let error = pruned(&mut network, &split, &*criterion, target, &Uniform)?;
            line += &format!(" {error:.2} |");
        }
        let error = pruned(&mut network, &split, &*criterion, "0.8", &Global)?;
        println!("{line} {error:.2} |");
    }
    println!("\n| magnitude at 80 %, allocation | test error |\n| --- | --- |");
    let allocations: [Box<dyn Allocation>; 5] = [
        Box::new(Uniform),
        Box::new(Global),
        Box::new(Erk),
        Box::new(Lamp),
        Box::new(Owl::default()),
    ];
    for allocation in allocations {
        let error = pruned(&mut network, &split, &Magnitude, "0.8", &*allocation)?;
        println!("| {} | {error:.2} |", allocation.name());
    }
    Ok(())
}

fn criteria() -> Vec<Box<dyn Criterion>> {
    vec![
        Box::new(Random { seed: 0 }),
        Box::new(Grasp),
        Box::new(SynFlow::default()),
        Box::new(Snip),
        Box::new(Taylor),
        Box::new(Magnitude),
        Box::new(Wanda),
        Box::new(Ria),
        Box::new(Obs),
        Box::new(SparseGpt::default()),
        Box::new(Refit::new(Magnitude)),
        Box::new(Refit::new(SparseGpt::default())),
        Box::new(Refit::new(Alps::default())),
    ]
}

/// The test error in percent of `network` pruned; its weights are as before afterwards.
fn pruned(
    network: &mut Mlp,
    split: &Split,
    criterion: &dyn Criterion,
    target: &str,
    allocation: &dyn Allocation,
) -> Anyhow<f64> {
    let target: Target = target.parse()?;
    let mut dense = BTreeMap::new();
    for (name, layer) in network.layers() {
        let weight = layer.weight().ok_or("the network is packed")?;
        dense.insert(weight_name(&name), weight.copy()?.detach());
    }
    let set = |network: &Mlp, weights: &BTreeMap<String, Tensor>| -> Result<(), CriterionError> {
        for (name, layer) in network.layers() {
            if let (Some(var), Some(weight)) = (layer.weight(), weights.get(&weight_name(&name))) {
                var.set(weight)?;
            }
        }
        Ok(())
    };
    let needs: Needs = criterion.needs();
    let asked = (target.pattern(), target.sparsity());
    let observe = |weights: &BTreeMap<String, Tensor>| -> Anyhow<_> {
        set(network, weights)?;
        Ok(calibrate(network, &split.train, needs)?)
    };
    let cuts = prune_in_steps(&dense, &BTreeMap::new(), criterion, asked, allocation, observe)?;
    let mut sparse = BTreeMap::new();
    for (name, cut) in cuts {
        let weight = cut.apply(&dense[&name])?;
        sparse.insert(name, weight);
    }
    set(network, &sparse)?;
    let error = 100.0 * evaluate(network, &split.test)?.error();
    set(network, &dense)?;
    Ok(error)
}
