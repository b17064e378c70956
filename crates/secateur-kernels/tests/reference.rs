//! Does every kernel of every tier give what the plain loop gives, on every ragged shape?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{Basis, Dispatcher, KernelError, KernelKind, Product, Tier, reference};
use secateur_mask::{Mask, Pattern, Scores, Sparsity};
use secateur_storage::{Dense, Packed};
use std::io::Write;

fn tiers() -> Vec<Dispatcher> {
    let all = [Tier::Avx512, Tier::Avx2, Tier::Portable];
    let found = all.map(Dispatcher::with_tier);
    for missing in found.iter().filter_map(|tier| tier.as_ref().err()) {
        // Straight to standard error: what eprintln! says is swallowed while tests pass.
        let _ = writeln!(std::io::stderr(), "skipped: {missing}");
    }
    found.into_iter().flatten().collect()
}

fn numbers(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn weight(rng: &mut ChaCha8Rng, rows: usize, cols: usize, pattern: Pattern, share: f64) -> Packed {
    let dense = Dense::new(numbers(rng, rows * cols), &[rows, cols]).unwrap();
    let scores = Scores::new(numbers(rng, rows * cols), &[rows, cols]).unwrap();
    let amount = pattern.fixed_sparsity().unwrap_or(Sparsity::new(share).unwrap());
    Packed::pack(&dense, &pattern.select(scores, amount).unwrap(), pattern).unwrap()
}

/// Largest error in units of the sum of the products' magnitudes: what rounding may cost.
fn worst_error(packed: &Packed, product: &Product, x: &[f32], tokens: usize, bias: &[f32]) -> f64 {
    let (rows, cols) = (product.rows(), product.cols());
    let mut y = vec![f32::NAN; tokens * rows];
    product.run(x, tokens, Some(bias), &mut y).unwrap();
    let expected = reference::product(packed, x, tokens);
    let mut scale = vec![1.0_f64; tokens * rows];
    for (row, col, value) in reference::entries(packed).unwrap() {
        for token in 0..tokens {
            scale[token * rows + row] += f64::from(value * x[token * cols + col]).abs();
        }
    }
    let error =
        |i: usize| (f64::from(y[i]) - expected[i] - f64::from(bias[i % rows])).abs() / scale[i];
    (0..y.len()).map(error).fold(0.0, |a: f64, b| if b.is_nan() { f64::NAN } else { a.max(b) })
}

#[test]
fn every_kernel_agrees_with_the_reference_on_ragged_shapes() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let sizes = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 129, 257, 300];
    let tokens = [1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 130, 200, 261];
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let pools = [pool(1), pool(3)];
    for dispatcher in tiers() {
        for case in 0..700 {
            let pick = |rng: &mut ChaCha8Rng, from: &[usize]| from[rng.random_range(0..from.len())];
            let (rows, cols) = (pick(&mut rng, &sizes), pick(&mut rng, &sizes));
            let tokens = pick(&mut rng, &tokens);
            let (pattern, share) = match case % 3 {
                0 => (Pattern::TWO_OF_FOUR, 0.5),
                1 => (Pattern::Unstructured, 0.9),
                _ => (Pattern::Unstructured, 0.1),
            };
            let packed = weight(&mut rng, rows, cols, pattern, share);
            let kind = match case % 3 {
                0 => KernelKind::NOfM,
                1 => KernelKind::Csr,
                _ => KernelKind::Dense,
            };
            let product = Product::with_kernel(&packed, &dispatcher, kind).unwrap();
            let (x, bias) = (numbers(&mut rng, tokens * cols), numbers(&mut rng, rows));
            let error =
                pools[case % 2].install(|| worst_error(&packed, &product, &x, tokens, &bias));
            let plan = product.plan(tokens);
            assert!(error < 1e-6, "{error} from {}", plan.explain());
            assert_eq!(plan.kind(), kind);
        }
    }
}

#[test]
fn what_the_dispatcher_lays_out_gives_the_same_numbers() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for dispatcher in tiers() {
        for (pattern, share) in [
            (Pattern::TWO_OF_FOUR, 0.5),
            (Pattern::Unstructured, 0.95),
            (Pattern::Unstructured, 0.0),
        ] {
            let packed = weight(&mut rng, 100, 300, pattern, share);
            let product = Product::new(&packed, &dispatcher).unwrap();
            for tokens in [1, 6, 100] {
                let (x, bias) = (numbers(&mut rng, tokens * 300), numbers(&mut rng, 100));
                assert!(worst_error(&packed, &product, &x, tokens, &bias) < 1e-6);
            }
        }
    }
}

