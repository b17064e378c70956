//! Is everything that can be wrong with an argument an error of its own, before anything is written?

use crate::operands::{DTYPES, There, UNTOUCHED, activations, weight};
use half::{bf16, f16};
use secateur_kernels::{
    Activation, KernelError,
    cuda::{CudaError, CudaKernel, DeviceBuffer, DeviceWeight, Emulator, prune_two_of_four},
};
use secateur_storage::{Dtype, Packed};

/// Leaves of a buffer its `bytes` from `offset` on. What was there is freed with the emulator.
fn cut(buffer: &mut DeviceBuffer, offset: usize, bytes: usize) {
    let part = part(buffer, offset, bytes);
    std::mem::forget(std::mem::replace(buffer, part));
}

/// A product of 40 x 100 with as many tokens, one argument of which `spoil` makes wrong.
#[track_caller]
fn refused(
    dtype: Dtype,
    kernel: CudaKernel,
    tokens: usize,
    spoil: impl FnOnce(&mut There, &Emulator),
) -> KernelError {
    let emulator = Emulator::new();
    let (packed, x) = (weight(dtype, [40, 100]), activations([tokens, 100]));
    let mut there = There::new(&emulator.device(), &packed, &x, Some(&[0.5; 40])).unwrap();
    spoil(&mut there, &emulator);
    let error = there.multiply(kernel, Activation::None).unwrap_err();
    assert!(emulator.launches().is_empty(), "{error}, and it ran nevertheless");
    assert!(there.bits().iter().all(|bits| *bits == UNTOUCHED), "{error}, and it wrote");
    error
}

/// A buffer's `bytes` from `offset` on.
fn part(buffer: &DeviceBuffer, offset: usize, bytes: usize) -> DeviceBuffer {
    // SAFETY: memory of the emulator, where an access to what is not allocated is an error and no more.
    unsafe { DeviceBuffer::borrow(buffer.device(), buffer.address() + offset as u64, bytes) }
}

