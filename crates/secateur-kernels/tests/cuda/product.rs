//! Does a weight on a device multiply as its packed self does on the CPU, and does what a device cannot do run
//! there, with the reason said?

use crate::{
    common::{self, ACTIVATIONS, numbers},
    operands::{DTYPES, There, activations, hold, weight},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{
    Activation, Dispatcher, Epilogue, KernelError,
    cuda::{
        CudaError, CudaKernel, DeviceDispatcher, DeviceEpilogue, DeviceProduct, DeviceView,
        DeviceViewMut, Emulator, Measurements,
    },
    reference,
};
use secateur_storage::{Dense, Dtype, Packed};

/// On the emulator, whatever somebody measured on this machine.
fn dispatcher(emulator: &Emulator) -> DeviceDispatcher {
    let cpu = Dispatcher::built_in().unwrap();
    cpu.on(Ok(emulator.device())).with_measurements(Measurements::default())
}

#[test]
fn a_product_is_the_references_from_either_memory() {
    for (number, dtype) in DTYPES.into_iter().cycle().take(30).enumerate() {
        let tokens = [1, 2, 8, 9, 15, 16, 17, 100, 128, 300][number / 3];
        let [rows, cols] =
            [[1, 5], [32, 64], [100, 250], [130, 33], [7, 300], [257, 16]][number % 6];
        let activation = ACTIVATIONS[number / 2 % 3];
        let about = format!("{dtype} {rows}x{cols}, {tokens} tokens, {activation:?}");
        let (packed, x) = (weight(dtype, [rows, cols]), activations([tokens, cols]));
        let bias = numbers(&mut ChaCha8Rng::seed_from_u64(number as u64), rows);
        let bias = (number % 4 > 0).then_some(&bias[..]);

        let emulator = Emulator::new().written_once();
        let product = DeviceProduct::new(&packed, &dispatcher(&emulator)).unwrap();
        let kernel = if tokens <= 16 { CudaKernel::SmallBatch } else { CudaKernel::Gemm };
        assert_eq!(product.plan(tokens).kernel(), Some(kernel), "{about}");
        let mut y = vec![f32::NAN; tokens * rows];
        product.run(&x, tokens, &Epilogue { bias, activation }, &mut y).unwrap();
        hold(&packed, &x, bias, activation, &y, &about);
        assert_eq!(emulator.launches().len(), 1, "it ran on the device");

        let mut there = There::new(&emulator.device(), &packed, &x, bias).unwrap();
        let view = DeviceView {
            buffer: &there.x,
            tokens,
            stride: there.x_stride,
            scales: there.scales.as_ref(),
        };
        let epilogue = DeviceEpilogue { bias: there.bias.as_ref(), activation };
        let mut out = DeviceViewMut { buffer: &mut there.y, stride: there.y_stride };
        product.run_on_device(&view, &epilogue, &mut out).unwrap();
        assert_eq!(there.outputs(), y, "{about}: from the device's memory");
    }
}

/// Nobody has to quantise: I8 without scales is whole numbers.
#[test]
fn i8_may_have_no_scales() {
    let bias = [1.0, -3.0, 0.5, 8.0, -0.125];
    let whole: Vec<i8> = (0..5 * 12).map(|at| [3, 0, -2, 0, 0, 1, 5, 0][at % 8]).collect();
    let dense = Dense::new(whole, &[5, 12]).unwrap();
    let mask = dense.nonzero().unwrap();
    let packed = Packed::pack_as(&dense, &mask, "2:4".parse().unwrap()).unwrap();
    let product = DeviceProduct::new(&packed, &dispatcher(&Emulator::new())).unwrap();
    for (tokens, activation) in [2, 9, 20].into_iter().flat_map(|t| ACTIVATIONS.map(|a| (t, a))) {
        // The largest of each token is 127, so that I8 has the scale 1.
        let x: Vec<f32> = (0..tokens * 12)
            .map(|at| if at % 12 == 1 { 127.0 } else { (at * 5 % 11) as f32 - 5.0 })
            .collect();
        let mut y = vec![f32::NAN; tokens * 5];
        let epilogue = Epilogue { bias: Some(&bias), activation };
        product.run(&x, tokens, &epilogue, &mut y).unwrap();
        let about = format!("{tokens} tokens, {activation:?}");
        hold(&packed, &x, Some(&bias), activation, &y, &about);
    }
}

/// Runs on the CPU, which rounds nothing, and says why.
#[track_caller]
fn runs_on_cpu(packed: &Packed, dispatcher: DeviceDispatcher, why: &str) {
    let (rows, cols) = packed.matrix();
    let (tokens, x) = (3, activations([3, cols]));
    let product = DeviceProduct::new(packed, &dispatcher).unwrap();
    assert!(product.weight().is_none(), "{why}: nothing was uploaded");
    let plan = product.plan(tokens);
    assert_eq!(plan.kernel(), None, "{why}");
    for kernel in CudaKernel::ALL {
        let line = format!("not {kernel}: ");
        let said = plan.explain();
        let reason = said.lines().find_map(|said| said.trim().strip_prefix(&line));
        assert!(reason.is_some_and(|reason| reason.contains(why)), "{why:?} not in {said}");
    }
    let mut y = vec![f32::NAN; tokens * rows];
    product.run(&x, tokens, &Epilogue::default(), &mut y).unwrap();
    for (found, wanted) in y.iter().zip(reference::product(packed, &x, tokens)) {
        assert!((f64::from(*found) - wanted).abs() < 1e-4, "{why}: {found} for {wanted}");
    }

    // Buffers of a device are nothing that the CPU takes.
    let device = Emulator::new().device();
    let (x, mut y) = (device.zeros(1 << 12).unwrap(), device.zeros(1 << 12).unwrap());
    let x = DeviceView { buffer: &x, tokens, stride: 64, scales: None };
    let mut y = DeviceViewMut { buffer: &mut y, stride: 64 };
    let error = product.run_on_device(&x, &DeviceEpilogue::default(), &mut y).unwrap_err();
    let KernelError::Cuda(CudaError::NoKernel { plan }) = error else { panic!("{error}") };
    assert_eq!(plan, product.plan(tokens).explain());
}

#[test]
fn what_a_device_turns_down_runs_on_the_cpu() {
    let emulator = Emulator::new();
    let (mut rng, shape) = (ChaCha8Rng::seed_from_u64(5), [40, 64]);
    let mut weight = |sort: common::Sort, dtype| common::weight(&mut rng, shape, sort, dtype);
    let two = ("2:4", "2:4", 0.5);
    runs_on_cpu(&weight(two, Dtype::F32), dispatcher(&emulator), "f16, bf16 and i8, not F32");
    let four = weight(("4:8", "4:8", 0.5), Dtype::BF16);
    runs_on_cpu(&four, dispatcher(&emulator), "the weight is 4:8, not 2:4");
    let any = weight(("unstructured", "csr", 0.9), Dtype::F16);
    runs_on_cpu(&any, dispatcher(&emulator), "the weight is csr, not 2:4");
    assert!(emulator.launches().is_empty());

    let reason = "nothing tried".to_owned();
    let none = || Err(CudaError::NoDriver { reason: reason.clone() });
    let cpu = Dispatcher::built_in().unwrap();
    runs_on_cpu(&weight(two, Dtype::BF16), cpu.on(none()), "no NVIDIA driver here");
    let none = cpu.on(none());
    assert_eq!(none.device().unwrap_err(), CudaError::NoDriver { reason: reason.clone() });
}

#[test]
fn what_is_no_number_stays_with_its_token() {
    for dtype in DTYPES {
        for tokens in [5, 40] {
            let (packed, x) = (weight(dtype, [48, 100]), activations([tokens, 100]));
            let product = DeviceProduct::new(&packed, &dispatcher(&Emulator::new())).unwrap();
            let run = |x: &[f32]| {
                let mut y = vec![0.0; tokens * 48];
                product.run(x, tokens, &Epilogue::default(), &mut y).unwrap();
                y
            };
            let clean = run(&x);
            assert!(clean.iter().all(|y| y.is_finite()));
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                // A column that row 7 keeps, and one that it does not.
                let entries = reference::entries(&packed).unwrap();
                let col = entries.iter().find(|(row, ..)| *row == 7).unwrap().1;
                let mut spoiled = x.clone();
                spoiled[3 * 100 + col] = bad;
                let found = run(&spoiled);
                for (at, (found, clean)) in found.iter().zip(&clean).enumerate() {
                    let (token, row) = (at / 48, at % 48);
                    let about = format!("{dtype}, {bad}: token {token}, row {row} is {found}");
                    let keeps = entries.iter().any(|entry| (entry.0, entry.1) == (row, col));
                    if token != 3 || (dtype != Dtype::I8 && !keeps) {
                        assert_eq!(found.to_bits(), clean.to_bits(), "{about}");
                    } else if dtype == Dtype::I8 || bad.is_nan() {
                        assert!(found.is_nan(), "{about}");
                    } else {
                        assert!(found.is_infinite(), "{about}");
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_is_multiplied_with_nothing() {
    for dtype in DTYPES {
        let emulator = Emulator::new();
        let product = DeviceProduct::new(&weight(dtype, [40, 64]), &dispatcher(&emulator)).unwrap();
        product.run(&[], 0, &Epilogue::default(), &mut []).unwrap();
        let empty: Vec<f32> = Vec::new();
        let none = |shape: [usize; 2]| {
            let dense = Dense::new(empty.clone(), &shape).unwrap();
            let dense = common::dense(dense.to_f32().unwrap().to_vec(), shape, dtype);
            let mask = dense.nonzero().unwrap();
            let packed = Packed::pack_as(&dense, &mask, "2:4".parse().unwrap()).unwrap();
            DeviceProduct::new(&packed, &dispatcher(&emulator)).unwrap()
        };
        for tokens in [2, 20] {
            let rows = none([0, 64]);
            rows.run(&vec![1.0; tokens * 64], tokens, &Epilogue::default(), &mut []).unwrap();
            assert!(emulator.launches().is_empty());
        }
        // Without columns every sum is empty, and the bias is all there is.
        for tokens in [2, 20] {
            let cols = none([3, 0]);
            let mut y = vec![f32::NAN; tokens * 3];
            let bias = [1.0, -2.0, 0.5];
            let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu };
            cols.run(&[], tokens, &epilogue, &mut y).unwrap();
            assert!(y.chunks(3).all(|y| y == [1.0, 0.0, 0.5]), "{y:?}");
        }
    }
}

#[test]
fn lengths_are_checked_before_anything_is_copied() {
    let emulator = Emulator::new();
    let product =
        DeviceProduct::new(&weight(Dtype::BF16, [8, 16]), &dispatcher(&emulator)).unwrap();
    let (x, mut y, bias) = ([0.0; 32], [7.0; 16], [0.0; 8]);
    let mut run = |x: &[f32], tokens, bias: &[f32], rows: usize| {
        let epilogue = Epilogue { bias: Some(bias), activation: Activation::None };
        product.run(x, tokens, &epilogue, &mut y[..rows])
    };
    let length = |what, found, expected| Err(KernelError::Length { what, found, expected });
    assert_eq!(run(&x[..31], 2, &bias, 16), length("x", 31, 32));
    assert_eq!(run(&x, 2, &bias, 15), length("y", 15, 16));
    assert_eq!(run(&x, 2, &bias[..7], 16), length("bias", 7, 8));
    let tokens = usize::MAX;
    let error = KernelError::TooLarge { rows: 8, cols: 16, tokens };
    assert_eq!(run(&x, tokens, &bias, 16), Err(error));
    assert!(emulator.launches().is_empty());
    assert_eq!(y, [7.0; 16]);
}
