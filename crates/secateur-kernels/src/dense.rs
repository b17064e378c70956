//! How does a dense product run? By the `gemm` crate, with AVX-512 switched on.

use crate::{
    Epilogue, Tier,
    cpu::drive::{Call, Input, Output, PARALLEL_WORK, Tiling, panel_rows},
};
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

    /// `y = activation(x · Wᵀ + bias)`, overwriting `y`.
    ///
    /// # Safety
    ///
    /// As for [`drive::run`](crate::cpu::drive::run).
    pub unsafe fn run(&self, call: &Call<'_>) {
        let Call { tier, x, y, tokens, epilogue, order, .. } = *call;
        let (rows, cols) = (self.rows, self.cols);
        // SAFETY: tokens, features and panels lie where the caller promises.
        unsafe {
            match (x, y) {
                (Input::Tokens { x, stride }, Output::Tokens { y, stride: out }) => {
                    let ordered = order.map(|order| reorder(x, stride, tokens, order));
                    let (x, stride) = ordered.as_ref().map_or((x, stride), |x| (x.as_ptr(), cols));
                    self.multiply((x, [stride, 1]), tokens, (y, [out, 1]));
                    finish(tier, epilogue, (y, out), tokens, rows);
                }
                (Input::Panels(x), Output::Panels(y)) => {
                    for cut in Tiling::of(tier).panels(tokens) {
                        let x = x.add(cut.first * panel_rows(cols));
                        let y = y.add(cut.first * panel_rows(rows));
                        self.multiply((x, [1, cut.width]), cut.tokens, (y, [1, cut.width]));
                        for row in 0..rows {
                            let y = y.add(row * cut.width);
                            let y = std::slice::from_raw_parts_mut(y, cut.tokens);
                            let bias = epilogue.bias.map_or(0.0, |bias| bias[row]);
                            y.iter_mut().for_each(|y| *y += bias);
                            epilogue.activation.apply(tier, y);
                        }
                    }
                }
                (Input::Panels(x), Output::Tokens { y, stride }) => {
                    for cut in Tiling::of(tier).panels(tokens) {
                        let x = x.add(cut.first * panel_rows(cols));
                        let y = y.add(cut.first * stride);
                        self.multiply((x, [1, cut.width]), cut.tokens, (y, [stride, 1]));
                        finish(tier, epilogue, (y, stride), cut.tokens, rows);
                    }
                }
                // No call of a product asks for this.
                (Input::Tokens { .. }, Output::Panels(_)) => {
                    unreachable!("what comes as tokens goes as tokens")
                }
            }
        }
    }

    /// `y = x · Wᵀ`, for tokens and features at any distances `[token, feature]`.
    ///
    /// # Safety
    ///
    /// For every token `t`, `x` is readable at `t · x.1[0] + c · x.1[1]` for each column `c`, and `y`
    /// writable at `t · y.1[0] + r · y.1[1]` for each row `r`; they do not overlap.
    unsafe fn multiply(
        &self,
        (x, x_strides): (*const f32, [usize; 2]),
        tokens: usize,
        (y, y_strides): (*mut f32, [usize; 2]),
    ) {
        let (rows, cols) = (self.rows, self.cols);
        if cols == 0 {
            for (token, row) in (0..tokens).flat_map(|t| (0..rows).map(move |r| (t, r))) {
                // SAFETY: writable by the caller's promise.
                unsafe { *y.add(token * y_strides[0] + row * y_strides[1]) = 0.0 };
            }
            return;
        }
        let threads = rayon::current_num_threads();
        let pays = rows.saturating_mul(cols).saturating_mul(tokens) >= PARALLEL_WORK;
        let parallelism =
            if threads > 1 && pays { Parallelism::Rayon(threads) } else { Parallelism::None };
        let [xt, xc] = x_strides.map(|stride| stride as isize);
        let [yt, yr] = y_strides.map(|stride| stride as isize);
        // SAFETY: gemm reads lhs[i, k] for i < tokens, k < cols, rhs[j·cols + k] for j < rows and
        // writes dst[i, j]: the first and the last by the caller's promise, and `values` has rows ·
        // cols entries. `read_dst` is false, so the old contents of `y` do not matter.
        unsafe {
            gemm(
                tokens,
                rows,
                cols,
                y,
                yr,
                yt,
                false,
                x,
                xc,
                xt,
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

/// Bias and activation of `tokens` rows of `y`, `stride` apart.
///
/// # Safety
///
/// Each of the rows is writable for `rows` numbers.
unsafe fn finish(
    tier: Tier,
    epilogue: Epilogue<'_>,
    (y, stride): (*mut f32, usize),
    tokens: usize,
    rows: usize,
) {
    for token in 0..tokens {
        // SAFETY: the caller's promise.
        let y = unsafe { std::slice::from_raw_parts_mut(y.add(token * stride), rows) };
        if let Some(bias) = epilogue.bias {
            y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
        }
        epilogue.activation.apply(tier, y);
    }
}

/// `tokens` rows of `x`, `stride` apart, with column `c` at `order[c]`.
///
/// # Safety
///
/// The rows of `x` are readable for as many numbers as `order` holds.
unsafe fn reorder(x: *const f32, stride: usize, tokens: usize, order: &[u32]) -> Vec<f32> {
    let mut ordered = vec![0.0; tokens * order.len()];
    for token in 0..tokens {
        for (col, to) in order.iter().enumerate() {
            // SAFETY: the caller's promise.
            let value = unsafe { *x.add(token * stride + col) };
            ordered[token * order.len() + *to as usize] = value;
        }
    }
    ordered
}