#[test]
fn all_six_patterns_in_every_place() {
    let pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
    for dispatcher in tiers() {
        for (row, group, (low, high)) in
            (0..4).flat_map(|r| (0..17).flat_map(move |g| pairs.map(|p| (r, g, p))))
        {
            let (rows, cols) = (4, 68);
            let mut values = vec![0.0; rows * cols];
            values[row * cols + group * 4 + low] = 3.0;
            values[row * cols + group * 4 + high] = 5.0;
            let bits: Vec<bool> = values.iter().map(|v| *v != 0.0).collect();
            let mask = Mask::from_bools(&bits, &[rows, cols]).unwrap();
            let dense = Dense::new(values, &[rows, cols]).unwrap();
            let packed = Packed::pack(&dense, &mask, Pattern::TWO_OF_FOUR).unwrap();
            let product = Product::with_kernel(&packed, &dispatcher, KernelKind::NOfM).unwrap();
            for tokens in [1, 4, 16, 128] {
                let x: Vec<f32> = (0..tokens * cols).map(|i| (i % 1021) as f32).collect();
                let mut y = vec![f32::NAN; tokens * rows];
                product.run(&x, tokens, None, &mut y).unwrap();
                let y: Vec<f64> = y.into_iter().map(f64::from).collect();
                assert_eq!(y, reference::product(&packed, &x, tokens));
            }
        }
    }
}

#[test]
fn infinities_reach_only_the_outputs_that_keep_their_column() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for dispatcher in tiers() {
        for tokens in [1, 40] {
            let packed = weight(&mut rng, 40, 64, Pattern::TWO_OF_FOUR, 0.5);
            let product = Product::with_kernel(&packed, &dispatcher, KernelKind::NOfM).unwrap();
            let mut x = numbers(&mut rng, tokens * 64);
            x[5] = f32::INFINITY;
            let mut y = vec![0.0; tokens * 40];
            product.run(&x, tokens, None, &mut y).unwrap();
            let kept: Vec<usize> = reference::entries(&packed)
                .unwrap()
                .iter()
                .filter(|e| e.1 == 5)
                .map(|e| e.0)
                .collect();
            for (i, y) in y.iter().enumerate() {
                assert_eq!(y.is_infinite(), i < 40 && kept.contains(&i), "output {i}");
            }
        }
    }
}

/// Sums over nothing are the bias, whatever an earlier product left in memory.
#[test]
fn weights_without_columns_or_rows() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for dispatcher in tiers() {
        for kind in [KernelKind::Dense, KernelKind::NOfM, KernelKind::Csr] {
            let before = weight(&mut rng, 8, 64, Pattern::TWO_OF_FOUR, 0.5);
            let before = Product::with_kernel(&before, &dispatcher, kind).unwrap();
            for (rows, cols) in [(8, 0), (0, 8), (0, 0)] {
                let packed = weight(&mut rng, rows, cols, Pattern::TWO_OF_FOUR, 0.5);
                let product = Product::with_kernel(&packed, &dispatcher, kind).unwrap();
                let bias = numbers(&mut rng, rows);
                for tokens in [1, 20] {
                    let x = numbers(&mut rng, tokens * 64);
                    before.run(&x, tokens, None, &mut vec![0.0; tokens * 8]).unwrap();
                    let mut y = vec![f32::NAN; tokens * rows];
                    product.run(&x[..tokens * cols], tokens, Some(&bias), &mut y).unwrap();
                    assert_eq!(y, bias.repeat(tokens));
                }
            }
        }
    }
}

/// A ragged last group multiplies nothing that its row does not store.
#[test]
fn infinities_in_a_ragged_last_column() {
    for dispatcher in tiers() {
        for (kept, expected) in [(true, f32::INFINITY), (false, 3.0)] {
            let dense = Dense::new(vec![3.0, 0.0, 0.0, 0.0, 2.0], &[1, 5]).unwrap();
            let mask = Mask::from_bools(&[true, false, false, false, kept], &[1, 5]).unwrap();
            let packed = Packed::pack(&dense, &mask, Pattern::TWO_OF_FOUR).unwrap();
            let product = Product::with_kernel(&packed, &dispatcher, KernelKind::NOfM).unwrap();
            for tokens in [1, 9] {
                let x = [1.0, 1.0, 1.0, 1.0, f32::INFINITY].repeat(tokens);
                let mut y = vec![0.0; tokens];
                product.run(&x, tokens, None, &mut y).unwrap();
                assert_eq!(y, vec![expected; tokens]);
            }
        }
    }
}