#[test]
fn products_refuse_what_does_not_fit() {
    for (dtype, kernel, tokens) in DTYPES.into_iter().flat_map(|dtype| {
        [(CudaKernel::SmallBatch, 7), (CudaKernel::Gemm, 20)].map(|(k, tokens)| (dtype, k, tokens))
    }) {
        let about = format!("{kernel} {dtype}");
        let refused = |spoil: fn(&mut There, &Emulator)| refused(dtype, kernel, tokens, spoil);
        let view = |error: KernelError, wanted: &str| match error {
            KernelError::View { what, .. } => assert_eq!(what, wanted, "{about}"),
            other => panic!("{about}, {wanted}: {other:?}"),
        };
        let cuda = |error: KernelError| match error {
            KernelError::Cuda(error) => error,
            other => panic!("{about}: {other:?}"),
        };
        // Too short, by as little as can be.
        view(
            refused(|there, _| {
                let size = there.dtype.bitsize() / 8;
                let least = ((there.tokens - 1) * there.x_stride + 100) * size;
                cut(&mut there.x, 0, least - 1);
            }),
            "x",
        );
        view(
            refused(|there, _| {
                let least = 2 * ((there.tokens - 1) * there.y_stride + 40);
                // What is read back afterwards is this much.
                cut(&mut there.y, 0, least - 2);
            }),
            "y",
        );
        view(refused(|there, _| cut(there.bias.as_mut().unwrap(), 0, 4 * 39)), "the bias");
        // One token after the other would overlap.
        view(refused(|there, _| there.x_stride = 128 / there.dtype.bitsize()), "x");
        view(refused(|there, _| there.y_stride = 36), "y");
        // Where kernels cannot load from.
        let alignment = |what, multiple| CudaError::Alignment { what, multiple };
        let error = refused(|there, _| there.x_stride += 1);
        assert_eq!(cuda(error), alignment("x", 16), "{about}");
        let error = refused(|there, _| there.y_stride += 1);
        assert_eq!(cuda(error), alignment("y", 8), "{about}");
        let error = refused(|there, _| {
            let bytes = there.x.bytes() - 8;
            cut(&mut there.x, 8, bytes);
        });
        assert_eq!(cuda(error), alignment("x", 16), "{about}");
        let error = refused(|there, _| {
            let bytes = there.y.bytes() - 4;
            cut(&mut there.y, 4, bytes);
        });
        assert_eq!(cuda(error), alignment("y", 8), "{about}");
        let error = refused(|there, emulator| {
            there.bias = Some(emulator.device().zeros(256).unwrap());
            cut(there.bias.as_mut().unwrap(), 2, 160);
        });
        assert_eq!(cuda(error), alignment("the bias", 4), "{about}");
        // Memory of somebody else.
        let other = |what| CudaError::OtherDevice { what };
        let error = refused(|there, _| there.x = Emulator::new().device().zeros(1 << 13).unwrap());
        assert_eq!(cuda(error), other("x"), "{about}");
        let error =
            refused(|there, _| there.bias = Some(Emulator::new().device().zeros(160).unwrap()));
        assert_eq!(cuda(error), other("the bias"), "{about}");
        let error = refused(|there, _| {
            let elsewhere = Emulator::new().device();
            there.y = elsewhere.upload(&vec![UNTOUCHED; 4096]).unwrap();
        });
        assert_eq!(cuda(error), other("y"), "{about}");
        // More than there is.
        let too_large = |error: KernelError| {
            let large = matches!(error, KernelError::TooLarge { rows: 40, cols: 100, .. });
            assert!(large, "{about}: {error:?}");
        };
        let tokens = usize::MAX;
        let many = CudaError::Tokens { kernel, tokens, most: kernel.most_tokens() };
        assert_eq!(cuda(refused(|there, _| there.tokens = usize::MAX)), many, "{about}");
        too_large(refused(|there, _| there.x_stride = usize::MAX - 127));
        too_large(refused(|there, _| there.x_stride = usize::MAX / 2 + 1));
        too_large(refused(|there, _| there.y_stride = usize::MAX - 127));
        too_large(refused(|there, _| there.y_stride = usize::MAX / 2 + 1));
        let many = refused(|there, _| there.tokens = i32::MAX as usize);
        match kernel {
            CudaKernel::SmallBatch => assert!(matches!(cuda(many), CudaError::Tokens { .. })),
            _ => assert!(matches!(many, KernelError::View { what: "x", .. }), "{many:?}"),
        }
    }
}

#[test]
fn scales_of_tokens_are_checked_as_well() {
    for &kernel in CudaKernel::ALL {
        let error = refused(Dtype::I8, kernel, 7, |there, _| {
            cut(there.scales.as_mut().unwrap(), 0, 4 * 6);
        });
        assert!(matches!(error, KernelError::View { what: "the tokens' scales", .. }), "{error:?}");
        let error = refused(Dtype::I8, kernel, 7, |there, _| {
            there.scales = Some(Emulator::new().device().zeros(28).unwrap());
        });
        let what = "the tokens' scales";
        assert_eq!(error, CudaError::OtherDevice { what }.into());
    }
}

#[test]
fn a_small_batch_is_sixteen_tokens_at_most() {
    let run = |kernel, tokens| {
        let (packed, x) = (weight(Dtype::BF16, [8, 16]), activations([tokens, 16]));
        let mut there = There::new(&Emulator::new().device(), &packed, &x, None).unwrap();
        there.multiply(kernel, Activation::None)
    };
    assert_eq!(run(CudaKernel::SmallBatch, 16), Ok(()));
    let kernel = CudaKernel::SmallBatch;
    let error = CudaError::Tokens { kernel, tokens: 17, most: 16 }.into();
    assert_eq!(run(CudaKernel::SmallBatch, 17), Err(error));
    assert_eq!(run(CudaKernel::Gemm, 17), Ok(()));
}

