//! How does any sparsity become time? A column number beside each value, tokens along the lanes.
//!
//! Compressed sparse rows: the stored values of a row in order, a `u32` column for each. Many tokens
//! run as in `two_four.rs`, each weight multiplying the row of the panel that its column names; few
//! tokens run as plain dot products, four sums wide.

use super::simd::Simd;
use crate::reference::entries;
use secateur_storage::{Packed, StorageError};

/// A weight as compressed sparse rows.
#[derive(Debug)]
pub(crate) struct Csr {
    pub rows: usize,
    pub cols: usize,
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Csr {
    /// `None` when columns do not fit 32 bits.
    pub fn new(weight: &Packed) -> Result<Option<Self>, StorageError> {
        let (rows, cols) = weight.matrix();
        if u32::try_from(cols).is_err() {
            return Ok(None);
        }
        let mut csr =
            Self { rows, cols, starts: vec![0; rows + 1], columns: vec![], values: vec![] };
        for (row, col, value) in entries(weight)? {
            csr.columns.push(col as u32);
            csr.values.push(value);
            csr.starts[row + 1] = csr.values.len();
        }
        for row in 0..rows {
            csr.starts[row + 1] = csr.starts[row + 1].max(csr.starts[row]);
        }
        Ok(Some(csr))
    }

    pub fn bytes(&self) -> usize {
        size_of_val(self.starts.as_slice())
            + size_of_val(self.columns.as_slice())
            + size_of_val(self.values.as_slice())
    }

    fn row(&self, row: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let range = self.starts[row]..self.starts[row + 1];
        self.columns[range.clone()].iter().copied().zip(self.values[range].iter().copied())
    }
}

/// Sums of `rows` over all columns: `sums[row − rows.start][width]`, `width = V · LANES` tokens.
///
/// # Safety
///
/// `S` runs here. `panel` is `[cols][width]`, readable; `sums` is writable for the rows times
/// `width`.
#[inline(always)]
pub(super) unsafe fn block<S: Simd, const V: usize>(
    weight: &Csr,
    rows: std::ops::Range<usize>,
    panel: *const f32,
    mut sums: *mut f32,
) {
    let width = V * S::LANES;
    for row in rows {
        // SAFETY: `S` runs here by the caller's promise. Columns are below `cols`, by construction
        // from a packed weight, so every row of the panel named is in it; `sums` moves one row on
        // for each row.
        unsafe {
            let mut acc = [S::zero(); V];
            for (column, value) in weight.row(row) {
                let weight = S::splat(value);
                let from = panel.add(column as usize * width);
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = S::mul_add(weight, S::load(from.add(v * S::LANES)), *acc);
                }
            }
            for (v, acc) in acc.iter().enumerate() {
                S::store(sums.add(v * S::LANES), *acc);
            }
            sums = sums.add(width);
        }
    }
}

/// One output of one token: the dot product of a row with `x`.
#[inline(always)]
pub(super) fn dot(weight: &Csr, row: usize, x: &[f32]) -> f32 {
    let range = weight.starts[row]..weight.starts[row + 1];
    let (columns, values) = (&weight.columns[range.clone()], &weight.values[range]);
    let mut sums = [0.0_f32; 4];
    let (columns, last_columns) = columns.as_chunks::<4>();
    let (values, last_values) = values.as_chunks::<4>();
    for (columns, values) in columns.iter().zip(values) {
        for i in 0..4 {
            sums[i] += values[i] * x[columns[i] as usize];
        }
    }
    for (i, (column, value)) in last_columns.iter().zip(last_values).enumerate() {
        sums[i] += value * x[*column as usize];
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}
