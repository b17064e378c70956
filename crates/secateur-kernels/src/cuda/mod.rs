//! How does a 2:4 weight reach NVIDIA's sparse tensor cores? As PTX text in this crate, handed to a driver that
//! is looked for at run time.
//!
//! Nothing of CUDA is needed to build: no compiler, no headers, nothing linked. Kernels are `kernels/*.cu`, each a
//! lesson that stands alone; `cargo xtask kernels` made the `*.ptx` beside them, which are embedded. A driver for
//! CUDA 11.8 or later loads them, on any card of compute capability 8.0 or later.
//!
//! Reading order: `lane_model.rs` (what the instruction computes), `device.rs` (what a card is to us),
//! `kernels/small_batch.cu`, `kernels/gemm.cu`, `emulator/` (the same PTX, executed on the CPU and watched).

mod cublas;
mod device;
mod driver;
mod error;
mod kernels;
mod library;
mod nvrtc;

pub use cublas::{Dense, Gemm, GemmType};
pub use device::{Device, DeviceBuffer, Properties};
pub use error::CudaError;
pub use kernels::{EmbeddedKernel, Function, embedded};
pub use nvrtc::{Compiled, Nvrtc, Target};
