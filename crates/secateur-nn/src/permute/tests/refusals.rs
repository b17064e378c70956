//! What is refused, with which reason, and does it leave everything as it was?

use super::{Tensors, draw, mlp, n, order, random, same};
use crate::NnError;
use crate::permute::{ChannelGraph, Reason, Space, Step, Step::*};
use secateur_criteria::Magnitude;

/// Why the inputs of `layer` stay, after checking that a permutation is refused for it.
fn reason(steps: &[Step], tensors: &Tensors, layer: &str) -> Reason {
    let graph = ChannelGraph::new(steps, tensors).unwrap();
    let mut after = tensors.clone();
    let channels = graph.space(layer).unwrap().channels();
    let error = graph.permute(layer, &order(channels), &mut after).unwrap_err();
    assert!(tensors.iter().all(|(name, tensor)| same(tensor, &after[name])));
    assert!(error.to_string().starts_with(&format!("the inputs of {layer} cannot be reordered")));
    match error {
        NnError::Fixed { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn what_depends_on_the_order_is_refused_by_name() {
    let t = random(&[
        ("a.weight", &[4, 4, 1, 1]),
        ("b.weight", &[4, 4, 1, 1]),
        ("c.weight", &[4, 4, 1, 1]),
        ("dw.weight", &[4, 1, 3, 3]),
        ("wide.weight", &[2, 16]),
        ("up.weight", &[16, 2]),
        ("head.weight", &[3, 16]),
    ]);
    let [a, b, c] = ["a", "b", "c"].map(|name| Conv2d(n(name)));
    let two = [a.clone(), b.clone()];
    assert_eq!(reason(&two, &t, "a"), Reason::Inputs);

    let group_norm = [a.clone(), GroupNorm(n("gn")), b.clone()];
    assert_eq!(reason(&group_norm, &t, "b"), Reason::GroupNorm(n("gn")));

    let opaque = [a.clone(), Opaque(n("attention")), b.clone()];
    assert_eq!(reason(&opaque, &t, "b"), Reason::Opaque(n("attention")));
    let before = [a.clone(), b.clone(), Opaque(n("attention"))];
    assert!(ChannelGraph::new(&before, &t).unwrap().space("b").unwrap().fixed().is_none());

    let depthwise = [a.clone(), GroupedConv2d { name: n("dw"), groups: 4 }, b.clone()];
    assert_eq!(reason(&depthwise, &t, "dw"), Reason::GroupedConv2d(n("dw")));
    assert_eq!(reason(&depthwise, &t, "b"), Reason::GroupedConv2d(n("dw")));

    // Joined to the inputs or the outputs, a stream is as fixed as they are.
    let inputs = [Save(n("x")), a.clone(), Add(n("x")), b.clone()];
    assert_eq!(reason(&inputs, &t, "b"), Reason::Inputs);
    let outputs = [a.clone(), Save(n("x")), b.clone(), Add(n("x"))];
    assert_eq!(reason(&outputs, &t, "b"), Reason::Outputs);

    // So is what nothing reads: it may be an output.
    let unread = [a.clone(), Save(n("features")), b.clone()];
    assert_eq!(reason(&unread, &t, "b"), Reason::Unread(n("features")));
    let overwritten = [a.clone(), Save(n("x")), b.clone(), Save(n("x")), c.clone(), Add(n("x"))];
    assert_eq!(reason(&overwritten, &t, "b"), Reason::Unread(n("x")));
    let sum = [a.clone(), Save(n("x")), b.clone(), Save(n("y")), c.clone(), Add(n("y"))];
    let dropped = [&sum[..], &[Load(n("x"))]].concat();
    assert_eq!(reason(&dropped, &t, "c"), Reason::Outputs);
    let saved = [&sum[..], &[Save(n("y")), Load(n("x")), Add(n("y")), Opaque(n("o"))]].concat();
    assert_eq!(reason(&saved, &t, "c"), Reason::Opaque(n("o")));

    // A shared layer and a join, once with and once without flattened positions.
    let flat = [a.clone(), Flatten { spatial: 4 }, Linear(n("wide"))];
    let shared = [flat.to_vec(), vec![Opaque(n("o")), Linear(n("wide"))]].concat();
    assert_eq!(reason(&shared, &t, "wide"), Reason::Shared(n("wide.weight")));
    let shared = [flat.to_vec(), vec![Linear(n("up")), Linear(n("wide"))]].concat();
    let graph = ChannelGraph::new(&shared, &t).unwrap();
    let fixed: Vec<_> = graph.spaces().iter().map(|space| space.fixed().unwrap()).collect();
    let wide = Reason::Shared(n("wide.weight"));
    assert_eq!(fixed, [&Reason::Inputs, &wide, &Reason::Outputs, &wide]);
    let join = [
        &[a, Flatten { spatial: 4 }, Save(n("x")), Linear(n("wide")), Linear(n("up"))][..],
        &[Add(n("x")), Linear(n("head"))],
    ];
    for layer in ["wide", "head"] {
        assert_eq!(reason(&join.concat(), &t, layer), Reason::Join(n("x")));
    }
}

#[test]
fn wrong_permutations_change_nothing() {
    let (steps, mut tensors) = mlp();
    let before = tensors.clone();
    let graph = ChannelGraph::new(&steps, &tensors).unwrap();
    for wrong in [&[0, 1, 2, 3][..], &[0, 1, 2, 3, 3], &[0, 1, 2, 3, 5], &[0, 1, 2, 3, 4, 5], &[]] {
        let error = graph.permute("c", wrong, &mut tensors).unwrap_err();
        assert!(matches!(error, NnError::Permutation { channels: 5, .. }), "{error}");
    }
    let error = graph.permute("d", &[0], &mut tensors).unwrap_err().to_string();
    assert!(error.contains("named d"), "{error}");
    // The second search fails after the first succeeded: neither is applied.
    let search = |space: &Space, _| match space.channels() {
        8 => Ok(order(8)),
        _ => Err(NnError::Packed("searched")),
    };
    assert!(graph.permute_all(&Magnitude, &mut tensors, search).is_err());
    assert!(before.iter().all(|(name, tensor)| same(tensor, &tensors[name])));
    // Tensors that are no longer those of the graph.
    tensors.insert(n("b.weight"), draw("other", &[6, 8], 0.0, 1.0));
    let error = graph.permute("c", &order(5), &mut tensors).unwrap_err().to_string();
    assert_eq!(error, "tensor b.weight has shape [6, 8], the model needs [5, 8]");
    tensors.remove("b.weight");
    assert!(graph.permute("c", &order(5), &mut tensors).is_err());
    assert!(same(&tensors["c.weight"], &before["c.weight"]));
}

#[test]
fn what_does_not_fit_is_named() {
    let t = random(&[
        ("a.weight", &[4, 2]),
        ("b.weight", &[4, 3]),
        ("c.weight", &[4, 2, 1, 1]),
        ("d.weight", &[4, 4]),
        ("d.bias", &[3]),
        ("e.weight", &[4, 4]),
        ("e.lora", &[4, 4]),
        ("ln.weight", &[4, 1]),
    ]);
    let a = || Linear(n("a"));
    let opaque = || Opaque(n("o"));
    let cases: [(&[Step], &str); 12] = [
        (&[Linear(n("z"))], "no tensor z.weight"),
        (&[a(), BatchNorm(n("bn"))], "no tensor bn.running_mean"),
        (&[a(), Linear(n("b"))], "tensor b.weight has shape [4, 3], the model needs [4, 4]"),
        (&[Linear(n("c"))], "tensor c.weight has shape [4, 2, 1, 1], a fully connected"),
        (&[Conv2d(n("a"))], "tensor a.weight has shape [4, 2], a 2-d convolution"),
        (&[a(), Conv2d(n("c"))], "tensor c.weight takes 2 channels in each of 1 groups, but 4"),
        (&[a(), Linear(n("d"))], "tensor d.bias has shape [3], the model needs [4]"),
        (&[a(), Linear(n("e"))], "tensor e.lora belongs to e"),
        (&[a(), LayerNorm(n("ln"))], "tensor ln.weight has shape [4, 1], the model needs [4]"),
        (&[opaque(), Flatten { spatial: 3 }, a()], "tensor a.weight takes 2 features, which is"),
        (&[opaque(), Flatten { spatial: 0 }, a()], "tensor a.weight takes 2 features, which is"),
        (&[a(), Add(n("x"))], "no activations were saved as x"),
    ];
    for (steps, message) in cases {
        let error = ChannelGraph::new(steps, &t).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    // Joined to channels that are known, those of an opaque step are known too.
    let join = [a(), Save(n("x")), opaque(), Save(n("y")), Load(n("x")), Add(n("y"))];
    let error = ChannelGraph::new(&[&join[..], &[Linear(n("b"))]].concat(), &t).unwrap_err();
    assert!(error.to_string().contains("the model needs [4, 4]"), "{error}");
    let join = [Linear(n("a")), Save(n("x")), opaque(), Linear(n("b")), Add(n("x"))];
    assert!(ChannelGraph::new(&join, &t).is_ok());
    let join = [Save(n("x")), Linear(n("a")), Add(n("x"))];
    let error = ChannelGraph::new(&join, &t).unwrap_err().to_string();
    assert!(error.starts_with("2 features were saved as x and are joined with 4"), "{error}");
}
