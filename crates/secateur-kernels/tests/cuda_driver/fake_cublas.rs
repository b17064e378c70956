//! What would cuBLAS do? Products of i8 on host memory, in columns as it thinks, and a note of every call.
//!
//! Compiled by the tests by itself, like `fake_driver.rs`.
#![allow(
    non_snake_case,
    clippy::missing_safety_doc,
    clippy::undocumented_unsafe_blocks,
    missing_docs
)]

use std::{
    ffi::{c_int, c_void},
    fmt::Write,
    ptr,
    sync::{Mutex, PoisonError},
};

static LOG: Mutex<String> = Mutex::new(String::new());

fn note(line: &str) -> i32 {
    let _ = writeln!(LOG.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
    0
}

/// Copies what was written down, at most `room` bytes of it, and forgets it. Returns the length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_log(into: *mut u8, room: usize) -> usize {
    let log = std::mem::take(&mut *LOG.lock().unwrap_or_else(PoisonError::into_inner));
    let length = log.len().min(room);
    unsafe { ptr::copy_nonoverlapping(log.as_ptr(), into, length) };
    length
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cublasCreate_v2(handle: *mut usize) -> i32 {
    unsafe { *handle = 0x7000 };
    note("create")
}

#[unsafe(no_mangle)]
pub extern "system" fn cublasDestroy_v2(handle: usize) -> i32 {
    note(if handle == 0x7000 { "destroy" } else { "destroy what?" })
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cublasGetVersion_v2(_handle: usize, version: *mut c_int) -> i32 {
    unsafe { *version = 120_400 };
    0
}

#[unsafe(no_mangle)]
pub extern "system" fn cublasSetStream_v2(_handle: usize, stream: usize) -> i32 {
    note(&format!("stream {stream:#x}"))
}

#[unsafe(no_mangle)]
pub extern "system" fn cublasSetWorkspace_v2(_handle: usize, _room: usize, bytes: usize) -> i32 {
    note(&format!("workspace {bytes}"))
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cublasGemmEx(
    _handle: usize,
    a_transposed: c_int,
    b_transposed: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    a: *const i8,
    a_type: c_int,
    lda: c_int,
    b: *const i8,
    b_type: c_int,
    ldb: c_int,
    beta: *const c_void,
    c: *mut i32,
    c_type: c_int,
    ldc: c_int,
    compute: c_int,
    algorithm: c_int,
) -> i32 {
    let [alpha, beta] = match compute {
        72 => [alpha, beta].map(|at| f64::from(unsafe { at.cast::<i32>().read() })),
        _ => [alpha, beta].map(|at| f64::from(unsafe { at.cast::<f32>().read() })),
    };
    note(&format!("gemm {a_type} {b_type} {c_type} {compute} {algorithm} {alpha} {beta}"));
    if a_type != 3 {
        return 0;
    }
    // Element (row, col) of a matrix of columns, each `ld` after the one before.
    let at = |transposed: c_int, ld: c_int, row: c_int, col: c_int| match transposed {
        0 => (col * ld + row) as usize,
        _ => (row * ld + col) as usize,
    };
    for i in 0..m {
        for j in 0..n {
            let term = |l: c_int| unsafe {
                let left = a.add(at(a_transposed, lda, i, l)).read();
                let right = b.add(at(b_transposed, ldb, l, j)).read();
                i32::from(left) * i32::from(right)
            };
            unsafe { c.add(at(0, ldc, i, j)).write((0..k).map(term).sum()) };
        }
    }
    0
}