/// A buffer that ends where x does: nothing behind the last token's features is needed.
#[test]
fn a_buffer_may_end_with_its_last_feature() {
    for (dtype, kernel) in
        DTYPES.into_iter().flat_map(|d| CudaKernel::ALL.iter().map(move |k| (d, *k)))
    {
        let device = Emulator::new().device();
        let (packed, x) = (weight(dtype, [40, 100]), activations([3, 100]));
        let mut there = There::new(&device, &packed, &x, None).unwrap();
        let bytes = (2 * there.x_stride + 100) * dtype.bitsize() / 8;
        let mut all = vec![0_u8; bytes];
        there.x.read(&mut all).unwrap();
        there.x = device.upload(&all).unwrap();
        there.y = device.zeros(2 * (2 * there.y_stride + 40)).unwrap();
        assert_eq!(there.multiply(kernel, Activation::None), Ok(()), "{kernel} {dtype}");
    }
}

#[test]
fn a_crowded_group_is_named() {
    for dtype in DTYPES {
        let (size, shape) = (dtype.bitsize() / 8, [70, 250]);
        let one: Vec<u8> = match dtype {
            Dtype::F16 => f16::ONE.to_le_bytes().to_vec(),
            Dtype::BF16 => bf16::ONE.to_le_bytes().to_vec(),
            _ => vec![1],
        };
        let device = Emulator::new().device();
        for (row, group, count) in [(0, 0, 3), (69, 61, 4), (33, 7, 3), (16, 31, 4)] {
            let mut dense = vec![0_u8; 70 * 250 * size];
            // A later one too: the first is named.
            for (row, group) in [(row, group), (69, 61)] {
                for col in 0..count {
                    dense[(row * 250 + group * 4 + col) * size..][..size].copy_from_slice(&one);
                }
            }
            let buffer = device.upload(&dense).unwrap();
            let error = DeviceWeight::pack(&buffer, dtype, shape).unwrap_err();
            assert_eq!(error, CudaError::Crowded { row, group }.into(), "{dtype}");
        }
    }
}

#[test]
fn weights_refuse_what_they_cannot_be() {
    let device = Emulator::new().device();
    let dense = device.zeros(2 * 32 * 64).unwrap();
    let dtype = |dtype: Dtype| KernelError::from(CudaError::Dtype { dtype: dtype.to_string() });
    for refused in [Dtype::F32, Dtype::F64, Dtype::U8, Dtype::I32] {
        let error = DeviceWeight::pack(&dense, refused, [32, 64]).unwrap_err();
        assert_eq!(error, dtype(refused));
    }
    for refused in [Dtype::F64, Dtype::U8, Dtype::I32] {
        assert_eq!(prune_two_of_four(&dense, refused, [32, 64]), Err(dtype(refused)));
    }
    let packed = |sort, dtype| {
        use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
        crate::common::weight(&mut ChaCha8Rng::seed_from_u64(1), [32, 64], sort, dtype)
    };
    let upload = |packed: &Packed| DeviceWeight::upload(packed, &device).unwrap_err();
    assert_eq!(upload(&packed(("2:4", "2:4", 0.5), Dtype::F32)), dtype(Dtype::F32));
    let error = upload(&packed(("4:8", "4:8", 0.5), Dtype::BF16));
    assert!(matches!(error, KernelError::UnsupportedFormat { .. }), "{error:?}");

    let bf16 = Dtype::BF16;
    for shape in [[32, 63], [33, 64], [0, 64], [1 << 13, 1 << 13]] {
        let error = DeviceWeight::pack(&dense, bf16, shape).unwrap_err();
        assert!(matches!(error, KernelError::Length { found: 4096, .. }), "{error:?}");
    }
    let huge = [[usize::MAX, 64], [64, usize::MAX], [1 << 27, 4], [1 << 20, 1 << 20]];
    for [rows, cols] in huge {
        let error = DeviceWeight::pack(&dense, bf16, [rows, cols]).unwrap_err();
        assert_eq!(error, KernelError::TooLarge { rows, cols, tokens: 0 });
    }
    let odd = part(&dense, 1, 2 * 4);
    let error = DeviceWeight::pack(&odd, bf16, [1, 4]).unwrap_err();
    assert_eq!(error, CudaError::Alignment { what: "the dense weight", multiple: 2 }.into());

    let weight = |dtype: Dtype| {
        let dense = device.zeros(8 * 16 * dtype.bitsize() / 8).unwrap();
        DeviceWeight::pack(&dense, dtype, [8, 16]).unwrap()
    };
    for found in [0, 7, 9] {
        let error = weight(Dtype::I8).with_scales(&vec![1.0; found]).unwrap_err();
        let (what, expected) = ("the scales of an I8 weight", 8);
        assert_eq!(error, KernelError::Length { what, found, expected });
    }
    // Not even none: an empty buffer would be read for every row.
    for scales in [&[][..], &[1.0; 8]] {
        let error = weight(bf16).with_scales(scales).unwrap_err();
        assert!(matches!(error, KernelError::Weight(_)), "{error:?}");
    }
    assert!(weight(Dtype::I8).with_scales(&[1.0; 8]).is_ok());
}

