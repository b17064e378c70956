//! Do allocations give what their papers define, and does every total come out exactly?
//!
//! The references are written from the definitions, in the plainest code; where the implementation
//! searches, they solve, and the other way round.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use candle_core::{Device, Tensor};
use proptest::prelude::*;
use secateur_criteria::{
    Allocation, Budgets, CriterionError, Erk, Global, Lamp, Layer, LayerScores, Magnitude, Owl,
    Sensitivity, prune,
};
use secateur_mask::{Pattern, Scores, Sparsity};

/// A layer's shape and scores.
type Scored = (Vec<usize>, Vec<f32>);

fn name(index: usize) -> String {
    format!("layer{index:02}")
}

fn allocate(
    allocation: &dyn Allocation,
    layers: &[Scored],
    pattern: Pattern,
    target: f64,
) -> Vec<Sparsity> {
    let names: Vec<String> = (0..layers.len()).map(name).collect();
    let scored: Vec<LayerScores<'_>> = names
        .iter()
        .zip(layers)
        .map(|(name, (shape, scores))| {
            LayerScores::new(name, shape, move || {
                Scores::new(scores.clone(), shape)
                    .map_err(|error| CriterionError::Other(error.to_string()))
            })
        })
        .collect();
    let budgets: Budgets =
        allocation.allocate(&scored, pattern, Sparsity::new(target).unwrap()).unwrap();
    assert_eq!(budgets.len(), layers.len());
    names.iter().map(|name| budgets[name]).collect()
}

/// How many units of each layer stay, given the number of units that each has.
fn kept(budgets: &[Sparsity], sizes: &[usize]) -> Vec<usize> {
    budgets.iter().zip(sizes).map(|(budget, &size)| size - budget.cut_of(size)).collect()
}

fn lens(layers: &[Scored]) -> Vec<usize> {
    layers.iter().map(|(_, scores)| scores.len()).collect()
}

fn kept_in_all(sizes: &[usize], target: f64) -> usize {
    let total: usize = sizes.iter().sum();
    total - (target * total as f64).round() as usize
}

/// Small integers, so that ties are common and sums of squares exact.
fn layers(shape: impl Strategy<Value = Vec<usize>>) -> impl Strategy<Value = Vec<Scored>> {
    let layer = shape.prop_flat_map(|shape| {
        let len: usize = shape.iter().product();
        // One score in eight is large: an outlier.
        let score = prop_oneof![7 => 0_u8..5, 1 => 20_u8..40].prop_map(f32::from);
        (Just(shape), prop::collection::vec(score, len))
    });
    prop::collection::vec(layer, 1..6)
}

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        (1_usize..20, 1_usize..20).prop_map(|(o, i)| vec![o, i]),
        (1_usize..7, 1_usize..7, 1_usize..4, 1_usize..4).prop_map(|(o, i, h, w)| vec![o, i, h, w]),
        (1_usize..30).prop_map(|len| vec![len]),
    ]
}

fn shapes_and_empty_ones() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![4 => shapes(), 1 => Just(vec![0, 3]), 1 => Just(vec![3, 0]), 1 => Just(vec![0])]
}

/// Each count is its real-valued share rounded up or down, and they add up exactly.
fn rounded(kept: &[usize], densities: &[f64], sizes: &[usize], target: f64) -> Result<(), String> {
    for index in 0..sizes.len() {
        let due = densities[index] * sizes[index] as f64;
        if (kept[index] as f64 - due).abs() > 1.0 + 1e-6 {
            return Err(format!("layer {index} keeps {} where {due} is due", kept[index]));
        }
    }
    let (sum, all) = (kept.iter().sum::<usize>(), kept_in_all(sizes, target));
    if sum == all { Ok(()) } else { Err(format!("{sum} stay instead of {all}")) }
}

/// RigL's way: solve ε; while a density exceeds 1, make the one with the largest dense and repeat.
fn erk_reference(shapes: &[&[usize]], all_kept: f64) -> Vec<f64> {
    let len = |shape: &[usize]| shape.iter().product::<usize>() as f64;
    let raw = |shape: &[usize]| shape.iter().sum::<usize>() as f64 / len(shape);
    let mut dense = vec![false; shapes.len()];
    loop {
        let mut left = all_kept;
        let mut parts = 0.0;
        for (index, shape) in shapes.iter().enumerate() {
            if dense[index] {
                left -= len(shape);
            } else {
                parts += raw(shape) * len(shape);
            }
        }
        let epsilon = if parts == 0.0 { 0.0 } else { left / parts };
        let mut largest = None;
        for (index, shape) in shapes.iter().enumerate() {
            let exceeds = !dense[index] && epsilon * raw(shape) > 1.0 + 1e-12;
            if exceeds && largest.is_none_or(|other: usize| raw(shape) > raw(shapes[other])) {
                largest = Some(index);
            }
        }
        match largest {
            Some(index) => dense[index] = true,
            None => {
                let density = |(index, shape): (usize, &&[usize])| match dense[index] {
                    true => 1.0,
                    false => epsilon * raw(shape),
                };
                return shapes.iter().enumerate().map(density).collect();
            }
        }
    }
}

