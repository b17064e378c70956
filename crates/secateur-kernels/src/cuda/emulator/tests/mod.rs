//! Does the emulator compute what PTX means, and does it see what a kernel does wrong?
//!
//! Kernels here are a few lines each, written by hand. Every one has parameters `in` and `out`, the thread's number
//! in `%t`, and addresses of its own element of `in` and `out` in `%in` and `%out`.

mod arithmetic;
mod memory;
mod tensor;
mod threads;

use super::{Argument, Copies, Emulator, Launch, Ptx, Schedule, Warps};
use crate::cuda::CudaError;

/// A kernel `k` of `body`, whose threads own `input` and `output` bytes each.
fn kernel(input: usize, output: usize, body: &str) -> &'static str {
    let text = format!(
        ".version 7.8\n.target sm_80\n.address_size 64\n\
         .visible .entry k(.param .u64 in, .param .u64 out)\n{{\n\
         .reg .pred %p<8>; .reg .b16 %h<16>; .reg .b32 %r<40>; .reg .f32 %f<16>; .reg .b64 %rd<16>;\n\
         .reg .b32 %t; .reg .b64 %in, %out, %a, %b;\n\
         ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; cvta.to.global.u64 %in, %in;\n\
         mov.u32 %t, %tid.x;\n\
         mul.wide.u32 %a, %t, {input}; add.s64 %in, %in, %a;\n\
         mul.wide.u32 %b, %t, {output}; add.s64 %out, %out, %b;\n{body}\nret;\n}}\n"
    );
    Box::leak(text.into_boxed_str())
}

/// Runs `k` in one block over `input`; the first `N` bytes of what it wrote, as words.
fn run_on(
    emulator: &Emulator,
    text: &'static str,
    threads: u32,
    input: &[u32],
    outputs: usize,
) -> Result<Vec<u32>, CudaError> {
    let device = emulator.device();
    let (from, to) = (device.upload(input)?, device.zeros(outputs * 4)?);
    let launch = Launch {
        ptx: Ptx { name: "test", text },
        function: "k",
        grid: [1, 1, 1],
        threads,
        shared_bytes: 4096,
        arguments: &[Argument::Address(from.address()), Argument::Address(to.address())],
    };
    device.backend().launch(&launch)?;
    device.synchronize()?;
    let mut out = vec![0; outputs];
    to.read(&mut out)?;
    Ok(out)
}

/// The same on a new emulator.
fn run(
    text: &'static str,
    threads: u32,
    input: &[u32],
    outputs: usize,
) -> Result<Vec<u32>, CudaError> {
    run_on(&Emulator::new(), text, threads, input, outputs)
}

/// What a kernel is accused of, under every schedule.
#[track_caller]
fn is_fault(text: &'static str, threads: u32, words: &str) {
    for schedule in Schedule::ALL {
        let emulator = Emulator::with_schedule(schedule);
        match run_on(&emulator, text, threads, &[7; 1024], 1024) {
            Err(CudaError::Fault { what, .. }) => assert!(what.contains(words), "{what}"),
            other => panic!("{schedule:?}: {words:?} was not found: {other:?}"),
        }
    }
}

/// That a kernel is right under every schedule.
#[track_caller]
fn gives(text: &'static str, threads: u32, input: &[u32], expected: &[u32]) {
    for schedule in Schedule::ALL {
        let found =
            run_on(&Emulator::with_schedule(schedule), text, threads, input, expected.len());
        assert_eq!(found.as_deref(), Ok(expected), "{schedule:?}");
    }
}

#[test]
fn what_is_not_known_is_refused_at_load() {
    for line in [
        "wgmma.fence.sync.aligned;",
        "add.rz.f32 %f1, %f2, %f3;",
        "add.s32 %r1, %r2;",
        "add.s32 %r1, %r2, %nothing;",
        "mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, \
         {%r1,%r2,%r3,%r4}, {%f1,%f2,%f3,%f4}, %r5, 0x2;",
        "bra nowhere;",
        ".local .b32 x;",
        "ld.local.u32 %r1, [%rd1];",
        "cp.async.cg.shared.global [%r1], [%rd1], 8;",
    ] {
        // In a place that no lane reaches.
        let text = kernel(4, 4, &format!("bra over;\n{line}\nover:"));
        let Err(CudaError::Fault { kernel, what }) = run(text, 32, &[0; 32], 32) else {
            panic!("{line} was let pass");
        };
        assert_eq!(kernel, "test");
        assert!(what.contains("line 1") || line.starts_with("bra"), "{what}");
        println!("{what}");
    }
}

#[test]
fn launches_that_a_driver_refuses_are_faults() {
    let emulator = Emulator::new();
    let device = emulator.device();
    let text = kernel(0, 0, "");
    let good = Launch {
        ptx: Ptx { name: "test", text },
        function: "k",
        grid: [1, 1, 1],
        threads: 32,
        shared_bytes: 163 << 10,
        arguments: &[Argument::Address(0), Argument::U64(0)],
    };
    let launch = |launch: Launch<'_>| device.backend().launch(&launch);
    assert_eq!(launch(good), Ok(()));
    assert!(launch(Launch { function: "other", ..good }).is_err());
    assert!(launch(Launch { threads: 1025, ..good }).is_err());
    assert!(launch(Launch { grid: [1, 0, 1], ..good }).is_err());
    assert!(launch(Launch { shared_bytes: (163 << 10) + 1, ..good }).is_err());
    assert!(launch(Launch { arguments: &[Argument::Address(0)], ..good }).is_err());
    assert!(
        launch(Launch { arguments: &[Argument::Address(0), Argument::U32(0)], ..good }).is_err()
    );
}