#[test]
fn pruning_refuses_what_no_magnitude_ranks() {
    let device = Emulator::new().device();
    let dense = device.upload(&[1.0_f32; 32]).unwrap();
    let f32 = Dtype::F32;
    assert_eq!(prune_two_of_four(&dense, f32, [4, 6]), Err(CudaError::Columns { cols: 6 }.into()));
    let error = prune_two_of_four(&dense, f32, [3, 8]).unwrap_err();
    assert!(matches!(error, KernelError::Length { found: 128, expected: 96, .. }), "{error:?}");
    let [rows, cols] = [usize::MAX, 8];
    let error = KernelError::TooLarge { rows, cols, tokens: 0 };
    assert_eq!(prune_two_of_four(&dense, f32, [rows, cols]), Err(error));
    let inside = part(&dense, 4, 16);
    let error = CudaError::Alignment { what: "the weight to prune", multiple: 16 };
    assert_eq!(prune_two_of_four(&inside, f32, [1, 4]), Err(error.into()));
    let mut same = [0.0_f32; 32];
    dense.read(&mut same).unwrap();
    assert_eq!(same, [1.0; 32], "nothing was pruned");
    assert_eq!(prune_two_of_four(&device.zeros(0).unwrap(), f32, [0, 8]), Ok(()));

    // The smallest NaN of each type. Row 2, group 3 has one, and so has row 5: the first one is named, and all the rest is pruned.
    let nan: [(Dtype, Vec<u8>); 3] = [
        (Dtype::F32, 0x7F80_0001_u32.to_le_bytes().to_vec()),
        (Dtype::F16, 0xFC01_u16.to_le_bytes().to_vec()),
        (Dtype::BF16, 0x7F81_u16.to_le_bytes().to_vec()),
    ];
    for (dtype, nan) in nan {
        let (size, cols) = (nan.len(), 260);
        let mut bytes = vec![0x11_u8; 6 * cols * size];
        for (row, col) in [(2, 13), (5, 0)] {
            bytes[(row * cols + col) * size..][..size].copy_from_slice(&nan);
        }
        let weight = device.upload(&bytes).unwrap();
        let error = prune_two_of_four(&weight, dtype, [6, cols]).unwrap_err();
        assert_eq!(error, CudaError::NotANumber { row: 2, group: 3 }.into(), "{dtype}");
        weight.read(&mut bytes).unwrap();
        let kept = bytes.chunks_exact(size).filter(|bits| bits.iter().any(|byte| *byte != 0));
        assert_eq!(kept.count(), 3 * cols, "{dtype}");
        assert_eq!(bytes[(2 * cols + 13) * size..][..size], nan, "{dtype}: the NaN stays");
    }
}
