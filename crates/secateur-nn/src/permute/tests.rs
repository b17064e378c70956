//! Is it still the same function? Real forward passes before and after.

mod refusals;

use super::{ChannelGraph, Space, Step, Step::*};
use crate::NnError;
use candle_core::{Device, Result, Tensor, Var};
use rand::RngExt;
use secateur_criteria::{Magnitude, seed};
use secateur_mask::Scores;
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Tensor>;

/// Numbers from `low` to `high`, the same for the same name.
fn draw(name: &str, shape: &[usize], low: f32, high: f32) -> Tensor {
    let mut stream = seed::stream(11, name);
    let count = shape.iter().product();
    let values: Vec<f32> =
        (0..count).map(|_| low + (high - low) * stream.random::<f32>()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A batch of inputs.
fn inputs(shape: &[usize]) -> Tensor {
    draw("inputs", shape, -1.0, 1.0)
}

/// Random tensors of these names and shapes; variances are positive.
fn random(shapes: &[(&str, &[usize])]) -> Tensors {
    let tensor = |(name, shape): &(&str, &[usize])| {
        let low = if name.ends_with("var") { 0.2 } else { -1.0 };
        ((*name).to_owned(), draw(name, shape, low, 1.0))
    };
    shapes.iter().map(tensor).collect()
}

/// An order of `0..len` that is not its own inverse.
fn order(len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    let mut stream = seed::stream(11, "order");
    for i in (1..len).rev() {
        order.swap(i, stream.random_range(0..i)); // Sattolo: one cycle
    }
    order
}

fn n(name: &str) -> String {
    name.to_owned()
}

fn linear(tensors: &Tensors, name: &str, xs: &Tensor) -> Result<Tensor> {
    let ys = xs.matmul(&tensors[&format!("{name}.weight")].t()?)?;
    match tensors.get(&format!("{name}.bias")) {
        Some(bias) => ys.broadcast_add(bias),
        None => Ok(ys),
    }
}

fn conv(tensors: &Tensors, name: &str, xs: &Tensor) -> Result<Tensor> {
    let weight = &tensors[&format!("{name}.weight")];
    let ys = xs.conv2d(weight, weight.dims()[2] / 2, 1, 1, 1)?;
    match tensors.get(&format!("{name}.bias")) {
        Some(bias) => ys.broadcast_add(&bias.reshape((1, (), 1, 1))?),
        None => Ok(ys),
    }
}

fn batch_norm(tensors: &Tensors, name: &str, xs: &Tensor) -> Result<Tensor> {
    let get = |what: &str| tensors[&format!("{name}.{what}")].reshape((1, (), 1, 1));
    let ys = xs.broadcast_sub(&get("running_mean")?)?;
    let ys = ys.broadcast_div(&(get("running_var")? + 1e-5)?.sqrt()?)?;
    ys.broadcast_mul(&get("weight")?)?.broadcast_add(&get("bias")?)
}

fn layer_norm(tensors: &Tensors, name: &str, xs: &Tensor) -> Result<Tensor> {
    let ys = xs.broadcast_sub(&xs.mean_keepdim(1)?)?;
    let deviation = (ys.sqr()?.mean_keepdim(1)? + 1e-5)?.sqrt()?;
    let ys = ys.broadcast_div(&deviation)?.broadcast_mul(&tensors[&format!("{name}.weight")])?;
    ys.broadcast_add(&tensors[&format!("{name}.bias")])
}

fn same(a: &Tensor, b: &Tensor) -> bool {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    a.dims() == b.dims() && values(a) == values(b)
}

/// Reorders every free space of `steps`; exactly the tensors `moving` change, and not the outputs.
fn holds(
    steps: &[Step],
    mut tensors: Tensors,
    moving: &[&str],
    forward: impl Fn(&Tensors) -> Result<Tensor>,
) {
    let before = (tensors.clone(), forward(&tensors).unwrap());
    let graph = ChannelGraph::new(steps, &tensors).unwrap();
    for space in graph.spaces().iter().filter(|space| space.fixed().is_none()) {
        graph.permute(&space.layers()[0], &order(space.channels()), &mut tensors).unwrap();
    }
    let changed: Vec<&str> = tensors
        .keys()
        .filter(|name| !same(&tensors[*name], &before.0[*name]))
        .map(|k| &**k)
        .collect();
    assert_eq!(changed, moving);
    let after = forward(&tensors).unwrap();
    let largest = |t: Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    let (error, scale) = (largest((&after - &before.1).unwrap()), largest(before.1));
    assert!(scale > 1e-3 && error < 1e-5 * scale, "{error} of {scale}");
}

/// Three linear layers, 6 → 8 → 5 → 3; the second has no bias.
fn mlp() -> (Vec<Step>, Tensors) {
    let steps = [Linear(n("a")), Elementwise, Linear(n("b")), Elementwise, Linear(n("c"))];
    let tensors = random(&[
        ("a.weight", &[8, 6]),
        ("a.bias", &[8]),
        ("b.weight", &[5, 8]),
        ("c.weight", &[3, 5]),
        ("c.bias", &[3]),
    ]);
    (steps.to_vec(), tensors)
}

#[test]
fn an_mlp_stays_the_same() {
    let (steps, tensors) = mlp();
    holds(&steps, tensors, &["a.bias", "a.weight", "b.weight", "c.weight"], |t| {
        let ys = linear(t, "a", &inputs(&[4, 6]))?.relu()?;
        linear(t, "c", &linear(t, "b", &ys)?.relu()?)
    });
}

#[test]
fn place_j_gets_the_old_channel_that_the_permutation_names() {
    let row = |values: &[f32]| Tensor::from_vec(values.to_vec(), (1, 6), &Device::Cpu).unwrap();
    let mut tensors = random(&[("a.weight", &[3, 2, 1, 1])]);
    let weight = Var::from_tensor(&row(&[0., 1., 10., 11., 20., 21.])).unwrap();
    tensors.insert(n("b.weight"), weight.as_tensor().clone());
    let steps = [Conv2d(n("a")), Flatten { spatial: 2 }, Linear(n("b"))];
    let graph = ChannelGraph::new(&steps, &tensors).unwrap();
    graph.permute("b", &[2, 0, 1], &mut tensors).unwrap();
    assert!(same(&tensors["b.weight"], &row(&[20., 21., 0., 1., 10., 11.])));
    assert!(!tensors["b.weight"].track_op(), "no gradient graph holds on to the old weight");
    assert!(same(&weight, &row(&[0., 1., 10., 11., 20., 21.])), "storage is never written to");
}

#[test]
fn a_convolutional_network_stays_the_same() {
    let steps = [
        Conv2d(n("a")),
        BatchNorm(n("bn")),
        Elementwise,
        Conv2d(n("b")),
        Elementwise,
        Flatten { spatial: 9 },
        Linear(n("c")),
    ];
    let mut tensors = random(&[
        ("a.weight", &[8, 3, 3, 3]),
        ("a.bias", &[8]),
        ("bn.weight", &[8]),
        ("bn.bias", &[8]),
        ("bn.running_mean", &[8]),
        ("bn.running_var", &[8]),
        ("b.weight", &[5, 8, 3, 3]),
        ("b.bias", &[5]),
        ("c.weight", &[2, 45]),
    ]);
    let batches = Tensor::new(7_f32, &Device::Cpu).unwrap();
    tensors.insert(n("bn.num_batches_tracked"), batches); // one number has no order
    let graph = ChannelGraph::new(&steps, &tensors).unwrap();
    assert_eq!(graph.spaces().iter().map(|s| s.columns()).collect::<Vec<_>>(), [9, 9, 9].map(Some));
    let moving = [
        "a.bias",
        "a.weight",
        "b.bias",
        "b.weight",
        "bn.bias",
        "bn.running_mean",
        "bn.running_var",
        "bn.weight",
        "c.weight",
    ];
    holds(&steps, tensors, &moving, |t| {
        let ys = conv(t, "a", &inputs(&[2, 3, 6, 6]))?;
        let ys = conv(t, "b", &batch_norm(t, "bn", &ys)?.relu()?)?;
        linear(t, "c", &ys.max_pool2d(2)?.flatten_from(1)?)
    });
}

#[test]
fn a_residual_stream_moves_as_one() {
    // x = in(xs); x += down(relu(up(x))); out(x): two producers and two readers of one stream.
    let steps = [
        Linear(n("in")),
        Save(n("skip")),
        Linear(n("up")),
        Elementwise,
        Linear(n("down")),
        Add(n("skip")),
        Linear(n("out")),
    ];
    let tensors = random(&[
        ("in.weight", &[8, 4]),
        ("in.bias", &[8]),
        ("up.weight", &[12, 8]),
        ("up.bias", &[12]),
        ("down.weight", &[8, 12]),
        ("down.bias", &[8]),
        ("out.weight", &[3, 8]),
    ]);
    let graph = ChannelGraph::new(&steps, &tensors).unwrap();
    let stream = graph.space("out").unwrap();
    assert_eq!(stream.layers(), ["up", "out"]);
    let carriers = [("down.bias", 0), ("down.weight", 0), ("in.bias", 0), ("in.weight", 0)];
    let readers = [("out.weight", 1), ("up.weight", 1)];
    assert_eq!(stream.tensors().collect::<Vec<_>>(), [&carriers[..], &readers].concat());
    let moving =
        ["down.bias", "down.weight", "in.bias", "in.weight", "out.weight", "up.bias", "up.weight"];
    holds(&steps, tensors, &moving, |t| {
        let xs = linear(t, "in", &inputs(&[4, 4]))?;
        let ys = linear(t, "down", &linear(t, "up", &xs)?.relu()?)?;
        linear(t, "out", &(xs + ys)?)
    });
}

#[test]
fn a_second_branch_moves_with_the_first() {
    // A projected shortcut, as in a ResNet: relu(b(x)) + short(x), where x = relu(a(xs)).
    let steps = [
        Conv2d(n("a")),
        Elementwise,
        Save(n("x")),
        Conv2d(n("b")),
        Elementwise,
        Save(n("main")),
        Load(n("x")),
        Conv2d(n("short")),
        Add(n("main")),
        Flatten { spatial: 1 },
        Linear(n("out")),
    ];
    let tensors = random(&[
        ("a.weight", &[6, 2, 1, 1]),
        ("b.weight", &[5, 6, 3, 3]),
        ("short.weight", &[5, 6, 1, 1]),
        ("out.weight", &[3, 5]),
    ]);
    let graph = ChannelGraph::new(&steps, &tensors).unwrap();
    assert_eq!(
        graph.to_string(),
        "a: 2 channels, fixed: the network's inputs keep their order\n\
         b, short: 6 channels, free, but its readers differ in columns per channel\n\
         out: 5 channels, free\n"
    );
    let moving = ["a.weight", "b.weight", "out.weight", "short.weight"];
    holds(&steps, tensors, &moving, |t| {
        let xs = conv(t, "a", &inputs(&[2, 2, 3, 3]))?.relu()?;
        let ys = (conv(t, "b", &xs)?.relu()? + conv(t, "short", &xs)?)?;
        linear(t, "out", &ys.max_pool2d(3)?.flatten_from(1)?)
    });
}

#[test]
fn a_layer_norm_rides_along() {
    let steps = [Linear(n("a")), LayerNorm(n("ln")), Elementwise, Linear(n("b"))];
    let tensors = random(&[
        ("a.weight", &[8, 4]),
        ("ln.weight", &[8]),
        ("ln.bias", &[8]),
        ("b.weight", &[3, 8]),
    ]);
    holds(&steps, tensors, &["a.weight", "b.weight", "ln.bias", "ln.weight"], |t| {
        let ys = layer_norm(t, "ln", &linear(t, "a", &inputs(&[4, 4]))?)?;
        linear(t, "b", &ys.relu()?)
    });
}

#[test]
fn a_layer_used_twice_moves_along_both_sides() {
    let steps = [Linear(n("a")), Linear(n("loop")), Elementwise, Linear(n("loop")), Linear(n("b"))];
    let tensors = random(&[("a.weight", &[5, 4]), ("loop.weight", &[5, 5]), ("b.weight", &[3, 5])]);
    let graph = ChannelGraph::new(&steps, &tensors).unwrap();
    assert_eq!(graph.space("b").unwrap().layers(), ["loop", "b"]);
    holds(&steps, tensors, &["a.weight", "b.weight", "loop.weight"], |t| {
        let ys = linear(t, "loop", &linear(t, "a", &inputs(&[4, 4]))?)?;
        linear(t, "b", &linear(t, "loop", &ys.relu()?)?)
    });
}

#[test]
fn a_search_sees_the_scores_of_all_readers() {
    let steps = [
        Conv2d(n("a")),
        Save(n("x")),
        Conv2d(n("b")),
        Save(n("y")),
        Load(n("x")),
        Conv2d(n("c")),
        Add(n("y")),
        Flatten { spatial: 1 },
        Linear(n("d")),
    ];
    let mut tensors = random(&[
        ("a.weight", &[4, 2, 1, 1]),
        ("b.weight", &[3, 4, 1, 2]),
        ("c.weight", &[3, 4, 1, 2]),
        ("d.weight", &[2, 3]),
    ]);
    let before = tensors.clone();
    let graph = ChannelGraph::new(&steps, &tensors).unwrap();
    let mut shapes = Vec::new();
    let search = |space: &Space, scores: Scores<'static>| {
        shapes.push(scores.shape().to_vec());
        if space.layers() == ["b", "c"] {
            let c = before["c.weight"].abs()?.flatten_all()?.to_vec1::<f32>()?;
            assert_eq!(scores.values()[24..], c);
        }
        Ok::<_, NnError>(order(space.channels()))
    };
    let found = graph.permute_all(&Magnitude, &mut tensors, search).unwrap();
    assert_eq!(shapes, [vec![6, 4, 2], vec![2, 3]]);
    assert_eq!(found, [("b", 4), ("c", 4), ("d", 3)].map(|(l, c)| (n(l), order(c))).into());
    assert!(before.iter().all(|(name, tensor)| !same(tensor, &tensors[name])));
}
