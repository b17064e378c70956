//! Which of candle's operations does training replace on a CPU, and why? Those whose backward pass took most
//! of a step: convolutions, products with transposed weights, max-pooling and batch normalisation.
//!
//! Each is a custom operation for f32 on a CPU, with a backward pass of its own; anything else goes through
//! candle's operations, which compute the same. What is split among threads depends on the shapes alone, so
//! that results do not depend on how many threads there are.

mod batch_norm;
mod conv2d;
mod linear;
mod max_pool;

#[cfg(test)]
mod tests;

pub(crate) use batch_norm::batch_norm;
pub(crate) use conv2d::{conv2d, patches};
pub(crate) use linear::linear;
pub(crate) use max_pool::max_pool2;

use candle_core::{
    CpuStorage, DType, Layout, Result, Storage, Tensor, backend::BackendStorage, bail,
};

/// Whether the operations of this module can run on `xs`.
fn is_ours(xs: &Tensor) -> bool {
    xs.device().is_cpu() && xs.dtype() == DType::F32
}

/// Whether a gradient is to flow through `xs`: whether it was computed from a variable.
fn is_tracked(xs: &Tensor) -> bool {
    !xs.sorted_nodes().is_empty()
}

/// The numbers of a contiguous tensor.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("a custom operation needs contiguous tensors"),
    }
}

/// Calls `look` with the numbers of a contiguous tensor.
fn with_slice<T>(xs: &Tensor, look: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let (storage, layout) = xs.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => look(slice(storage, layout)?),
        _ => bail!("a custom operation needs tensors in main memory"),
    }
}

/// A matrix: numbers, and how they lie.
struct Matrix<'a>(&'a CpuStorage, Layout);

impl<'a> Matrix<'a> {
    fn new(storage: &'a CpuStorage, rows: usize, cols: usize, start: usize) -> Self {
        Self(storage, Layout::contiguous_with_offset((rows, cols), start))
    }

    fn transposed(self) -> Result<Self> {
        Ok(Self(self.0, self.1.transpose(0, 1)?))
    }

    /// The product, rows one after the other.
    fn times(&self, right: &Self) -> Result<Vec<f32>> {
        let ((m, k), (_, n)) = (self.1.shape().dims2()?, right.1.shape().dims2()?);
        match self.0.matmul(right.0, (1, m, n, k), &self.1, &right.1)? {
            CpuStorage::F32(product) => Ok(product),
            _ => bail!("a product of f32 matrices is f32"),
        }
    }
}

/// The sum of `of` each pair, in sixteen lanes that a compiler can keep in registers.
fn sum_of(left: &[f32], right: &[f32], of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; 16];
    let ((lefts, left), (rights, right)) = (left.as_chunks::<16>(), right.as_chunks::<16>());
    for (left, right) in lefts.iter().zip(rights) {
        for lane in 0..16 {
            lanes[lane] += of(left[lane], right[lane]);
        }
    }
    let rest = left.iter().zip(right).map(|(left, right)| of(*left, *right));
    lanes.into_iter().chain(rest).sum()
}

/// The sum of all.
fn sum(values: &[f32]) -> f32 {
    sum_of(values, values, |value, _| value)
}