#[test]
fn wrong_lengths_are_errors() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let packed = weight(&mut rng, 4, 8, Pattern::TWO_OF_FOUR, 0.5);
    let product = Product::new(&packed, &Dispatcher::probe().unwrap()).unwrap();
    let mut y = [0.0; 8];
    let length = |what, found, expected| Err(KernelError::Length { what, found, expected });
    assert_eq!(product.run(&[0.0; 15], 2, None, &mut y), length("x", 15, 16));
    assert_eq!(product.run(&[0.0; 16], 2, None, &mut y[1..]), length("y", 7, 8));
    assert_eq!(product.run(&[0.0; 16], 2, Some(&[0.0]), &mut y), length("bias", 1, 4));
    assert!(product.run(&[], usize::MAX, None, &mut y).is_err());
    assert_eq!(product.run(&[], 0, None, &mut []), Ok(()));
    let unstructured = weight(&mut rng, 4, 8, Pattern::Unstructured, 0.9);
    let dispatcher = Dispatcher::probe().unwrap();
    assert!(Product::with_kernel(&unstructured, &dispatcher, KernelKind::NOfM).is_err());
    let dense = Packed::from(unstructured.unpack());
    assert!(Product::with_kernel(&dense, &dispatcher, KernelKind::Csr).is_err());
}

/// Measured or planned, a product is the same numbers up to rounding, and says which it is.
#[test]
fn measured_products_are_the_same_product() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let dispatcher = Dispatcher::built_in().unwrap();
    for pattern in [Pattern::TWO_OF_FOUR, Pattern::Unstructured] {
        let packed = weight(&mut rng, 70, 130, pattern, 0.5);
        let product = Product::measured(&packed, &dispatcher, &[1, 16]).unwrap();
        for tokens in [1, 5, 16, 40] {
            let plan = product.plan(tokens);
            assert_eq!(plan.basis(), Basis::Measured);
            assert!(plan.explain().contains("a measured") && plan.time().as_nanos() > 0);
            let x = numbers(&mut rng, tokens * 130);
            let (mut y, mut expected) = (vec![0.0; tokens * 70], vec![0.0; tokens * 70]);
            product.run(&x, tokens, None, &mut y).unwrap();
            let dense = Product::with_kernel(&packed, &dispatcher, KernelKind::Dense).unwrap();
            dense.run(&x, tokens, None, &mut expected).unwrap();
            for (found, expected) in y.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
            }
        }
    }
    let packed = weight(&mut rng, 4, 8, Pattern::TWO_OF_FOUR, 0.5);
    for tokens in [&[][..], &[1, 0]] {
        let error = Product::measured(&packed, &dispatcher, tokens).unwrap_err();
        assert_eq!(error, KernelError::NothingToMeasure);
    }
}

/// Kernels compute in f32 whatever the weight is stored in: converted, scaled, or in any format.
#[test]
fn every_format_and_dtype_multiplies_as_the_numbers_it_stands_for() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let [rows, cols, tokens] = [24, 41, 9];
    for (format, pattern) in [
        ("2:4", "2:4"),
        ("4:8", "4:8"),
        ("8:16", "8:16"),
        ("bitmap", "unstructured"),
        ("csr", "unstructured"),
        ("block4x3", "block4x3"),
    ] {
        let floats = numbers(&mut rng, rows * cols);
        let halves: Vec<half::f16> = floats.iter().map(|w| half::f16::from_f32(*w)).collect();
        let plain = Dense::new(floats, &[rows, cols]).unwrap();
        let scores = Scores::new(numbers(&mut rng, rows * cols), &[rows, cols]).unwrap();
        let pattern: Pattern = pattern.parse().unwrap();
        let amount = pattern.fixed_sparsity().unwrap_or(Sparsity::new(0.8).unwrap());
        let mask = pattern.select(scores, amount).unwrap();
        let quantised = plain.quantise_i8().unwrap();
        for dense in [Dense::new(halves, &[rows, cols]).unwrap(), quantised, plain] {
            let packed = Packed::pack_as(&dense, &mask, format.parse().unwrap()).unwrap();
            let mut weight = dense.to_f32().unwrap().into_owned();
            mask.apply(&mut weight).unwrap();
            let x = numbers(&mut rng, tokens * cols);
            let dispatcher = Dispatcher::probe().unwrap();
            for kind in [KernelKind::Dense, KernelKind::NOfM, KernelKind::Csr] {
                let Ok(product) = Product::with_kernel(&packed, &dispatcher, kind) else {
                    assert!(kind == KernelKind::NOfM && format != "2:4", "{kind} {format}");
                    continue;
                };
                let mut y = vec![f32::NAN; tokens * rows];
                product.run(&x, tokens, None, &mut y).unwrap();
                for (index, y) in y.iter().enumerate() {
                    let (token, row) = (index / rows, index % rows);
                    let pairs = x[token * cols..].iter().zip(&weight[row * cols..][..cols]);
                    let expected: f64 = pairs.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                    assert!((f64::from(*y) - expected).abs() < 1e-4, "{kind} {format} {dense:?}");
                }
            }
        }
    }
}
