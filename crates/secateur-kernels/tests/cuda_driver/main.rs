//! Without a card, a driver or CUDA: does everything that is missing have an error of its own?
//!
//! Libraries that are there are stand-ins, compiled here (`fake.rs`). Launches are tested inside the crate, in
//! `src/cuda/driver/tests.rs`, as they are no business of its users.
#![cfg(all(feature = "cuda", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod fake;

use fake::{Fake, Knob};
use secateur_kernels::cuda::{CudaError, Dense, Device, Gemm, GemmType, Nvrtc, Target};
use std::{env, fs, path::Path};

/// A device of a fake driver.
fn open(driver: &Fake, ordinal: usize) -> Result<Device, CudaError> {
    // SAFETY: a library with a driver's functions, of their types.
    unsafe { Device::open_library(driver.file(), ordinal) }
}

/// A library of this system that is no driver.
fn no_driver(file: &str) -> CudaError {
    // SAFETY: its initializers have run in this process already, and it has none of a driver's functions.
    unsafe { Device::open_library(Path::new(file), 0) }.unwrap_err()
}

#[test]
fn no_driver_is_said_with_what_was_tried() {
    let error = no_driver("/nowhere/libcuda.so.1");
    assert!(
        matches!(&error, CudaError::NoDriver { reason } if reason.contains("/nowhere/libcuda.so.1"))
    );
    assert!(error.to_string().contains("Install the driver"), "{error}");
    // A name without a folder is a file here, not one that the loader searches for.
    let error = no_driver("libm.so.6");
    assert!(
        matches!(&error, CudaError::NoDriver { reason } if reason.contains("./libm.so.6")),
        "{error}"
    );
}

#[test]
fn a_library_that_is_no_driver_lacks_a_function() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.lines().filter_map(|line| line.split_whitespace().last());
    let libc = libc.into_iter().find(|file| file.contains("/libc.so") || file.contains("/libc-"));
    let Some(libc) = libc else { return println!("skipped: this program has no libc.so") };
    let error = no_driver(libc);
    assert_eq!(error, CudaError::MissingSymbol { library: libc.into(), symbol: "cuInit" });
}

#[test]
fn an_old_driver_is_said_to_be_old() {
    let driver = Fake::driver();
    driver.set(Knob::Version, 11040);
    let error = open(&driver, 0).unwrap_err();
    assert_eq!(error, CudaError::DriverTooOld { found: 11040, needed: 11080 });
    assert!(error.to_string().contains("supports CUDA 11.4, the kernels need 11.8"), "{error}");
    driver.set(Knob::Version, 11080);
    assert_eq!(open(&driver, 0).unwrap().properties().driver, 11080);
}

#[test]
fn a_card_that_is_not_there_is_counted() {
    let driver = Fake::driver();
    for (devices, ordinal) in [(0, 0), (2, 2), (1, usize::MAX)] {
        driver.set(Knob::Devices, devices);
        let error = open(&driver, ordinal).unwrap_err();
        assert_eq!(error, CudaError::NoSuchDevice { ordinal, count: devices as usize });
    }
    // The driver itself says that there is none, at its first call.
    driver.set(Knob::Devices, -1);
    assert_eq!(open(&driver, 0).unwrap_err(), CudaError::NoSuchDevice { ordinal: 0, count: 0 });
    driver.set(Knob::Devices, 2);
    open(&driver, 1).unwrap();
}

#[test]
fn a_card_before_ampere_is_turned_down() {
    let driver = Fake::driver();
    driver.set(Knob::Sm, 75);
    let error = open(&driver, 0).unwrap_err();
    assert_eq!(error, CudaError::TooOldDevice { name: "A fake card".into(), sm: 75 });
    assert_eq!(driver.log(), "", "nothing of it was touched");
    driver.set(Knob::Sm, 86);
    assert_eq!(open(&driver, 0).unwrap().properties().sm, 86);
}

#[test]
fn dense_products_are_those_of_rows() {
    let (driver, cublas) = (Fake::driver(), Fake::cublas());
    let device = open(&driver, 0).unwrap();
    let dense = Dense::open(&device, Some(cublas.folder())).unwrap();
    assert_eq!(dense.version(), 120_400);
    assert_eq!(cublas.log(), format!("create\nstream 0x2000\nworkspace {}\n", 32 << 20));

    let (rows, cols, tokens) = (3, 8, 2);
    let w: Vec<i8> = (0..rows * cols).map(|i| (i * 7 % 19) as i8 - 9).collect();
    let x: Vec<i8> = (0..tokens * cols).map(|i| (i * 5 % 23) as i8 - 11).collect();
    let mut wanted = Vec::new();
    for (token, row) in (0..tokens).flat_map(|token| (0..rows).map(move |row| (token, row))) {
        let pairs = w[row * cols..][..cols].iter().zip(&x[token * cols..][..cols]);
        wanted.push(pairs.map(|(&w, &x)| i32::from(w) * i32::from(x)).sum::<i32>());
    }
    let [w, x] = [w, x].map(|numbers| device.upload(&numbers).unwrap());
    let y = device.zeros(4 * tokens * rows).unwrap();
    let gemm = Gemm { dtype: GemmType::I8, rows, cols, tokens };
    dense.gemm(gemm, &w, &x, &y).unwrap();
    let mut found = vec![0_i32; tokens * rows];
    y.read(&mut found).unwrap();
    assert_eq!(found, wanted);
    assert_eq!(cublas.log(), "gemm 3 3 10 72 -1 1 0\n");

    let half = |dtype| Gemm { dtype, rows: 2, cols: 2, tokens: 2 };
    dense.gemm(half(GemmType::F16), &w, &x, &y).unwrap();
    dense.gemm(half(GemmType::Bf16), &w, &x, &y).unwrap();
    assert_eq!(cublas.log(), "gemm 2 2 2 68 -1 1 0\ngemm 14 14 14 68 -1 1 0\n");

    let long = Gemm { tokens: tokens + 1, ..gemm };
    assert_eq!(dense.gemm(long, &w, &x, &y), Err(CudaError::Buffer { bytes: 24, buffer: 16 }));
    let other = open(&driver, 0).unwrap().zeros(64).unwrap();
    assert_eq!(dense.gemm(gemm, &w, &other, &y), Err(CudaError::OtherDevice { what: "x" }));
    assert_eq!(driver.depth(), 0);
    drop(dense);
    assert_eq!(cublas.log(), "destroy\n");
}

