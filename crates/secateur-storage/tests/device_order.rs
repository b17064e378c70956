//! Does the sparse tensor core, fed with the device's order, compute the dense product?
//!
//! The judge is a model of the instruction that sees 32 lanes' registers and nothing else, written
//! from the lane-by-lane definition and not from the code under test.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use proptest::prelude::*;
use secateur_storage::{
    StorageError,
    device_order::{
        block, from_device_order, to_device_order, values_from_device_order, values_to_device_order,
    },
    semi_structured::{
        MetadataWord, compress, expand, indices_from_metadata, metadata_from_indices, verify,
    },
};

/// What a lane brings to `mma.sp`: four registers of A (compressed) and of B, each of `E` elements
/// (2 of 16 bits, 4 of 8 bits), and a word of metadata. Elements are small whole numbers in f32:
/// every sum below is exact.
#[derive(Clone, Copy)]
struct Lane<const E: usize> {
    a: [[f32; E]; 4],
    b: [[f32; E]; 4],
    metadata: u32,
}

/// `mma.sp.m16n8k32` (`E` = 2) or `m16n8k64` (`E` = 4): the 16 × 8 product, from registers alone.
fn mma_sp<const E: usize>(lanes: &[Lane<E>; 32], selector: usize) -> [[f32; 8]; 16] {
    let mut product = [[0.0; 8]; 16];
    for row in 0..16 {
        for slot in 0..8 * E {
            let lane = 4 * (row % 8) + slot % (4 * E) / E;
            let a = lanes[lane].a[row / 8 + 2 * (slot / (4 * E))][slot % E];
            let group = slot / 2;
            let (keeper, nibble) = match E {
                // A word of 16 columns for each of two rows, in the lanes that the selector names.
                2 => (4 * (row % 8) + 2 * selector + group / 4, group % 4 + 4 * (row / 8)),
                // A word of 32 columns for one row: lane t has row g + 8 (t & 1), half t >> 1.
                _ => (4 * (row % 8) + row / 8 + 2 * (group / 8), group % 8),
            };
            let index = lanes[keeper].metadata >> (4 * nibble + 2 * (slot % 2)) & 3;
            let k = 4 * group + index as usize;
            for col in 0..8 {
                let b = lanes[4 * col + k % (4 * E) / E].b[k / (4 * E)][k % E];
                product[row][col] += a * b;
            }
        }
    }
    product
}

/// Multiplies a weight `[m, k]` by `[k, 8]` as a kernel would: a warp per 16 rows, which takes its
/// metadata by one read per lane and block.
fn product<const E: usize>(
    values: &[f32],
    device: &[u32],
    [m, k]: [usize; 2],
    input: &[[f32; 8]],
) -> Vec<[f32; 8]> {
    let block = [64 / E, 16 * E]; // 32 × 32 or 16 × 64
    let mut output = vec![[0.0; 8]; m];
    for top in (0..m).step_by(16) {
        for left in (0..k).step_by(block[1]) {
            let first = 32 * (left / block[1] * (m / block[0]) + top / block[0]);
            let lanes: [Lane<E>; 32] = std::array::from_fn(|lane| {
                let (g, t) = (lane >> 2, lane & 3);
                Lane {
                    a: std::array::from_fn(|i| {
                        let row = top + g + 8 * (i & 1);
                        let slot = left / 2 + E * t + 4 * E * (i >> 1);
                        std::array::from_fn(|e| values[row * k / 2 + slot + e])
                    }),
                    b: std::array::from_fn(|i| {
                        std::array::from_fn(|e| input[left + 4 * E * i + E * t + e][g])
                    }),
                    metadata: device[first + lane],
                }
            });
            for (row, part) in mma_sp(&lanes, top % block[0] / 16).into_iter().enumerate() {
                for (sum, part) in output[top + row].iter_mut().zip(part) {
                    *sum += part;
                }
            }
        }
    }
    output
}

/// A 2:4 weight without structure, entries -8 to 8, groups of zero to two non-zeros.
fn weight(shape: [usize; 2], seed: u64) -> Vec<i8> {
    let mut state = seed;
    let mut below = |n: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % n) as usize
    };
    let mut dense = vec![0; shape[0] * shape[1]];
    for group in dense.as_chunks_mut::<4>().0 {
        for _ in 0..2 {
            group[below(4)] = below(17) as i8 - 8;
        }
    }
    dense
}

