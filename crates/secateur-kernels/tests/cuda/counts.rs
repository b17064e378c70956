//! Is it true what `docs/kernel-gpu.md` says of memory? Bytes, sectors, bank conflicts and tensor instructions,
//! counted and held against arithmetic.

use crate::operands::{DTYPES, There, activations, weight};
use secateur_kernels::{
    Activation,
    cuda::{Counts, CudaKernel, DeviceWeight, Emulator, prune_two_of_four},
};
use secateur_storage::Dtype;
use std::fmt::Write;

/// What a product's only launch did, and the bytes that it loaded of values and of metadata.
fn product(kernel: CudaKernel, dtype: Dtype, [rows, cols, tokens]: [usize; 3]) -> Product {
    let emulator = Emulator::new().written_once();
    let (packed, x) = (weight(dtype, [rows, cols]), activations([tokens, cols]));
    let mut there = There::new(&emulator.device(), &packed, &x, None).unwrap();
    if rows.is_multiple_of(16) {
        there.y_stride = rows;
    }
    there.multiply(kernel, Activation::None).unwrap();
    assert_eq!(emulator.launches().len(), 1);
    let counts = emulator.counts();
    let x = counts.loaded_from(there.x.address());
    // Uploaded in this order before everything else.
    let mut loaded = counts.loaded.values().copied();
    let [values, metadata] = [(); 2].map(|()| loaded.next().unwrap());
    let (all_values, all_metadata) = there.weight.read().unwrap();
    let stored = [all_values.len() as u64, 4 * all_metadata.len() as u64];
    Product { counts, loaded: [values, metadata], stored, x }
}

struct Product {
    counts: Counts,
    loaded: [u64; 2],
    stored: [u64; 2],
    x: u64,
}

#[test]
fn a_small_batch_reads_its_weight_once_and_in_whole_sectors() {
    for dtype in DTYPES {
        let size = dtype.bitsize() / 8;
        for [rows, cols, tokens] in [[64, 1024, 8], [96, 512, 16], [33, 250, 3], [32, 4096, 13]] {
            let about = format!("{dtype} {rows}x{cols}, {tokens} tokens");
            let found = product(CudaKernel::SmallBatch, dtype, [rows, cols, tokens]);
            let Product { counts, loaded, stored, x } = found;
            assert_eq!(loaded, stored, "{about}");
            let (blocks, eights) = (rows.div_ceil(32) as u64, tokens.div_ceil(8) as u64);
            let squares = ((cols * size).div_ceil(128) * 2) as u64;
            assert_eq!(counts.mma_sp, blocks * squares * 2 * eights, "{about}");
            // Each block reads all of x, and nothing behind its last column.
            assert_eq!(x, blocks * (tokens * cols * size) as u64, "{about}");
            // Scales are read by a warp for each token: one of the token, one
            // a row.
            let of_x = blocks * (tokens * (cols * size).div_ceil(32)) as u64;
            let of_rows: usize =
                (0..rows).step_by(32).map(|row| (rows - row).min(32).div_ceil(8) + 1).sum();
            let scales = if dtype == Dtype::I8 { (tokens * of_rows) as u64 } else { 0 };
            let sectors = (stored[0] + stored[1]) / 32 + of_x + scales;
            assert_eq!(counts.global_load_sectors, sectors, "{about}");
            assert_eq!(counts.bank_conflicts(), 0, "{about}");
            // One behind the loop, where the ring ends, and one where the sums have met.
            assert_eq!(counts.barriers, blocks * 8 * 2, "{about}");
            assert_eq!(counts.global_store_bytes, 2 * (rows * tokens) as u64, "{about}");
        }
    }
}

#[test]
fn a_tiled_product_reads_its_weight_once_for_each_tile_of_tokens() {
    for dtype in DTYPES {
        let size = dtype.bitsize() / 8;
        for [rows, cols, tokens] in [[128, 512, 128], [256, 256, 300], [384, 640, 129]] {
            let about = format!("{dtype} {rows}x{cols}, {tokens} tokens");
            let found = product(CudaKernel::Gemm, dtype, [rows, cols, tokens]);
            let Product { counts, loaded, stored, x } = found;
            let (down, across) = (rows.div_ceil(128) as u64, tokens.div_ceil(128) as u64);
            assert_eq!(loaded, stored.map(|bytes| bytes * across), "{about}");
            assert_eq!(x, down * (tokens * cols * size) as u64, "{about}");
            let stages = (cols * size).div_ceil(128) as u64;
            assert_eq!(counts.mma_sp, down * across * stages * 4 * 2 * 4 * 8, "{about}");
            assert_eq!(counts.bank_conflicts(), 0, "{about}");
            // One for each stage, one behind the loop and one behind turning the tile over.
            assert_eq!(counts.barriers, down * across * 4 * (stages + 2), "{about}");
            assert_eq!(counts.global_store_bytes, 2 * (rows * tokens) as u64, "{about}");
            assert_eq!(counts.global_store_sectors, (rows * tokens) as u64 / 16, "{about}");
            if dtype != Dtype::I8 {
                let all = loaded[0] + loaded[1] + x;
                assert_eq!(counts.global_load_bytes, all, "{about}");
                assert_eq!(counts.global_load_sectors, all / 32, "{about}");
            }
        }
    }
}

