//! Do products that round their activations give the product of the rounded activations?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{SORTS, dense, numbers, weight};
use half::bf16;
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{
    Activation, Dispatcher, Epilogue, KernelError, KernelKind, Panels, Product, Tier, View,
    ViewMut, reference,
};
use secateur_storage::{Dtype, Packed};
use std::io::Write;

/// A product with rounded activations, or a word on why this machine has none.
fn rounded(packed: &Packed) -> Option<(Product, Dispatcher)> {
    let product = Dispatcher::with_tier(Tier::Avx512).and_then(|dispatcher| {
        let product = Product::with_kernel(packed, &dispatcher, KernelKind::NOfM)?;
        Ok((product.with_activation_dtype(packed.dtype())?, dispatcher))
    });
    if let Err(missing) = &product {
        let _ = writeln!(std::io::stderr(), "skipped: {missing}");
    }
    product.ok()
}

/// What activations become: the nearest bf16, or the nearest of 255 steps of the token's largest.
fn round(x: &[f32], cols: usize, dtype: Dtype) -> Vec<f32> {
    let tokens = x.chunks(cols);
    let round = |token: &[f32]| -> Vec<f32> {
        let most = token.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let step = |x: f32| if most == 0.0 { 0.0 } else { (x * (127.0 / most)).round_ties_even() };
        token
            .iter()
            .map(|x| match dtype {
                Dtype::BF16 => bf16::from_f32(*x).to_f32(),
                _ => step(*x) * (most / 127.0),
            })
            .collect()
    };
    tokens.flat_map(round).collect()
}

#[test]
fn of_the_rounded_activations_and_of_nothing_else() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    for case in 0..400 {
        let dtype = [Dtype::BF16, Dtype::I8][case % 2];
        let large = case % 40 < 2;
        let side = if large { 200..700 } else { 1..140 };
        let [rows, cols] = std::array::from_fn(|_| rng.random_range(side.clone()));
        let tokens = if large { 300 } else { rng.random_range(5..140) };
        let packed = weight(&mut rng, [rows, cols], SORTS[0], dtype);
        let Some((product, dispatcher)) = rounded(&packed) else { return };
        assert!(product.plan(tokens).kernel().ends_with(["-bf16", "-i8"][case % 2]));
        let x = numbers(&mut rng, tokens * cols);
        let bias = numbers(&mut rng, rows);
        let near = round(&x, cols, dtype);
        let expected = reference::product(&packed, &near, tokens);
        let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu };
        let mut y = vec![f32::NAN; tokens * rows];
        let view = View { data: &x, tokens, stride: cols };
        product.apply(view, &epilogue, ViewMut { data: &mut y, tokens, stride: rows }).unwrap();
        let mut from_panels = vec![f32::NAN; tokens * rows];
        let panels = Panels::pack(&x, tokens, cols, &dispatcher).unwrap();
        let mut out = Panels::zeros(tokens, rows, &dispatcher).unwrap();
        product.run_panels(&panels, &epilogue, &mut out).unwrap();
        out.unpack(&mut from_panels).unwrap();
        for (i, (y, panel)) in y.iter().zip(&from_panels).enumerate() {
            let expected = (expected[i] + f64::from(bias[i % rows])).max(0.0);
            // Sums of at most `cols` products below 1, in f32.
            let may = 1e-6 * cols as f64;
            for y in [y, panel] {
                let error = (f64::from(*y) - expected).abs();
                assert!(error <= may, "{rows}x{cols}, {tokens} tokens: {y}, not {expected}");
            }
        }
    }
}

#[test]
fn infinities_stay_with_their_token_and_column() {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    let packed = weight(&mut rng, [70, 61], SORTS[0], Dtype::BF16);
    let Some((product, _)) = rounded(&packed) else { return };
    let mut x = numbers(&mut rng, 20 * 61);
    x[3 * 61 + 17] = f32::INFINITY;
    x[5 * 61 + 60] = f32::NAN;
    let mut y = vec![0.0; 20 * 70];
    product.run(&x, 20, None, &mut y).unwrap();
    let entries = reference::entries(&packed).unwrap();
    for (token, column) in [(3, 17), (5, 60)] {
        for row in 0..70 {
            let kept = entries.iter().any(|entry| (entry.0, entry.1) == (row, column));
            assert_eq!(!y[token * 70 + row].is_finite(), kept, "token {token}, row {row}");
        }
    }
    let others = (0..20).filter(|token| ![3, 5].contains(token));
    assert!(others.flat_map(|token| &y[token * 70..][..70]).all(|y| y.is_finite()));
    // Nothing of it stays in scratch, whatever the next width is.
    for tokens in [100, 40, 16, 5] {
        let (x, mut y) = (numbers(&mut rng, tokens * 61), vec![f32::NAN; tokens * 70]);
        product.run(&x, tokens, None, &mut y).unwrap();
        assert!(y.iter().all(|y| y.is_finite()), "{tokens} tokens");
    }
}

/// A token's scale is that of its largest activation: without one, the token has no numbers.
#[test]
fn a_token_without_a_scale_is_nan() {
    let mut rng = ChaCha8Rng::seed_from_u64(24);
    let packed = weight(&mut rng, [70, 61], SORTS[0], Dtype::I8);
    let Some((product, _)) = rounded(&packed) else { return };
    let mut x = numbers(&mut rng, 20 * 61);
    x[3 * 61 + 17] = f32::INFINITY;
    x[5 * 61 + 60] = f32::NAN;
    x[7 * 61..8 * 61].fill(0.0);
    let mut y = vec![1.0; 20 * 70];
    product.run(&x, 20, None, &mut y).unwrap();
    for (token, y) in y.chunks(70).enumerate() {
        assert!(y.iter().all(|y| y.is_nan() == [3, 5].contains(&token)), "token {token}");
        assert!(token != 7 || y.iter().all(|y| *y == 0.0));
    }
}

#[test]
fn other_weights_are_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    let dispatcher = Dispatcher::built_in().unwrap();
    let floats = weight(&mut rng, [8, 64], SORTS[0], Dtype::F32);
    let plain = Packed::from(dense(numbers(&mut rng, 512), [8, 64], Dtype::BF16));
    for (packed, dtype) in [(&floats, Dtype::BF16), (&plain, Dtype::BF16), (&floats, Dtype::F64)] {
        let product = Product::new(packed, &dispatcher).unwrap();
        let refused = product.with_activation_dtype(dtype).unwrap_err();
        assert_eq!(refused, KernelError::Activations { dtype });
    }
    let product = Product::new(&floats, &dispatcher).unwrap();
    assert!(product.with_activation_dtype(Dtype::F32).is_ok());
}
