//! The CPU kernels: one generic text, compiled for every tier of processor.

pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod drive;
pub(crate) mod element;
pub(crate) mod moves;
pub(crate) mod n_of_m;
mod panel;
pub(crate) mod rounding;
pub(crate) mod runs;
mod simd;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod pairs;
