//! What does a call that cannot be right get? An error that names what is wrong, never a panic, and
//! nothing written.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{SORTS, products, tiers, weight};
use proptest::{prelude::*, sample::select};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{
    Dispatcher, Epilogue, KernelError, KernelKind, Panels, Product, Tier, View, ViewMut,
    elementwise,
};
use secateur_storage::{Dtype, Packed};

const ROWS: usize = 5;
const COLS: usize = 9;

/// One weight for each kind of kernel.
fn weights() -> Vec<Packed> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let sorts = [SORTS[0], SORTS[2], SORTS[10], SORTS[13]];
    sorts.map(|sort| weight(&mut rng, [ROWS, COLS], sort, Dtype::F32)).to_vec()
}

fn length(what: &'static str, found: usize, expected: usize) -> Result<(), KernelError> {
    Err(KernelError::Length { what, found, expected })
}

/// Counts that overflow, wrap to something small, or are just off.
fn counts() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..=12_usize,
        select(vec![
            usize::MAX,
            usize::MAX - 1,
            usize::MAX / 2 + 1,
            usize::MAX / COLS + 1,
            usize::MAX / ROWS + 1,
            isize::MAX as usize,
            1 << 32,
            1 << 62,
            (1 << 62) + 1,
        ]),
    ]
}

/// Whether a view holds its tokens, in numbers that do not overflow.
fn holds(len: usize, tokens: usize, stride: usize, features: usize) -> bool {
    let [len, tokens, stride, features] = [len, tokens, stride, features].map(|n| n as u128);
    tokens == 0 || (len >= (tokens - 1) * stride + features && (tokens == 1 || stride >= features))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 100_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn views_are_taken_if_they_hold_their_tokens(
        lens in [0..=64_usize, 0..=64],
        tokens in counts(),
        other in prop_oneof![4 => Just(None), 1 => counts().prop_map(Some)],
        strides in [counts(), counts()],
        bias in prop_oneof![2 => Just(None), 2 => Just(Some(ROWS)), 1 => (0..8_usize).prop_map(Some)],
    ) {
        let ([x, mut y], [x_stride, y_stride]) = (lens.map(|len| vec![1.0; len]), strides);
        let (y_tokens, bias) = (other.unwrap_or(tokens), bias.map(|len| vec![0.0; len]));
        let right = y_tokens == tokens
            && holds(x.len(), tokens, x_stride, COLS)
            && holds(y.len(), tokens, y_stride, ROWS)
            && bias.as_ref().is_none_or(|bias| bias.len() == ROWS);
        for weight in weights() {
            for (_, product) in products(&weight, &Dispatcher::probe().unwrap()) {
                let before = y.clone();
                let epilogue = Epilogue { bias: bias.as_deref(), ..Epilogue::default() };
                let from = View { data: &x, tokens, stride: x_stride };
                let to = ViewMut { data: &mut y, tokens: y_tokens, stride: y_stride };
                let result = product.apply(from, &epilogue, to);
                prop_assert_eq!(result.is_ok(), right, "{:?}", result);
                prop_assert!(right || y == before);
            }
        }
    }

    #[test]
    fn runs_are_taken_if_lengths_are_exact(
        lens in [0..=64_usize, 0..=64], tokens in counts(),
    ) {
        let [x, mut y] = lens.map(|len| vec![1.0; len]);
        let exact = |len: usize, features: usize| len as u128 == tokens as u128 * features as u128;
        let right = exact(x.len(), COLS) && exact(y.len(), ROWS);
        for weight in weights() {
            let product = Product::new(&weight, &Dispatcher::probe().unwrap()).unwrap();
            prop_assert_eq!(product.run(&x, tokens, None, &mut y).is_ok(), right);
        }
    }

    #[test]
    fn orders_are_taken_if_they_are_permutations(
        order in proptest::collection::vec(counts(), 0..=COLS + 1), right: bool,
    ) {
        let order = if right { (0..COLS).rev().collect() } else { order };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        let expected = sorted == (0..COLS).collect::<Vec<_>>();
        let product = Product::new(&weights()[0], &Dispatcher::probe().unwrap()).unwrap();
        match product.with_input_order(&order) {
            Ok(_) => prop_assert!(expected),
            Err(error) => {
                prop_assert!(!expected);
                prop_assert_eq!(error, KernelError::Order { cols: COLS });
            }
        }
    }

    /// Only sizes that fit no memory: a count of bytes that an address space holds is asked of it.
    #[test]
    fn panels_too_large_to_address_are_refused(tokens in counts(), features in counts()) {
        let numbers = (tokens as u128 + 16).saturating_mul(features as u128 + 64);
        let too_many = tokens as u128 * features as u128 > isize::MAX as u128 / 4;
        prop_assume!(numbers < 1 << 18 || too_many);
        let dispatcher = Dispatcher::probe().unwrap();
        prop_assert_eq!(Panels::zeros(tokens, features, &dispatcher).is_ok(), !too_many);
    }

    /// The numbers handed over are counted before memory is asked for.
    #[test]
    fn panels_of_other_lengths_are_refused(
        len in 0..64_usize, tokens in counts(), features in counts(),
    ) {
        prop_assume!(len as u128 != tokens as u128 * features as u128);
        let dispatcher = Dispatcher::probe().unwrap();
        prop_assert!(Panels::pack(&vec![0.0; len], tokens, features, &dispatcher).is_err());
    }
}