fn the_product_is_the_dense_one<const E: usize, W: MetadataWord>(shape: [usize; 2], seed: u64) {
    let [m, k] = shape;
    let dense: Vec<f32> = weight(shape, seed).into_iter().map(f32::from).collect();
    let input: Vec<[f32; 8]> = (0..k)
        .map(|row| std::array::from_fn(|col| ((row * 7 + col * 3) % 11) as f32 - 5.))
        .collect();
    let expected: Vec<[f32; 8]> = (0..m)
        .map(|row| {
            std::array::from_fn(|col| (0..k).map(|i| dense[row * k + i] * input[i][col]).sum())
        })
        .collect();

    let (values, metadata) = compress::<f32, W>(&dense, shape, |w| w == 0.0).unwrap();
    let device = to_device_order(&metadata, shape).unwrap();
    assert_eq!(product::<E>(&values, &device, shape, &input), expected, "{shape:?}");
}

#[test]
fn sixteen_bit_words_give_the_dense_product_with_either_selector() {
    for (seed, shape) in [[32, 32], [32, 64], [64, 32], [96, 160]].into_iter().enumerate() {
        the_product_is_the_dense_one::<2, u16>(shape, seed as u64);
    }
}

#[test]
fn eight_bit_words_give_the_dense_product() {
    for (seed, shape) in [[16, 64], [16, 128], [32, 64], [48, 320]].into_iter().enumerate() {
        the_product_is_the_dense_one::<4, u32>(shape, seed as u64);
    }
}

/// The order as CUTLASS describes it, in three steps, each on the whole `[m, words]` array.
fn in_three_steps<W: MetadataWord>(metadata: &[W], [m, k]: [usize; 2]) -> Vec<W> {
    let (width, block_rows) = (k / W::COLUMNS, block::<W>()[0]);
    let mut dealt = metadata.to_vec();
    for row in 0..m {
        // Rows are dealt out by eights: row 8 j + g of a block becomes row (block / 8) g + j.
        let (j, g) = (row % block_rows / 8, row % 8);
        let to = row / block_rows * block_rows + block_rows / 8 * g + j;
        dealt[to * width..][..width].copy_from_slice(&metadata[row * width..][..width]);
    }
    for top in (0..m).step_by(2) {
        for left in (0..width).step_by(2) {
            dealt.swap(top * width + left + 1, (top + 1) * width + left);
        }
    }
    let pairs = (0..width).step_by(2).flat_map(|left| (0..m).map(move |row| (row, left)));
    pairs
        .flat_map(|(row, left)| [dealt[row * width + left], dealt[row * width + left + 1]])
        .collect()
}

proptest! {
    #[test]
    fn weights_come_back(rows in 0_usize..9, words in 0_usize..5, seed: u64) {
        round_trip::<u16>([rows, 16 * words], seed);
        round_trip::<u32>([rows, 32 * words], seed);
    }

    #[test]
    fn the_order_is_cutlass_and_comes_back(rows in 0_usize..4, cols in 0_usize..4, seed: u64) {
        let shape = [32 * rows, 32 * cols];
        let metadata = compress::<i8, u16>(&weight(shape, seed), shape, |w| w == 0).unwrap().1;
        let device = to_device_order(&metadata, shape).unwrap();
        let halves: Vec<u16> = device.iter().flat_map(|w| [*w as u16, (w >> 16) as u16]).collect();
        prop_assert_eq!(halves, in_three_steps(&metadata, shape));
        prop_assert_eq!(from_device_order::<u16>(&device, shape).unwrap(), metadata);

        let shape = [16 * rows, 64 * cols];
        let metadata = compress::<i8, u32>(&weight(shape, seed), shape, |w| w == 0).unwrap().1;
        let device = to_device_order(&metadata, shape).unwrap();
        prop_assert_eq!(&device, &in_three_steps(&metadata, shape));
        prop_assert_eq!(from_device_order::<u32>(&device, shape).unwrap(), metadata);
    }

    #[test]
    fn values_come_back(rows in 0_usize..4, cols in 0_usize..4) {
        let values: Vec<u32> = (0..(32 * rows * 16 * cols) as u32).collect();
        let shape = [32 * rows, 32 * cols];
        let device = values_to_device_order::<_, u16>(&values, shape).unwrap();
        prop_assert_eq!(&values_from_device_order::<_, u16>(&device, shape).unwrap(), &values);
        let shape = [16 * rows, 64 * cols];
        let device = values_to_device_order::<_, u32>(&values, shape).unwrap();
        prop_assert_eq!(&values_from_device_order::<_, u32>(&device, shape).unwrap(), &values);
    }

    #[test]
    fn any_words_are_a_weight_or_a_typed_error(words in prop::collection::vec(any::<u16>(), 4)) {
        let nibbles = || words.iter().flat_map(|word| (0..4).map(move |group| word >> (4 * group) & 0xF));
        let bad = nibbles().position(|n| ![0x4, 0x8, 0x9, 0xC, 0xD, 0xE].contains(&n));
        match (verify(&words, [2, 32]), bad) {
            (Ok(()), None) => {}
            (Err(StorageError::Indices { row, group, .. }), Some(at)) => {
                prop_assert_eq!((row, group), (at / 8, at % 8));
            }
            (found, _) => prop_assert!(false, "{found:?}"),
        }
    }
}

