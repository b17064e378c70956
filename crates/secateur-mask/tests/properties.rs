//! Do selection and proof agree on any shape, any pattern and any scores?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod plain;

use plain::holds;
use proptest::prelude::*;
use secateur_mask::{Axis, Mask, Pattern, Scores, Sparsity};

fn patterns() -> impl Strategy<Value = Pattern> {
    let n_of_m = || (1_usize..64).prop_flat_map(|m| (1..=m).prop_map(move |n| (n, m + 1)));
    prop_oneof![
        Just("unstructured".to_owned()),
        Just("unstructured-row".to_owned()),
        Just("channel".to_owned()),
        Just("input-channel".to_owned()),
        Just("2:4".to_owned()),
        Just("transposable-2:4".to_owned()),
        n_of_m().prop_map(|(n, m)| format!("{n}:{m}")),
        n_of_m().prop_map(|(n, m)| format!("output-{n}:{m}")),
        (1_usize..9, 1_usize..4, 4_usize..65).prop_map(|(v, n, m)| format!("{v}:{n}:{m}")),
        (1_usize..5, 1_usize..5).prop_map(|(r, c)| format!("block{r}x{c}")),
    ]
    .prop_map(|name| name.parse().expect("a valid name"))
}

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        (0_usize..9, 0_usize..70).prop_map(|(rows, cols)| vec![rows, cols]),
        (0_usize..200).prop_map(|len| vec![len]),
        (1_usize..7, 0_usize..7, 1_usize..4, 1_usize..4).prop_map(|(o, i, h, w)| vec![o, i, h, w]),
    ]
}

/// Small integers, so that ties are common.
fn scores() -> impl Strategy<Value = (Vec<f32>, Vec<usize>)> {
    shapes().prop_flat_map(|shape| {
        let len: usize = shape.iter().product();
        (prop::collection::vec((-3_i8..4).prop_map(f32::from), len), Just(shape))
    })
}

fn amount(pattern: Pattern, share: f64) -> Sparsity {
    pattern.fixed_sparsity().unwrap_or(Sparsity::new(share).unwrap())
}

fn select(pattern: Pattern, values: &[f32], shape: &[usize], share: f64) -> Mask {
    pattern.select(Scores::new(values, shape).unwrap(), amount(pattern, share)).unwrap()
}

/// How many entries the pattern leaves of a whole matrix, by its definition.
fn expected_kept(pattern: Pattern, shape: &[usize], share: f64) -> Option<usize> {
    let (rows, cols) = match shape {
        [cols] => (1, *cols),
        [rows, rest @ ..] => (*rows, rest.iter().product()),
        [] => (1, 1),
    };
    let amount = amount(pattern, share);
    let groups = |len: usize, n: usize, m: usize| len / m * n + (len % m).min(n);
    Some(match pattern {
        Pattern::Unstructured => rows * cols - amount.cut_of(rows * cols),
        Pattern::UnstructuredRow => rows * (cols - amount.cut_of(cols)),
        Pattern::NOfM(p) => rows * groups(cols, p.n(), p.m()),
        Pattern::OutputNOfM(p) => cols * groups(rows, p.n(), p.m()),
        Pattern::VNOfM(p) => rows * groups(cols, p.n(), p.m()),
        Pattern::TransposableTwoOfFour if rows % 4 == 0 && cols % 4 == 0 => rows * cols / 2,
        Pattern::Channel(Axis::Output) => (rows - amount.cut_of(rows)) * cols,
        // Units at a ragged edge are smaller, so their number is exact and the entries vary.
        _ => return None,
    })
}

