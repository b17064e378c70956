//! Which kernel of a device runs a product, and why not the others? A device is asked first, the CPU takes what it
//! turns down.

use super::{
    CudaError, CudaKernel, Device, Measurements,
    element::Element,
    kernels::{GEMM, SMALL_BATCH},
    measured::Measurement,
};
use crate::{Dispatcher, Plan, Problem};
use secateur_storage::Format;

/// A dispatcher that knows a device beside the CPU, or why there is none.
#[derive(Debug, Clone)]
pub struct DeviceDispatcher {
    cpu: Dispatcher,
    device: Result<Device, CudaError>,
    measured: Measurements,
}

impl Dispatcher {
    /// The same dispatcher with a device beside the CPU. Without one its products run on the CPU, and their plans
    /// say why. What `cargo xtask gpu-check` kept of this very card decides where a kernel is slower than dense.
    ///
    /// ```
    /// use secateur_kernels::{Dispatcher, Problem, cuda::Device};
    /// use secateur_storage::{Dtype, Format};
    /// let dispatcher = Dispatcher::probe()?.on(Device::open(0));
    /// let (format, stored, dtype) = (Format::TWO_OF_FOUR, 8 << 20, Dtype::BF16);
    /// let problem = Problem { rows: 4096, cols: 4096, tokens: 8, format, stored, dtype };
    /// println!("{}", dispatcher.plan(&problem).explain());
    /// # Ok::<(), secateur_kernels::KernelError>(())
    /// ```
    pub fn on(self, device: Result<Device, CudaError>) -> DeviceDispatcher {
        let measured = device.as_ref().map(Measurements::kept).unwrap_or_default();
        DeviceDispatcher { cpu: self, device, measured }
    }
}

impl DeviceDispatcher {
    /// Plans by this table of measurements. They are taken as those of this card.
    pub fn with_measurements(self, measured: Measurements) -> Self {
        Self { measured, ..self }
    }

    /// The device. Errors with the reason why there is none.
    pub fn device(&self) -> Result<&Device, CudaError> {
        self.device.as_ref().map_err(Clone::clone)
    }

    /// Who runs what a device does not.
    pub fn cpu(&self) -> &Dispatcher {
        &self.cpu
    }

    /// Whether a kernel of the device can run a weight, whatever the number of tokens, and faster or not.
    pub(super) fn takes(&self, problem: &Problem) -> bool {
        let can = |kernel| self.cannot(kernel, &Problem { tokens: 1, ..*problem }).is_none();
        CudaKernel::ALL.iter().any(|kernel| can(*kernel))
    }

    /// Plans a product: the device's kernels by what they were measured to take here, or by their place where they
    /// were not; the CPU where none remains.
    pub fn plan(&self, problem: &Problem) -> DevicePlan {
        let mut turned_down = Vec::new();
        let mut offers: Vec<(Option<&Measurement>, CudaKernel)> = Vec::new();
        for &kernel in CudaKernel::ALL {
            let found = self.measured.closest(kernel, problem);
            let cannot = self.cannot(kernel, problem);
            match cannot.or_else(|| self.should_not(kernel, found)) {
                Some(reason) => turned_down.push((kernel, reason)),
                None => offers.push((found, kernel)),
            }
        }
        // Both take few tokens. Times decide if both were measured, or else the kernel made for them.
        if let [(Some(small), _), (Some(tiled), _)] = offers[..]
            && tiled.nanoseconds < small.nanoseconds
        {
            offers.swap(0, 1);
        }
        for (found, kernel) in offers.iter().skip(1) {
            let reason = match (found, offers[0].0) {
                (Some(slower), Some(_)) => format!("slower here, a measured {}", at(slower)),
                _ => "with so few tokens most of each tile would be empty".to_owned(),
            };
            turned_down.push((*kernel, reason));
        }
        let chosen = offers.first().map(|(found, kernel)| (*kernel, found.cloned()));
        let device = self.device.as_ref().ok().map(|device| {
            let properties = device.properties();
            format!("{} (sm_{})", properties.name, properties.sm)
        });
        DevicePlan { problem: *problem, chosen, device, turned_down, cpu: self.cpu.plan(problem) }
    }

