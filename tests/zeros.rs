//! Do cut weights stay exactly +0.0, with their moments, through every step of real training?

use candle_core::Tensor;
use secateur::{
    criteria::prune,
    nn::{Dropout, weight_name},
    prelude::*,
    train::{AdamW, Sgd},
};
use std::collections::BTreeMap;

#[test]
fn cut_weights_and_their_moments_are_plus_zero_after_every_step() {
    let split = digits(&Device::Cpu).unwrap().split(200, 1).unwrap();
    for name in ["adamw", "sgd"] {
        let mut network = Mlp::digits(1, &Device::Cpu).unwrap();
        let parameters = network.parameters();
        let optimizer: Box<dyn Optimizer> = match name {
            "adamw" => Box::new(AdamW::new(parameters, 2e-3, 0.1).unwrap()),
            _ => Box::new(Sgd::new(parameters, 0.05, 0.9, 1e-3).unwrap()),
        };
        let mut optimizer = train(&network, &split.train, optimizer, |_| {});

        // Cut in the middle, while the moments are full of the past.
        let weights: BTreeMap<String, Tensor> = network
            .layers()
            .into_iter()
            .map(|(name, layer)| (weight_name(&name), layer.weight().unwrap().as_tensor().clone()))
            .collect();
        let layers: Vec<Layer<'_>> = weights.iter().map(|(n, w)| Layer::new(n, w)).collect();
        let target = Sparsity::new(0.7).unwrap();
        let cuts = prune(&layers, &Magnitude, Pattern::Unstructured, &Global, target).unwrap();
        let masks: BTreeMap<String, Mask> =
            cuts.into_iter().map(|(n, cut)| (n, cut.mask)).collect();
        for (name, layer) in network.layers_mut() {
            layer.set_mask(masks[&weight_name(&name)].clone()).unwrap();
        }
        optimizer = Box::new(Masked::new(optimizer, &masks).unwrap());
        let mut steps = 0;
        train(&network, &split.train, optimizer, |optimizer| {
            steps += 1;
            for (name, mask) in &masks {
                check(&optimizer.parameters()[name].as_tensor().clone(), mask);
                for moment in optimizer.moments_mut(name) {
                    check(moment, mask);
                }
            }
        });
        assert!(steps > 20);
    }
}

fn train(
    network: &Mlp,
    samples: &secateur::train::Samples,
    mut optimizer: Box<dyn Optimizer>,
    mut after: impl FnMut(&mut dyn Optimizer),
) -> Box<dyn Optimizer> {
    let mut dropout = Dropout::new(0.2, 1, "test");
    for start in (0..samples.len() - 50).step_by(50) {
        let batch = samples.slice(start, 50).unwrap();
        let logits = network.forward_train(batch.xs(), &mut dropout).unwrap();
        let targets = batch.ys().unsqueeze(1).unwrap();
        let likelihood = logits.exp().unwrap();
        let total = likelihood.sum_keepdim(1).unwrap().log().unwrap();
        let loss = (total - logits.gather(&targets, 1).unwrap()).unwrap().mean_all().unwrap();
        optimizer.step(&loss.backward().unwrap()).unwrap();
        after(&mut *optimizer);
    }
    optimizer
}

fn check(values: &Tensor, mask: &Mask) {
    let values = values.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let moved =
        values.iter().zip(mask.iter()).filter(|(value, kept)| !kept && value.to_bits() != 0);
    assert_eq!(moved.count(), 0);
    assert!(values.iter().zip(mask.iter()).any(|(value, kept)| kept && *value != 0.0));
}
