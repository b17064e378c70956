//! Does a network without its dead units compute the same, and is it as small as it should be?

use crate::{
    Conv2d, Conv2dGeometry, ConvNet, Dropout, LeNet5, Linear, Mlp, Network, NnError, PrunableLayer,
    Stage, count_nonzero, count_parameters, fold_dead, load, ops::max_pool2, shrink,
};
use candle_core::{Device, Module, Result, Tensor, Var};
use rand::RngExt;
use secateur_criteria::seed;
use secateur_kernels::Dispatcher;
use secateur_mask::{Axis, Mask, Pattern, Scores, Sparsity};
use secateur_storage::{Checkpoint, Dense, Packed};
use std::collections::BTreeMap;

fn random(shape: &[usize], purpose: &str) -> Tensor {
    let mut stream = seed::stream(5, purpose);
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| stream.random::<f32>() * 2.0 - 1.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The networks, with norms that have seen data and learned something.
fn networks() -> [Box<dyn Network>; 3] {
    let conv_net = ConvNet::new(1, &Device::Cpu).unwrap();
    for (name, parameter) in conv_net.parameters() {
        if name.starts_with("bn") {
            parameter.set(&random(parameter.dims(), &name)).unwrap();
        }
    }
    for step in 0..3 {
        let xs = random(&[16, 784], &format!("training {step}"));
        conv_net.forward_train(&xs, &mut Dropout::new(0.0, 0, "test")).unwrap();
    }
    [
        Box::new(Mlp::lenet_300_100(1, &Device::Cpu).unwrap()),
        Box::new(LeNet5::new(1, &Device::Cpu).unwrap()),
        Box::new(conv_net),
    ]
}

fn prune(network: &mut dyn Network, pattern: Pattern, share: f64) {
    for (_, layer) in network.layers_mut() {
        let scores: Vec<f32> = values(layer.weight().unwrap()).iter().map(|w| w.abs()).collect();
        let scores = Scores::new(scores, layer.shape()).unwrap();
        layer.set_mask(pattern.select(scores, Sparsity::new(share).unwrap()).unwrap()).unwrap();
    }
}

fn close(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let largest = values(expected).iter().fold(1.0_f32, |largest, y| largest.max(y.abs()));
    for (found, expected) in values(found).into_iter().zip(values(expected)) {
        assert!((found - expected).abs() < 1e-4 * largest, "{what}: {found} {expected}");
    }
}

fn file_and_back(checkpoint: &Checkpoint) -> Box<dyn Network> {
    let checkpoint = Checkpoint::from_bytes(checkpoint.to_bytes().unwrap()).unwrap();
    load(&checkpoint, &Dispatcher::built_in().unwrap(), &Device::Cpu).unwrap()
}

/// What a chain of these widths has: of each layer the weights of one unit for one unit before it.
fn parameters_of(network: &dyn Network, dead: &BTreeMap<String, Vec<usize>>) -> usize {
    let (mut total, mut before) = (0, None::<(usize, usize)>);
    for Stage { layer, norm } in network.chain() {
        let shape = network.layers()[&layer].shape().to_vec();
        let units = shape[0] - dead.get(&layer).map_or(0, Vec::len);
        let cols: usize = shape[1..].iter().product();
        let cols = before.map_or(cols, |(all, live)| cols / all * live);
        let vectors = usize::from(network.layers()[&layer].bias().is_some())
            + 2 * usize::from(norm.is_some());
        total += units * (cols + vectors);
        before = Some((shape[0], units));
    }
    total
}

/// Masked, folded, shrunk, saved and loaded: always the same function, and exactly as small as what is dead
/// says.
#[test]
fn pruned_networks_shrink_and_compute_the_same() {
    let filters = Pattern::Channel(Axis::Output);
    for (pattern, share) in
        [(filters, 0.3), (filters, 0.6), (filters, 0.9), (Pattern::Unstructured, 0.98)]
    {
        for mut network in networks() {
            prune(&mut *network, pattern, share);
            let first = network.chain()[0].layer.clone();
            let what = format!("{first} {pattern} {share}");
            let xs = random(&[8, 784], "images");
            let (masked, nonzero) =
                (network.forward(&xs).unwrap(), count_nonzero(&network).unwrap());

            let shrunk = shrink(&network).unwrap();
            assert_eq!(
                values(&network.forward(&xs).unwrap()),
                values(&masked),
                "{what}: untouched"
            );
            let smaller = file_and_back(&shrunk);
            close(&smaller.forward(&xs).unwrap(), &masked, &format!("{what}, shrunk"));

            let dead = fold_dead(&mut network).unwrap();
            close(&network.forward(&xs).unwrap(), &masked, &format!("{what}, folded"));
            assert!(count_nonzero(&network).unwrap() < nonzero, "{what}");
            for layer in network.layers().into_values() {
                assert_eq!(layer.mask().unwrap().count_kept(), layer.count_nonzero().unwrap());
            }
            for Stage { layer, norm } in network.chain() {
                let vectors = norm.iter().flat_map(|norm| [(norm, "weight"), (norm, "bias")]);
                for (owner, what) in vectors.chain([(&layer, "bias")]) {
                    let Some(vector) = network.parameters().remove(&format!("{owner}.{what}"))
                    else {
                        continue;
                    };
                    let vector = values(&vector);
                    assert!(
                        dead.get(&layer).into_iter().flatten().all(|unit| vector[*unit] == 0.0)
                    );
                }
            }
            assert_eq!(count_parameters(&smaller), parameters_of(&*network, &dead), "{what}");
            assert!(count_parameters(&smaller) < count_parameters(&network), "{what}");
            if pattern == filters {
                // No constant is left: every hidden unit that was cut is gone.
                for Stage { layer, .. } in &network.chain()[..network.chain().len() - 1] {
                    let units = network.layers()[layer].shape()[0] as f64;
                    let gone = dead[layer].len() as f64;
                    assert!((gone - units * share).abs() <= 1.0, "{what}: {layer} {gone}");
                }
            }

            // Twice is once, and a folded network shrinks to the same.
            assert_eq!(fold_dead(&mut network).unwrap(), dead, "{what}");
            assert_eq!(shrink(&network).unwrap(), shrunk, "{what}");
            assert!(fold_dead(&mut { smaller }).unwrap().is_empty(), "{what}");
        }
    }
}

/// By hand: one constant of 0.5, one neuron nobody reads, one that only a dead one reads, one alive.
#[test]
fn units_go_one_after_the_other() {
    let var = |values: &[f32], shape: &[usize]| {
        Some(Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu).unwrap()).unwrap())
    };
    let set = |network: &Mlp, name: &str, values: &[f32], shape: &[usize]| {
        network.parameters()[name].set(&var(values, shape).unwrap()).unwrap();
    };
    let mut network = Mlp::new(&[1, 3, 3, 1], 0, &Device::Cpu).unwrap();
    set(&network, "fc1.weight", &[0.0, 1.0, 2.0], &[3, 1]);
    set(&network, "fc1.bias", &[0.5, 1.0, -1.0], &[3]);
    set(&network, "fc2.weight", &[4.0, 0.0, 3.0, 0.0, 7.0, 0.0, 2.0, 0.0, 0.0], &[3, 3]);
    set(&network, "fc2.bias", &[0.25, 1.0, -2.0], &[3]);
    set(&network, "fc3.weight", &[1.0, 0.0, 5.0], &[1, 3]);
    set(&network, "fc3.bias", &[0.125], &[1]);
    let dead = fold_dead(&mut network).unwrap();
    // fc1: 0 is constant, 1 is read by fc2's 1 alone. fc2: 1 is not read, 2 reads a constant alone and is
    // relu(-2 + 2 · 0.5) = 0 then.
    let expected = [("fc1".to_owned(), vec![0, 1]), ("fc2".to_owned(), vec![1, 2])];
    assert_eq!(dead, expected.into());
    let now: Vec<Vec<f32>> = network.parameters().values().map(|var| values(var)).collect();
    assert_eq!(
        now,
        [
            vec![0.0, 0.0, -1.0],
            vec![0.0, 0.0, 2.0],
            vec![2.25, 0.0, 0.0],
            vec![0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            vec![0.125],
            vec![1.0, 0.0, 0.0],
        ]
    );
}

