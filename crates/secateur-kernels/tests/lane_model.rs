//! Does the sparse tensor core compute the dense product from what `secateur-storage` lays out for it?
//!
//! Weights are compressed, put in the device's order, loaded as 32 lanes load them and multiplied by the model of
//! the instruction. Numbers are small integers, so that every sum is exact and nothing has to be close.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use half::{bf16, f16};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur_kernels::cuda::{
    CudaError,
    lane_model::{Float, Lanes, mma_float, mma_s8, mma_sp_float, mma_sp_s8},
};
use secateur_storage::{
    device_order::{to_device_order, values_to_device_order},
    semi_structured::compress,
};

/// A matrix `[m, k]` of which every four columns keep two, and sometimes fewer.
fn sparse([m, k]: [usize; 2], rng: &mut impl Rng) -> Vec<i32> {
    let mut dense = vec![0; m * k];
    for group in dense.chunks_exact_mut(4) {
        for _ in 0..2 {
            group[rng.random_range(0..4)] = rng.random_range(-8..9);
        }
    }
    dense
}

fn input(k: usize, rng: &mut impl Rng) -> Vec<[i32; 8]> {
    (0..k).map(|_| std::array::from_fn(|_| rng.random_range(-8..9))).collect()
}

fn dense_product(a: &[i32], [m, k]: [usize; 2], b: &[[i32; 8]]) -> Vec<[i32; 8]> {
    let entry = |row: usize, column: usize| (0..k).map(|i| a[row * k + i] * b[i][column]).sum();
    (0..m).map(|row| std::array::from_fn(|column| entry(row, column))).collect()
}

fn bits(float: Float, value: i32) -> u16 {
    match float {
        Float::F16 => f16::from_f32(value as f32).to_bits(),
        Float::Bf16 => bf16::from_f32(value as f32).to_bits(),
    }
}

fn lanes<T, const N: usize>(mut register: impl FnMut(usize, usize) -> T) -> Lanes<T, N> {
    std::array::from_fn(|lane| std::array::from_fn(|i| register(lane, i)))
}

/// Registers of B whose rows of 16 bits begin at `first`.
fn b_floats<const N: usize>(float: Float, b: &[[i32; 8]], first: usize) -> Lanes<u32, N> {
    lanes(|lane, i| {
        let row = first + 8 * i + 2 * (lane % 4);
        let pair = [b[row][lane / 4], b[row + 1][lane / 4]].map(|value| bits(float, value));
        u32::from(pair[0]) | u32::from(pair[1]) << 16
    })
}

fn b_bytes(b: &[[i32; 8]], first: usize) -> Lanes<u32, 4> {
    lanes(|lane, i| {
        let row = first + 16 * i + 4 * (lane % 4);
        u32::from_le_bytes(std::array::from_fn(|at| b[row + at][lane / 4] as i8 as u8))
    })
}

/// Where lane and register of an accumulator are, below a first row.
fn place(first: usize, lane: usize, i: usize) -> (usize, usize) {
    (first + lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2)
}