#[test]
fn what_is_wrong_is_named() {
    let dispatcher = Dispatcher::probe().unwrap();
    for weight in weights() {
        for (_, product) in products(&weight, &dispatcher) {
            let mut y = [7.0; 2 * ROWS];
            let x = [0.0; 2 * COLS];
            assert_eq!(product.run(&x[1..], 2, None, &mut y), length("x", 17, 18));
            assert_eq!(product.run(&x, 2, None, &mut y[1..]), length("y", 9, 10));
            assert_eq!(product.run(&x, 2, Some(&[0.0]), &mut y), length("bias", 1, 5));
            let error = KernelError::TooLarge { rows: ROWS, cols: COLS, tokens: usize::MAX };
            assert_eq!(product.run(&[], usize::MAX, None, &mut y), Err(error));
            let (short, stride) = (View { data: &x, tokens: 2, stride: COLS - 1 }, ROWS);
            let to = ViewMut { data: &mut y, tokens: 2, stride };
            let error = product.apply(short, &Epilogue::default(), to);
            assert!(matches!(error, Err(KernelError::View { what: "x", stride: 8, .. })));
            assert_eq!(y, [7.0; 2 * ROWS]);
            assert_eq!(product.run(&[], 0, None, &mut []), Ok(()));
        }
    }
}

#[test]
fn kernels_refuse_formats_that_they_cannot_run() {
    let dispatcher = Dispatcher::probe().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut refused = |sort, kind| {
        let weight = weight(&mut rng, [ROWS, COLS], sort, Dtype::F32);
        let format = weight.format();
        let error = Product::with_kernel(&weight, &dispatcher, kind).unwrap_err();
        assert_eq!(error, KernelError::UnsupportedFormat { kind, format });
    };
    refused(SORTS[10], KernelKind::NOfM);
    refused(SORTS[10], KernelKind::Block);
    refused(SORTS[18], KernelKind::Csr);
    refused(SORTS[0], KernelKind::Block);
    refused(("3:4", "3:4", 0.25), KernelKind::NOfM);
    refused(("1:16", "1:16", 0.9), KernelKind::NOfM);
    refused(("2:6", "2:6", 0.5), KernelKind::NOfM);
    refused(("block3x3", "block3x3", 0.5), KernelKind::Block);
}

#[test]
fn panels_of_something_else_are_refused() {
    let probed = Dispatcher::probe().unwrap();
    let none = Epilogue::default();
    for weight in weights() {
        for (_, product) in products(&weight, &probed) {
            let zeros = |tokens, features| Panels::zeros(tokens, features, &probed).unwrap();
            let (x, mut y) = (zeros(3, COLS), zeros(3, ROWS));
            let wrong = product.run_panels(&zeros(3, COLS + 1), &none, &mut y);
            assert_eq!(wrong, length("x, counted in features,", COLS + 1, COLS));
            let wrong = product.run_panels(&x, &none, &mut zeros(3, COLS));
            assert_eq!(wrong, length("y, counted in features,", COLS, ROWS));
            let wrong = product.run_panels(&zeros(4, COLS), &none, &mut y);
            assert_eq!(wrong, length("y, counted in tokens,", 3, 4));
            let short = Epilogue { bias: Some(&[1.0]), ..none };
            assert_eq!(product.run_panels(&x, &short, &mut y), length("bias", 1, ROWS));
            assert_eq!(x.unpack(&mut [0.0; 5]), length("y", 5, 3 * COLS));
            for other in tiers().iter().filter(|other| other.tier() != probed.tier()) {
                let from = Panels::zeros(3, COLS, other).unwrap();
                let mut to = Panels::zeros(3, ROWS, other).unwrap();
                assert_eq!(product.run_panels(&from, &none, &mut y), Err(KernelError::Panels));
                assert_eq!(product.run_panels(&x, &none, &mut to), Err(KernelError::Panels));
            }
            let order: Vec<usize> = (0..COLS).collect();
            let ordered = product.with_input_order(&order).unwrap();
            assert_eq!(ordered.run_panels(&x, &none, &mut y), Err(KernelError::Panels));
        }
    }
}

#[test]
fn elementwise_functions_count_their_rows() {
    let portable = Dispatcher::with_tier(Tier::Portable).unwrap();
    let mut x = [0.5; 6];
    assert_eq!(elementwise::softmax_rows(&portable, &mut x, 4), length("rows", 6, 4));
    assert_eq!(elementwise::softmax_rows(&portable, &mut x, 0), length("rows", 6, 0));
    assert_eq!(elementwise::softmax_rows(&portable, &mut [], 0), Ok(()));
    let norm = |x: &mut [f32], residual: Option<&[f32]>, weight: &[f32], bias: &[f32]| {
        elementwise::layer_norm(&portable, x, residual, weight, bias, 1e-5)
    };
    assert_eq!(norm(&mut x, None, &[1.0; 4], &[0.0; 4]), length("x", 6, 4));
    assert_eq!(norm(&mut x, None, &[1.0; 3], &[0.0; 2]), length("bias", 2, 3));
    assert_eq!(norm(&mut x, Some(&[0.0; 5]), &[1.0; 3], &[0.0; 3]), length("residual", 5, 6));
    assert_eq!(x, [0.5; 6]);
}