/// Every weight's LAMP score by its definition; then the best of all, one by one.
fn lamp_reference(layers: &[Scored], all_kept: usize) -> Vec<usize> {
    let mut all = Vec::new();
    for (layer, (_, scores)) in layers.iter().enumerate() {
        for (w, &score) in scores.iter().enumerate() {
            let mut sum = 0.0;
            for (v, &other) in scores.iter().enumerate() {
                if other > score || (other == score && v <= w) {
                    sum += f64::from(other) * f64::from(other);
                }
            }
            let square = f64::from(score) * f64::from(score);
            all.push((if square == 0.0 { 0.0 } else { square / sum }, layer, w));
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut kept = vec![0; layers.len()];
    for (_, layer, _) in &all[..all_kept] {
        kept[*layer] += 1;
    }
    kept
}

/// Where the rising, piecewise linear `f` with kinks at `kinks` reaches `goal`.
fn solve(f: impl Fn(f64) -> f64, mut kinks: Vec<f64>, goal: f64) -> f64 {
    kinks.sort_by(f64::total_cmp);
    for pair in kinks.windows(2) {
        let (left, right) = (f(pair[0]), f(pair[1]));
        if left <= goal && goal <= right && left < right {
            return pair[0] + (pair[1] - pair[0]) * (goal - left) / (right - left);
        }
    }
    if goal <= f(kinks[0]) { kinks[0] } else { kinks[kinks.len() - 1] }
}

fn owl_reference(layers: &[Scored], m: f64, lambda: f64, all_kept: f64) -> Vec<f64> {
    let mut shares = Vec::new();
    for (_, scores) in layers {
        let mean = scores.iter().map(|&a| f64::from(a)).sum::<f64>() / scores.len() as f64;
        let outliers = scores.iter().filter(|&&a| f64::from(a) > m * mean).count();
        shares.push(100.0 * outliers as f64 / scores.len() as f64);
    }
    let min = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let max = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: usize = lens(layers).iter().sum();
    let density = all_kept / total as f64;
    if min == max {
        return vec![density; layers.len()];
    }
    let scaled: Vec<f64> =
        shares.iter().map(|share| (share - min) / (max - min) * 2.0 * lambda).collect();
    let weighted: f64 = scaled.iter().zip(lens(layers)).map(|(d, len)| d * len as f64).sum();
    let plain: Vec<f64> = scaled.iter().map(|d| d - weighted / total as f64 + density).collect();
    if plain.iter().all(|d| (0.0..=1.0).contains(d)) {
        return plain;
    }
    let clamped = |c: f64| scaled.iter().map(move |d| (d + c).clamp(0.0, 1.0));
    let stay = |c: f64| clamped(c).zip(lens(layers)).map(|(d, len)| d * len as f64).sum::<f64>();
    let kinks = scaled.iter().flat_map(|d| [-d, 1.0 - d]).collect();
    clamped(solve(stay, kinks, all_kept)).collect()
}

/// A scan in which layer `index` loses `slopes[index]` of quality when cut whole.
fn linear_scan(pattern: Pattern, slopes: &[f64]) -> Sensitivity {
    let curve = |(index, slope): (usize, &f64)| {
        (name(index), vec![(Sparsity::new(1.0).unwrap(), 1.0 - slope)])
    };
    let curves = slopes.iter().enumerate().map(curve).collect();
    Sensitivity::new(pattern, 1.0, curves).unwrap()
}

fn targets() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.0..=1.0, 1 => Just(0.0), 1 => Just(1.0), 1 => Just(0.5)]
}

