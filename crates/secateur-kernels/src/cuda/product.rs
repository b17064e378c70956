//! How is a packed weight multiplied on a device again and again? Uploaded once, planned by tokens, then run from
//! buffers of the host or of the device.

use super::{
    CudaError, DeviceDispatcher, DeviceEpilogue, DevicePlan, DeviceView, DeviceViewMut,
    DeviceWeight, host::OnDevice, multiply,
};
use crate::{Epilogue, KernelError, Problem, Product, View, ViewMut};
use secateur_storage::Packed;
use std::sync::OnceLock;

/// A weight on a device, beside the same weight on the CPU for what the device turns down.
///
/// Sums are f32 (i8: exact, in 32 bits) and outputs are rounded to f16 of f16 weights and to bf16 of others, wherever
/// activations come from; the CPU neither rounds activations nor outputs.
#[derive(Debug)]
pub struct DeviceProduct {
    problem: Problem,
    dispatcher: DeviceDispatcher,
    weight: Option<DeviceWeight>,
    packed: Packed,
    cpu: OnceLock<Product>,
}

impl DeviceProduct {
    /// Uploads `weight` if the device has a kernel for it; the CPU's layout is made when it is first needed.
    ///
    /// ```
    /// use half::bf16;
    /// use secateur_kernels::{Dispatcher, Epilogue, cuda::{DeviceProduct, Emulator}};
    /// use secateur_mask::Pattern;
    /// use secateur_storage::{Dense, Packed};
    ///
    /// let weight = [0.0, 5.0, 0.0, -3.0].map(bf16::from_f32).to_vec();
    /// let weight = Dense::new(weight, &[1, 4])?;
    /// let packed = Packed::pack(&weight, &weight.nonzero()?, Pattern::TWO_OF_FOUR)?;
    ///
    /// let device = Emulator::new().device(); // or Device::open(0)?
    /// let product = DeviceProduct::new(&packed, &Dispatcher::probe()?.on(Ok(device)))?;
    /// let mut y = [0.0];
    /// product.run(&[1.0, 2.0, 3.0, 4.0], 1, &Epilogue::default(), &mut y)?;
    /// assert_eq!(y, [5.0 * 2.0 - 3.0 * 4.0]);
    /// println!("{}", product.plan(1).explain());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Errors when the upload fails, or the weight cannot be laid out.
    pub fn new(weight: &Packed, dispatcher: &DeviceDispatcher) -> Result<Self, KernelError> {
        let problem = Problem::of(weight, 1);
        let on_device = match dispatcher.device() {
            Ok(device) if dispatcher.takes(&problem) => Some(DeviceWeight::upload(weight, device)?),
            _ => None,
        };
        let (packed, cpu) = (weight.clone(), OnceLock::new());
        let dispatcher = dispatcher.clone();
        Ok(Self { problem, dispatcher, weight: on_device, packed, cpu })
    }

    /// Why what runs.
    pub fn plan(&self, tokens: usize) -> DevicePlan {
        self.dispatcher.plan(&Problem { tokens, ..self.problem })
    }

    /// The weight on the device, if it is there.
    pub fn weight(&self) -> Option<&DeviceWeight> {
        self.weight.as_ref()
    }

    /// `y = activation(x · Wᵀ + bias)` from memory of the host: `x` is `[tokens, cols]`, `y` `[tokens, rows]`, both
    /// row-major. Everything is copied to the device and back, which usually takes longer than the product:
    /// [`Self::run_on_device`] is for activations that are there.
    ///
    /// Errors on any other length, and as the device does.
    pub fn run(
        &self,
        x: &[f32],
        tokens: usize,
        epilogue: &Epilogue<'_>,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        let Problem { rows, cols, .. } = self.problem;
        let too_large = KernelError::TooLarge { rows, cols, tokens };
        let lengths = tokens.checked_mul(cols).zip(tokens.checked_mul(rows)).ok_or(too_large)?;
        let bias = epilogue.bias.map_or(rows, <[f32]>::len);
        for (what, found, expected) in
            [("x", x.len(), lengths.0), ("y", y.len(), lengths.1), ("bias", bias, rows)]
        {
            if found != expected {
                return Err(KernelError::Length { what, found, expected });
            }
        }
        let (x, y) =
            (View { data: x, tokens, stride: cols }, ViewMut { data: y, tokens, stride: rows });
        match (self.plan(tokens).kernel(), &self.weight) {
            (Some(kernel), Some(weight)) => {
                let mut there = OnDevice::upload(weight, x, epilogue)?;
                there.multiply(kernel, weight, tokens)?;
                there.download(weight.element, rows, y)
            }
            _ => self.on_cpu()?.apply(x, epilogue, y),
        }
    }

    /// `y = activation(x · Wᵀ + bias)` from memory of the device, launched and not waited for: what is launched or
    /// read there later comes after it.
    ///
    /// Errors where the plan has no kernel of the device, and as [`multiply`] does.
    pub fn run_on_device(
        &self,
        x: &DeviceView<'_>,
        epilogue: &DeviceEpilogue<'_>,
        y: &mut DeviceViewMut<'_>,
    ) -> Result<(), KernelError> {
        let plan = self.plan(x.tokens);
        match (plan.kernel(), &self.weight) {
            (Some(kernel), Some(weight)) => multiply(kernel, weight, x, epilogue, y),
            _ => Err(CudaError::NoKernel { plan: plan.explain() }.into()),
        }
    }

    fn on_cpu(&self) -> Result<&Product, KernelError> {
        if let Some(product) = self.cpu.get() {
            return Ok(product);
        }
        // Two threads may both lay it out; the first one's stays.
        let product = Product::new(&self.packed, self.dispatcher.cpu())?;
        Ok(self.cpu.get_or_init(|| product))
    }
}
