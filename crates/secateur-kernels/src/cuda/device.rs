//! What is a card to us? Memory, a few properties, and a place where kernels are launched in order.

use super::CudaError;
use bytemuck::{AnyBitPattern, NoUninit};
use std::{fmt::Debug, sync::Arc, time::Duration};

/// What a plan has to know of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Properties {
    /// The card's name, as the driver gives it.
    pub name: String,
    /// Compute capability times ten: 80 is an A100, 90 an H100.
    pub sm: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Shared memory that one block may ask for, in bytes.
    pub shared_per_block: usize,
    /// Device memory in bytes.
    pub memory: u64,
    /// Peak memory bandwidth in bytes per second, from clock and bus width; 0 where unknown.
    pub bandwidth: f64,
    /// Clock of the multiprocessors in Hz; 0 where unknown.
    pub clock: f64,
    /// The driver's CUDA version: `1000 · major + 10 · minor`; 0 on the emulator.
    pub driver: u32,
}

/// A kernel's text: what is loaded, and under which name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ptx {
    /// The `.cu` file's name without its ending.
    pub name: &'static str,
    /// The PTX.
    pub text: &'static str,
}

/// One value of a kernel's parameter list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Argument {
    /// A device address (64 bits).
    Address(u64),
    /// A 32-bit number.
    U32(u32),
    /// A 64-bit number.
    U64(u64),
}

/// One kernel to run: a function of a module, over so many blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch<'a> {
    /// The module.
    pub ptx: Ptx,
    /// Its `.entry`.
    pub function: &'a str,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block, in x only.
    pub threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// Its parameters, in order.
    pub arguments: &'a [Argument],
}

/// What stands behind a [`Device`]: the driver, or the emulator. Everything happens in order, on one stream.
pub(crate) trait Backend: Debug + Send + Sync {
    fn properties(&self) -> &Properties;
    /// An address aligned to 256 bytes; `bytes` is not 0.
    fn allocate(&self, bytes: usize) -> Result<u64, CudaError>;
    /// Gives back what [`Self::allocate`] gave. Cannot fail in a way that a caller could mend.
    fn free(&self, address: u64);
    /// Overwrites with zeros, after everything launched before.
    fn clear(&self, address: u64, bytes: usize) -> Result<(), CudaError>;
    /// Copies to the device; done when it returns.
    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), CudaError>;
    /// Copies from the device after everything launched before; done when it returns.
    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), CudaError>;
    /// Launches, and does not wait. Loads the module if this is its first launch here.
    fn launch(&self, launch: &Launch<'_>) -> Result<(), CudaError>;
    /// Waits for everything launched; errors of kernels show here at the latest.
    fn synchronize(&self) -> Result<(), CudaError>;
    /// The time between the device reaching the start of what `work` launches and its end. What `before` launches is
    /// not counted: while the device is busy with it, everything else is queued.
    fn elapsed(
        &self,
        before: &mut dyn FnMut() -> Result<(), CudaError>,
        work: &mut dyn FnMut() -> Result<(), CudaError>,
    ) -> Result<Duration, CudaError>;
    /// Calls `work` with the raw stream, while the device's context is current on this thread: what CUDA's own
    /// libraries need. Errors on the emulator.
    fn on_stream(&self, _work: &mut dyn FnMut(u64)) -> Result<(), CudaError> {
        Err(CudaError::NoStream)
    }
}

/// A card that runs kernels, or the emulator in its place. Cheap to clone: clones are the same device.
#[derive(Debug, Clone)]
pub struct Device {
    backend: Arc<dyn Backend>,
}

impl Device {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// What it is.
    pub fn properties(&self) -> &Properties {
        self.backend.properties()
    }

    /// Whether both are one device, so that a buffer of one is a buffer of the other.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.backend, &other.backend)
    }

    /// Waits until everything launched here is done. Errors when some of it failed.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.backend.synchronize()
    }

    /// How long the device takes for what `work` launches, by its own clock. Errors on the emulator.
    ///
    /// A launch takes the processor some microseconds, so short kernels are timed [behind](Self::elapsed_behind)
    /// something long.
    pub fn elapsed(
        &self,
        mut work: impl FnMut() -> Result<(), CudaError>,
    ) -> Result<Duration, CudaError> {
        self.backend.elapsed(&mut || Ok(()), &mut work)
    }

    /// The same, while the device is kept busy by what `before` launches until all of `work` is queued.
    pub fn elapsed_behind(
        &self,
        mut before: impl FnMut() -> Result<(), CudaError>,
        mut work: impl FnMut() -> Result<(), CudaError>,
    ) -> Result<Duration, CudaError> {
        self.backend.elapsed(&mut before, &mut work)
    }

    /// A buffer of zeros.
    pub fn zeros(&self, bytes: usize) -> Result<DeviceBuffer, CudaError> {
        let buffer = self.allocate(bytes)?;
        if bytes > 0 {
            self.backend.clear(buffer.address, bytes)?;
        }
        Ok(buffer)
    }

    /// A buffer that holds `data`.
    pub fn upload<T: NoUninit>(&self, data: &[T]) -> Result<DeviceBuffer, CudaError> {
        let buffer = self.allocate(size_of_val(data))?;
        buffer.write(data)?;
        Ok(buffer)
    }

    fn allocate(&self, bytes: usize) -> Result<DeviceBuffer, CudaError> {
        // An empty buffer still has an address of its own.
        let address = self.backend.allocate(bytes.max(1))?;
        Ok(DeviceBuffer { device: self.clone(), address, bytes, owned: true })
    }
}

/// Memory on a device, freed when dropped.
#[derive(Debug)]
pub struct DeviceBuffer {
    device: Device,
    address: u64,
    bytes: usize,
    owned: bool,
}

impl DeviceBuffer {
    /// Memory that somebody else allocated on this device, and frees: a tensor of candle, say.
    ///
    /// # Safety
    ///
    /// `address` must be `bytes` of memory of the device's primary context, and stay so until the buffer is dropped
    /// and everything launched with it is done. What others do with it must be ordered with what is launched here:
    /// work on the legacy default stream is, work on other streams has to be waited for.
    pub unsafe fn borrow(device: &Device, address: u64, bytes: usize) -> Self {
        Self { device: device.clone(), address, bytes, owned: false }
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its device address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Overwrites the buffer's beginning. Errors when `data` is longer than it.
    pub fn write<T: NoUninit>(&self, data: &[T]) -> Result<(), CudaError> {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        self.holds(bytes.len())?;
        if bytes.is_empty() { Ok(()) } else { self.device.backend.upload(self.address, bytes) }
    }

    /// Reads the buffer's beginning, after everything launched before. Errors when `into` is longer than it.
    pub fn read<T: NoUninit + AnyBitPattern>(&self, into: &mut [T]) -> Result<(), CudaError> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(into);
        self.holds(bytes.len())?;
        if bytes.is_empty() { Ok(()) } else { self.device.backend.download(self.address, bytes) }
    }

    fn holds(&self, bytes: usize) -> Result<(), CudaError> {
        let buffer = self.bytes;
        if bytes <= buffer { Ok(()) } else { Err(CudaError::Buffer { bytes, buffer }) }
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        if self.owned {
            self.device.backend.free(self.address);
        }
    }
}