/// Where a weight ends in the middle of a tile, its rows are read once nevertheless; the first rows' metadata stands in
/// for what is not there.
#[test]
fn below_a_weights_lower_end_only_metadata_is_read() {
    for dtype in DTYPES {
        let found = product(CudaKernel::Gemm, dtype, [160, 256, 64]);
        assert_eq!(found.loaded[0], found.stored[0]);
        assert_eq!(found.loaded[1], found.stored[1] / 160 * 256);
        assert_eq!(found.counts.bank_conflicts(), 0);
    }
}

#[test]
fn pruning_reads_and_writes_every_byte_once() {
    for (dtype, bytes) in [(Dtype::F32, 4), (Dtype::F16, 2), (Dtype::BF16, 2), (Dtype::I8, 1)] {
        let counts = pruned(dtype, bytes);
        let all = (48 * 512 * bytes) as u64;
        let found = [counts.global_load_bytes, counts.global_store_bytes];
        assert_eq!(found, [all; 2], "{dtype}");
        let found = [counts.global_load_sectors, counts.global_store_sectors];
        assert_eq!(found, [all / 32; 2], "{dtype}");
    }
}

fn pruned(dtype: Dtype, bytes: usize) -> Counts {
    let emulator = Emulator::new().written_once();
    let weight = emulator.device().upload(&vec![0x11_u8; 48 * 512 * bytes]).unwrap();
    prune_two_of_four(&weight, dtype, [48, 512]).unwrap();
    emulator.counts()
}

fn packed(dtype: Dtype, unpack: bool) -> Counts {
    let emulator = Emulator::new().written_once();
    let bytes = vec![0_u8; 64 * 256 * dtype.bitsize() / 8];
    let dense = emulator.device().upload(&bytes).unwrap();
    let weight = DeviceWeight::pack(&dense, dtype, [64, 256]).unwrap();
    if unpack {
        weight.unpack().unwrap();
    }
    emulator.counts()
}

/// One line for each kernel: what a change of a kernel changes.
#[test]
fn a_table_of_counts() {
    let mut table = format!(
        "{:<20} {:>5} {:>15} {:>7} {:>9} {:>8} {:>8} {:>7} {:>16} {:>8}\n",
        "kernel",
        "type",
        "shape",
        "mma.sp",
        "loaded",
        "sectors",
        "stored",
        "sectors",
        "wavefronts/ideal",
        "barriers"
    );
    let mut line = |kernel: &str, dtype: Dtype, shape: &str, counts: &Counts| {
        let dtype = dtype.to_string();
        let shared = format!("{}/{}", counts.shared_wavefronts, counts.shared_wavefronts_ideal);
        writeln!(
            table,
            "{kernel:<20} {dtype:>5} {shape:>15} {:>7} {:>9} {:>8} {:>8} {:>7} {shared:>16} {:>8}",
            counts.mma_sp,
            counts.global_load_bytes,
            counts.global_load_sectors,
            counts.global_store_bytes,
            counts.global_store_sectors,
            counts.barriers
        )
        .unwrap();
    };
    for (kernel, shape) in [
        (CudaKernel::SmallBatch, [64, 1024, 8]),
        (CudaKernel::SmallBatch, [64, 1024, 16]),
        (CudaKernel::Gemm, [256, 512, 128]),
        (CudaKernel::Gemm, [200, 500, 100]),
    ] {
        for dtype in DTYPES {
            let [rows, cols, tokens] = shape;
            let shape_said = format!("{rows}x{cols}x{tokens}");
            line(&kernel.to_string(), dtype, &shape_said, &product(kernel, dtype, shape).counts);
        }
    }
    for dtype in [Dtype::BF16, Dtype::I8] {
        line("pack", dtype, "64x256", &packed(dtype, false));
        line("unpack", dtype, "64x256", &packed(dtype, true));
    }
    for (dtype, bytes) in [(Dtype::F32, 4), (Dtype::F16, 2), (Dtype::BF16, 2), (Dtype::I8, 1)] {
        line("prune", dtype, "48x512", &pruned(dtype, bytes));
    }
    insta::assert_snapshot!(table);
}
