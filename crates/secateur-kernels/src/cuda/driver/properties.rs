//! What does a driver say of a card?

use super::{
    super::{CudaError, Properties},
    api::{Api, attribute},
};
use std::ffi::{CStr, c_char, c_int};

/// What a plan has to know of a device; `driver` is the driver's version.
pub(super) fn properties(api: &Api, device: c_int, driver: u32) -> Result<Properties, CudaError> {
    let attribute = |which| {
        let mut value = 0;
        // SAFETY: `value` outlives the call; the device is one that the driver named.
        let code = unsafe { (api.cuDeviceGetAttribute)(&raw mut value, which, device) };
        api.check("cuDeviceGetAttribute", code).map(|()| u32::try_from(value).unwrap_or(0))
    };
    // What later drivers may no longer know.
    let perhaps = |which| attribute(which).map_or(0.0, f64::from);
    let mut name = [0 as c_char; 256];
    // SAFETY: the driver writes at most 255 characters and a zero, as it is told.
    let code = unsafe { (api.cuDeviceGetName)(name.as_mut_ptr(), 255, device) };
    api.check("cuDeviceGetName", code)?;
    // SAFETY: the array's last element is still zero, so there is an end.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    let mut memory = 0;
    // SAFETY: `memory` outlives the call.
    let code = unsafe { (api.cuDeviceTotalMem_v2)(&raw mut memory, device) };
    api.check("cuDeviceTotalMem", code)?;
    let [major, minor] =
        [attribute::COMPUTE_CAPABILITY_MAJOR, attribute::COMPUTE_CAPABILITY_MINOR].map(attribute);
    // kHz, bits, and two transfers each clock.
    let clock = perhaps(attribute::MEMORY_CLOCK_RATE) * 1e3;
    let bandwidth = 2.0 * clock * perhaps(attribute::GLOBAL_MEMORY_BUS_WIDTH) / 8.0;
    Ok(Properties {
        name,
        sm: 10 * major? + minor?,
        multiprocessors: attribute(attribute::MULTIPROCESSOR_COUNT)?,
        shared_per_block: attribute(attribute::MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
        memory: memory as u64,
        bandwidth,
        clock: perhaps(attribute::CLOCK_RATE) * 1e3,
        driver,
    })
}
