//! Do the device and the CPU pack and prune to the same bits? Masks of `Pattern::TWO_OF_FOUR` and the device's order
//! of `secateur_storage`, ties, both zeros and the smallest i8 included.

use crate::operands::DTYPES;
use half::{bf16, f16};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::cuda::{DeviceWeight, Emulator, prune_two_of_four};
use secateur_mask::{Pattern, Scores};
use secateur_storage::{
    Dense, Dtype, Packed, Values,
    device_order::{from_device_order, values_from_device_order},
    semi_structured::compress,
};

/// Few different numbers, so that most groups have a tie.
const SOME: [f32; 11] =
    [0.0, -0.0, 1.0, -1.0, 1.5, -1.5, 127.0, -127.0, -128.0, 3.0, f32::INFINITY];

fn some(shape: [usize; 2], seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..shape[0] * shape[1]).map(|_| SOME[rng.random_range(0..SOME.len())]).collect()
}

fn values(dtype: Dtype, numbers: &[f32]) -> Values {
    match dtype {
        Dtype::F16 => numbers.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>().into(),
        Dtype::BF16 => numbers.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>().into(),
        Dtype::I8 => numbers.iter().map(|x| *x as i8).collect::<Vec<_>>().into(),
        _ => numbers.to_vec().into(),
    }
}

#[test]
fn pruning_keeps_the_mask_of_the_cpu() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::I8] {
        for shape in [[1, 4], [3, 12], [64, 128], [33, 260], [7, 1028]] {
            let all = values(dtype, &some(shape, 1));
            let magnitudes: Vec<f32> = all.to_f32().unwrap().iter().map(|x| x.abs()).collect();
            let scores = Scores::new(magnitudes, &shape).unwrap();
            let sparsity = Pattern::TWO_OF_FOUR.fixed_sparsity().unwrap();
            let mask = Pattern::TWO_OF_FOUR.select(scores, sparsity).unwrap();
            let size = dtype.bitsize() / 8;
            let mut wanted = all.data().to_vec();
            let cut = wanted.chunks_exact_mut(size).zip(mask.iter()).filter(|(_, kept)| !kept);
            cut.for_each(|(bytes, _)| bytes.fill(0));
            let weight = Emulator::new().device().upload(all.data()).unwrap();
            prune_two_of_four(&weight, dtype, shape).unwrap();
            let mut found = vec![0_u8; wanted.len()];
            weight.read(&mut found).unwrap();
            // A zero that is kept stays as it is, -0.0 too: the mask is the same to the bit, so are the bytes.
            assert!(found == wanted, "{dtype} {shape:?}");
        }
    }
}

/// Two of every four at most, no -0.0: what fills up a group would be either.
fn two(shape: [usize; 2], seed: u64) -> Vec<f32> {
    let mut numbers = some(shape, seed);
    for group in numbers.chunks_mut(shape[1]).flat_map(|row| row.chunks_mut(4)) {
        let mut kept = 0;
        for number in group {
            kept += usize::from(*number != 0.0);
            if *number == 0.0 || kept > 2 {
                *number = 0.0;
            }
        }
    }
    numbers
}

#[test]
fn packing_there_is_packing_here() {
    for dtype in DTYPES {
        for shape in [[1, 1], [32, 64], [32, 128], [33, 65], [100, 250], [257, 4], [5, 520]] {
            let about = format!("{dtype} {shape:?}");
            let dense = Dense::new(values(dtype, &two(shape, 2)), &shape).unwrap();
            let device = Emulator::new().written_once().device();
            let mask = dense.nonzero().unwrap();
            let packed = Packed::pack_as(&dense, &mask, "2:4".parse().unwrap()).unwrap();
            let here = DeviceWeight::upload(&packed, &device).unwrap();
            let bytes = dense.values().data();
            let there = device.upload(bytes).unwrap();
            let there = DeviceWeight::pack(&there, dtype, shape).unwrap();
            assert_eq!(there.shape(), shape);
            assert_eq!(there.bytes(), here.bytes());
            let (here, found) = (here.read().unwrap(), there.read().unwrap());
            assert!(here == found, "{about}");
            let mut back = vec![0_u8; bytes.len()];
            there.unpack().unwrap().read(&mut back).unwrap();
            assert!(back == **bytes, "{about} unpacked");
        }
    }
}

/// Whole blocks, where no padding is between a weight and `secateur_storage`'s closed forms.
#[test]
fn what_lies_there_is_the_order_of_the_documents() {
    for dtype in DTYPES {
        let shape = [64, 256];
        let dense = values(dtype, &two(shape, 3));
        let there = Emulator::new().device().upload(dense.data()).unwrap();
        let there = DeviceWeight::pack(&there, dtype, shape).unwrap();
        let (values, metadata) = there.read().unwrap();
        if dtype == Dtype::I8 {
            let found = values_from_device_order::<u8, u32>(&values, shape).unwrap();
            let wanted = compress::<u8, u32>(dense.data(), shape, |bits| bits == 0).unwrap();
            assert!((found, from_device_order::<u32>(&metadata, shape).unwrap()) == wanted);
        } else {
            let words = |bytes: &[u8]| -> Vec<u16> {
                bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
            };
            let found = values_from_device_order::<u16, u16>(&words(&values), shape).unwrap();
            let bits = words(dense.data());
            let wanted = compress::<u16, u16>(&bits, shape, |bits| bits << 1 == 0).unwrap();
            assert!((found, from_device_order::<u16>(&metadata, shape).unwrap()) == wanted);
        }
    }
}
