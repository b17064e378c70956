//! Does the direct convolution give what the definition gives, for every geometry, on every tier?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{Conv2dGeometry, Conv2dProduct, Dispatcher, KernelError, Tier};
use secateur_mask::{Pattern, Scores, Sparsity};
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

/// The definition, in f64: every output, every tap, zeros outside the image.
fn definition(
    weight: &[f32],
    [outputs, inputs, high, wide]: [usize; 4],
    geometry: Conv2dGeometry,
    x: &[f32],
    (batch, size): (usize, (usize, usize)),
    (out_high, out_wide): (usize, usize),
) -> Vec<f64> {
    let Conv2dGeometry { stride, padding, dilation, groups } = geometry;
    let mut y = Vec::new();
    for image in 0..batch {
        for output in 0..outputs {
            for (oy, ox) in (0..out_high).flat_map(|oy| (0..out_wide).map(move |ox| (oy, ox))) {
                let mut sum = 0.0;
                for input in 0..inputs {
                    let channel = output / (outputs / groups) * inputs + input;
                    let channel = image * inputs * groups + channel;
                    for (ky, kx) in (0..high).flat_map(|ky| (0..wide).map(move |kx| (ky, kx))) {
                        let (row, col) = (oy * stride + ky * dilation, ox * stride + kx * dilation);
                        let inside = |at: usize, side: usize| {
                            at.checked_sub(padding).filter(|at| *at < side)
                        };
                        if let (Some(row), Some(col)) = (inside(row, size.0), inside(col, size.1)) {
                            let w = weight[((output * inputs + input) * high + ky) * wide + kx];
                            let x = x[(channel * size.0 + row) * size.1 + col];
                            sum += f64::from(w) * f64::from(x);
                        }
                    }
                }
                y.push(sum);
            }
        }
    }
    y
}

#[test]
fn every_geometry_agrees_with_the_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let pools = [pool(1), pool(3)];
    let (mut ran, mut refused) = (0, 0);
    for dispatcher in tiers() {
        for case in 0..400 {
            let mut pick = |from: std::ops::RangeInclusive<usize>| rng.random_range(from);
            let groups = pick(1..=3);
            let shape = [groups * pick(1..=5), pick(1..=5), pick(1..=5), pick(1..=5)];
            let geometry = Conv2dGeometry {
                stride: pick(1..=4),
                padding: pick(0..=4),
                dilation: pick(1..=3),
                groups,
            };
            // Few images lie side by side, many under the lanes.
            let batch = if case % 3 == 0 { pick(8..=37) } else { pick(1..=3) };
            let mut size = (pick(1..=30), pick(1..=40));
            if case % 50 == 0 {
                size = (70, 65); // Enough work for a second thread.
            }
            let count = shape.iter().product();
            let dense = Dense::new(numbers(&mut rng, count), &shape).unwrap();
            let pattern: Pattern =
                ["unstructured", "2:4", "4:8", "channel"][case % 4].parse().unwrap();
            let amount = pattern.fixed_sparsity().unwrap_or(Sparsity::new(0.7).unwrap());
            let scores = Scores::new(numbers(&mut rng, count), &shape).unwrap();
            let mask = pattern.select(scores, amount).unwrap();
            let packed = match case % 5 {
                0 => dense.clone().into(),
                _ => Packed::pack(&dense, &mask, pattern).unwrap(),
            };
            let product = Conv2dProduct::new(&packed, geometry, &dispatcher).unwrap();
            let Ok(output) = product.output(size) else {
                refused += 1;
                continue;
            };
            let x = numbers(&mut rng, batch * product.inputs() * size.0 * size.1);
            let bias = numbers(&mut rng, shape[0]);
            let weight = packed.unpack();
            let expected =
                definition(&weight.to_f32().unwrap(), shape, geometry, &x, (batch, size), output);
            let mut y = vec![f32::NAN; expected.len()];
            // Twice: the second call finds the offsets, and what the first left in the planes.
            for (bias, relu) in [(None, true), (Some(&bias[..]), case % 2 == 0)] {
                pools[case / 2 % 2]
                    .install(|| product.run(&x, batch, size, bias, relu, &mut y))
                    .unwrap();
                for (i, (y, expected)) in y.iter().zip(&expected).enumerate() {
                    let channel = i / (output.0 * output.1) % shape[0];
                    let expected = expected + f64::from(bias.map_or(0.0, |bias| bias[channel]));
                    let expected = if relu { expected.max(0.0) } else { expected };
                    let error = (f64::from(*y) - expected).abs();
                    assert!(error < 2e-5, "{shape:?} {geometry:?} {size:?} at {i}: {error}");
                }
            }
            ran += 1;
        }
    }
    assert!(ran > 300 && refused > 10, "{ran} {refused}");
}