/// The product of a weight in the device's order: one load of metadata for two instructions.
fn float_product(float: Float, dense: &[i32], shape: [usize; 2], b: &[[i32; 8]]) -> Vec<[i32; 8]> {
    let [m, k] = shape;
    let weight: Vec<u16> = dense.iter().map(|value| bits(float, *value)).collect();
    let (values, metadata) = compress::<_, u16>(&weight, shape, |bits| bits << 1 == 0).unwrap();
    let values = values_to_device_order::<_, u16>(&values, shape).unwrap();
    let metadata = to_device_order(&metadata, shape).unwrap();
    let mut out = vec![[0.0_f32; 8]; m];
    for (block, words) in metadata.as_chunks::<32>().0.iter().enumerate() {
        let (columns, rows) = (block / (m / 32) * 32, block % (m / 32) * 32);
        for selector in 0..2 {
            let at = block * 512 + selector * 256;
            let a = lanes(|lane, i| {
                let pair = &values[at + lane * 8 + i * 2..][..2];
                u32::from(pair[0]) | u32::from(pair[1]) << 16
            });
            let first = rows + 16 * selector;
            let c = lanes(|lane, i| {
                let (row, column) = place(first, lane, i);
                out[row][column]
            });
            let b = b_floats(float, b, columns);
            let d = mma_sp_float(float, &a, &b, &c, words, selector as u32).unwrap();
            for (lane, sums) in d.iter().enumerate() {
                for (i, sum) in sums.iter().enumerate() {
                    let (row, column) = place(first, lane, i);
                    out[row][column] = *sum;
                }
            }
        }
    }
    assert_eq!(metadata.len() * 32, m * k);
    out.into_iter().map(|row| row.map(|sum| sum as i32)).collect()
}

fn byte_product(dense: &[i32], shape: [usize; 2], b: &[[i32; 8]]) -> Vec<[i32; 8]> {
    let [m, _] = shape;
    let weight: Vec<i8> = dense.iter().map(|value| *value as i8).collect();
    let (values, metadata) = compress::<_, u32>(&weight, shape, |value| value == 0).unwrap();
    let values = values_to_device_order::<_, u32>(&values, shape).unwrap();
    let metadata = to_device_order(&metadata, shape).unwrap();
    let mut out = vec![[0; 8]; m];
    for (block, words) in metadata.as_chunks::<32>().0.iter().enumerate() {
        let (columns, rows) = (block / (m / 16) * 64, block % (m / 16) * 16);
        let a = lanes(|lane, i| {
            let at = block * 512 + lane * 16 + i * 4;
            u32::from_le_bytes(std::array::from_fn(|byte| values[at + byte] as u8))
        });
        let c = lanes(|lane, i| {
            let (row, column) = place(rows, lane, i);
            out[row][column]
        });
        for (lane, sums) in
            mma_sp_s8(&a, &b_bytes(b, columns), &c, words).unwrap().iter().enumerate()
        {
            for (i, sum) in sums.iter().enumerate() {
                let (row, column) = place(rows, lane, i);
                out[row][column] = *sum;
            }
        }
    }
    out
}

#[test]
fn whole_weights_in_the_devices_order_give_the_dense_product() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for shape in [[32, 64], [64, 128], [96, 192], [160, 64]] {
        let (dense, b) = (sparse(shape, &mut rng), input(shape[1], &mut rng));
        let expected = dense_product(&dense, shape, &b);
        for float in [Float::F16, Float::Bf16] {
            assert_eq!(float_product(float, &dense, shape, &b), expected, "{float:?} {shape:?}");
        }
        assert_eq!(byte_product(&dense, shape, &b), expected, "i8 {shape:?}");
    }
}

/// One instruction's metadata by hand, from row-major words: the lanes that `selector` names, noise elsewhere.
fn metadata_16(words: &[u16], selector: usize, rng: &mut impl Rng) -> [u32; 32] {
    let mut lanes: [u32; 32] = std::array::from_fn(|_| rng.random());
    for (g, h) in (0..8).flat_map(|g| [(g, 0), (g, 1)]) {
        lanes[4 * g + 2 * selector + h] =
            u32::from(words[2 * g + h]) | u32::from(words[2 * (g + 8) + h]) << 16;
    }
    lanes
}

