//! How does a dense product run? By the `gemm` crate, with AVX-512 switched on.

use crate::cpu::drive::PARALLEL_WORK;
use gemm::{Parallelism, gemm};
use secateur_storage::{Packed, StorageError};

/// A dense weight, `[rows, cols]` row-major.
#[derive(Debug)]
pub(crate) struct DenseWeight {
    rows: usize,
    cols: usize,
    values: Vec<f32>,
}

impl DenseWeight {
    pub fn new(weight: &Packed) -> Result<Self, StorageError> {
        let (rows, cols) = weight.matrix();
        Ok(Self { rows, cols, values: weight.unpack().to_f32()?.into_owned() })
    }

    pub fn bytes(&self) -> usize {
        size_of_val(self.values.as_slice())
    }

    /// `y = x · Wᵀ`; overwrites `y`. Lengths were checked by the caller.
    pub fn run(&self, x: &[f32], tokens: usize, y: &mut [f32], threads: usize) {
        let (rows, cols) = (self.rows, self.cols);
        assert!(x.len() >= tokens * cols && y.len() >= tokens * rows);
        let pays = rows.saturating_mul(cols).saturating_mul(tokens) >= PARALLEL_WORK;
        let parallelism =
            if threads > 1 && pays { Parallelism::Rayon(threads) } else { Parallelism::None };
        // SAFETY: gemm reads lhs[i·cols + k] for i < tokens, k < cols, rhs[j·cols + k] for j < rows
        // and writes dst[i·rows + j]; all lie within the three slices, by the assertion above and
        // because `values` has rows · cols entries. `y` is borrowed mutably, so nothing overlaps.
        // `read_dst` is false, so the old contents of `y` do not matter.
        unsafe {
            gemm(
                tokens,
                rows,
                cols,
                y.as_mut_ptr(),
                1,
                rows as isize,
                false,
                x.as_ptr(),
                1,
                cols as isize,
                self.values.as_ptr(),
                cols as isize,
                1,
                0.0_f32,
                1.0_f32,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}
