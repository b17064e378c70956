//! How are the survivors multiplied: by which kernel, on this machine, and why that one?
//!
//! `y = x · Wᵀ (+ bias)` with `W` `[rows, cols]` packed, `x` `[tokens, cols]` and `y`
//! `[tokens, rows]`, all f32 and row-major. Reading order: [`Problem`] (what is asked),
//! [`Dispatcher`] (who answers, and why), [`mod@reference`] (the loop, plainly), `cpu/n_of_m/tile.rs` (the
//! same loop, fast), `cpu/avx512.rs` (its vocabulary on AVX-512), `cuda/kernels/gemm.cu` (the same loop, on a sparse
//! tensor core; with the feature `cuda`, which needs nothing of CUDA to build).
//!
//! Key decisions of this crate: it knows slices, no tensor library. All `unsafe` of the workspace
//! lives here, behind a safe API that checks lengths once per call. Every kernel is one generic text
//! over a small SIMD vocabulary, compiled once for each tier of processor.
//!
//! ```
//! use secateur_kernels::{Dispatcher, Product};
//! use secateur_mask::{Mask, Pattern};
//! use secateur_storage::{Dense, Packed};
//!
//! let weight = Dense::new(vec![0.0, 5.0, 0.0, -3.0], &[1, 4])?;
//! let mask = Mask::from_bools(&[false, true, false, true], &[1, 4])?;
//! let packed = Packed::pack(&weight, &mask, Pattern::TWO_OF_FOUR)?;
//!
//! let product = Product::new(&packed, &Dispatcher::probe()?)?;
//! let mut y = [0.0];
//! product.run(&[1.0, 2.0, 3.0, 4.0], 1, Some(&[0.5]), &mut y)?;
//! assert_eq!(y, [5.0 * 2.0 - 3.0 * 4.0 + 0.5]);
//! println!("{}", product.plan(1).explain());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(target_endian = "big")]
compile_error!("kernels read indices as little-endian numbers");

mod attention;
mod conv;
mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod dense;
mod dispatch;
pub mod elementwise;
mod epilogue;
mod error;
mod lines;
mod machine;
mod panels;
mod problem;
mod product;
pub mod reference;
mod view;

pub use attention::attention;
pub use conv::{Conv2dGeometry, Conv2dProduct};
pub use dispatch::{Basis, Calibration, Dispatcher, Plan, Tier};
pub use epilogue::{Activation, Epilogue};
pub use error::KernelError;
pub use machine::{bandwidth, peak};
pub use panels::{Panel, Panels};
pub use problem::{KernelKind, Problem};
pub use product::Product;
pub use view::{View, ViewMut};
