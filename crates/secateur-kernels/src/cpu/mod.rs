//! The CPU kernels: one generic text, compiled for every tier of processor.

pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod csr;
pub(crate) mod drive;
mod panel;
mod simd;
pub(crate) mod two_four;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
