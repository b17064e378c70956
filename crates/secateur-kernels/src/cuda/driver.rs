//! How does a program without CUDA talk to a card? Through the driver, looked for at run time.
//!
//! The driver is a library that comes with the card's kernel module. Its interface is stable, so about thirty
//! functions of it (`driver/api.rs`) are all the binding that is needed. A device is its *primary* context, the one
//! that candle, PyTorch and cuBLAS use too: their memory is ours. The context is made current for the length of
//! each call, on whichever thread makes it, and what was current before is so again after.
//!
//! Everything runs on one stream, made with the flag that orders it after and before the legacy default stream:
//! candle works there, so that a kernel reads what candle wrote just before, and a tensor of candle's can be freed
//! after. A stream made non-blocking would have to be synchronized with it at every border, by everybody.

mod api;
mod clock;
mod modules;
mod properties;
#[cfg(test)]
mod tests;

use super::{
    CudaError, Device, Properties,
    device::{Argument, Backend, Launch},
};
use api::{Api, Handle, NO_DEVICE, OUT_OF_MEMORY, STUB_LIBRARY};
use modules::Modules;
use properties::properties;
use std::{
    ffi::{OsStr, c_int, c_void},
    mem,
    path::Path,
    ptr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// CUDA 11.8: the first whose drivers load PTX ISA 7.8, which `cargo xtask kernels` writes.
const NEEDED: u32 = 11080;
/// Ampere: the first with sparse tensor cores.
const LEAST_SM: u32 = 80;
/// Orders a stream with the legacy default stream.
const CU_STREAM_DEFAULT: u32 = 0;
/// The driver, where installers put it.
const NAMES: &[&str] =
    if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };

impl Device {
    /// The card number `ordinal`, by this machine's driver. Errors say what is missing: the driver, a later one,
    /// the card, or a later one.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        // SAFETY: the system's loader finds the driver under these names, whoever set it up vouches for that.
        unsafe { Self::named(NAMES, ordinal) }
    }

    /// The card number `ordinal`, by the driver in `path`.
    ///
    /// # Safety
    ///
    /// The file must be a CUDA driver, or a library without a driver's functions: initializers are run, and what
    /// has a function's name is called as that function.
    pub unsafe fn open_library(path: &Path, ordinal: usize) -> Result<Self, CudaError> {
        // SAFETY: the caller vouches for the file.
        unsafe { Self::named(&[super::library::exactly(path)], ordinal) }
    }

    /// # Safety
    ///
    /// As for [`Self::open_library`], for what the loader finds under `names`.
    unsafe fn named(names: &[impl AsRef<OsStr>], ordinal: usize) -> Result<Self, CudaError> {
        // SAFETY: the caller vouches for what is found.
        let api = unsafe { Api::open(names) }?;
        Ok(Self::new(Arc::new(Driver::new(api, ordinal)?)))
    }
}

/// One card, by its driver.
#[derive(Debug)]
struct Driver {
    api: Api,
    device: c_int,
    /// The device's primary context, retained.
    context: Handle,
    /// Null only until the constructor has made it.
    stream: Handle,
    modules: Mutex<Modules>,
    properties: Properties,
}

// SAFETY: the driver's functions may be called from any thread, on handles that any other thread made; the context
// they need is pushed by each call. The loaded modules are behind a lock.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

impl Driver {
    fn new(api: Api, ordinal: usize) -> Result<Self, CudaError> {
        let found = stub(api.version())?;
        if found < NEEDED {
            return Err(CudaError::DriverTooOld { found, needed: NEEDED });
        }
        let mut count = 0;
        // SAFETY: takes no pointer.
        match unsafe { (api.cuInit)(0) } {
            NO_DEVICE => {}
            code => {
                stub(api.check("cuInit", code))?;
                // SAFETY: `count` outlives the call.
                let code = unsafe { (api.cuDeviceGetCount)(&raw mut count) };
                api.check("cuDeviceGetCount", code)?;
            }
        }
        let count = usize::try_from(count).unwrap_or(0);
        let number = c_int::try_from(ordinal).ok().filter(|_| ordinal < count);
        let number = number.ok_or(CudaError::NoSuchDevice { ordinal, count })?;
        let mut device = 0;
        // SAFETY: `device` outlives the call.
        api.check("cuDeviceGet", unsafe { (api.cuDeviceGet)(&raw mut device, number) })?;
        let properties = properties(&api, device, found)?;
        if properties.sm < LEAST_SM {
            return Err(CudaError::TooOldDevice { name: properties.name, sm: properties.sm });
        }
        let mut context = ptr::null_mut();
        // SAFETY: `context` outlives the call; the device is one that the driver named.
        let code = unsafe { (api.cuDevicePrimaryCtxRetain)(&raw mut context, device) };
        api.check("cuDevicePrimaryCtxRetain", code)?;
        // From here on, dropping it gives everything back.
        let stream = ptr::null_mut();
        let modules = Mutex::default();
        let mut driver = Self { api, device, context, stream, modules, properties };
        let mut stream = ptr::null_mut();
        driver.call("cuStreamCreate", |api| {
            // SAFETY: `stream` outlives the call.
            unsafe { (api.cuStreamCreate)(&raw mut stream, CU_STREAM_DEFAULT) }
        })?;
        driver.stream = stream;
        Ok(driver)
    }

