//! Does reordering channels leave a real network's function alone and let 2:4 keep more of it?

use candle_core::Tensor;
use secateur::{
    mask::NOfM,
    mask::permute::Search,
    nn::permute::{ChannelGraph, Space, Step},
    prelude::*,
    train::{Stretch, evaluate, fit, logits},
};
use std::collections::BTreeMap;

#[test]
fn a_trained_network_computes_the_same_and_two_of_four_keeps_more() {
    let split = digits(&Device::Cpu).unwrap().split(200, 1).unwrap();
    let mut network = Mlp::digits(1, &Device::Cpu).unwrap();
    let (training, masks) = (Training::adam(12, 32, 2e-3), BTreeMap::new());
    let stretch = Stretch { name: "dense", training: &training, masks: &masks, seed: 1 };
    fit(&mut network, &split, &stretch, &mut ()).unwrap();
    let before = logits(&network, &split.test).unwrap().to_vec2::<f32>().unwrap();
    let mut tensors: BTreeMap<String, Tensor> = network
        .parameters()
        .into_iter()
        .map(|(name, var)| (name, var.copy().unwrap().detach()))
        .collect();
    let kept_before = kept(&tensors);

    let layer = |name: &str| Step::Linear(name.into());
    let steps = [layer("fc1"), Step::Elementwise, layer("fc2"), Step::Elementwise, layer("fc3")];
    let graph = ChannelGraph::new(&steps, &tensors).unwrap();
    let search = Search { pattern: NOfM::TWO_OF_FOUR, seconds: 0.1, seed: 1, threads: 2 };
    let find = |_: &Space, scores: Scores<'static>| -> Result<Vec<usize>, secateur::nn::NnError> {
        Ok(search.run(&scores)?.into_permutation())
    };
    let orders = graph.permute_all(&Magnitude, &mut tensors, find).unwrap();
    assert_eq!(orders.keys().collect::<Vec<_>>(), ["fc2", "fc3"], "inputs of fc1 are pixels");

    for (name, var) in network.parameters() {
        var.set(&tensors[&name]).unwrap();
    }
    let after = logits(&network, &split.test).unwrap().to_vec2::<f32>().unwrap();
    for (before, after) in before.iter().zip(&after) {
        let largest = before.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        assert!(before.iter().zip(after).all(|(b, a)| (b - a).abs() <= 1e-5 * largest));
    }
    assert!(evaluate(&network, &split.test).unwrap().accuracy > 0.95);
    let kept_after = kept(&tensors);
    assert_eq!(kept_before[0], kept_after[0]);
    for layer in 1..3 {
        assert!(kept_after[layer] > kept_before[layer] * 1.01, "{kept_before:?} {kept_after:?}");
    }
}

/// How much magnitude 2:4 keeps of each layer.
fn kept(tensors: &BTreeMap<String, Tensor>) -> Vec<f64> {
    let kept = |name: &&str| {
        let weight = &tensors[*name];
        let half = Sparsity::new(0.5).unwrap();
        let cut = Magnitude.prune(&Layer::new(name, weight), Pattern::TWO_OF_FOUR, half).unwrap();
        let values = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let kept = values.iter().zip(cut.mask.iter()).filter(|(_, kept)| *kept);
        // Rounded, since the rows of a permuted producer are added in another order.
        (kept.map(|(value, _)| f64::from(value.abs())).sum::<f64>() * 1e6).round() / 1e6
    };
    ["fc1.weight", "fc2.weight", "fc3.weight"].iter().map(kept).collect()
}
