//! Is the driver called as it wants to be? Held against one that works on host memory and writes everything down.

#[path = "../../../tests/cuda_driver/fake.rs"]
mod fake;

use super::super::{
    CudaError, Device,
    device::{Argument, Launch, Ptx},
};
use fake::{Fake, Knob};
use std::{thread, time::Duration};

const PTX: Ptx = Ptx {
    name: "sums",
    text: ".version 7.8\n.visible .entry sum(\n\t.param .u64 sum_param_0,\n\t.param .u32 sum_param_1\n)\n{ ret; }\n\
        .visible .entry nothing(\n\n)\n{ ret; }\n",
};
const BROKEN: Ptx = Ptx { name: "broken_ones", text: ".version 7.8\nbroken\n" };

fn open(driver: &Fake) -> Device {
    // SAFETY: a library with a driver's functions, of their types.
    unsafe { Device::open_library(driver.file(), 0) }.unwrap()
}

/// A launch of `sum`, changed as a test wants it.
fn launch<'a>(arguments: &'a [Argument]) -> Launch<'a> {
    let grid = [7, 2, 1];
    Launch { ptx: PTX, function: "sum", grid, threads: 128, shared_bytes: 76_800, arguments }
}

#[test]
fn properties_are_those_of_the_card() {
    let driver = Fake::driver();
    let device = open(&driver);
    let found = device.properties();
    assert_eq!((&found.name[..], found.sm, found.multiprocessors), ("A fake card", 80, 108));
    assert_eq!((found.shared_per_block, found.memory, found.driver), (166_912, 1 << 30, 12040));
    assert_eq!((found.bandwidth, found.clock), (1.5552e12, 1.41e9));
    assert_eq!(
        driver.log(),
        "retain 0\nstream 0\n",
        "stream 0: ordered with everybody's default stream"
    );
}

#[test]
fn memory_holds_what_was_written_until_it_is_dropped() {
    let driver = Fake::driver();
    let device = open(&driver);
    let (buffer, empty) =
        (device.upload(&[1_u16, 2, 3]).unwrap(), device.upload::<u8>(&[]).unwrap());
    assert_ne!(buffer.address(), empty.address());
    assert_eq!(driver.live(), 2);
    buffer.write(&[9_u16]).unwrap();
    let mut back = [0_u16; 3];
    buffer.read(&mut back).unwrap();
    assert_eq!(back, [9, 2, 3]);
    let said = driver.log();
    assert!(said.ends_with("upload 6\nwait\nupload 2\nwait\ndownload 6\nwait\n"), "{said}");
    drop((buffer, empty));
    assert_eq!(driver.log(), "wait\nfree 6\nwait\nfree 1\n");
    assert_eq!((driver.live(), driver.depth()), (0, 0));
}

#[test]
fn a_full_card_says_how_much_was_asked_for() {
    let driver = Fake::driver();
    driver.set(Knob::Memory, 4096);
    let device = open(&driver);
    let held = device.zeros(4000).unwrap();
    assert_eq!(device.zeros(97).unwrap_err(), CudaError::OutOfMemory { bytes: 97 });
    drop(held);
    device.zeros(97).unwrap();
}

#[test]
fn launches_pass_what_they_say_and_load_once() {
    let driver = Fake::driver();
    let device = open(&driver);
    driver.log();
    let arguments = [Argument::Address(u64::MAX - 4), Argument::U32(u32::MAX - 1)];
    device.backend().launch(&launch(&arguments)).unwrap();
    device.backend().launch(&launch(&arguments)).unwrap();
    let other = Launch { function: "nothing", shared_bytes: 0, arguments: &[], ..launch(&[]) };
    device.backend().launch(&other).unwrap();
    let sum =
        "launch sum grid 7 2 1 threads 128 shared 76800 with 18446744073709551611 4294967294\n";
    // All shared memory but the 512 static bytes.
    let first = "load\nfind sum\nset 8 166400\n";
    let nothing =
        "find nothing\nset 8 166400\nlaunch nothing grid 7 2 1 threads 128 shared 0 with\n";
    assert_eq!(driver.log(), format!("{first}{sum}{sum}{nothing}"));
    assert_eq!(driver.depth(), 0);
}

