//! What is a sparse product, plainly? The loop that every kernel is held against.

use secateur_storage::Packed;

/// `y = x · Wᵀ` in f64, straight from the packed weight, nothing but its stored values touched.
///
/// `x` is `[tokens, cols]`; returns `[tokens, rows]`. Panics when `x` is shorter than that: this is
/// the yardstick of tests, not a kernel.
///
/// ```
/// use secateur_kernels::reference;
/// use secateur_mask::{Mask, Pattern};
/// use secateur_storage::{Dense, Packed};
///
/// let weight = Dense::new(vec![0.0, 2.0, 3.0, 0.0], &[1, 4])?;
/// let mask = Mask::from_bools(&[false, true, true, false], &[1, 4])?;
/// let packed = Packed::pack(&weight, &mask, Pattern::Unstructured)?;
/// assert_eq!(reference::product(&packed, &[1.0, 1.0, 10.0, 1.0], 1), [32.0]);
/// # Ok::<(), secateur_storage::StorageError>(())
/// ```
pub fn product(weight: &Packed, x: &[f32], tokens: usize) -> Vec<f64> {
    let (rows, cols) = weight.matrix();
    let mut y = vec![0.0; tokens * rows];
    let entries = entries(weight);
    for token in 0..tokens {
        for &(row, col, value) in &entries {
            y[token * rows + row] += f64::from(value) * f64::from(x[token * cols + col]);
        }
    }
    y
}

/// The stored `(row, column, value)` triples of a weight, row by row.
pub fn entries(weight: &Packed) -> Vec<(usize, usize, f32)> {
    let (rows, cols) = weight.matrix();
    match weight {
        Packed::TwoFour(packed) => (0..rows)
            .flat_map(|row| packed.row(row).map(move |(col, value)| (row, col, value)))
            .collect(),
        Packed::Bitmap(bitmap) => {
            let kept = bitmap.mask().iter().enumerate().filter(|(_, kept)| *kept);
            kept.zip(bitmap.values())
                .map(|((index, _), value)| (index / cols, index % cols, *value))
                .collect()
        }
        other => {
            let dense = other.unpack();
            let values = dense.values().iter().enumerate();
            values.map(|(index, value)| (index / cols, index % cols, *value)).collect()
        }
    }
}
