//! Does a device compute what the CPU does? A sweep over shapes, ragged ones above all, the same on every card and on
//! the emulator.
//!
//! ```
//! use secateur_kernels::cuda::{Emulator, check};
//! let device = Emulator::new().device(); // or Device::open(0)?
//! let some = check::sweep().into_iter().step_by(197);
//! for check in some {
//!     let verdict = check.run(&device)?;
//!     assert!(verdict.holds(), "{check}: {verdict:?}");
//! }
//! # Ok::<(), secateur_kernels::KernelError>(())
//! ```

#[cfg(test)]
mod mutants;
mod product;
mod weight;

pub use product::ProductCheck;
pub use weight::WeightCheck;

use super::{CudaKernel, Device, element::Element, random::Random};
use crate::{Activation, KernelError};
use std::fmt;

/// One thing to run on a device and on the CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Check {
    /// A product by one kernel.
    Product(ProductCheck),
    /// Packing, unpacking or pruning a weight.
    Weight(WeightCheck),
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Verdict {
    /// Numbers compared.
    pub compared: usize,
    /// The largest error as a share of what rounding explains; above 1, or NaN, something is wrong.
    pub worst: f64,
    /// Numbers that were written where nothing should be.
    pub stray: usize,
}

impl Verdict {
    /// Whether something was compared, and all of it was right.
    pub fn holds(&self) -> bool {
        self.compared > 0 && self.worst <= 1.0 && self.stray == 0
    }
}

impl Check {
    /// The kernel's name and the type of its weight: checks of one name belong together.
    pub fn name(&self) -> String {
        match self {
            Self::Product(check) => check.name(),
            Self::Weight(check) => check.name(),
        }
    }

    /// Runs it. Errors as the device does; a wrong result is no error but a [`Verdict`] that does not hold.
    pub fn run(&self, device: &Device) -> Result<Verdict, KernelError> {
        match self {
            Self::Product(check) => check.run(device),
            Self::Weight(check) => check.run(device),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Product(check) => check.fmt(f),
            Self::Weight(check) => check.fmt(f),
        }
    }
}

const ELEMENTS: [Element; 3] = [Element::F16, Element::Bf16, Element::I8];
/// Around every boundary of a tile, a block and a fragment.
const ROWS: [usize; 19] =
    [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100, 127, 128, 129, 200, 257, 300];
const COLS: [usize; 23] = [
    1, 3, 4, 5, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 192, 250, 256, 300, 520,
];
const FEW: [usize; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const MANY: [usize; 17] = [1, 2, 7, 8, 9, 16, 17, 31, 64, 65, 100, 127, 128, 129, 200, 256, 300];
/// Long and tall ones: where places of a ring are used again, and where the tiles' second group of eight begins.
const FAR: [(usize, usize); 6] =
    [(33, 1024), (40, 2100), (16, 4200), (1025, 64), (1300, 40), (2177, 8)];
/// Products of each kernel and type in the sweep.
const PRODUCTS: usize = 216;

/// More than 200 products of each kernel and type, and as many weights packed, unpacked and pruned; small enough for
/// the emulator.
pub fn sweep() -> Vec<Check> {
    let mut checks = Vec::new();
    for (kernel, tokens) in [(CudaKernel::SmallBatch, &FEW[..]), (CudaKernel::Gemm, &MANY[..])] {
        for element in ELEMENTS {
            let mut random = Random(checks.len() as u64);
            // Every number of each list, with others at random.
            let mut pick = |at: usize, list: &[usize]| match at {
                at if at < list.len() => list[at],
                _ => list[random.below(list.len())],
            };
            let shapes: Vec<_> = (0..PRODUCTS)
                .map(|at| (pick(at, &ROWS), pick((at + 5) % PRODUCTS, &COLS), at))
                .chain(FAR.iter().enumerate().map(|(at, (rows, cols))| (*rows, *cols, at)))
                .collect();
            checks.extend(shapes.into_iter().map(|(rows, cols, at)| {
                Check::Product(ProductCheck {
                    kernel,
                    element,
                    rows,
                    cols,
                    tokens: pick((at + 9) % PRODUCTS, tokens),
                    bias: at % 5 < 3,
                    activation: [Activation::None, Activation::Relu, Activation::Gelu][at % 3],
                    apart: [0, 16, 48][at / 3 % 3],
                })
            }));
        }
    }
    for at in 0..PRODUCTS {
        checks.extend(WeightCheck::at(at, ROWS[at % ROWS.len()], COLS[at % COLS.len()]));
    }
    checks
}

/// A few products of the sizes of real layers, for cards: on the emulator they would take minutes.
pub fn large() -> Vec<Check> {
    let product = |kernel, rows, cols, tokens| {
        ELEMENTS.map(|element| {
            let (bias, activation, apart) = (true, Activation::Gelu, 0);
            let check =
                ProductCheck { kernel, element, rows, cols, tokens, bias, activation, apart };
            Check::Product(check)
        })
    };
    [
        product(CudaKernel::SmallBatch, 4096, 4096, 1),
        product(CudaKernel::SmallBatch, 11008, 4096, 16),
        product(CudaKernel::Gemm, 768, 3072, 256),
        product(CudaKernel::Gemm, 2000, 4096, 33),
        product(CudaKernel::Gemm, 4096, 1024, 1000),
    ]
    .concat()
}
