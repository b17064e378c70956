//! How long does a training step take? A batch of 128 images, forward, backward and SGD.
//!
//! `RAYON_NUM_THREADS=1 cargo run --release -p secateur-nn --example training_step` times one thread.

use candle_core::{Device, Tensor};
use candle_nn::{Optimizer, SGD, loss::cross_entropy};
use secateur_nn::{ConvNet, Dropout, LeNet5, Network};
use std::time::Instant;

const BATCH: usize = 128;
const STEPS: usize = 40;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    time("LeNet-5", &LeNet5::new(0, &Device::Cpu)?)?;
    time("ConvNet", &ConvNet::new(0, &Device::Cpu)?)
}

/// Prints the median time of a step, and the best.
fn time(name: &str, network: &dyn Network) -> Result<(), Box<dyn std::error::Error>> {
    let images = Tensor::rand(0_f32, 1.0, (BATCH, 784), &Device::Cpu)?;
    let labels: Vec<u32> = (0..BATCH as u32).map(|at| at % 10).collect();
    let labels = Tensor::from_vec(labels, BATCH, &Device::Cpu)?;
    let mut sgd = SGD::new(network.parameters().into_values().collect(), 0.01)?;
    let mut dropout = Dropout::new(0.5, 0, "step");
    let mut times = Vec::with_capacity(STEPS);
    for _ in 0..STEPS {
        let start = Instant::now();
        let loss = cross_entropy(&network.forward_train(&images, &mut dropout)?, &labels)?;
        sgd.backward_step(&loss)?;
        times.push(start.elapsed());
    }
    times.sort();
    println!("{name}: {:.1?} a step, {:.1?} at best", times[STEPS / 2], times[0]);
    Ok(())
}
