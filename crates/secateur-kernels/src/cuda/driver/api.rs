//! Which functions of the CUDA driver are called? These, by their versioned names, and nothing else.
//!
//! Types and numbers are those of `cuda.h` of CUDA 11.8; a later driver keeps them.

use super::super::{
    CudaError,
    library::{Library, functions},
};
use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    ptr,
};

/// A context, module, function, stream or event: opaque to us.
pub(super) type Handle = *mut c_void;

/// `CUDA_ERROR_OUT_OF_MEMORY`
pub(super) const OUT_OF_MEMORY: i32 = 2;
/// `CUDA_ERROR_STUB_LIBRARY`
pub(super) const STUB_LIBRARY: i32 = 34;
/// `CUDA_ERROR_NO_DEVICE`
pub(super) const NO_DEVICE: i32 = 100;

/// `CUdevice_attribute`: what is asked of a device.
pub(super) mod attribute {
    pub const CLOCK_RATE: i32 = 13;
    pub const MULTIPROCESSOR_COUNT: i32 = 16;
    pub const MEMORY_CLOCK_RATE: i32 = 36;
    pub const GLOBAL_MEMORY_BUS_WIDTH: i32 = 37;
    pub const COMPUTE_CAPABILITY_MAJOR: i32 = 75;
    pub const COMPUTE_CAPABILITY_MINOR: i32 = 76;
    pub const MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: i32 = 97;
}

/// `CUfunction_attribute`: what is asked or set of a kernel.
pub(super) mod of_function {
    pub const SHARED_SIZE_BYTES: i32 = 1;
    pub const MAX_DYNAMIC_SHARED_SIZE_BYTES: i32 = 8;
}

/// `CUjit_option`: where the driver's compiler writes what it has to say.
pub(super) mod jit {
    pub const ERROR_LOG_BUFFER: i32 = 5;
    pub const ERROR_LOG_BUFFER_SIZE_BYTES: i32 = 6;
}

functions! {
    /// The driver API.
    Api {
        cuInit(c_uint);
        cuDriverGetVersion(*mut c_int);
        cuGetErrorName(c_int, *mut *const c_char);
        cuGetErrorString(c_int, *mut *const c_char);
        cuDeviceGetCount(*mut c_int);
        cuDeviceGet(*mut c_int, c_int);
        cuDeviceGetName(*mut c_char, c_int, c_int);
        cuDeviceGetAttribute(*mut c_int, c_int, c_int);
        cuDeviceTotalMem_v2(*mut usize, c_int);
        cuDevicePrimaryCtxRetain(*mut Handle, c_int);
        cuDevicePrimaryCtxRelease_v2(c_int);
        cuCtxPushCurrent_v2(Handle);
        cuCtxPopCurrent_v2(*mut Handle);
        cuMemAlloc_v2(*mut u64, usize);
        cuMemFree_v2(u64);
        cuMemsetD8Async(u64, u8, usize, Handle);
        cuMemcpyHtoDAsync_v2(u64, *const c_void, usize, Handle);
        cuMemcpyDtoHAsync_v2(*mut c_void, u64, usize, Handle);
        cuModuleLoadDataEx(*mut Handle, *const c_void, c_uint, *mut c_int, *mut *mut c_void);
        cuModuleUnload(Handle);
        cuModuleGetFunction(*mut Handle, Handle, *const c_char);
        cuFuncGetAttribute(*mut c_int, c_int, Handle);
        cuFuncSetAttribute(Handle, c_int, c_int);
        cuLaunchKernel(
            Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void,
            *mut *mut c_void,
        );
        cuStreamCreate(*mut Handle, c_uint);
        cuStreamDestroy_v2(Handle);
        cuStreamSynchronize(Handle);
        cuEventCreate(*mut Handle, c_uint);
        cuEventDestroy_v2(Handle);
        cuEventRecord(Handle, Handle);
        cuEventSynchronize(Handle);
        cuEventElapsedTime(*mut f32, Handle, Handle);
    }
}

impl Api {
    /// The functions of the first of `names` that is there, initialized.
    ///
    /// # Safety
    ///
    /// What the loader finds under these names must be a CUDA driver, if it has a driver's functions.
    pub unsafe fn open(names: &[impl AsRef<std::ffi::OsStr>]) -> Result<Self, CudaError> {
        // SAFETY: a driver's initializers are sound to run, and the caller says that it is one.
        let library = unsafe { Library::open(names) };
        let library = library.map_err(|reason| CudaError::NoDriver { reason })?;
        // SAFETY: as above.
        unsafe { Self::find(&library) }
    }

    /// `Ok` if a call returned 0.
    pub fn check(&self, call: &'static str, code: i32) -> Result<(), CudaError> {
        if code == 0 { Ok(()) } else { Err(CudaError::Call { call, code, name: self.name(code) }) }
    }

    /// What the driver calls an error, and what it says of it.
    pub fn name(&self, code: i32) -> String {
        let said = [self.cuGetErrorName, self.cuGetErrorString].map(|ask| {
            let mut text = ptr::null();
            // SAFETY: `text` outlives the call. On success the driver sets it to a string of its own, ended by a
            // zero, that lives as long as the driver, which is never unloaded.
            unsafe {
                (ask(code, &raw mut text) == 0 && !text.is_null())
                    .then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
            }
        });
        said.into_iter()
            .flatten()
            .reduce(|name, text| format!("{name}, {text}"))
            .unwrap_or("unknown error".into())
    }

    /// The driver's CUDA version: `1000 · major + 10 · minor`.
    pub fn version(&self) -> Result<u32, CudaError> {
        let mut version = 0;
        // SAFETY: `version` outlives the call, which may come before `cuInit`.
        self.check("cuDriverGetVersion", unsafe { (self.cuDriverGetVersion)(&raw mut version) })?;
        Ok(u32::try_from(version).unwrap_or(0))
    }
}