#[test]
fn a_layer_keeps_at_least_one_unit() {
    let mut network = Mlp::new(&[4, 3, 2], 0, &Device::Cpu).unwrap();
    for (name, layer) in network.layers_mut() {
        if name == "fc1" {
            layer.set_mask(Mask::empty(&[3, 4]).unwrap()).unwrap();
        }
    }
    let xs = random(&[2, 4], "inputs");
    let smaller = file_and_back(&shrink(&network).unwrap());
    close(&smaller.forward(&xs).unwrap(), &network.forward(&xs).unwrap(), "all are constant");
    assert_eq!(smaller.layers()["fc1"].shape(), [1, 4]);
    assert_eq!(smaller.layers()["fc2"].shape(), [2, 1]);
}

/// Two convolutions, the second with padding.
struct Padded {
    first: Conv2d,
    second: Conv2d,
    fc: Linear,
}

impl Network for Padded {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let xs = max_pool2(&self.first.forward(xs)?)?.relu()?;
        self.fc.forward(&self.second.forward(&xs)?.relu()?.flatten_from(1)?)
    }
    fn layers(&self) -> BTreeMap<String, &PrunableLayer> {
        let Self { first, second, fc } = self;
        [("a".to_owned(), &**first), ("b".to_owned(), &**second), ("c".to_owned(), &**fc)].into()
    }
    fn layers_mut(&mut self) -> BTreeMap<String, &mut PrunableLayer> {
        let Self { first, second, fc } = self;
        let layers: [(String, &mut PrunableLayer); 3] =
            [("a".to_owned(), first), ("b".to_owned(), second), ("c".to_owned(), fc)];
        layers.into()
    }
    fn chain(&self) -> Vec<Stage> {
        ["a", "b", "c"].map(|layer| Stage { layer: layer.to_owned(), norm: None }).into()
    }
}

