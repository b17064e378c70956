//! How does a 2:4 weight lie? Two values and four index bits per group of four columns.
//!
//! Row by row: `2 · ceil(cols / 4)` values, and a nibble per group, `idx0 | idx1 << 2` with
//! `idx0 < idx1`, the lower group in the lower nibble. That is PyTorch's semi-structured metadata,
//! and 0.53125 of the dense bytes in f32. A group that keeps fewer than two entries stores explicit
//! zeros, placed as PyTorch places them; a last, shorter group may place them beyond the row's end.

use crate::{Dense, StorageError, bitmap::fits, dense::matrix_view};
use secateur_mask::{Mask, Pattern};

/// A weight of which every group of four columns keeps at most two.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed24 {
    shape: Vec<usize>,
    rows: usize,
    cols: usize,
    values: Vec<f32>,
    indices: Vec<u8>,
}

impl Packed24 {
    /// Keeps of `dense` what `mask` keeps; proves first that the mask is 2:4.
    pub fn pack(dense: &Dense, mask: &Mask) -> Result<Self, StorageError> {
        fits(dense, mask)?;
        mask.verify(&Pattern::TWO_OF_FOUR)?;
        let (rows, cols) = matrix_view(dense.shape())?;
        let groups = cols.div_ceil(4);
        let mut values = Vec::with_capacity(rows * groups * 2);
        let mut indices = vec![0_u8; rows * groups.div_ceil(2)];
        for row in 0..rows {
            for group in 0..groups {
                let kept = |lane| {
                    let col = group * 4 + lane;
                    (col < cols).then_some(row * cols + col).filter(|i| mask.get(*i) == Some(true))
                };
                let [low, high] = slots([0, 1, 2, 3].map(|lane| kept(lane).is_some()));
                for lane in [low, high] {
                    values.push(kept(lane).map_or(0.0, |index| dense.values()[index]));
                }
                indices[row * groups.div_ceil(2) + group / 2] |=
                    ((low | high << 2) as u8) << (group % 2 * 4);
            }
        }
        Ok(Self { shape: dense.shape().to_vec(), rows, cols, values, indices })
    }

    /// A packed weight from its parts, as they lie in a file. Everything is checked: counts,
    /// ascending indices, zeros in the padding.
    pub fn from_parts(
        shape: &[usize],
        values: Vec<f32>,
        indices: Vec<u8>,
    ) -> Result<Self, StorageError> {
        let (rows, cols) = matrix_view(shape)?;
        let groups = cols.div_ceil(4);
        let lengths = [
            ("the values of a 2:4 weight", values.len(), rows * groups * 2),
            ("the indices of a 2:4 weight", indices.len(), rows * groups.div_ceil(2)),
        ];
        for (what, found, expected) in lengths {
            if found != expected {
                return Err(StorageError::Length { what, found, expected });
            }
        }
        let packed = Self { shape: shape.to_vec(), rows, cols, values, indices };
        for row in 0..rows {
            for group in 0..groups {
                let nibble = packed.nibble(row, group);
                if nibble & 3 >= nibble >> 2 {
                    return Err(StorageError::Indices { row, group, nibble });
                }
            }
            let spare_nibble = groups % 2 == 1 && packed.nibble(row, groups) != 0;
            let beyond = packed.slots(row).any(|(col, value)| col >= cols && value.to_bits() != 0);
            if spare_nibble || beyond {
                return Err(StorageError::Padding { row });
            }
        }
        Ok(packed)
    }

    /// The dense tensor: what is not stored is `+0.0`.
    pub fn unpack(&self) -> Dense {
        let mut dense = vec![0.0; self.rows * self.cols];
        for row in 0..self.rows {
            for (col, value) in self.row(row) {
                dense[row * self.cols + col] = value;
            }
        }
        Dense::new(dense, &self.shape).expect("rows × cols is the shape's length")
    }

    /// Which entries are stored: two of every whole group, explicit zeros included.
    pub fn mask(&self) -> Mask {
        let mut kept = vec![false; self.rows * self.cols];
        for row in 0..self.rows {
            for (col, _) in self.row(row) {
                kept[row * self.cols + col] = true;
            }
        }
        Mask::from_bools(&kept, &self.shape).expect("rows × cols is the shape's length")
    }