fn round_trip<W: MetadataWord + PartialEq + std::fmt::Debug>(shape: [usize; 2], seed: u64) {
    let dense = weight(shape, seed);
    let (values, metadata) = compress::<i8, W>(&dense, shape, |w| w == 0).unwrap();
    assert_eq!(values.len() * 2, dense.len());
    assert_eq!(expand(&values, &metadata, shape).unwrap(), dense);
    let indices = indices_from_metadata(&metadata, shape).unwrap();
    assert_eq!(indices.len() * 8, dense.len());
    assert_eq!(metadata_from_indices::<W>(&indices, shape).unwrap(), metadata);
}

#[test]
fn only_whole_blocks_have_a_device_order() {
    fn refused<W: MetadataWord>(shape: [usize; 2], multiple_of: usize) {
        let metadata = compress::<i8, W>(&weight(shape, 0), shape, |w| w == 0).unwrap().1;
        let device = vec![0xEEEE_EEEE; shape[0] * shape[1] / 32];
        for error in [
            to_device_order(&metadata, shape).map(drop),
            from_device_order::<W>(&device, shape).map(drop),
        ] {
            assert!(
                matches!(error, Err(StorageError::Multiple { multiple, .. }) if multiple == multiple_of),
                "{shape:?}: {error:?}"
            );
        }
    }
    refused::<u16>([16, 32], 32);
    refused::<u16>([32, 48], 32);
    refused::<u32>([24, 64], 16);
    refused::<u32>([16, 96], 64);
    assert_eq!((block::<u16>(), block::<u32>()), ([32, 32], [16, 64]));
}

#[test]
fn values_lie_as_lanes_load_them() {
    // A value is 1000 times its row and its place among the kept ones.
    let values = |[m, k]: [usize; 2]| -> Vec<usize> {
        (0..m * k / 2).map(|at| at / (k / 2) * 1000 + at % (k / 2)).collect()
    };
    let device = values_to_device_order::<_, u16>(&values([64, 64]), [64, 64]).unwrap();
    // Lane 6 of the first instruction: g = 1, t = 2, registers at rows 1 and 9, kept values 4 and 12.
    assert_eq!(device[48..56], [1004, 1005, 9004, 9005, 1012, 1013, 9012, 9013]);
    // The same lane of the second instruction, of the block below, and of the block to the right.
    assert_eq!(device[256 + 48..][..4], [17004, 17005, 25004, 25005]);
    assert_eq!(device[512 + 48..][..4], [33004, 33005, 41004, 41005]);
    assert_eq!(device[1024 + 48..][..4], [1020, 1021, 9020, 9021]);

    let device = values_to_device_order::<_, u32>(&values([32, 128]), [32, 128]).unwrap();
    assert_eq!(device[6 * 16..][..8], [1008, 1009, 1010, 1011, 9008, 9009, 9010, 9011]);
    assert_eq!(device[6 * 16 + 8..][..4], [1024, 1025, 1026, 1027]);
    assert_eq!(device[512 + 6 * 16..][..2], [17008, 17009]);
    assert_eq!(device[1024 + 6 * 16..][..2], [1040, 1041]);
}

#[test]
fn values_of_another_shape_are_refused() {
    let refused = values_to_device_order::<_, u16>(&[0_u16; 32 * 16], [16, 64]);
    assert!(matches!(refused, Err(StorageError::Multiple { multiple: 32, .. })));
    let refused = values_from_device_order::<_, u32>(&[0_u8; 511], [16, 64]);
    assert!(matches!(refused, Err(StorageError::Length { found: 511, expected: 512, .. })));
}

#[test]
fn damaged_device_words_are_refused_by_row_and_group() {
    let mut device = vec![0xEEEE_EEEE; 2 * 64];
    assert!(matches!(
        from_device_order::<u16>(&device[1..], [64, 64]),
        Err(StorageError::Length { .. })
    ));
    // The second column of blocks, the second block: lane 4 · 5 + 3 has rows 21 and 29, its right half.
    device[64 + 32 + 4 * 5 + 3] = 0xE0EE_EEEE;
    match from_device_order::<u16>(&device, [64, 64]) {
        Err(StorageError::Indices { row, group, m: 4 }) => {
            assert_eq!((row, group), (32 + 29, 8 + 4 + 2));
        }
        other => panic!("{other:?}"),
    }
    let illegal = vec![0x1111_u16; 64];
    assert!(matches!(to_device_order(&illegal, [32, 32]), Err(StorageError::Indices { .. })));
}
