//! How long does a training step take, and what do masks add to it?
//!
//! `RAYON_NUM_THREADS=1 cargo bench -p secateur-train --bench step`. A step is what `fit` does: dropout,
//! forward, loss, backward, AdamW. Dense and masked networks take their steps in turn, and what is counted is
//! the process's time on processors, where the system tells (Linux), so that a busy machine is no matter.
#![allow(missing_docs, reason = "a benchmark is no library")]

use candle_core::{Device, Tensor, utils::get_num_threads};
use candle_nn::loss::cross_entropy;
use rand::{Rng, RngExt};
use secateur_criteria::seed;
use secateur_mask::{Mask, Pattern, Scores, Sparsity};
use secateur_nn::{Dropout, LeNet5, Mlp, Network, weight_name};
use secateur_train::{AdamW, Masked, Optimizer};
use std::{collections::BTreeMap, fs, time::Instant};

const BATCH: usize = 128;
/// What is timed: a name, a pattern and the share that goes; the first is what others are held against.
const CASES: [(&str, Option<(Pattern, f64)>); 3] = [
    ("dense", None),
    ("unstructured at 0.9", Some((Pattern::Unstructured, 0.9))),
    ("2:4", Some((Pattern::TWO_OF_FOUR, 0.5))),
];
/// How many times a dense step a masked one may take.
const MOST: f64 = 1.10;

/// A network on its way, with dropout for hidden units and inputs.
struct Trained<N> {
    network: N,
    optimizer: Masked<AdamW>,
    hidden: Dropout,
    inputs: Dropout,
    step: u64,
}

impl<N: Network> Trained<N> {
    fn new(mut network: N, cut: Option<(Pattern, f64)>) -> Self {
        let mut masks = BTreeMap::new();
        if let Some((pattern, share)) = cut {
            let amount = Sparsity::new(share).expect("a share");
            for (name, layer) in network.layers_mut() {
                let weight = layer.weight().expect("a trainable weight");
                let scores = weight.flatten_all().and_then(|w| w.abs()?.to_vec1::<f32>());
                let scores = Scores::new(scores.expect("numbers"), layer.shape()).expect("scores");
                let mask: Mask = pattern.select(scores, amount).expect("scores of this shape");
                layer.set_mask(mask.clone()).expect("a mask of this shape");
                masks.insert(weight_name(&name), mask);
            }
        }
        let adamw = AdamW::new(network.parameters(), 1e-3, 1e-4).expect("parameters");
        let optimizer = Masked::new(adamw, &masks).expect("masks of these shapes");
        let (hidden, inputs) = (Dropout::new(0.4, 0, "hidden"), Dropout::new(0.1, 0, "inputs"));
        Self { network, optimizer, hidden, inputs, step: 0 }
    }

    /// One step; returns the loss.
    fn step(&mut self, xs: &Tensor, ys: &Tensor) -> candle_core::Result<f32> {
        self.hidden.at(self.step);
        self.inputs.at(self.step);
        self.step += 1;
        let xs = self.inputs.forward(xs)?;
        let logits = self.network.forward_train(&xs, &mut self.hidden)?;
        let loss = cross_entropy(&logits, ys)?;
        self.optimizer.step(&loss.backward()?).expect("gradients of these shapes");
        loss.to_scalar()
    }
}

/// Images as sparse as handwriting, four in five pixels zero, and classes.
fn batch() -> candle_core::Result<(Tensor, Tensor)> {
    let mut stream = seed::stream(0, "bench/batch");
    let mut pixel = || if stream.random::<f32>() < 0.2 { stream.random::<f32>() } else { 0.0 };
    let xs = (0..BATCH * 784).map(|_| pixel()).collect::<Vec<f32>>();
    let ys = (0..BATCH).map(|_| stream.next_u32() % 10).collect::<Vec<u32>>();
    Ok((
        Tensor::from_vec(xs, (BATCH, 784), &Device::Cpu)?,
        Tensor::from_vec(ys, BATCH, &Device::Cpu)?,
    ))
}

/// Milliseconds that the threads of this process have been on a processor, rayon's among them.
fn processor_ms() -> Option<f64> {
    let ms = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        Some(stat.split_whitespace().next()?.parse::<f64>().ok()? / 1e6)
    };
    fs::read_dir("/proc/self/task").ok()?.map(|thread| ms(thread.ok()?)).sum()
}

/// Times all cases in turn, `rounds` times a block of `steps`, and prints ms for a step.
fn compare<N: Network>(name: &str, new: impl Fn() -> N, rounds: usize, steps: usize) {
    let (xs, ys) = batch().expect("a batch");
    let mut nets: Vec<Trained<N>> = CASES.map(|(_, cut)| Trained::new(new(), cut)).into();
    let mut times = vec![Vec::new(); nets.len()];
    for round in 0..=rounds {
        for (net, times) in nets.iter_mut().zip(&mut times) {
            let (start, clock) = (processor_ms(), Instant::now());
            for _ in 0..steps {
                assert!(net.step(&xs, &ys).expect("a step").is_finite());
            }
            // The first round fills caches and the allocator's lists.
            if round > 0 {
                let spent = start.zip(processor_ms()).map(|(start, end)| end - start);
                let spent = spent.unwrap_or_else(|| clock.elapsed().as_secs_f64() * 1e3);
                times.push(spent / steps as f64);
            }
        }
    }
    println!("\n{name}, batch {BATCH}; ms for a step: median (minimum)");
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let (base, base_least) = (times[0][rounds / 2], times[0][0]);
    for ((case, _), times) in CASES.iter().zip(&times) {
        let (median, least) = (times[rounds / 2], times[0]);
        println!(
            "{case:>20}  {median:7.3} ({least:.3})  of dense {:.3} ({:.3})  at most {MOST}",
            median / base,
            least / base_least,
        );
    }
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--test");
    let (rounds, steps) = if quick { (1, 1) } else { (31, 20) };
    // As `fit` does: see `allocator.rs`.
    drop(std::hint::black_box(vec![0_u8; 30 << 20]));
    println!("{} threads; the promise is for RAYON_NUM_THREADS=1", get_num_threads());
    let lenet300 = || Mlp::lenet_300_100(0, &Device::Cpu).expect("a network");
    compare("LeNet-300-100", lenet300, rounds, steps);
    let lenet5 = || LeNet5::new(0, &Device::Cpu).expect("a network");
    compare("LeNet-5", lenet5, rounds, steps.div_ceil(10));
}
