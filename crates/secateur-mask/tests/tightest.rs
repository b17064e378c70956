//! Is the tightest pattern the first one of the documented order that holds?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod plain;

use plain::holds;
use proptest::prelude::*;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use secateur_mask::{Mask, NOfM, Pattern, Scores, Sparsity};

fn parse(name: &str) -> Pattern {
    name.parse().unwrap()
}

/// The documented order, those patterns left out that say nothing about so many `kept` entries.
fn order(shape: &[usize], kept: usize) -> Vec<Pattern> {
    let (rows, cols) = match shape {
        [cols] => (1, *cols),
        [rows, rest @ ..] => (*rows, rest.iter().product()),
        [] => (1, 1),
    };
    let taps: usize = shape.iter().skip(2).product();
    let mut order = Vec::new();
    if kept == rows * cols {
        return vec![Pattern::Unstructured];
    }
    if cols > 1 || kept == 0 {
        order.push("channel".to_owned());
    }
    if rows * taps > 1 {
        order.push("input-channel".to_owned());
    }
    for (height, width) in [(32, 32), (16, 16), (8, 8), (4, 4), (4, 1), (1, 4)] {
        if height <= rows && width <= cols {
            order.push(format!("block{height}x{width}"));
        }
    }
    let taken = |lines: usize, len: usize, n: usize, m: usize| {
        let granted = lines * (len / m * n + (len % m).min(n));
        m <= len && kept as f64 >= 0.75 * granted as f64
    };
    for sixteenths in 1..16 {
        let shares: Vec<(usize, usize)> = [2, 4, 8, 16]
            .into_iter()
            .filter(|m| sixteenths * m % 16 == 0)
            .map(|m| (sixteenths * m / 16, m))
            .collect();
        let along_rows: Vec<_> =
            shares.iter().filter(|(n, m)| taken(rows, cols, *n, *m)).copied().collect();
        if along_rows.contains(&(2, 4)) && rows >= 4 {
            order.push("transposable-2:4".to_owned());
        }
        for (n, m) in along_rows.iter().filter(|(n, m)| *n < 4 && *m >= 8) {
            let heights = [128, 64, 32, 16].into_iter().filter(|v| *v <= rows);
            order.extend(heights.map(|v| format!("{v}:{n}:{m}")));
        }
        order.extend(along_rows.iter().map(|(n, m)| format!("{n}:{m}")));
        let along_columns = shares.iter().filter(|(n, m)| taken(cols, rows, *n, *m));
        order.extend(along_columns.map(|(n, m)| format!("output-{n}:{m}")));
    }
    if rows > 1 {
        order.push("unstructured-row".to_owned());
    }
    order.push("unstructured".to_owned());
    order.iter().map(|name| parse(name)).collect()
}

fn select(pattern: Pattern, shape: &[usize], seed: u64, share: f64) -> Mask {
    let mut stream = Xoshiro256PlusPlus::seed_from_u64(seed);
    let len = shape.iter().product();
    let scores: Vec<f32> = (0..len).map(|_| (stream.next_u64() >> 40) as f32).collect();
    let amount = pattern.fixed_sparsity().unwrap_or(Sparsity::new(share).unwrap());
    pattern.select(Scores::new(scores, shape).unwrap(), amount).unwrap()
}

const NAMES: [&str; 28] = [
    "unstructured",
    "unstructured-row",
    "channel",
    "input-channel",
    "block32x32",
    "block16x16",
    "block8x8",
    "block4x4",
    "block4x1",
    "block1x4",
    "transposable-2:4",
    "128:2:8",
    "64:2:8",
    "32:2:8",
    "16:3:16",
    "1:2",
    "1:4",
    "2:4",
    "3:4",
    "2:8",
    "4:8",
    "6:8",
    "8:16",
    "14:16",
    "output-1:2",
    "output-2:4",
    "output-4:8",
    "output-5:16",
];

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        (0_usize..40, 0_usize..70).prop_map(|(rows, cols)| vec![rows, cols]),
        (1_usize..10, 1_usize..5).prop_map(|(rows, cols)| vec![rows * 16, cols * 16]),
        (0_usize..100).prop_map(|len| vec![len]),
        (1_usize..20, 0_usize..7, 1_usize..4, 1_usize..4).prop_map(|(o, i, h, w)| vec![o, i, h, w]),
        Just(vec![]),
    ]
}

