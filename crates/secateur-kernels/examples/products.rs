//! How fast is each kernel here? Every product beside the dense one, alternating, in one run.
//!
//! `cargo run --release --example products -p secateur-kernels [ROWSxCOLS,...] [TOKENS,...] [ROUNDS]`

use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{Dispatcher, KernelKind, Product, Tier};
use secateur_mask::{Pattern, Scores, Sparsity};
use secateur_storage::{Dense, Packed};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let shapes = args.next().unwrap_or_else(|| "3072x768,300x784,384x384".into());
    let tokens = args.next().unwrap_or_else(|| "1,16,64,128,512".into());
    let rounds: usize = args.next().map_or(Ok(15), |text| text.parse())?;
    let rng = &mut ChaCha8Rng::seed_from_u64(0);
    println!(
        "{:>10} {:>6}  {:<14} {:>10} {:>9} {:>9}",
        "shape", "tokens", "kernel", "median us", "GFLOP/s", "vs dense"
    );
    for shape in shapes.split(',') {
        let (rows, cols) = shape.split_once('x').ok_or("a shape is ROWSxCOLS")?;
        let (rows, cols): (usize, usize) = (rows.parse()?, cols.parse()?);
        let mut random =
            |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let dense = Dense::new(random(rows * cols), &[rows, cols])?;
        let scores = random(rows * cols);
        let pack = |pattern: Pattern, share: f64| -> Result<Packed, Box<dyn std::error::Error>> {
            let scores = Scores::new(scores.as_slice(), &[rows, cols])?;
            Ok(Packed::pack(&dense, &pattern.select(scores, Sparsity::new(share)?)?, pattern)?)
        };
        let weights = [
            dense.clone().into(),
            pack(Pattern::TWO_OF_FOUR, 0.5)?,
            pack(Pattern::Unstructured, 0.92)?,
        ];
        let mut products = vec![];
        for tier in [Tier::Avx512, Tier::Avx2, Tier::Portable] {
            let Ok(dispatcher) = Dispatcher::with_tier(tier) else { continue };
            let kinds = [KernelKind::Dense, KernelKind::TwoFour, KernelKind::Csr];
            for (weight, kind) in weights.iter().zip(kinds).skip(usize::from(!products.is_empty()))
            {
                products.push(Product::with_kernel(weight, &dispatcher, kind)?);
            }
        }
        for tokens in tokens.split(',') {
            let tokens: usize = tokens.parse()?;
            let x = random(tokens * cols);
            let mut y = vec![0.0; tokens * rows];
            let mut times = vec![vec![]; products.len()];
            for _ in 0..rounds {
                for (product, times) in products.iter().zip(&mut times) {
                    let repeats = (2e6 / (rows * cols * tokens) as f64 * 20.0).ceil() as u32;
                    product.run(&x, tokens, None, &mut y)?;
                    let start = Instant::now();
                    for _ in 0..repeats {
                        product.run(&x, tokens, None, &mut y)?;
                    }
                    times.push(start.elapsed().as_secs_f64() / f64::from(repeats));
                }
            }
            let medians: Vec<f64> = times
                .iter_mut()
                .map(|t| {
                    t.sort_by(f64::total_cmp);
                    t[t.len() / 2]
                })
                .collect();
            for (product, median) in products.iter().zip(&medians) {
                let gflops = 2e-9 * (rows * cols * tokens) as f64 / median;
                println!(
                    "{shape:>10} {tokens:>6}  {:<14} {:>10.1} {gflops:>9.1} {:>8.2}x",
                    product.plan(tokens).kernel(),
                    median * 1e6,
                    medians[0] / median
                );
            }
        }
    }
    Ok(())
}
