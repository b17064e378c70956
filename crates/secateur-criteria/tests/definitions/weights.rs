//! Are the criteria that look at the weight alone what they say? Magnitudes, norms of groups, chance.

use crate::{
    agrees, cut,
    reference::{
        choose::{self, Choice},
        data::Numbers,
        flat,
        scores::{l1, l2, magnitude},
    },
    tensor,
};
use candle_core::Tensor;
use secateur_criteria::{Criterion, Layer, Magnitude, MagnitudeL2, Random, Statistics};
use secateur_mask::Pattern;

/// The size of a group.
type Norm = fn(&[f64]) -> f64;

const SHAPES: [(usize, usize); 3] = [(6, 8), (24, 32), (17, 40)];

#[test]
fn magnitude_keeps_the_largest() {
    for (seed, (rows, cols)) in (0..).zip(SHAPES) {
        let w = Numbers::new(seed, "magnitude").matrix(rows, cols);
        let scores = magnitude(&w);
        let nothing = Statistics::default();
        for criterion in [&Magnitude as &dyn Criterion, &MagnitudeL2] {
            let check = |pattern: &str, share: f64, choice: Choice| {
                let cut = cut(criterion, &tensor(&w), &nothing, pattern, share);
                agrees(&format!("{} {pattern}", criterion.name()), &cut.mask, &choice);
                assert!(cut.weight.is_none());
            };
            for share in [0.3, 0.5, 0.9] {
                let count = (share * scores.len() as f64).round() as usize;
                check("unstructured", share, choose::anywhere(&scores, count));
                let count = (share * cols as f64).round() as usize;
                check("unstructured-row", share, choose::in_each_row(&scores, cols, count));
            }
            for (n, m) in [(2, 4), (4, 8), (1, 4)] {
                check(&format!("{n}:{m}"), 0.0, choose::n_of_m(&scores, cols, (n, m)));
            }
        }
    }
}

/// Filters of a convolution, neurons, inputs and blocks go by their L1 or L2 norm.
#[test]
fn groups_go_by_their_norm() {
    let norms: [(&dyn Criterion, Norm); 2] = [(&Magnitude, l1), (&MagnitudeL2, l2)];
    let nothing = Statistics::default();
    let mut differ = 0;
    for seed in 0..4 {
        // Few large entries or many small ones: the two norms disagree about which is more.
        let mut numbers = Numbers::new(seed, "groups");
        let mut w = numbers.matrix(12, 36);
        for value in w.iter_mut().flatten() {
            *value = crate::reference::data::rounded(value.powi(3));
        }
        let (w, weight) = (flat(&w), tensor(&w));
        let filters = weight.reshape((12, 4, 3, 3)).unwrap();
        let mut masks = vec![];
        for (criterion, norm) in norms {
            for (pattern, weight, (height, width)) in [
                ("channel", &weight, (1, 36)),
                ("channel", &filters, (1, 36)),
                ("input-channel", &weight, (12, 1)),
                ("input-channel", &filters, (12, 9)),
                ("block4x1", &weight, (4, 1)),
                ("block3x6", &weight, (3, 6)),
            ] {
                let units = 12 / height * (36 / width);
                let choice = choose::blocks(&w, 36, (height, width), units / 2, norm);
                let mask = cut(criterion, weight, &nothing, pattern, 0.5).mask;
                agrees(&format!("{} {pattern}", criterion.name()), &mask, &choice);
                masks.push(mask);
            }
        }
        differ += (0..6).filter(|&i| masks[i] != masks[i + 6]).count();
    }
    assert!(differ > 12, "L1 and L2 norms chose alike; the layers are too tame");
}

/// Chance: the same for the same seed and layer, otherwise another, and every entry as often.
#[test]
fn random_is_seeded_and_fair() {
    let weight = tensor(&Numbers::new(0, "random").matrix(16, 16));
    let scores = |seed: u64, name: &str| {
        let layer = Layer::new(name, &weight);
        crate::values(&Random { seed }.score(&layer).unwrap())
    };
    assert_eq!(scores(3, "fc1.weight"), scores(3, "fc1.weight"));
    assert_ne!(scores(3, "fc1.weight"), scores(4, "fc1.weight"));
    assert_ne!(scores(3, "fc1.weight"), scores(3, "fc2.weight"));
    // It looks at no value.
    let zeros = weight.zeros_like().unwrap();
    let blank = Random { seed: 3 }.score(&Layer::new("fc1.weight", &zeros)).unwrap();
    assert_eq!(crate::values(&blank), scores(3, "fc1.weight"));

    let nothing = Statistics::default();
    let mut kept = vec![0; 256];
    for seed in 0..400 {
        let mask = cut(&Random { seed }, &weight, &nothing, "unstructured", 0.75).mask;
        assert_eq!(mask.count_kept(), 64);
        for (count, bit) in kept.iter_mut().zip(mask.iter()) {
            *count += usize::from(bit);
        }
    }
    // 100 expected of each, with a standard deviation of 8.7.
    assert!(kept.iter().all(|count| (60..=140).contains(count)), "{kept:?}");
}

/// Exact counts among equal scores, and the lower index first.
#[test]
fn ties_cut_no_more_than_asked() {
    let weight = Tensor::ones((8, 8), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let nothing = Statistics::default();
    for criterion in [&Magnitude as &dyn Criterion, &MagnitudeL2] {
        let mask = cut(criterion, &weight, &nothing, "unstructured", 0.7).mask;
        assert_eq!(mask.to_bools(), (0..64).map(|i| i < 19).collect::<Vec<_>>());
        let pattern = Pattern::TWO_OF_FOUR.to_string();
        let mask = cut(criterion, &weight, &nothing, &pattern, 0.5).mask;
        assert_eq!(mask.to_bools(), (0..64).map(|i| i % 4 < 2).collect::<Vec<_>>());
    }
}
