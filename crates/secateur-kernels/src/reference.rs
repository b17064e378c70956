//! What is a sparse product, plainly? The loop that every kernel is held against.

use secateur_storage::{Format, Packed, Places, StorageError};

/// `y = x · Wᵀ` in f64, straight from the packed weight, nothing but its stored values touched.
///
/// `x` is `[tokens, cols]`; returns `[tokens, rows]`. Panics when `x` is shorter than that, or the
/// weight holds no numbers: this is the yardstick of tests, not a kernel.
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
    let entries = entries(weight).expect("a weight of numbers");
    for token in 0..tokens {
        for &(row, col, value) in &entries {
            y[token * rows + row] += f64::from(value) * f64::from(x[token * cols + col]);
        }
    }
    y
}

/// The stored `(row, column, value)` triples of a weight, row by row, as f32 with scales applied.
/// Errors for dtypes that are no plain numbers.
pub fn entries(weight: &Packed) -> Result<Vec<(usize, usize, f32)>, StorageError> {
    let (_, cols) = weight.matrix();
    // In row-major order, whatever the format's own.
    let stored = match weight.mask() {
        Some(mask) => Packed::pack_as(&weight.unpack(), &mask, Format::Bitmap)?,
        None => weight.clone(),
    };
    let stored = stored.to_f32()?;
    let values = stored.values().to_f32()?;
    let places: Box<dyn Iterator<Item = usize>> = match stored.places() {
        Places::Bitmap(mask) => {
            Box::new(mask.iter().enumerate().filter(|(_, kept)| *kept).map(|(index, _)| index))
        }
        _ => Box::new(0..values.len()),
    };
    Ok(places.zip(&*values).map(|(index, value)| (index / cols, index % cols, *value)).collect())
}