/// Masks of one pattern, or of two at once, with a few bits off at times.
fn masks() -> impl Strategy<Value = Mask> {
    let pattern = || prop::sample::select(NAMES.to_vec()).prop_map(parse);
    let second = prop::option::weighted(0.3, (pattern(), 0.0..=1.0));
    let flips =
        prop_oneof![Just(vec![]), prop::collection::vec(any::<prop::sample::Index>(), 1..3)];
    (shapes(), pattern(), 0.0..=1.0, second, any::<u64>(), flips).prop_map(
        |(shape, pattern, share, second, seed, flips)| {
            let mut mask = select(pattern, &shape, seed, share);
            if let Some((pattern, share)) = second {
                mask = mask.and(&select(pattern, &shape, !seed, share)).unwrap();
            }
            let mut bits = mask.to_bools();
            for flip in flips {
                if !bits.is_empty() {
                    let index = flip.index(bits.len());
                    bits[index] = !bits[index];
                }
            }
            Mask::from_bools(&bits, &shape).unwrap()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn it_is_the_first_of_the_order_that_holds(mask in masks()) {
        let (bits, tightest) = (mask.to_bools(), mask.tightest());
        prop_assert!(mask.verify(&tightest).is_ok());
        let order = order(mask.shape(), mask.count_kept());
        let expected = order.into_iter().find(|pattern| holds(*pattern, &bits, mask.shape()));
        prop_assert_eq!(Some(tightest), expected);
    }

    #[test]
    fn groups_over_are_counted(mask in masks(), n in 1_usize..64, m in 2_usize..=64) {
        let (n, m) = (n.min(m - 1), m);
        let cols = match mask.shape() {
            [] => 1,
            [cols] => *cols,
            [_, rest @ ..] => rest.iter().product(),
        };
        let bits = mask.to_bools();
        let groups: Vec<&[bool]> =
            bits.chunks(cols.max(1)).flat_map(|row| row.chunks(m)).collect();
        let over = mask.groups_over(NOfM::new(n, m).unwrap());
        prop_assert_eq!(over.total, groups.len());
        let kept = |group: &[bool]| group.iter().filter(|kept| **kept).count();
        prop_assert_eq!(over.over, groups.into_iter().filter(|group| kept(group) > n).count());
    }

    #[test]
    fn rows_are_counted(mask in masks()) {
        let (bits, counts) = (mask.to_bools(), mask.row_counts());
        let rows = if mask.shape().len() < 2 { 1 } else { mask.shape()[0] };
        prop_assert_eq!(counts.len(), rows);
        for (row, count) in counts.iter().enumerate() {
            let cols = bits.len() / rows;
            let line = &bits[row * cols..(row + 1) * cols];
            prop_assert_eq!(*count, line.iter().filter(|kept| **kept).count());
        }
    }
}

#[test]
fn what_was_selected_is_found_again() {
    for name in NAMES {
        let mask = select(parse(name), &[256, 512], 1, 0.6);
        assert_eq!(mask.tightest().to_string(), name);
    }
}

/// A very sparse mask fits some N:M by chance; it would be stored with more zeros than weights.
#[test]
fn chance_is_not_structure() {
    for share in [0.9, 0.95, 0.99] {
        let mask = select(Pattern::Unstructured, &[256, 512], 1, share);
        assert!((1..16).any(|n| mask.verify(&parse(&format!("{n}:16"))).is_ok()), "{share}");
        assert_eq!(mask.tightest(), Pattern::Unstructured, "{share}");
    }
}

#[test]
fn edges() {
    let tightest = |bits: &[u8], shape: &[usize]| {
        let bits: Vec<bool> = bits.iter().map(|bit| *bit == 1).collect();
        Mask::from_bools(&bits, shape).unwrap().tightest().to_string()
    };
    assert_eq!(tightest(&[], &[0, 4]), "unstructured");
    assert_eq!(tightest(&[], &[4, 0]), "unstructured");
    assert_eq!(tightest(&[1], &[]), "unstructured");
    assert_eq!(tightest(&[0], &[]), "channel");
    assert_eq!(tightest(&[0; 6], &[2, 3]), "channel");
    assert_eq!(tightest(&[0; 6], &[6]), "channel");
    assert_eq!(tightest(&[1, 0, 1], &[3]), "1:2");
    assert_eq!(tightest(&[1, 0, 1], &[3, 1]), "output-1:2");
    assert_eq!(tightest(&[1, 1, 0], &[1, 3]), "unstructured");
    assert_eq!(tightest(&[1, 1, 0, 0], &[1, 2, 1, 2]), "input-channel");
    // Whole columns of three rows are no blocks of four.
    assert_eq!(tightest(&[1, 0, 0, 0].repeat(3), &[3, 1, 2, 2]), "1:4");
}
