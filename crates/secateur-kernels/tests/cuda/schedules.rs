//! Does it matter what hardware does first? A kernel that is right gives the same bits whichever warp runs first and
//! however late copies arrive, and writes nothing twice.

use crate::{
    common::numbers,
    operands::{DTYPES, There, activations, hold, weight},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rayon::prelude::*;
use secateur_kernels::{
    Activation,
    cuda::{Copies, CudaKernel, Emulator, Schedule, Warps, check},
};

/// Rows, columns, tokens: whole tiles, several of them both ways, and ragged ones.
const FEW: [[usize; 3]; 6] =
    [[32, 128, 8], [96, 1100, 16], [300, 520, 16], [33, 65, 9], [31, 2048, 1], [1, 3, 1]];
const MANY: [[usize; 3]; 6] =
    [[128, 256, 128], [256, 128, 256], [300, 520, 130], [129, 65, 257], [1160, 40, 140], [1, 3, 1]];

fn schedules() -> Vec<Schedule> {
    let shuffled = (3..6).map(|seed| {
        let copies = if seed % 2 == 0 { Copies::Early } else { Copies::Late };
        Schedule { warps: Warps::Shuffled(seed), copies }
    });
    Schedule::ALL.into_iter().chain(shuffled).collect()
}

#[test]
fn every_order_gives_the_same_bits() {
    let cases = [(CudaKernel::SmallBatch, FEW), (CudaKernel::Gemm, MANY)];
    let cases = cases.into_iter().flat_map(|(kernel, shapes)| shapes.map(|shape| (kernel, shape)));
    let cases: Vec<_> = cases.flat_map(|case| DTYPES.map(|dtype| (dtype, case))).collect();
    cases.into_par_iter().for_each(|(dtype, (kernel, [rows, cols, tokens]))| {
        let about = format!("{kernel} {dtype} {rows}x{cols}, {tokens} tokens");
        let (packed, x) = (weight(dtype, [rows, cols]), activations([tokens, cols]));
        let bias = numbers(&mut ChaCha8Rng::seed_from_u64(1), rows);
        let mut first = None;
        for schedule in schedules() {
            let emulator = Emulator::with_schedule(schedule).written_once();
            let device = emulator.device();
            let mut there = There::new(&device, &packed, &x, Some(&bias)).unwrap();
            let done = there.multiply(kernel, Activation::Gelu);
            assert_eq!(done, Ok(()), "{about}, {schedule:?}");
            let bits = there.bits();
            match &first {
                None => {
                    let found = there.outputs();
                    hold(&packed, &x, Some(&bias), Activation::Gelu, &found, &about);
                    first = Some(bits);
                }
                Some(first) => assert!(*first == bits, "other bits of {about} by {schedule:?}"),
            }
        }
    });
}

/// Packing, unpacking and pruning too: some of the sweep, on emulators that watch every store.
#[test]
fn nothing_is_written_twice() {
    let sweep: Vec<_> = check::sweep().into_iter().step_by(7).collect();
    sweep.par_iter().for_each(|check| {
        for schedule in Schedule::ALL {
            let emulator = Emulator::with_schedule(schedule).written_once();
            let verdict = check.run(&emulator.device());
            let holds = verdict.as_ref().is_ok_and(|verdict| verdict.holds());
            assert!(holds, "{check}, {schedule:?}: {verdict:?}");
        }
    });
}
