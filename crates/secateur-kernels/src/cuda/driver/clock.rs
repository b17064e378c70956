//! How long does the card take? The time between two events on the stream, by its own clock.

use super::{super::CudaError, Driver, api::Handle};
use std::{ptr, time::Duration};

/// Events that keep the time.
const CU_EVENT_DEFAULT: u32 = 0;

/// The time that what `work` launches takes on the device, queued while it is busy with what `before` launches.
pub(super) fn elapsed(
    driver: &Driver,
    before: &mut dyn FnMut() -> Result<(), CudaError>,
    work: &mut dyn FnMut() -> Result<(), CudaError>,
) -> Result<Duration, CudaError> {
    let (start, end) = (Event::new(driver)?, Event::new(driver)?);
    before()?;
    start.record()?;
    work()?;
    end.record()?;
    end.wait()?;
    let mut milliseconds = 0.0;
    // SAFETY: both events were recorded, and `milliseconds` outlives the call.
    driver.call("cuEventElapsedTime", |api| unsafe {
        (api.cuEventElapsedTime)(&raw mut milliseconds, start.event, end.event)
    })?;
    Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
}

/// A moment on the stream.
struct Event<'a> {
    driver: &'a Driver,
    event: Handle,
}

impl<'a> Event<'a> {
    fn new(driver: &'a Driver) -> Result<Self, CudaError> {
        let mut event = ptr::null_mut();
        driver.call("cuEventCreate", |api| {
            // SAFETY: `event` outlives the call.
            unsafe { (api.cuEventCreate)(&raw mut event, CU_EVENT_DEFAULT) }
        })?;
        Ok(Self { driver, event })
    }

    fn record(&self) -> Result<(), CudaError> {
        // SAFETY: event and stream are ours and live.
        self.driver.call("cuEventRecord", |api| unsafe {
            (api.cuEventRecord)(self.event, self.driver.stream)
        })
    }

    fn wait(&self) -> Result<(), CudaError> {
        // SAFETY: the event is ours and lives.
        self.driver
            .call("cuEventSynchronize", |api| unsafe { (api.cuEventSynchronize)(self.event) })
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        // SAFETY: made once by `new`, destroyed once here.
        let _ = self
            .driver
            .call("cuEventDestroy", |api| unsafe { (api.cuEventDestroy_v2)(self.event) });
    }
}
