//! Does a pruned network see the same digits on sparse tensor cores? A trained one, executed by the emulator.

use secateur::{
    kernels::{
        Activation, Epilogue,
        cuda::{CudaKernel, DeviceProduct, Emulator},
    },
    prelude::*,
    storage::{Dtype, Format, Values},
    train::logits,
};

/// The layer's weight as bf16, still 2:4.
fn bf16(weight: &Packed) -> Packed {
    let dense = weight.unpack();
    let numbers = dense.to_f32().unwrap();
    // bf16 is the upper half of an f32, rounded to the nearest.
    let rounded = numbers.iter().flat_map(|x| {
        let bits = x.to_bits();
        (((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16).to_le_bytes()
    });
    let values = Values::new(Dtype::BF16, rounded.collect::<Vec<u8>>()).unwrap();
    let dense = Dense::new(values, dense.shape()).unwrap();
    Packed::pack_as(&dense, &weight.mask().unwrap(), Format::TWO_OF_FOUR).unwrap()
}

/// The network's answers with every product on the device, so many digits at a time.
fn on_device(pruned: &Checkpoint, x: &[f32], digits: usize, at_once: usize) -> Vec<usize> {
    let dispatcher = Dispatcher::built_in().unwrap().on(Ok(Emulator::new().device()));
    let layers: Vec<_> = ["fc1", "fc2", "fc3"]
        .iter()
        .filter_map(|name| {
            let weight = pruned.tensors.get(&format!("{name}.weight"))?;
            let bias = pruned.tensors[&format!("{name}.bias")].unpack();
            let product = DeviceProduct::new(&bf16(weight), &dispatcher).unwrap();
            Some((product, bias.to_f32().unwrap().to_vec()))
        })
        .collect();
    assert!(layers.len() > 1);
    let expected = if at_once > 16 { CudaKernel::Gemm } else { CudaKernel::SmallBatch };
    let mut answers = Vec::new();
    for x in x.chunks(x.len() / digits * at_once) {
        let tokens = x.len() / 64;
        let mut x = x.to_vec();
        for (at, (product, bias)) in layers.iter().enumerate() {
            let last = at + 1 == layers.len();
            let activation = if last { Activation::None } else { Activation::Relu };
            let mut y = vec![0.0; tokens * bias.len()];
            let epilogue = Epilogue { bias: Some(bias), activation };
            assert!(tokens < at_once || product.plan(tokens).kernel() == Some(expected));
            product.run(&x, tokens, &epilogue, &mut y).unwrap();
            x = y;
        }
        let largest = |scores: &[f32]| (0..10).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        answers.extend(x.chunks(10).filter_map(largest));
    }
    answers
}

#[test]
fn a_pruned_network_sees_the_same_digits_on_sparse_tensor_cores() {
    let split = digits(&Device::Cpu).unwrap().split(200, 3).unwrap();
    let training = Training::adam(8, 32, 2e-3);
    let run = Run { seed: 5, ..Run::new("2:4".parse().unwrap(), training) };
    let outcome = run.execute(Mlp::digits(5, &Device::Cpu).unwrap(), &split, &mut ()).unwrap();
    let samples = &split.test;
    let scores: Vec<Vec<f32>> = logits(&outcome.network, samples).unwrap().to_vec2().unwrap();
    let x: Vec<f32> = samples.xs().flatten_all().unwrap().to_vec1().unwrap();

    for at_once in [1, 16, 128] {
        let answers = on_device(&outcome.pruned, &x, scores.len(), at_once);
        assert_eq!(answers.len(), scores.len());
        for (answer, scores) in answers.iter().zip(&scores) {
            // bf16 has three digits: what is chosen is the best, or as good as that.
            let best = scores.iter().copied().fold(f32::MIN, f32::max);
            let off = (best - scores[*answer]) / scores.iter().fold(0.0_f32, |m, s| m.max(s.abs()));
            assert!(off < 0.02, "{at_once} at once: {answer} of {scores:?}");
        }
    }
}
