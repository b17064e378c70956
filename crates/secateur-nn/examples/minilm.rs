//! How fast is all-MiniLM-L6-v2 dense, at 2:4, and in candle-transformers? One run, in turns, medians.
//!
//! `cargo xtask data minilm`, then `RAYON_NUM_THREADS=1 cargo run --release -p secateur-nn --example minilm`.
//! With `dense` or `packed` and a batch size behind it, that model alone runs sequences of 128 over and
//! over, for a profiler.

use candle_core::{DType, Device, Tensor};
use candle_transformers::models::bert::{BertModel, Config};
use secateur_kernels::Dispatcher;
use secateur_mask::{Pattern, Scores, Sparsity};
use secateur_nn::{Bert, BertConfig, VarBuilder};
use secateur_storage::{Checkpoint, Packed, Source};
use std::{error::Error, hint::black_box, path::Path, time::Instant};

/// Rounds of each case.
const ROUNDS: usize = 15;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/minilm");
    let source = Source::open(&folder)?;
    let json = source.config().ok_or("no config.json there")?;
    let (dispatcher, device) = (Dispatcher::probe()?, Device::Cpu);
    let load = |checkpoint: &Checkpoint| -> Result<Bert, Box<dyn Error>> {
        let vb = VarBuilder::from_checkpoint(checkpoint, &dispatcher, &device);
        Ok(Bert::load(&vb, BertConfig::from_json(json)?)?)
    };
    let checkpoint = Checkpoint::load(&folder)?;
    let (dense, packed) = (load(&checkpoint)?, load(&prune(&checkpoint)?)?);
    let config: Config = serde_json::from_value(json.clone())?;

    let vb = candle_nn::VarBuilder::from_tensors(
        candle_core::safetensors::load(folder.join("model.safetensors"), &device)?,
        DType::F32,
        &device,
    );
    let candle = BertModel::load(vb, &config)?;

    if let Some(which) = std::env::args().nth(1) {
        let batch = std::env::args().nth(2).map_or(Ok(1), |batch| batch.parse())?;
        let (ids, types) = tokens(batch, 128, &device)?;
        let model = if which == "dense" { &dense } else { &packed };
        let start = Instant::now();
        while start.elapsed().as_secs() < 5 {
            black_box(model.forward(&ids, &types, None)?);
        }
        return Ok(());
    }
    println!(
        "encoder weights: {} kB dense, {} kB at 2:4 ({:.3}); embeddings {} kB",
        dense.weight_bytes() / 1000,
        packed.weight_bytes() / 1000,
        packed.weight_bytes() as f64 / dense.weight_bytes() as f64,
        dense.embedding_bytes() / 1000,
    );
    println!("batch x tokens | candle | dense | 2:4, ms | 2:4 over dense, over candle");
    for (batch, length) in [(1, 16), (8, 16), (1, 128), (8, 128)] {
        let (ids, types) = tokens(batch, length, &device)?;
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            let start = Instant::now();
            black_box(candle.forward(&ids, &types, None)?);
            times[0].push(start.elapsed());
            for (model, times) in [&dense, &packed].into_iter().zip(&mut times[1..]) {
                let start = Instant::now();
                black_box(model.forward(&ids, &types, None)?);
                times.push(start.elapsed());
            }
        }
        let [candle, dense, packed] = times.map(|mut times| {
            times.sort();
            times[ROUNDS / 2].as_secs_f64() * 1e3
        });
        println!(
            "{batch} x {length} | {candle:.2} | {dense:.2} | {packed:.2} | {:.2}, {:.2}",
            dense / packed,
            candle / packed
        );
    }
    Ok(())
}

/// Token numbers and segments.
fn tokens(batch: usize, length: usize, device: &Device) -> candle_core::Result<(Tensor, Tensor)> {
    let ids: Vec<u32> = (0..batch * length).map(|i| 1000 + (i * 7919 % 20_000) as u32).collect();
    let ids = Tensor::from_vec(ids, (batch, length), device)?;
    Ok((ids.clone(), ids.zeros_like()?))
}

/// Every product of the encoder at 2:4, by magnitude.
fn prune(checkpoint: &Checkpoint) -> Result<Checkpoint, Box<dyn Error>> {
    let mut packed = checkpoint.clone();
    for (name, weight) in &mut packed.tensors {
        if name.starts_with("encoder.layer") && weight.shape().len() == 2 {
            let dense = weight.unpack();
            let scores: Vec<f32> = dense.to_f32()?.iter().map(|w| w.abs()).collect();
            let pattern = Pattern::TWO_OF_FOUR;
            let mask = pattern.select(Scores::new(scores, dense.shape())?, Sparsity::new(0.5)?)?;
            *weight = Packed::pack(&dense, &mask, pattern)?;
        }
    }
    Ok(packed)
}
