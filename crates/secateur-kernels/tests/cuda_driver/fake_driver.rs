//! What would a CUDA driver do? A library with its functions, on host memory, that writes down what it is asked.
//!
//! The tests compile this file by itself, copy the library for each test and load the copy, so that each has its
//! own state. It is as strict as a driver: calls need a current context on their thread, addresses must be of live
//! memory, kernels must be declared by the text, errors of kernels stick.
#![allow(
    non_snake_case,
    clippy::missing_safety_doc,
    clippy::undocumented_unsafe_blocks,
    missing_docs
)]

use std::{
    alloc::{Layout, alloc, dealloc},
    cell::Cell,
    collections::BTreeMap,
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    fmt::Write,
    ptr, slice,
    sync::{Mutex, MutexGuard, PoisonError},
};

type Handle = usize;

const OK: i32 = 0;
const INVALID_VALUE: i32 = 1;
const OUT_OF_MEMORY: i32 = 2;
const INVALID_DEVICE: i32 = 101;
const NO_DEVICE: i32 = 100;
const INVALID_CONTEXT: i32 = 201;
const INVALID_PTX: i32 = 218;
const NOT_FOUND: i32 = 500;

/// Function handles count up from here.
const FUNCTIONS: Handle = 0x5000;
const CONTEXT: Handle = 0x1000;
const STREAM: Handle = 0x2000;
const EVENT: Handle = 0x3000;
const MODULE: Handle = 0x4000;

struct State {
    version: i32,
    devices: i32,
    sm: i32,
    /// Bytes that can be allocated.
    memory: usize,
    /// What a launch returns at once.
    refuse: i32,
    /// What everything after a launch returns.
    fault: i32,
    faulted: bool,
    allocated: BTreeMap<u64, usize>,
    functions: Vec<(String, Vec<usize>)>,
    texts: Vec<String>,
    log: String,
}

static STATE: Mutex<State> = Mutex::new(State {
    version: 12040,
    devices: 1,
    sm: 80,
    memory: 1 << 30,
    refuse: OK,
    fault: OK,
    faulted: false,
    allocated: BTreeMap::new(),
    functions: Vec::new(),
    texts: Vec::new(),
    log: String::new(),
});

thread_local! {
    /// How many contexts are on this thread's stack.
    static CURRENT: Cell<u32> = const { Cell::new(0) };
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a call that needs a context, unless there is none or an earlier kernel failed.
fn current(call: impl FnOnce(&mut State) -> i32) -> i32 {
    let mut state = state();
    match () {
        () if CURRENT.get() == 0 => INVALID_CONTEXT,
        () if state.faulted => state.fault,
        () => call(&mut state),
    }
}

/// Sets a knob of the fake; a number without a meaning is ignored.
#[unsafe(no_mangle)]
pub extern "C" fn fake_set(knob: u32, value: i64) {
    let mut state = state();
    match knob {
        0 => state.version = value as i32,
        1 => state.devices = value as i32,
        2 => state.sm = value as i32,
        3 => state.memory = value as usize,
        4 => state.refuse = value as i32,
        5 => state.fault = value as i32,
        _ => {}
    }
}

/// Copies what was written down, at most `room` bytes of it, and forgets it. Returns the length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_log(into: *mut u8, room: usize) -> usize {
    let log = std::mem::take(&mut state().log);
    let length = log.len().min(room);
    unsafe { ptr::copy_nonoverlapping(log.as_ptr(), into, length) };
    length
}

/// How many pieces of memory live.
#[unsafe(no_mangle)]
pub extern "C" fn fake_live() -> usize {
    state().allocated.len()
}