    /// Makes the context current on this thread until the guard is dropped.
    fn enter(&self) -> Result<Entered<'_>, CudaError> {
        // SAFETY: the context is retained as long as `self` lives.
        let code = unsafe { (self.api.cuCtxPushCurrent_v2)(self.context) };
        self.api.check("cuCtxPushCurrent", code)?;
        Ok(Entered(&self.api))
    }

    /// One call, with the context current.
    fn call(&self, name: &'static str, call: impl FnOnce(&Api) -> i32) -> Result<(), CudaError> {
        let entered = self.enter()?;
        let code = call(&self.api);
        drop(entered);
        self.api.check(name, code)
    }

    fn wait(&self) -> Result<(), CudaError> {
        // SAFETY: the stream is ours and lives as long as `self`.
        self.call("cuStreamSynchronize", |api| unsafe { (api.cuStreamSynchronize)(self.stream) })
    }
}

impl Backend for Driver {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn allocate(&self, bytes: usize) -> Result<u64, CudaError> {
        let mut address = 0;
        let entered = self.enter()?;
        // SAFETY: `address` outlives the call.
        let code = unsafe { (self.api.cuMemAlloc_v2)(&raw mut address, bytes) };
        drop(entered);
        match code {
            OUT_OF_MEMORY => Err(CudaError::OutOfMemory { bytes }),
            code => self.api.check("cuMemAlloc", code).map(|()| address),
        }
    }

    fn free(&self, address: u64) {
        // Launches read and write it until they are done; should one have failed, so does this, and the context
        // is lost with all its memory.
        let _ = self.wait();
        // SAFETY: the address came from `allocate`, and its buffer, which is being dropped, frees it once.
        let _ = self.call("cuMemFree", |api| unsafe { (api.cuMemFree_v2)(address) });
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<(), CudaError> {
        // SAFETY: the buffer that owns `address` holds as many bytes.
        self.call("cuMemsetD8Async", |api| unsafe {
            (api.cuMemsetD8Async)(address, 0, bytes, self.stream)
        })
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), CudaError> {
        let from = bytes.as_ptr().cast();
        // SAFETY: `bytes` outlives the copy, which is waited for, whatever comes of it; the buffer that owns
        // `address` has checked that it holds as many.
        let copied = self.call("cuMemcpyHtoDAsync", |api| unsafe {
            (api.cuMemcpyHtoDAsync_v2)(address, from, bytes.len(), self.stream)
        });
        self.wait().and(copied)
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), CudaError> {
        let into: *mut c_void = bytes.as_mut_ptr().cast();
        // SAFETY: `bytes` is borrowed for as long as the copy, which is waited for, whatever comes of it; the
        // buffer that owns `address` has checked that it holds as many.
        let copied = self.call("cuMemcpyDtoHAsync", |api| unsafe {
            (api.cuMemcpyDtoHAsync_v2)(into, address, bytes.len(), self.stream)
        });
        self.wait().and(copied)
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), CudaError> {
        let entered = self.enter()?;
        let limit = self.properties.shared_per_block;
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let function = modules.function(&self.api, launch, limit)?;
        // Every value lies in the low bytes of eight, where kernels of little-endian devices read them.
        let mut values: Vec<u64> = launch
            .arguments
            .iter()
            .map(|&argument| match argument {
                Argument::Address(value) | Argument::U64(value) => value,
                Argument::U32(number) => number.into(),
            })
            .collect();
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| ptr::from_mut(value).cast()).collect();
        let [x, y, z] = launch.grid;
        // SAFETY: the driver reads one pointer for each parameter of the kernel and copies what it points at
        // before it returns: `Modules::function` has checked that there are as many, of the same sizes. What the
        // kernel does with its addresses is upheld by those who build launches in this crate, from buffers whose
        // lengths they have checked.
        let code = unsafe {
            (self.api.cuLaunchKernel)(
                function,
                x,
                y,
                z,
                launch.threads,
                1,
                1,
                launch.shared_bytes,
                self.stream,
                pointers.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        drop(entered);
        self.api.check("cuLaunchKernel", code)
    }

    fn synchronize(&self) -> Result<(), CudaError> {
        self.wait()
    }

    fn elapsed(
        &self,
        before: &mut dyn FnMut() -> Result<(), CudaError>,
        work: &mut dyn FnMut() -> Result<(), CudaError>,
    ) -> Result<Duration, CudaError> {
        clock::elapsed(self, before, work)
    }

    fn on_stream(&self, work: &mut dyn FnMut(u64)) -> Result<(), CudaError> {
        let _entered = self.enter()?;
        work(self.stream as u64);
        Ok(())
    }
}

impl Drop for Driver {
    /// Buffers keep their device, so none is left. Nothing that fails here could be mended.
    fn drop(&mut self) {
        let modules = mem::take(&mut self.modules);
        if let Ok(_entered) = self.enter()
            && !self.stream.is_null()
        {
            let modules = modules.into_inner().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the stream and the modules are ours, and nobody else holds them any more; what runs is
            // waited for before its code is unloaded.
            unsafe {
                (self.api.cuStreamSynchronize)(self.stream);
                modules.unload(&self.api);
                (self.api.cuStreamDestroy_v2)(self.stream);
            }
        }
        // SAFETY: retained once, by the constructor; released once, here.
        unsafe { (self.api.cuDevicePrimaryCtxRelease_v2)(self.device) };
    }
}

/// The context is current on this thread.
struct Entered<'a>(&'a Api);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut context = ptr::null_mut();
        // SAFETY: `context` outlives the call.
        unsafe { (self.0.cuCtxPopCurrent_v2)(&raw mut context) };
    }
}

/// The library that is linked against where there is no driver answers with an error of its own.
fn stub<T>(answer: Result<T, CudaError>) -> Result<T, CudaError> {
    match answer {
        Err(CudaError::Call { code: STUB_LIBRARY, .. }) => Err(CudaError::NoDriver {
            reason: "only the stub of the CUDA toolkit was found".into(),
        }),
        answer => answer,
    }
}