#[test]
fn a_launch_that_does_not_fit_its_kernel_is_refused() {
    let driver = Fake::driver();
    let device = open(&driver);
    let right = [Argument::Address(0), Argument::U32(0)];
    let lists: [&[Argument]; 4] =
        [&[], &right[..1], &[right[1], right[0]], &[right[0], right[1], right[1]]];
    for arguments in lists {
        let error = device.backend().launch(&launch(arguments)).unwrap_err();
        assert!(matches!(error, CudaError::Arguments { .. }), "{error}");
        assert!(
            error.to_string().contains("sum takes parameters of [8, 4] bytes, not ["),
            "{error}"
        );
    }
    let shared_bytes = 166_912 - 512;
    device.backend().launch(&Launch { shared_bytes, ..launch(&right) }).unwrap();
    let error =
        device.backend().launch(&Launch { shared_bytes: shared_bytes + 1, ..launch(&right) });
    let (kernel, bytes, limit) = ("sum".into(), 166_913, 166_912);
    assert_eq!(error, Err(CudaError::SharedMemory { kernel, bytes, limit }));
    let error =
        device.backend().launch(&Launch { function: "product", ..launch(&right) }).unwrap_err();
    let call = "cuModuleGetFunction";
    assert_eq!(error, CudaError::Call { call, code: 500, name: "CUDA_ERROR_NOT_FOUND".into() });
    assert_eq!(driver.depth(), 0);
}

#[test]
fn a_text_that_is_refused_comes_with_the_compilers_words() {
    let driver = Fake::driver();
    let device = open(&driver);
    let error = device.backend().launch(&Launch { ptx: BROKEN, ..launch(&[]) }).unwrap_err();
    let name = "broken_ones".into();
    let (reason, log) =
        ("CUDA_ERROR_INVALID_PTX (218)".into(), "ptxas fatal: line 3 is broken".into());
    assert_eq!(error, CudaError::Load { name, reason, log });
    // And again: a refusal is not kept as a module.
    device.backend().launch(&Launch { ptx: BROKEN, ..launch(&[]) }).unwrap_err();
}

#[test]
fn a_launch_that_fails_at_once_says_so() {
    let driver = Fake::driver();
    let device = open(&driver);
    driver.set(Knob::Refuse, 701);
    let error = device.backend().launch(&launch(&[Argument::Address(0), Argument::U32(0)]));
    let name = "unknown error".into();
    assert_eq!(error, Err(CudaError::Call { call: "cuLaunchKernel", code: 701, name }));
    device.synchronize().unwrap();
}

#[test]
fn a_kernel_that_fails_is_found_by_the_next_wait_and_ever_after() {
    let driver = Fake::driver();
    let device = open(&driver);
    let buffer = device.zeros(16).unwrap();
    driver.set(Knob::Fault, 700);
    device.backend().launch(&launch(&[Argument::Address(0), Argument::U32(0)])).unwrap();
    let error = device.synchronize().unwrap_err();
    let words = "CUDA_ERROR_ILLEGAL_ADDRESS, an illegal memory access was encountered (700)";
    assert!(error.to_string().ends_with(words), "{error}");
    assert!(matches!(buffer.read(&mut [0_u8; 16]), Err(CudaError::Call { code: 700, .. })));
    assert!(matches!(device.zeros(1), Err(CudaError::Call { code: 700, .. })));
    // Dropping what is lost neither panics nor hangs.
    drop((buffer, device));
    assert_eq!(driver.depth(), 0);
}

#[test]
fn everything_is_given_back_in_order() {
    let driver = Fake::driver();
    let device = open(&driver);
    let buffer = device.zeros(8).unwrap();
    device.backend().launch(&launch(&[Argument::Address(0), Argument::U32(0)])).unwrap();
    driver.log();
    drop(device);
    assert_eq!(driver.log(), "", "a buffer keeps its device");
    drop(buffer);
    assert_eq!(driver.log(), "wait\nfree 8\nwait\nunload\nend of stream\nrelease 0\n");
}

#[test]
fn any_thread_may_use_a_device() {
    let driver = Fake::driver();
    let device = open(&driver);
    thread::scope(|scope| {
        for value in 0..4_u8 {
            let device = device.clone();
            scope.spawn(move || {
                let buffer = device.upload(&[value; 100]).unwrap();
                let mut back = [0; 100];
                buffer.read(&mut back).unwrap();
                assert_eq!(back, [value; 100]);
                buffer
            });
        }
    });
    assert_eq!(driver.live(), 0);
}

#[test]
fn time_is_taken_between_two_moments_of_the_stream() {
    let driver = Fake::driver();
    let device = open(&driver);
    driver.log();
    let arguments = [Argument::Address(0), Argument::U32(0)];
    let time = device.elapsed(|| device.backend().launch(&launch(&arguments))).unwrap();
    assert_eq!(time, Duration::from_micros(2500));
    let said = driver.log();
    let order: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("record") || line.contains("launch"))
        .map(|line| &line[..6])
        .collect();
    assert_eq!(order, ["record", "launch", "record"]);
    let error = device.elapsed(|| Err(CudaError::NoClock)).unwrap_err();
    assert_eq!(error, CudaError::NoClock);
    assert_eq!(driver.log().matches("end of event").count(), 2, "none is left behind");
}