/// Around the border a padded convolution sees zeros instead of the constant: only a constant of zero goes.
#[test]
fn padding_keeps_constants_that_are_not_zero() {
    let padded = Conv2dGeometry { padding: 1, ..Conv2dGeometry::default() };
    let conv = |inputs, outputs, geometry, name| {
        Conv2d::init(inputs, outputs, (3, 3), geometry, 1, name, &Device::Cpu).unwrap()
    };
    let mut network = Padded {
        first: conv(1, 4, Conv2dGeometry::default(), "a"),
        second: conv(4, 2, padded, "b"),
        fc: Linear::init(2 * 9, 3, 1, "c", &Device::Cpu).unwrap(),
    };
    let bias = Tensor::new(&[0.5_f32, -0.5, 0.5, 0.5], &Device::Cpu).unwrap();
    network.parameters()["a.bias"].set(&bias).unwrap();
    let kept = [[false; 18].to_vec(), [true; 18].to_vec()].concat();
    let mask = Mask::from_bools(&kept, &[4, 1, 3, 3]).unwrap();
    network.first.set_mask(mask).unwrap();
    let xs = random(&[2, 1, 8, 8], "images");
    let before = network.forward(&xs).unwrap();
    assert_eq!(fold_dead(&mut network).unwrap(), [("a".to_owned(), vec![1])].into());
    close(&network.forward(&xs).unwrap(), &before, "padded");
    assert_eq!(shrink(&network).unwrap().tensors["b.weight"].shape(), [2, 3, 3, 3]);
}

#[test]
fn what_is_no_chain_or_packed_is_refused() {
    struct Unsaid(Mlp);
    impl Network for Unsaid {
        fn forward(&self, xs: &Tensor) -> Result<Tensor> {
            self.0.forward(xs)
        }
        fn layers(&self) -> BTreeMap<String, &PrunableLayer> {
            self.0.layers()
        }
        fn layers_mut(&mut self) -> BTreeMap<String, &mut PrunableLayer> {
            self.0.layers_mut()
        }
    }
    let mut network = Mlp::new(&[8, 4, 2], 0, &Device::Cpu).unwrap();
    assert!(matches!(
        shrink(&Unsaid(Mlp::new(&[8, 4, 2], 0, &Device::Cpu).unwrap())),
        Err(NnError::NotAChain(_))
    ));
    let layer = network.layers()["fc1"].weight().unwrap().clone();
    let dense = Dense::new(values(&layer), &[4, 8]).unwrap();
    let mut kept = vec![true; 32];
    kept[3..20].fill(false);
    let mask = Mask::from_bools(&kept, &[4, 8]).unwrap();
    let packed = Packed::pack(&dense, &mask, Pattern::Unstructured).unwrap();
    let mut layers = network.layers_mut();
    layers.get_mut("fc1").unwrap().pack(&packed, &Dispatcher::built_in().unwrap()).unwrap();
    drop(layers);
    assert!(matches!(fold_dead(&mut network), Err(NnError::Packed(_))));
}