#[test]
fn either_selector_reads_its_own_lanes_and_no_others() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for (selector, float) in [(0, Float::F16), (1, Float::F16), (0, Float::Bf16), (1, Float::Bf16)]
    {
        let (dense, b) = (sparse([16, 32], &mut rng), input(32, &mut rng));
        let (values, words) = compress::<_, u16>(&dense, [16, 32], |value| value == 0).unwrap();
        let a = lanes(|lane, i| {
            let at = (lane / 4 + 8 * (i % 2)) * 16 + 2 * (lane % 4) + 8 * (i / 2);
            u32::from(bits(float, values[at])) | u32::from(bits(float, values[at + 1])) << 16
        });
        let expected = dense_product(&dense, [16, 32], &b);
        let b = b_floats(float, &b, 0);
        for _ in 0..4 {
            let metadata = metadata_16(&words, selector, &mut rng);
            let c: Lanes<f32, 4> = lanes(|lane, i| (lane * 4 + i) as f32);
            let d = mma_sp_float(float, &a, &b, &c, &metadata, selector as u32).unwrap();
            let sums: Lanes<f32, 4> = lanes(|lane, i| {
                let (row, column) = place(0, lane, i);
                expected[row][column] as f32 + c[lane][i]
            });
            assert_eq!(d, sums);
        }
    }
}

#[test]
fn undefined_metadata_names_its_lane_and_nibble() {
    let (a, zeros) = ([[0; 4]; 32], [[0.0; 4]; 32]);
    let mut metadata = [0xEEEE_EEEE_u32; 32];
    for bits in [0x0, 0x1, 0x2, 0x3, 0x5, 0x6, 0x7, 0xA, 0xB, 0xF] {
        metadata[21] = 0xEEEE_E0EE | bits << 8;
        let expected = CudaError::Metadata { lane: 21, nibble: 2, bits };
        assert_eq!(mma_sp_s8(&a, &a, &[[0; 4]; 32], &metadata), Err(expected.clone()));
        assert_eq!(mma_sp_float(Float::F16, &a, &a, &zeros, &metadata, 0), Err(expected));
        assert!(mma_sp_float(Float::F16, &a, &a, &zeros, &metadata, 1).is_ok());
    }
    let refused = mma_sp_float(Float::F16, &a, &a, &zeros, &metadata, 2);
    assert_eq!(refused, Err(CudaError::Selector { selector: 2, most: 1 }));
}

#[test]
fn the_dense_instruction_is_a_dense_product() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (dense, b) = (input(32, &mut rng), input(16, &mut rng));
    let dense: Vec<i32> = dense.into_iter().flatten().collect();
    let a = lanes(|lane, i| {
        let at = (lane / 4 + 8 * (i % 2)) * 16 + 2 * (lane % 4) + 8 * (i / 2);
        u32::from(bits(Float::F16, dense[at])) | u32::from(bits(Float::F16, dense[at + 1])) << 16
    });
    let expected = dense_product(&dense, [16, 16], &b);
    let d = mma_float(Float::F16, &a, &b_floats(Float::F16, &b, 0), &[[0.5; 4]; 32]);
    for (lane, sums) in d.iter().enumerate() {
        for (i, sum) in sums.iter().enumerate() {
            let (row, column) = place(0, lane, i);
            assert_eq!(*sum, expected[row][column] as f32 + 0.5);
        }
    }
}

#[test]
fn the_dense_instruction_on_bytes_is_a_dense_product() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let (dense, b) = (input(64, &mut rng), input(32, &mut rng));
    let dense: Vec<i32> = dense.into_iter().flatten().collect();
    let a = lanes(|lane, i| {
        let at = (lane / 4 + 8 * (i % 2)) * 32 + 4 * (lane % 4) + 16 * (i / 2);
        u32::from_le_bytes(std::array::from_fn(|byte| dense[at + byte] as i8 as u8))
    });
    let expected = dense_product(&dense, [16, 32], &b);
    let b = b_bytes(&[&b[..], &b[..]].concat(), 0).map(|lane| [lane[0], lane[1]]);
    for (lane, sums) in mma_s8(&a, &b, &[[7; 4]; 32]).iter().enumerate() {
        for (i, sum) in sums.iter().enumerate() {
            let (row, column) = place(0, lane, i);
            assert_eq!(*sum, expected[row][column] + 7);
        }
    }
}
