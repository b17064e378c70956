//! Are the softmax, the layer norm, GELU and attention what they are in f64, on every tier?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{Dispatcher, KernelError, Tier, attention, elementwise};
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

/// erf in f64, by a series of positive terms (Abramowitz & Stegun 7.1.6).
fn erf(x: f64) -> f64 {
    let (square, mut term, mut sum, mut n) = (x * x, x, x, 0.0);
    if square > 40.0 {
        return x.signum();
    }
    while term.abs() > 1e-17 * sum.abs() {
        n += 1.0;
        term *= 2.0 * square / (2.0 * n + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-square).exp() * sum
}

#[test]
fn gelu_is_exact() {
    for dispatcher in tiers() {
        let xs: Vec<f32> =
            (-40_000..40_000).map(|i| i as f32 * 5e-4).chain([-1e30, -3e3, 3e3, 1e30]).collect();
        let mut ys = xs.clone();
        elementwise::gelu(&dispatcher, &mut ys);
        for (x, y) in xs.iter().zip(ys) {
            let x = f64::from(*x);
            let expected = 0.5 * x * (1.0 + erf(x / 2.0_f64.sqrt()));
            let error = (f64::from(y) - expected).abs();
            assert!(error <= 5e-7 + 6e-8 * x.abs(), "{x}: {y}, not {expected}");
        }
        let mut odd = [f32::NAN, f32::INFINITY, 0.0, f32::NEG_INFINITY];
        elementwise::gelu(&dispatcher, &mut odd);
        assert!(odd[0].is_nan() && odd[1] == f32::INFINITY && odd[2] == 0.0);
        assert!(odd[3] <= 0.0 && odd[3] > -1e-29);
    }
}

fn numbers(rng: &mut ChaCha8Rng, count: usize, most: f32) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-most..most)).collect()
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let most = row.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = row.iter().map(|x| (x - most).exp()).sum();
    row.iter().map(|x| (x - most).exp() / sum).collect()
}

#[test]
fn softmax_and_layer_norm_agree_with_f64() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for dispatcher in tiers() {
        for width in [1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 100, 128, 384, 1000] {
            let rows = if width > 300 { 301 } else { 3 };
            let x = numbers(&mut rng, rows * width, 30.0);
            let mut y = x.clone();
            elementwise::softmax_rows(&dispatcher, &mut y, width).unwrap();
            for (x, y) in x.chunks(width).zip(y.chunks(width)) {
                let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
                for (expected, y) in softmax(&x).iter().zip(y) {
                    let error = (f64::from(*y) - expected).abs();
                    // The exponent's own rounding: half a unit of a number up to 60.
                    assert!(error < 5e-6 * expected + 1e-30, "{y}, not {expected}");
                }
            }

            let residual = numbers(&mut rng, rows * width, 1.0);
            let (weight, bias) = (numbers(&mut rng, width, 2.0), numbers(&mut rng, width, 2.0));
            for residual in [None, Some(&residual[..])] {
                let mut y = x.clone();
                elementwise::layer_norm(&dispatcher, &mut y, residual, &weight, &bias, 1e-3)
                    .unwrap();
                for row in 0..rows {
                    let at = |i: usize| row * width + i;
                    let input = |i: usize| {
                        f64::from(x[at(i)]) + residual.map_or(0.0, |r| f64::from(r[at(i)]))
                    };
                    let mean = (0..width).map(input).sum::<f64>() / width as f64;
                    let squares = (0..width).map(|i| (input(i) - mean).powi(2)).sum::<f64>();
                    let scale = 1.0 / (squares / width as f64 + 1e-3).sqrt();
                    for i in 0..width {
                        let expected = (input(i) - mean) * scale * f64::from(weight[i]);
                        let expected = expected + f64::from(bias[i]);
                        let error = (f64::from(y[at(i)]) - expected).abs();
                        // A row of one number is all cancellation: its own rounding, scaled up.
                        assert!(error < if width < 4 { 2e-4 } else { 2e-5 }, "{width} {error}");
                    }
                }
            }
        }
        let mut odd = [0.0, f32::NAN, 1.0];
        elementwise::softmax_rows(&dispatcher, &mut odd, 3).unwrap();
        assert!(odd.iter().all(|x| x.is_nan()));
        let mut far = [-1e30, 0.0, f32::NEG_INFINITY];
        elementwise::softmax_rows(&dispatcher, &mut far, 3).unwrap();
        assert!(far[1] == 1.0 && far[0] < 1e-37 && far[2] < 1e-37);
    }
}

