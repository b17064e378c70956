//! What if a device were another one? An emulated device with other properties, or with a kernel's text changed.

use super::{
    CudaError, Device, Properties,
    device::{Backend, Launch},
};
use std::{sync::Arc, time::Duration};

/// A device, but for what is changed.
#[derive(Debug)]
pub(super) struct Changed {
    /// Who does the work.
    pub inner: Device,
    /// What it says that it is.
    pub properties: Properties,
    /// The text that is run for the module of this name.
    pub text: Option<(&'static str, &'static str)>,
}

impl Changed {
    /// A device of this compute capability.
    pub fn sm(inner: Device, sm: u32) -> Device {
        let name = format!("an sm_{sm}");
        let properties = Properties { sm, name, ..inner.properties().clone() };
        Device::new(Arc::new(Self { inner, properties, text: None }))
    }

    /// A device that runs another text for a module.
    pub fn text(inner: Device, module: &'static str, text: String) -> Device {
        let properties = inner.properties().clone();
        // Modules are loaded by their text, which has to live as long as the program.
        let text = Some((module, &*Box::leak(text.into_boxed_str())));
        Device::new(Arc::new(Self { inner, properties, text }))
    }
}

impl Backend for Changed {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn allocate(&self, bytes: usize) -> Result<u64, CudaError> {
        self.inner.backend().allocate(bytes)
    }

    fn free(&self, address: u64) {
        self.inner.backend().free(address);
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<(), CudaError> {
        self.inner.backend().clear(address, bytes)
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), CudaError> {
        self.inner.backend().upload(address, bytes)
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), CudaError> {
        self.inner.backend().download(address, bytes)
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), CudaError> {
        let mut launch = *launch;
        if let Some((_, text)) = self.text.filter(|(module, _)| *module == launch.ptx.name) {
            launch.ptx.text = text;
        }
        self.inner.backend().launch(&launch)
    }

    fn synchronize(&self) -> Result<(), CudaError> {
        self.inner.backend().synchronize()
    }

    fn elapsed(
        &self,
        before: &mut dyn FnMut() -> Result<(), CudaError>,
        work: &mut dyn FnMut() -> Result<(), CudaError>,
    ) -> Result<Duration, CudaError> {
        self.inner.backend().elapsed(before, work)
    }
}
