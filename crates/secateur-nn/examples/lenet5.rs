//! How fast is LeNet-5 packed, and its convolutions alone? Against candle's, in turns, medians.
//!
//! `RAYON_NUM_THREADS=1 cargo run --release -p secateur-nn --example lenet5`

use candle_core::{DType, Device, Module, Tensor};
use secateur_kernels::{Conv2dGeometry, Dispatcher};
use secateur_mask::{Scores, Target};
use secateur_nn::{Conv2d, LeNet5, Network, PrunableLayer};
use secateur_storage::{Dense, Packed};
use std::{error::Error, hint::black_box, time::Instant};

/// Rounds of each case.
const ROUNDS: usize = 31;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::Cpu;
    println!("what, batch, target | candle | packed, us | speed-up");
    for target in ["2:4", "8:16", "0.9"] {
        for batch in [1, 64] {
            let dense = LeNet5::new(0, &device)?;
            let mut packed = LeNet5::new(0, &device)?;
            for layer in packed.layers_mut().into_values() {
                pack(layer, target)?;
            }
            let images = Tensor::rand(0_f32, 1., (batch, 784), &device)?;
            let name = format!("LeNet-5, {batch}, {target}");
            compare(&name, || dense.forward(&images), || packed.forward(&images))?;
            for (inputs, outputs, side, padding) in [(20, 50, 12, 0), (64, 64, 56, 1)] {
                let (geometry, taps) = match padding {
                    0 => (Conv2dGeometry::default(), (5, 5)),
                    _ => (Conv2dGeometry { padding, ..Conv2dGeometry::default() }, (3, 3)),
                };
                let conv = || Conv2d::init(inputs, outputs, taps, geometry, 0, "conv", &device);
                let (dense, mut packed) = (conv()?, conv()?);
                pack(&mut packed, target)?;
                let images = Tensor::ones((batch, inputs, side, side), DType::F32, &device)?;
                let name = format!(
                    "{outputs}x{inputs}x{0}x{0} on {side}x{side}, {batch}, {target}",
                    taps.0
                );
                compare(&name, || dense.forward(&images), || packed.forward(&images))?;
            }
        }
    }
    Ok(())
}

/// Cuts a layer by magnitude and packs it.
fn pack(layer: &mut PrunableLayer, target: &str) -> Result<(), Box<dyn Error>> {
    let target: Target = target.parse()?;
    let weight = layer.weight().ok_or("packed already")?.flatten_all()?.to_vec1::<f32>()?;
    let scores: Vec<f32> = weight.iter().map(|w| w.abs()).collect();
    let mask = target.pattern().select(Scores::new(scores, layer.shape())?, target.sparsity())?;
    let packed = Packed::pack(&Dense::new(weight, layer.shape())?, &mask, target.pattern())?;
    Ok(layer.pack(&packed, &Dispatcher::probe()?)?)
}

/// Medians of both, taken in turns.
fn compare(
    name: &str,
    dense: impl Fn() -> candle_core::Result<Tensor>,
    packed: impl Fn() -> candle_core::Result<Tensor>,
) -> Result<(), Box<dyn Error>> {
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(dense()?);
        times[0].push(start.elapsed());
        let start = Instant::now();
        black_box(packed()?);
        times[1].push(start.elapsed());
    }
    let [dense, packed] = times.map(|mut times| {
        times.sort();
        times[ROUNDS / 2].as_secs_f64() * 1e6
    });
    println!("{name} | {dense:.1} | {packed:.1} | {:.2}", dense / packed);
    Ok(())
}