#[test]
fn attention_agrees_with_f64_on_ragged_shapes() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let lists: [&[usize]; 7] =
        [&[1], &[2, 1, 5], &[16], &[17, 3], &[33, 0, 64], &[128], &[130, 7, 1, 61]];
    for dispatcher in tiers() {
        for (heads, width) in [(1, 1), (2, 3), (3, 8), (12, 32), (2, 33), (1, 64), (4, 80)] {
            for lengths in lists {
                let stride = heads * width;
                let count = lengths.iter().sum::<usize>() * stride;
                let [q, k, v] = [(); 3].map(|()| numbers(&mut rng, count, 2.0));
                let mut out = vec![f32::NAN; count];
                attention(&dispatcher, (heads, width), lengths, [&q, &k, &v], &mut out).unwrap();
                let mut first = 0;
                for length in lengths {
                    for (head, i) in (0..heads).flat_map(|h| (0..*length).map(move |i| (h, i))) {
                        let at = |x: &[f32], t: usize, d: usize| {
                            f64::from(x[(first + t) * stride + head * width + d])
                        };
                        let score = |j| {
                            let dot: f64 = (0..width).map(|d| at(&q, i, d) * at(&k, j, d)).sum();
                            dot / (width as f64).sqrt()
                        };
                        let weights = softmax(&(0..*length).map(score).collect::<Vec<_>>());
                        for d in 0..width {
                            let expected: f64 =
                                weights.iter().enumerate().map(|(j, w)| w * at(&v, j, d)).sum();
                            let error = (at(&out, i, d) - expected).abs();
                            assert!(error < 5e-6, "{heads} {width} {lengths:?}: {error}");
                        }
                    }
                    first += length;
                }
            }
        }
    }
}

#[test]
fn wrong_lengths_are_errors() {
    let dispatcher = Dispatcher::probe().unwrap();
    let length = |what, found, expected| Err(KernelError::Length { what, found, expected });
    let mut x = [0.0; 5];
    assert_eq!(elementwise::softmax_rows(&dispatcher, &mut x, 2), length("rows", 5, 4));
    assert_eq!(elementwise::softmax_rows(&dispatcher, &mut x, 0), length("rows", 5, 0));
    assert_eq!(elementwise::softmax_rows(&dispatcher, &mut [], 0), Ok(()));
    let mut norm = |residual, weight, bias| {
        elementwise::layer_norm(&dispatcher, &mut x, residual, weight, bias, 0.0)
    };
    assert_eq!(norm(None, &[1.0; 2], &[0.0; 2]), length("x", 5, 4));
    assert_eq!(norm(None, &[1.0; 5], &[0.0; 4]), length("bias", 4, 5));
    assert_eq!(norm(Some(&[0.0; 4]), &[1.0; 5], &[0.0; 5]), length("residual", 4, 5));
    let attend = |heads, lengths: &[usize], q: usize, out: usize| {
        let (q, k, mut out) = (vec![0.0; q], [0.0; 12], vec![0.0; out]);
        attention(&dispatcher, heads, lengths, [&q, &k, &k], &mut out)
    };
    assert_eq!(attend((2, 3), &[1, 1], 12, 12), Ok(()));
    assert_eq!(attend((2, 3), &[1, 1], 11, 12), length("q", 11, 12));
    assert_eq!(attend((2, 3), &[1, 1], 12, 13), length("out", 13, 12));
    assert_eq!(attend((2, 3), &[1, 2], 18, 18), length("k", 12, 18));
    assert!(attend((2, usize::MAX), &[1, 2], 12, 12).is_err());
    assert!(attend((2, 3), &[usize::MAX, 2], 12, 12).is_err());
}

/// Whatever bits a NaN has, no number comes of it.
#[test]
fn a_nan_makes_its_row_nan_and_no_other() {
    for dispatcher in tiers() {
        for bits in [u32::MAX, 0x7FFF_FFFF, 0x7FC0_0001, 0xFFC0_0000] {
            for at in [0, 20] {
                let mut rows = [0.5_f32; 3 * 21];
                rows[21 + at] = f32::from_bits(bits);
                elementwise::softmax_rows(&dispatcher, &mut rows, 21).unwrap();
                assert!(rows[21..42].iter().all(|x| x.is_nan()), "{bits:x} at {at}: {rows:?}");
                assert!(
                    rows[..21].iter().chain(&rows[42..]).all(|x| (x - 1.0 / 21.0).abs() < 1e-6)
                );
            }
        }
    }
}