    /// The stored `(column, value)` pairs of a row, columns ascending.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.slots(row).filter(|(col, _)| *col < self.cols)
    }

    /// All slots of a row, two per group; those of a shorter last group may name columns beyond its
    /// end, with value zero.
    pub fn slots(&self, row: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let groups = self.cols.div_ceil(4);
        (0..groups * 2).map(move |slot| {
            let nibble = self.nibble(row, slot / 2);
            let lane = nibble >> (slot % 2 * 2) & 3;
            (slot / 2 * 4 + usize::from(lane), self.values[row * groups * 2 + slot])
        })
    }

    fn nibble(&self, row: usize, group: usize) -> u8 {
        let stride = self.cols.div_ceil(4).div_ceil(2);
        self.indices[row * stride + group / 2] >> (group % 2 * 4) & 0xF
    }

    /// The shape of the dense weight.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Rows of the matrix view: outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix view: inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The values, two per group, `rows × 2 · ceil(cols / 4)`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The index nibbles, two groups per byte, `rows × ceil(groups / 2)`.
    pub fn indices(&self) -> &[u8] {
        &self.indices
    }
}

/// The two lanes that a group stores. Where fewer than two are kept, PyTorch's choice of the rest.
fn slots(kept: [bool; 4]) -> [usize; 2] {
    let mut lanes = (0..4).filter(|&lane| kept[lane]);
    match (lanes.next(), lanes.next()) {
        (Some(low), Some(high)) => [low, high],
        (Some(0), None) => [0, 2],
        (Some(1), None) => [1, 2],
        _ => [2, 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(values: &[f32], shape: &[usize]) -> Packed24 {
        let bits: Vec<bool> = values.iter().map(|v| *v != 0.0).collect();
        let dense = Dense::new(values.to_vec(), shape).unwrap();
        Packed24::pack(&dense, &Mask::from_bools(&bits, shape).unwrap()).unwrap()
    }

    #[test]
    fn nibbles_are_pytorchs() {
        let row: Vec<f32> = [0., 0., 1., 1.].repeat(4);
        assert_eq!(pack(&row, &[1, 16]).indices(), [0xEE, 0xEE]);
        // Underfull groups: none, last, third, second, first kept.
        for (group, nibble) in [
            ([0., 0., 0., 0.], 0xE),
            ([0., 0., 0., 1.], 0xE),
            ([0., 0., 1., 0.], 0xE),
            ([0., 1., 0., 0.], 0x9),
            ([1., 0., 0., 0.], 0x8),
        ] {
            assert_eq!(pack(&group, &[1, 4]).indices(), [nibble], "{group:?}");
        }
    }

    #[test]
    fn ragged_rows_come_back() {
        let values = [1., 0., 2., 0., 3., /**/ 0., 0., 4., 5., 6.];
        let packed = pack(&values, &[2, 5]);
        assert_eq!(packed.unpack().values(), values);
        let parts = (packed.values().to_vec(), packed.indices().to_vec());
        assert_eq!(Packed24::from_parts(&[2, 5], parts.0, parts.1).unwrap(), packed);
    }

    #[test]
    fn three_in_a_group_are_refused() {
        let dense = Dense::new(vec![1.0; 4], &[1, 4]).unwrap();
        let mask = Mask::from_bools(&[true, true, true, false], &[1, 4]).unwrap();
        assert!(matches!(Packed24::pack(&dense, &mask), Err(StorageError::Mask(_))));
    }

    #[test]
    fn damaged_parts_are_refused() {
        let parts = |values: &[f32], indices: &[u8], cols| {
            Packed24::from_parts(&[1, cols], values.to_vec(), indices.to_vec())
        };
        assert!(parts(&[1., 2.], &[0xE], 4).is_ok());
        assert!(matches!(parts(&[1., 2.], &[0xB], 4), Err(StorageError::Indices { .. })));
        assert!(matches!(parts(&[1., 2.], &[0xEE], 4), Err(StorageError::Padding { .. })));
        assert!(matches!(parts(&[1., 2.], &[0x8], 1), Err(StorageError::Padding { .. })));
        assert!(matches!(parts(&[1.], &[0xE], 4), Err(StorageError::Length { .. })));
        assert!(parts(&[1., 0.], &[0x8], 1).is_ok());
        assert!(Packed24::from_parts(&[usize::MAX, 8], vec![], vec![]).is_err());
    }
}
