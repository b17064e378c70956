//! Do selection and proof agree on any shape, any pattern and any scores?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use proptest::prelude::*;
use secateur_mask::{Mask, Pattern, Scores, Sparsity};

fn patterns() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        Just("unstructured".to_owned()),
        Just("channel".to_owned()),
        Just("input-channel".to_owned()),
        (1_usize..20).prop_flat_map(|m| (1..=m).prop_map(move |n| format!("{n}:{}", m + 1))),
        (1_usize..5, 1_usize..5).prop_map(|(r, c)| format!("block{r}x{c}")),
    ]
    .prop_map(|name| name.parse().expect("a valid name"))
}

/// Small integers, so that ties are common.
fn scores() -> impl Strategy<Value = (Vec<f32>, [usize; 2])> {
    (0_usize..9, 0_usize..70).prop_flat_map(|(rows, cols)| {
        let values = prop::collection::vec((-3_i8..4).prop_map(f32::from), rows * cols);
        (values, Just([rows, cols]))
    })
}

proptest! {
    #[test]
    fn what_select_makes_verify_accepts((values, shape) in scores(), pattern in patterns(), share in 0.0..=1.0) {
        let amount = pattern.fixed_sparsity().unwrap_or(Sparsity::new(share).unwrap());
        let mask = pattern.select(Scores::new(&values, &shape).unwrap(), amount).unwrap();
        prop_assert!(mask.verify(&pattern).is_ok());
        prop_assert_eq!(mask.shape(), &shape);
    }

    #[test]
    fn unstructured_counts_are_exact_and_nothing_cut_beats_what_is_kept((values, shape) in scores(), share in 0.0..=1.0) {
        let amount = Sparsity::new(share).unwrap();
        let mask = Pattern::Unstructured.select(Scores::new(&values, &shape).unwrap(), amount).unwrap();
        prop_assert_eq!(mask.len() - mask.count_kept(), amount.cut_of(values.len()));
        let rank = |kept| values.iter().zip(mask.iter()).enumerate()
            .filter(move |(_, (_, k))| *k == kept).map(|(i, (v, _))| (*v, usize::MAX - i));
        let worst_kept = rank(true).min_by(|a, b| a.partial_cmp(b).unwrap());
        let best_cut = rank(false).max_by(|a, b| a.partial_cmp(b).unwrap());
        if let (Some(kept), Some(cut)) = (worst_kept, best_cut) {
            prop_assert!(kept > cut);
        }
    }

    #[test]
    fn n_of_m_keeps_exactly_n_of_every_whole_group((values, shape) in scores(), m in 2_usize..20, n in 1_usize..19) {
        prop_assume!(n < m);
        let pattern: Pattern = format!("{n}:{m}").parse().unwrap();
        let mask = pattern.select(Scores::new(&values, &shape).unwrap(), pattern.fixed_sparsity().unwrap()).unwrap();
        let bits = mask.to_bools();
        for row in bits.chunks(shape[1].max(1)) {
            for group in row.chunks(m) {
                prop_assert_eq!(group.iter().filter(|b| **b).count(), n.min(group.len()));
            }
        }
    }

    #[test]
    fn positive_scaling_changes_nothing((values, shape) in scores(), pattern in patterns(), share in 0.0..=1.0) {
        let amount = pattern.fixed_sparsity().unwrap_or(Sparsity::new(share).unwrap());
        let scaled: Vec<f32> = values.iter().map(|v| v * 8.0).collect();
        prop_assert_eq!(
            pattern.select(Scores::new(&values, &shape).unwrap(), amount).unwrap(),
            pattern.select(Scores::new(&scaled, &shape).unwrap(), amount).unwrap()
        );
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
