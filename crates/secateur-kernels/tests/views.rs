//! Does it matter where activations lie? Tokens any way apart, at any address, in any order of inputs:
//! the numbers are the same, and what lies between is left alone.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{DTYPES, Question, SORTS, numbers, products, tiers, weight, yardstick::Sums};
use proptest::prelude::*;
use rand::seq::SliceRandom;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{Panels, View, ViewMut};
use secateur_storage::Packed;

/// Where tokens lie in a larger buffer.
#[derive(Debug, Clone, Copy)]
struct Room {
    before: usize,
    between: usize,
    after: usize,
}

impl Room {
    fn any() -> impl Strategy<Value = Self> {
        (0..16_usize, 0..20_usize, 0..3_usize).prop_map(|(before, between, after)| Self {
            before,
            between,
            after,
        })
    }

    fn stride(self, features: usize) -> usize {
        features + self.between
    }

    /// The numbers of a buffer, and for each whether it belongs to a token.
    fn own(self, tokens: usize, features: usize) -> Vec<bool> {
        let stride = self.stride(features);
        let own = (0..tokens).flat_map(|token| {
            let last = token + 1 == tokens;
            (0..if last { features } else { stride }).map(move |at| at < features)
        });
        let [before, after] = [self.before, self.after].map(|count| vec![false; count]);
        [before, own.collect(), after].concat()
    }

    /// A buffer of `filler`, with `numbers` where tokens lie.
    fn spread(self, numbers: &[f32], tokens: usize, features: usize, filler: f32) -> Vec<f32> {
        let mut numbers = numbers.iter();
        let own = self.own(tokens, features).into_iter();
        own.map(|own| if own { *numbers.next().unwrap() } else { filler }).collect()
    }
}

/// A weight and a question.
fn problem() -> impl Strategy<Value = (Packed, Question, u64)> {
    let sizes = (1..140_usize, 1..140_usize, prop_oneof![0..6_usize, 6..140_usize]);
    (any::<u64>(), 0..SORTS.len(), 0..DTYPES.len(), sizes).prop_map(
        |(seed, sort, dtype, (rows, cols, tokens))| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let weight = weight(&mut rng, [rows, cols], SORTS[sort], DTYPES[dtype]);
            let question = Question::new(&mut rng, [rows, cols], tokens);
            (weight, question, seed)
        },
    )
}

/// What nobody should write, and a sum should not read.
const SENTINEL: f32 = f32::from_bits(0x7FC0_DEAD);

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn gaps_are_neither_read_nor_written(
        (weight, question, _) in problem(), from in Room::any(), to in Room::any(),
    ) {
        let ((rows, cols), tokens) = (weight.matrix(), question.tokens);
        let sums = Sums::of(&weight, &question.x, tokens);
        let x = from.spread(&question.x, tokens, cols, f32::NAN);
        for dispatcher in tiers() {
            for (_, product) in products(&weight, &dispatcher) {
                let mut y = vec![SENTINEL; to.own(tokens, rows).len()];
                let view = View { data: &x[from.before..], tokens, stride: from.stride(cols) };
                let data = &mut y[to.before..];
                let view_mut = ViewMut { data, tokens, stride: to.stride(rows) };
                product.apply(view, &question.epilogue(), view_mut).unwrap();
                let mut found = vec![];
                for (at, own) in to.own(tokens, rows).into_iter().enumerate() {
                    if own {
                        found.push(y[at]);
                    } else {
                        prop_assert_eq!(y[at].to_bits(), SENTINEL.to_bits(), "number {}", at);
                    }
                }
                if let Err(wrong) = sums.check(&question, &found) {
                    prop_assert!(false, "{} in {}", wrong, product.plan(tokens).explain());
                }
            }
        }
    }

    #[test]
    fn an_order_of_inputs_is_a_permutation_of_x((weight, question, seed) in problem()) {
        let ((rows, cols), tokens) = (weight.matrix(), question.tokens);
        let mut order: Vec<usize> = (0..cols).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        // Input `i` is what column `order[i]` multiplies.
        let mut x = vec![0.0; tokens * cols];
        for (at, value) in question.x.iter().enumerate() {
            x[at / cols * cols + order[at % cols]] = *value;
        }
        let bias = question.bias.as_deref();
        for dispatcher in tiers() {
            for (kind, product) in products(&weight, &dispatcher) {
                let [mut expected, mut found] = [(); 2].map(|()| vec![f32::NAN; tokens * rows]);
                product.run(&x, tokens, bias, &mut expected).unwrap();
                let product = product.with_input_order(&order).unwrap();
                product.run(&question.x, tokens, bias, &mut found).unwrap();
                prop_assert_eq!(&found, &expected, "{} {:?}", kind, dispatcher.tier());
            }
        }
    }

    #[test]
    fn panels_come_back(seed: u64, tokens in 0..300_usize, features in 0..200_usize) {
        let x = numbers(&mut ChaCha8Rng::seed_from_u64(seed), tokens * features);
        for dispatcher in tiers() {
            let panels = Panels::pack(&x, tokens, features, &dispatcher).unwrap();
            let mut back = vec![f32::NAN; x.len()];
            panels.unpack(&mut back).unwrap();
            prop_assert_eq!(&back, &x);
            let mut next = 0;
            for panel in panels.iter() {
                prop_assert_eq!(panel.first, next);
                prop_assert!(0 < panel.tokens && panel.tokens <= panel.width);
                prop_assert_eq!(panel.data.len(), features * panel.width);
                for (token, feature) in (0..panel.tokens).flat_map(|t| (0..features).map(move |f| (t, f))) {
                    let expected = x[(panel.first + token) * features + feature];
                    prop_assert_eq!(panel.data[feature * panel.width + token], expected);
                }
                next += panel.tokens;
            }
            prop_assert_eq!(next, tokens);
        }
    }
}
