//! How does a 2:4 weight reach NVIDIA's sparse tensor cores? As PTX text in this crate, handed to a driver that
//! is looked for at run time.
//!
//! Nothing of CUDA is needed to build: no compiler, no headers, nothing linked. Kernels are `kernels/*.cu`, each a
//! lesson that stands alone; `cargo xtask kernels` made the `*.ptx` beside them, which are embedded. A driver for
//! CUDA 11.8 or later loads them, on any card of compute capability 8.0 or later.
//!
//! Reading order: `lane_model.rs` (what the instruction computes), `device.rs` (what a card is to us),
//! `kernels/small_batch.cu`, `kernels/gemm.cu`, `emulator/` (the same PTX, executed on the CPU and watched).

#[cfg(test)]
mod changed;
pub mod check;
mod cublas;
mod device;
mod driver;
mod element;
pub mod emulator;
mod error;
mod host;
mod kernels;
pub mod lane_model;
mod library;
mod measured;
mod multiply;
mod nvrtc;
mod plan;
mod probe;
mod product;
mod prune;
mod random;
mod weight;

pub use cublas::{Dense, Gemm, GemmType};
pub use device::{Device, DeviceBuffer, Properties};
pub use emulator::{Copies, Counts, Emulator, Schedule, Warps};
pub use error::CudaError;
pub use kernels::{EmbeddedKernel, Function, embedded};
pub use measured::{Measurement, Measurements};
pub use multiply::{CudaKernel, DeviceEpilogue, DeviceView, DeviceViewMut, multiply};
pub use nvrtc::{Compiled, Nvrtc, Target};
pub use plan::{DeviceDispatcher, DevicePlan};
pub use probe::{Busy, IssueRate, SelfTest, issue_rates, self_test};
pub use product::DeviceProduct;
pub use prune::prune_two_of_four;
pub use weight::DeviceWeight;