    /// Why a kernel cannot run a problem.
    fn cannot(&self, kernel: CudaKernel, problem: &Problem) -> Option<String> {
        let properties = match &self.device {
            Ok(device) => device.properties(),
            Err(reason) => return Some(reason.to_string()),
        };
        if properties.sm < 80 {
            return Some(format!("sm_{} has no sparse tensor cores", properties.sm));
        }
        if problem.format != Format::TWO_OF_FOUR {
            return Some(format!("the weight is {}, not 2:4", problem.format));
        }
        if Element::of(problem.dtype).is_none() {
            return Some(format!("it takes f16, bf16 and i8, not {}", problem.dtype));
        }
        if problem.tokens > kernel.most_tokens() {
            return Some(format!("it takes {} tokens at most", kernel.most_tokens()));
        }
        let of = if kernel == CudaKernel::Gemm { GEMM } else { SMALL_BATCH };
        let shared = of.functions.iter().map(|function| function.shared_bytes as usize).max();
        let has = properties.shared_per_block;
        shared
            .filter(|shared| *shared > has)
            .map(|_| format!("a block needs more shared memory than the {has} bytes here"))
    }

    /// Why a kernel that could run a problem should not: a dense product is faster.
    fn should_not(&self, kernel: CudaKernel, found: Option<&Measurement>) -> Option<String> {
        let sm = self.device.as_ref().map_or(0, |device| device.properties().sm);
        match found {
            Some(found) => {
                let speedup = found.speedup().filter(|speedup| *speedup < 1.0)?;
                let at = at(found);
                Some(format!("slower than dense in the measured table: {speedup:.2} times, {at}"))
            }
            // `mma.sp` is Ampere's. Later cards multiply dense by other instructions, at more than its rate.
            None if kernel == CudaKernel::Gemm && sm >= 90 => Some(format!(
                "sm_{sm} has faster dense instructions than mma, and nothing like this was measured here; \
                 `cargo xtask gpu-check` measures it"
            )),
            None => None,
        }
    }
}

/// Where a measurement was taken, for people.
fn at(found: &Measurement) -> String {
    let Measurement { rows, cols, tokens, .. } = found;
    format!("{:.1} us at {rows}x{cols}, {tokens} tokens", found.nanoseconds / 1e3)
}

/// Which kernel runs a product, on the device or on the CPU, and why the others do not.
#[derive(Debug, Clone, PartialEq)]
pub struct DevicePlan {
    problem: Problem,
    chosen: Option<(CudaKernel, Option<Measurement>)>,
    device: Option<String>,
    turned_down: Vec<(CudaKernel, String)>,
    cpu: Plan,
}

impl DevicePlan {
    /// The device's kernel, or none if the CPU runs the product.
    pub fn kernel(&self) -> Option<CudaKernel> {
        self.chosen.as_ref().map(|(kernel, _)| *kernel)
    }

    /// How the CPU runs the product, or would.
    pub fn cpu(&self) -> &Plan {
        &self.cpu
    }

    /// Text for people: what runs, how that is known, and what was turned down and why.
    pub fn explain(&self) -> String {
        let mut text = match &self.chosen {
            None => self.cpu.explain(),
            Some((kernel, found)) => {
                let device = self.device.as_deref().unwrap_or("no device");
                let known = match found {
                    None => "not measured on this card".to_owned(),
                    Some(found) => match found.speedup() {
                        Some(speedup) => {
                            format!("a measured {}, {speedup:.2} times dense", at(found))
                        }
                        None => format!("a measured {}; dense was not there", at(found)),
                    },
                };
                format!("{}: {kernel} on {device}, {known}", self.problem)
            }
        };
        for (kernel, reason) in &self.turned_down {
            text += &format!("\n  not {kernel}: {reason}");
        }
        if self.chosen.is_some() {
            text += &format!("\n  not {}: the weight is on a device", self.cpu.kernel());
        }
        text
    }
}

#[cfg(test)]
mod tests;