#[test]
fn libraries_that_are_missing_say_how_to_get_them() {
    let empty = tempfile::tempdir().unwrap();
    let driver = Fake::driver();
    let device = open(&driver, 0).unwrap();
    let folder = empty.path();
    // A library by another name is not even opened.
    let another = folder.join("libother.so");
    fs::copy(driver.file(), &another).unwrap();
    let errors = [
        Nvrtc::load(Some(folder)).unwrap_err(),
        Nvrtc::load(Some(&folder.join("libnvrtc.so.11.2"))).unwrap_err(),
        Nvrtc::load(Some(&another)).unwrap_err(),
        Dense::open(&device, Some(folder)).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, CudaError::NoLibrary { .. }), "{error}");
        assert!(error.to_string().contains("pip install"), "{error}");
    }
    // A file of the right name that is no library.
    fs::write(folder.join("libnvrtc.so.11.2"), "nothing").unwrap();
    assert!(matches!(Nvrtc::load(Some(folder)), Err(CudaError::NoLibrary { .. })));
    // And a library that is something else.
    fs::copy(driver.file(), folder.join("libnvrtc.so.11.2")).unwrap();
    let error = Nvrtc::load(Some(folder)).unwrap_err();
    assert!(matches!(error, CudaError::MissingSymbol { symbol: "nvrtcVersion", .. }), "{error}");
}

/// Runs where `SECATEUR_NVRTC` names the compiler's folder.
#[test]
fn sources_become_ptx_or_the_compilers_words() {
    let Some(folder) = env::var_os("SECATEUR_NVRTC") else {
        return println!("skipped: SECATEUR_NVRTC names no NVRTC");
    };
    let nvrtc = Nvrtc::load(Some(Path::new(&folder))).unwrap();
    assert!(nvrtc.version() >= (11, 8), "{:?}", nvrtc.version());
    let source = "extern \"C\" __global__ void put(float* to) { to[threadIdx.x] = warpSize; }";
    let made = nvrtc.compile("put.cu", source, Target::Ptx(80), &["-default-device"]).unwrap();
    let ptx = String::from_utf8(made.bytes).unwrap();
    assert!(ptx.contains(".target sm_80") && ptx.contains(".visible .entry put("), "{ptx}");
    assert!(!ptx.contains('\0'), "no zero at the end");
    let verbose = ["--ptxas-options=-v"];
    let made = nvrtc.compile("put.cu", source, Target::Cubin(90), &verbose).unwrap();
    assert!(made.bytes.starts_with(b"\x7fELF"));
    assert!(made.log.contains("Compiling entry function 'put' for 'sm_90'"), "{}", made.log);
    let error = nvrtc.compile("put.cu", "__global__ int x() {}", Target::Ptx(80), &[]).unwrap_err();
    assert!(
        matches!(&error, CudaError::Compile { name, log } if name == "put.cu" && log.contains("put.cu(1)"))
    );
    let error =
        nvrtc.compile("put.cu", source, Target::Ptx(80), &["--no-such-option"]).unwrap_err();
    assert!(matches!(&error, CudaError::Call { code: 5, .. }), "{error}");
}

/// Runs where there is a card.
#[test]
fn a_real_card_holds_what_it_is_given() {
    let device = match Device::open(0) {
        Ok(device) => device,
        Err(error) => return println!("skipped: {error}"),
    };
    let properties = device.properties();
    println!("{properties:?}");
    assert!(properties.sm >= 80 && properties.bandwidth > 1e11 && properties.memory > 1 << 30);
    let numbers: Vec<u32> = (0..100_003).collect();
    let buffer = device.upload(&numbers).unwrap();
    let mut back = vec![0; numbers.len()];
    buffer.read(&mut back).unwrap();
    assert_eq!(back, numbers);
    assert!(device.elapsed(|| Ok(())).unwrap().as_secs_f64() < 1.0);
    device.synchronize().unwrap();
}