proptest! {
    #[test]
    fn what_select_makes_has_the_pattern_and_the_exact_count((values, shape) in scores(), pattern in patterns(), share in 0.0..=1.0) {
        let mask = select(pattern, &values, &shape, share);
        prop_assert!(mask.verify(&pattern).is_ok());
        prop_assert!(holds(pattern, &mask.to_bools(), &shape));
        prop_assert_eq!(mask.shape(), &shape[..]);
        if let Some(expected) = expected_kept(pattern, &shape, share) {
            prop_assert_eq!(mask.count_kept(), expected);
        }
    }

    /// A flipped bit is refused exactly when it breaks the definition.
    #[test]
    fn verify_finds_any_single_bit_that_breaks_it((values, shape) in scores(), pattern in patterns(), share in 0.0..=1.0) {
        let mut bits = select(pattern, &values, &shape, share).to_bools();
        for index in 0..bits.len() {
            bits[index] = !bits[index];
            let mask = Mask::from_bools(&bits, &shape).unwrap();
            prop_assert_eq!(mask.verify(&pattern).is_ok(), holds(pattern, &bits, &shape), "bit {}", index);
            bits[index] = !bits[index];
        }
    }

    /// What was cut before is given −∞: as much again cuts nothing more and nothing else.
    #[test]
    fn what_was_cut_stays_cut((values, shape) in scores(), pattern in patterns(), share in 0.0..=1.0) {
        let values: Vec<f32> = values.iter().map(|value| value + 4.0).collect();
        let mask = select(pattern, &values, &shape, share);
        let again: Vec<f32> = values.iter().zip(mask.iter())
            .map(|(value, kept)| if kept { *value } else { f32::NEG_INFINITY }).collect();
        prop_assert_eq!(select(pattern, &again, &shape, share), mask);
    }

    #[test]
    fn nothing_cut_beats_what_is_kept((values, shape) in scores(), share in 0.0..=1.0) {
        let mask = select(Pattern::Unstructured, &values, &shape, share);
        let rank = |kept| values.iter().zip(mask.iter()).enumerate()
            .filter(move |(_, (_, k))| *k == kept).map(|(i, (v, _))| (*v, usize::MAX - i));
        let worst_kept = rank(true).min_by(|a, b| a.partial_cmp(b).unwrap());
        let best_cut = rank(false).max_by(|a, b| a.partial_cmp(b).unwrap());
        if let (Some(kept), Some(cut)) = (worst_kept, best_cut) {
            prop_assert!(kept > cut);
        }
    }

    #[test]
    fn positive_scaling_changes_nothing((values, shape) in scores(), pattern in patterns(), share in 0.0..=1.0, factor in 1_u8..100) {
        let scaled: Vec<f32> = values.iter().map(|v| v * f32::from(factor) / 64.0).collect();
        prop_assert_eq!(select(pattern, &values, &shape, share), select(pattern, &scaled, &shape, share));
    }

    #[test]
    fn bits_survive_words_bools_and_json(bits in prop::collection::vec(any::<bool>(), 0..300)) {
        let mask = Mask::from_bools(&bits, &[bits.len()]).unwrap();
        prop_assert_eq!(&mask.to_bools(), &bits);
        prop_assert_eq!(&Mask::from_words(mask.words().to_vec(), mask.shape()).unwrap(), &mask);
        let json = serde_json::to_string(&mask).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Mask>(&json).unwrap(), &mask);
    }
}

/// Large enough that every pattern is cut into bands; many ties.
#[test]
fn one_thread_and_many_select_the_same() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let (one, many) = (pool(1), pool(5));
    for shape in [vec![1030, 515], vec![2048, 260], vec![64, 64, 9, 15]] {
        let len: usize = shape.iter().product();
        let values: Vec<f32> = (0..len).map(|i| (i * 7919 % 1013 % 50) as f32).collect();
        for name in [
            "unstructured",
            "unstructured-row",
            "2:4",
            "5:16",
            "output-2:4",
            "16:2:8",
            "transposable-2:4",
            "block4x1",
            "block3x5",
            "channel",
            "input-channel",
        ] {
            let pattern: Pattern = name.parse().unwrap();
            let alone = one.install(|| select(pattern, &values, &shape, 0.6));
            let together = many.install(|| select(pattern, &values, &shape, 0.6));
            assert!(alone == together, "{name} on {shape:?}");
            alone.verify(&pattern).unwrap();
            assert!(holds(pattern, &alone.to_bools(), &shape), "{name} on {shape:?}");
            // The rows in the middle are selected as if they were alone.
            if matches!(pattern, Pattern::NOfM(_) | Pattern::UnstructuredRow) && shape.len() == 2 {
                let row = shape[0] / 2;
                let range = row * shape[1]..(row + 1) * shape[1];
                let single = select(pattern, &values[range.clone()], &[1, shape[1]], 0.6);
                assert_eq!(single.to_bools(), alone.to_bools()[range], "{name}");
            }
        }
    }
}