#[unsafe(no_mangle)]
pub extern "system" fn cuInit(_flags: c_uint) -> i32 {
    if state().devices < 0 { NO_DEVICE } else { OK }
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDriverGetVersion(version: *mut c_int) -> i32 {
    unsafe { *version = state().version };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuGetErrorName(code: c_int, name: *mut *const c_char) -> i32 {
    let known = match code {
        INVALID_VALUE => c"CUDA_ERROR_INVALID_VALUE",
        INVALID_PTX => c"CUDA_ERROR_INVALID_PTX",
        NOT_FOUND => c"CUDA_ERROR_NOT_FOUND",
        700 => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        _ => return INVALID_VALUE,
    };
    unsafe { *name = known.as_ptr() };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuGetErrorString(code: c_int, text: *mut *const c_char) -> i32 {
    if code != 700 {
        return INVALID_VALUE;
    }
    unsafe { *text = c"an illegal memory access was encountered".as_ptr() };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceGetCount(count: *mut c_int) -> i32 {
    unsafe { *count = state().devices };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> i32 {
    unsafe { *device = ordinal };
    if ordinal < state().devices { OK } else { INVALID_DEVICE }
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceGetName(
    name: *mut c_char,
    room: c_int,
    _device: c_int,
) -> i32 {
    let text = c"A fake card";
    if (room as usize) < text.count_bytes() + 1 {
        return INVALID_VALUE;
    }
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), name, text.count_bytes() + 1) };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceGetAttribute(
    value: *mut c_int,
    which: c_int,
    _device: c_int,
) -> i32 {
    let known = match which {
        13 => 1_410_000,
        16 => 108,
        36 => 1_215_000,
        37 => 5120,
        75 => state().sm / 10,
        76 => state().sm % 10,
        97 => 166_912,
        _ => return INVALID_VALUE,
    };
    unsafe { *value = known };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) -> i32 {
    unsafe { *bytes = state().memory };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDevicePrimaryCtxRetain(context: *mut Handle, device: c_int) -> i32 {
    let _ = writeln!(state().log, "retain {device}");
    unsafe { *context = CONTEXT };
    OK
}

#[unsafe(no_mangle)]
pub extern "system" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> i32 {
    let _ = writeln!(state().log, "release {device}");
    OK
}

#[unsafe(no_mangle)]
pub extern "system" fn cuCtxPushCurrent_v2(context: Handle) -> i32 {
    if context != CONTEXT {
        return INVALID_CONTEXT;
    }
    CURRENT.set(CURRENT.get() + 1);
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuCtxPopCurrent_v2(context: *mut Handle) -> i32 {
    let Some(left) = CURRENT.get().checked_sub(1) else { return INVALID_CONTEXT };
    CURRENT.set(left);
    unsafe { *context = CONTEXT };
    OK
}

/// How many contexts are on this thread's stack: none, between calls.
#[unsafe(no_mangle)]
pub extern "C" fn fake_depth() -> u32 {
    CURRENT.get()
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 256).expect("tests ask for little")
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> i32 {
    current(|state| {
        let used: usize = state.allocated.values().sum();
        match bytes {
            0 => INVALID_VALUE,
            bytes if bytes > state.memory - used => OUT_OF_MEMORY,
            bytes => {
                let found = unsafe { alloc(layout(bytes)) } as u64;
                state.allocated.insert(found, bytes);
                unsafe { *address = found };
                OK
            }
        }
    })
}

#[unsafe(no_mangle)]
pub extern "system" fn cuMemFree_v2(address: u64) -> i32 {
    current(|state| match state.allocated.remove(&address) {
        None => INVALID_VALUE,
        Some(bytes) => {
            let _ = writeln!(state.log, "free {bytes}");
            unsafe { dealloc(address as *mut u8, layout(bytes)) };
            OK
        }
    })
}

/// Whether so many bytes from an address on are of one live piece.
fn lives(state: &State, address: u64, bytes: usize) -> bool {
    let piece = state.allocated.range(..=address).next_back();
    piece.is_some_and(|(&start, &length)| (address - start) as usize + bytes <= length)
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemsetD8Async(
    into: u64,
    byte: u8,
    bytes: usize,
    stream: Handle,
) -> i32 {
    current(|state| {
        if !lives(state, into, bytes) || stream != STREAM {
            return INVALID_VALUE;
        }
        unsafe { ptr::write_bytes(into as *mut u8, byte, bytes) };
        let _ = writeln!(state.log, "set {bytes}");
        OK
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemcpyHtoDAsync_v2(
    into: u64,
    from: *const c_void,
    bytes: usize,
    stream: Handle,
) -> i32 {
    current(|state| {
        if !lives(state, into, bytes) || stream != STREAM {
            return INVALID_VALUE;
        }
        unsafe { ptr::copy_nonoverlapping(from.cast(), into as *mut u8, bytes) };
        let _ = writeln!(state.log, "upload {bytes}");
        OK
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemcpyDtoHAsync_v2(
    into: *mut c_void,
    from: u64,
    bytes: usize,
    stream: Handle,
) -> i32 {
    current(|state| {
        if !lives(state, from, bytes) || stream != STREAM {
            return INVALID_VALUE;
        }
        unsafe { ptr::copy_nonoverlapping(from as *const u8, into.cast(), bytes) };
        let _ = writeln!(state.log, "download {bytes}");
        OK
    })
}

/// Refuses a text with the word `broken`, and says so in the log it is given.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuModuleLoadDataEx(
    module: *mut Handle,
    image: *const c_void,
    count: c_uint,
    options: *const c_int,
    values: *const *mut c_void,
) -> i32 {
    current(|state| {
        let text = unsafe { CStr::from_ptr(image.cast()) }.to_string_lossy().into_owned();
        if text.contains("broken") {
            let options = unsafe { slice::from_raw_parts(options, count as usize) };
            let values = unsafe { slice::from_raw_parts(values, count as usize) };
            let said = c"ptxas fatal: line 3 is broken";
            let log = options.iter().position(|&option| option == 5).map(|i| values[i]);
            let room = options.iter().position(|&option| option == 6).map(|i| values[i] as usize);
            if let (Some(log), Some(room)) = (log, room) {
                let length = room.min(said.count_bytes() + 1);
                unsafe { ptr::copy_nonoverlapping(said.as_ptr(), log.cast(), length) };
            }
            return INVALID_PTX;
        }
        let _ = writeln!(state.log, "load");
        unsafe { *module = MODULE + state.texts.len() };
        state.texts.push(text);
        OK
    })
}

#[unsafe(no_mangle)]
pub extern "system" fn cuModuleUnload(_module: Handle) -> i32 {
    current(|state| {
        let _ = writeln!(state.log, "unload");
        OK
    })
}

/// Finds what the text declares as `.entry NAME(…)`, with the size of each parameter.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuModuleGetFunction(
    function: *mut Handle,
    module: Handle,
    name: *const c_char,
) -> i32 {
    current(|state| {
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        let text = &state.texts[module - MODULE];
        let Some((_, after)) = text.split_once(&format!(".entry {name}(")) else {
            return NOT_FOUND;
        };
        let list = after.split(')').next().unwrap_or("");
        let wide = |parameter: &str| if parameter.contains(".u64") { 8 } else { 4 };
        let sizes =
            list.split(',').filter(|parameter| parameter.contains(".param")).map(wide).collect();
        let _ = writeln!(state.log, "find {name}");
        unsafe { *function = FUNCTIONS + state.functions.len() };
        state.functions.push((name, sizes));
        OK
    })
}

/// Every kernel has 512 bytes of static shared memory.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuFuncGetAttribute(
    value: *mut c_int,
    which: c_int,
    _function: Handle,
) -> i32 {
    current(|_| {
        unsafe { *value = 512 };
        if which == 1 { OK } else { INVALID_VALUE }
    })
}

#[unsafe(no_mangle)]
pub extern "system" fn cuFuncSetAttribute(_function: Handle, which: c_int, value: c_int) -> i32 {
    current(|state| {
        let _ = writeln!(state.log, "set {which} {value}");
        OK
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuLaunchKernel(
    function: Handle,
    x: c_uint,
    y: c_uint,
    z: c_uint,
    threads: c_uint,
    threads_y: c_uint,
    threads_z: c_uint,
    shared: c_uint,
    stream: Handle,
    values: *const *const c_void,
    extra: *const *const c_void,
) -> i32 {
    current(|state| {
        if state.refuse != OK {
            return state.refuse;
        }
        if stream != STREAM || !extra.is_null() || [threads_y, threads_z] != [1, 1] {
            return INVALID_VALUE;
        }
        let (name, sizes) = state.functions[function - FUNCTIONS].clone();
        let mut line =
            format!("launch {name} grid {x} {y} {z} threads {threads} shared {shared} with");
        for (i, size) in sizes.iter().enumerate() {
            let at = unsafe { *values.add(i) };
            let number = match size {
                8 => unsafe { at.cast::<u64>().read() },
                _ => u64::from(unsafe { at.cast::<u32>().read() }),
            };
            let _ = write!(line, " {number}");
        }
        let _ = writeln!(state.log, "{line}");
        state.faulted = state.fault != OK;
        OK
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuStreamCreate(stream: *mut Handle, flags: c_uint) -> i32 {
    current(|state| {
        let _ = writeln!(state.log, "stream {flags}");
        unsafe { *stream = STREAM };
        OK
    })
}

#[unsafe(no_mangle)]
pub extern "system" fn cuStreamDestroy_v2(_stream: Handle) -> i32 {
    current(|state| {
        let _ = writeln!(state.log, "end of stream");
        OK
    })
}

#[unsafe(no_mangle)]
pub extern "system" fn cuStreamSynchronize(stream: Handle) -> i32 {
    current(|state| {
        let _ = writeln!(state.log, "wait");
        if stream == STREAM { OK } else { INVALID_VALUE }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuEventCreate(event: *mut Handle, _flags: c_uint) -> i32 {
    current(|state| {
        let _ = writeln!(state.log, "event");
        unsafe { *event = EVENT };
        OK
    })
}

#[unsafe(no_mangle)]
pub extern "system" fn cuEventDestroy_v2(_event: Handle) -> i32 {
    current(|state| {
        let _ = writeln!(state.log, "end of event");
        OK
    })
}

#[unsafe(no_mangle)]
pub extern "system" fn cuEventRecord(_event: Handle, stream: Handle) -> i32 {
    current(|state| {
        let _ = writeln!(state.log, "record");
        if stream == STREAM { OK } else { INVALID_VALUE }
    })
}

#[unsafe(no_mangle)]
pub extern "system" fn cuEventSynchronize(_event: Handle) -> i32 {
    current(|_| OK)
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuEventElapsedTime(
    milliseconds: *mut f32,
    _start: Handle,
    _end: Handle,
) -> i32 {
    current(|_| {
        unsafe { *milliseconds = 2.5 };
        OK
    })
}