/// Whatever lies under the lanes, an image's outputs are the same to the bit.
#[test]
fn an_image_does_not_depend_on_its_batch() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let geometry = Conv2dGeometry { stride: 2, padding: 1, ..Conv2dGeometry::default() };
    for dispatcher in tiers() {
        let shape = [7, 3, 3, 3];
        let dense = Dense::new(numbers(&mut rng, 189), &shape).unwrap();
        let product = Conv2dProduct::new(&dense.into(), geometry, &dispatcher).unwrap();
        let (high, wide) = product.output((11, 18)).unwrap();
        let (image, pixels) = (3 * 11 * 18, 7 * high * wide);
        let (x, bias) = (numbers(&mut rng, 37 * image), numbers(&mut rng, 7));
        let run = |x: &[f32]| {
            let mut y = vec![f32::NAN; x.len() / image * pixels];
            product.run(x, x.len() / image, (11, 18), Some(&bias), true, &mut y).unwrap();
            y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let alone: Vec<u32> = x.chunks_exact(image).flat_map(run).collect();
        assert!(run(&x) == alone, "{dispatcher:?}");
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let dispatcher = Dispatcher::probe().unwrap();
    let weight = |shape: &[usize]| {
        Packed::from(Dense::new(vec![1.0; shape.iter().product()], shape).unwrap())
    };
    let geometry = Conv2dGeometry { padding: 1, groups: 2, ..Conv2dGeometry::default() };
    let product = Conv2dProduct::new(&weight(&[4, 3, 2, 5]), geometry, &dispatcher).unwrap();
    assert_eq!((product.inputs(), product.output((4, 6))), (6, Ok((5, 4))));
    assert!(product.output((4, 2)).is_err());
    assert!(product.output((usize::MAX, 6)).is_err());
    let length = |what, found, expected| Err(KernelError::Length { what, found, expected });
    let run = |x: usize, batch, bias: usize, y: usize| {
        let (x, bias, mut y) = (vec![0.0; x], vec![0.0; bias], vec![0.0; y]);
        product.run(&x, batch, (4, 6), Some(&bias), false, &mut y)
    };
    assert_eq!(run(288, 2, 4, 160), Ok(()));
    assert_eq!(run(287, 2, 4, 160), length("x", 287, 288));
    assert_eq!(run(288, 2, 4, 161), length("y", 161, 160));
    assert_eq!(run(288, 2, 3, 160), length("bias", 3, 4));
    assert_eq!(run(0, 0, 4, 0), Ok(()));
    assert!(run(0, usize::MAX, 4, 0).is_err());
    for (shape, geometry) in [
        (&[4, 6][..], Conv2dGeometry::default()),
        (&[4, 3, 2, 5], Conv2dGeometry { groups: 3, ..geometry }),
        (&[4, 3, 2, 5], Conv2dGeometry { groups: 0, ..geometry }),
        (&[4, 3, 2, 5], Conv2dGeometry { stride: 0, ..geometry }),
        (&[4, 3, 2, 5], Conv2dGeometry { dilation: 0, ..geometry }),
    ] {
        assert!(Conv2dProduct::new(&weight(shape), geometry, &dispatcher).is_err(), "{geometry:?}");
    }
    let far = Conv2dGeometry { padding: 1 << 40, ..Conv2dGeometry::default() };
    let product = Conv2dProduct::new(&weight(&[1, 1, 1, 1]), far, &dispatcher).unwrap();
    assert!(product.run(&[0.0], 1, (1, 1), None, false, &mut [0.0]).is_err());
    let wide = Conv2dGeometry { stride: 1 << 61, ..Conv2dGeometry::default() };
    let product = Conv2dProduct::new(&weight(&[1, 1, 1, 1]), wide, &dispatcher).unwrap();
    let (xs, mut ys) = ([2.0; 40], [0.0; 40]);
    product.run(&xs, 40, (1, 1), None, false, &mut ys).unwrap();
    assert_eq!(ys, xs);
    // Nothing but padding: every output is the bias, whatever ran before.
    let tap = Conv2dProduct::new(
        &weight(&[1, 1, 1, 1]),
        Conv2dGeometry { groups: 1, ..geometry },
        &dispatcher,
    );
    let (tap, mut y) = (tap.unwrap(), vec![f32::NAN; 40 * 14]);
    tap.run(&[7.0; 40 * 30], 40, (5, 6), None, false, &mut vec![0.0; 40 * 56]).unwrap();
    tap.run(&[], 40, (0, 5), Some(&[3.0]), false, &mut y).unwrap();
    assert!(y.iter().all(|y| *y == 3.0));
    // A kernel without taps fits nothing.
    let product = Conv2dProduct::new(&weight(&[1, 1, 0, 1]), geometry, &dispatcher);
    assert!(product.is_err() || product.unwrap().output((3, 3)).is_err());
}
