//! Do panels used again, and products out of them, give what token after token gives?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{
    Activation, Dispatcher, Epilogue, KernelError, KernelKind, Panels, Product, Tier, View, ViewMut,
};
use secateur_mask::{Pattern, Scores, Sparsity};
use secateur_storage::{Dense, Packed};

fn numbers(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn two_of_four(rng: &mut ChaCha8Rng, rows: usize, cols: usize) -> Packed {
    let [values, scores] = [(); 2].map(|()| numbers(rng, rows * cols));
    let (dense, pattern) = (Dense::new(values, &[rows, cols]).unwrap(), Pattern::TWO_OF_FOUR);
    let scores = Scores::new(scores, &[rows, cols]).unwrap();
    let mask = pattern.select(scores, Sparsity::new(0.5).unwrap()).unwrap();
    Packed::pack(&dense, &mask, pattern).unwrap()
}

#[test]
fn products_out_of_panels_are_those_of_tokens() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let tiers = [Tier::Avx512, Tier::Avx2, Tier::Portable];
    for dispatcher in tiers.into_iter().filter_map(|tier| Dispatcher::with_tier(tier).ok()) {
        for (rows, cols) in [(1, 1), (70, 33), (130, 100)] {
            let packed = two_of_four(&mut rng, rows, cols);
            for kind in [KernelKind::NOfM, KernelKind::Csr, KernelKind::Dense] {
                let product = Product::with_kernel(&packed, &dispatcher, kind).unwrap();
                let mut panels = Panels::zeros(0, cols, &dispatcher).unwrap();
                // Fewer tokens after more: what the longer ones left must not be seen.
                for tokens in [200, 17, 1, 0, 130] {
                    let (x, bias) = (numbers(&mut rng, tokens * cols), numbers(&mut rng, rows));
                    let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Gelu };
                    let stride = rows + 3;
                    let [mut found, mut expected] = [(); 2].map(|()| vec![7.0; tokens * stride]);
                    let view = View { data: &x, tokens, stride: cols };
                    let y = ViewMut { data: &mut expected, tokens, stride };
                    product.apply(view, &epilogue, y).unwrap();
                    panels.repack(&x).unwrap();
                    let y = ViewMut { data: &mut found, tokens, stride };
                    product.run_panels_to_tokens(&panels, &epilogue, y).unwrap();
                    // Another order of sums for few tokens: rounding differs.
                    let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
                    let most =
                        apart.fold(0.0, |most: f32, d| if d.is_nan() { d } else { most.max(d) });
                    assert!(most < 1e-5, "{most}: {kind:?} {rows}x{cols} {tokens} {dispatcher:?}");
                }
            }
        }
    }
}

#[test]
fn panels_grow_and_shrink_with_their_tokens() {
    let dispatcher = Dispatcher::probe().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut panels = Panels::zeros(3, 5, &dispatcher).unwrap();
    for tokens in [300, 2, 40] {
        let x = numbers(&mut rng, tokens * 5);
        panels.repack(&x).unwrap();
        let mut back = vec![0.0; x.len()];
        panels.unpack(&mut back).unwrap();
        assert_eq!((panels.tokens(), &back), (tokens, &x));
    }
    assert!(matches!(panels.repack(&[0.0; 7]), Err(KernelError::Length { what: "x", .. })));
    assert!(matches!(panels.resize(usize::MAX / 2), Err(KernelError::TooLarge { .. })));
    assert_eq!(panels.tokens(), 40);
}

#[test]
fn outputs_that_do_not_fit_are_refused() {
    let dispatcher = Dispatcher::probe().unwrap();
    let packed = two_of_four(&mut ChaCha8Rng::seed_from_u64(7), 6, 8);
    let product = Product::new(&packed, &dispatcher).unwrap();
    let x = Panels::zeros(20, 8, &dispatcher).unwrap();
    let narrow = Panels::zeros(20, 7, &dispatcher).unwrap();
    let run = |x: &Panels, len: usize, tokens: usize, stride: usize| {
        let mut y = vec![0.0; len];
        let y = ViewMut { data: &mut y, tokens, stride };
        product.run_panels_to_tokens(x, &Epilogue::default(), y)
    };
    assert!(run(&x, 120, 20, 6).is_ok());
    assert!(matches!(run(&narrow, 120, 20, 6), Err(KernelError::Length { .. })));
    assert!(matches!(run(&x, 120, 19, 6), Err(KernelError::Length { .. })));
    assert!(matches!(run(&x, 119, 20, 6), Err(KernelError::View { .. })));
    assert!(matches!(run(&x, 120, 20, 5), Err(KernelError::View { .. })));
    assert!(run(&x, 120, 20, usize::MAX).is_err());
    let bias = [0.0; 5];
    let mut y = [0.0; 120];
    let y = ViewMut { data: &mut y, tokens: 20, stride: 6 };
    let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
    assert!(product.run_panels_to_tokens(&x, &epilogue, y).is_err());
}