proptest! {
    #[test]
    fn erk_is_rigls(layers in layers(shapes()), target in targets()) {
        let sizes = lens(&layers);
        let shapes: Vec<&[usize]> = layers.iter().map(|(shape, _)| &shape[..]).collect();
        let densities = erk_reference(&shapes, kept_in_all(&sizes, target) as f64);
        let kept = kept(&allocate(&Erk, &layers, Pattern::Unstructured, target), &sizes);
        prop_assert_eq!(rounded(&kept, &densities, &sizes, target), Ok(()));

        let rows = allocate(&Erk, &layers, Pattern::UnstructuredRow, target);
        for (budget, density) in rows.iter().zip(&densities) {
            prop_assert!((budget.density() - density).abs() < 1e-9, "{} {}", budget, density);
        }
    }

    #[test]
    fn lamp_is_its_definition(layers in layers(shapes()), target in targets()) {
        let sizes = lens(&layers);
        let kept = kept(&allocate(&Lamp, &layers, Pattern::Unstructured, target), &sizes);
        prop_assert_eq!(kept, lamp_reference(&layers, kept_in_all(&sizes, target)));
    }

    #[test]
    fn owl_is_its_definition(
        layers in layers(shapes()), target in targets(), m in 1.0..5.0, lambda in 0.0..0.3,
    ) {
        let sizes = lens(&layers);
        let densities = owl_reference(&layers, m, lambda, kept_in_all(&sizes, target) as f64);
        let budgets = allocate(&Owl { m, lambda }, &layers, Pattern::Unstructured, target);
        prop_assert_eq!(rounded(&kept(&budgets, &sizes), &densities, &sizes, target), Ok(()));
    }

    /// With straight curves of quality `1 - slope · s`, a loss of q cuts each layer to q / slope.
    #[test]
    fn sensitivity_balances_straight_curves(
        layers in layers(shapes()), slopes in prop::collection::vec(0.01..3.0, 6), target in targets(),
    ) {
        let sizes = lens(&layers);
        let slopes = &slopes[..layers.len()];
        let at = |loss: f64| slopes.iter().map(move |slope: &f64| f64::min(loss / slope, 1.0));
        let cut = |loss: f64| at(loss).zip(&sizes).map(|(s, &len)| s * len as f64).sum::<f64>();
        let kinks = std::iter::once(0.0).chain(slopes.iter().copied()).collect();
        let goal = sizes.iter().sum::<usize>() - kept_in_all(&sizes, target);
        let densities: Vec<f64> = at(solve(cut, kinks, goal as f64)).map(|s| 1.0 - s).collect();
        let scan = linear_scan(Pattern::Unstructured, slopes);
        let budgets = allocate(&scan, &layers, Pattern::Unstructured, target);
        prop_assert_eq!(rounded(&kept(&budgets, &sizes), &densities, &sizes, target), Ok(()));
    }

    /// The lower the threshold, the more goes; and a threshold is what it says on any curve.
    #[test]
    fn thresholds_are_monotone(
        points in prop::collection::vec((0.0..=1.0, -1.0..1.5), 0..8), a in -1.5..2.0, b in -1.5..2.0,
    ) {
        let point = |&(sparsity, quality): &(f64, f64)| (Sparsity::new(sparsity).unwrap(), quality);
        let curve = points.iter().map(point).collect();
        let scan = Sensitivity::new(Pattern::Unstructured, 1.0, [(name(0), curve)].into()).unwrap();
        let reached = |threshold: f64| scan.prune_to(threshold)[&name(0)].share();
        prop_assert!(reached(f64::max(a, b)) <= reached(f64::min(a, b)));
        for (sparsity, quality) in points {
            prop_assert!(quality >= a || sparsity >= reached(a), "{} is beyond {}", reached(a), sparsity);
        }
    }

    #[test]
    fn every_total_is_exact(
        layers in layers(shapes_and_empty_ones()),
        target in targets(),
        pattern in prop::sample::select(
            vec!["unstructured", "block2x3", "block1x1", "channel", "input-channel"]),
        points in prop::collection::vec(prop::collection::vec((0.0..=1.0, -1.0..1.5), 0..4), 6),
    ) {
        let pattern: Pattern = pattern.parse().unwrap();
        let curve = |(index, points): (usize, &Vec<(f64, f64)>)| {
            let measured = points.iter().map(|&(sparsity, quality)| (sparsity, quality));
            let all = measured.chain([(1.0, -1.0)]);
            (name(index), all.map(|(s, q)| (Sparsity::new(s).unwrap(), q)).collect())
        };
        let scan =
            Sensitivity::new(pattern, 1.0, points.iter().enumerate().map(curve).collect()).unwrap();
        let owl = Owl { m: 2.0, lambda: 0.3 };
        let sizes: Vec<usize> = layers
            .iter()
            .map(|(shape, scores)| {
                pattern.unit_scores(&Scores::new(scores.clone(), shape).unwrap()).len()
            })
            .collect();
        for allocation in [&Erk as &dyn Allocation, &Lamp, &owl, &scan, &Global] {
            let budgets = allocate(allocation, &layers, pattern, target);
            let kept: usize = kept(&budgets, &sizes).iter().sum();
            prop_assert_eq!(kept, kept_in_all(&sizes, target), "{}", allocation.name());
        }
    }

    /// What an allocation promises is what the masks show.
    #[test]
    fn the_masks_add_up(layers in layers(shapes()), target in targets()) {
        let names: Vec<String> = (0..layers.len()).map(name).collect();
        let tensors: Vec<Tensor> = layers
            .iter()
            .map(|(shape, scores)| Tensor::from_slice(scores, &shape[..], &Device::Cpu).unwrap())
            .collect();
        let network: Vec<Layer<'_>> =
            names.iter().zip(&tensors).map(|(name, weight)| Layer::new(name, weight)).collect();
        let scan = linear_scan(Pattern::Unstructured, &vec![0.5; layers.len()]);
        let share = Sparsity::new(target).unwrap();
        for allocation in [&Erk as &dyn Allocation, &Lamp, &Owl::default(), &scan, &Global] {
            let cuts = prune(&network, &Magnitude, Pattern::Unstructured, allocation, share).unwrap();
            let kept: usize = cuts.values().map(|cut| cut.mask.count_kept()).sum();
            prop_assert_eq!(kept, kept_in_all(&lens(&layers), target), "{}", allocation.name());
        }
    }
}
