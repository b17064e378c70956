//! How does a token number become features? As a row of a table, which may be packed: rows are looked
//! up where they are stored, and of a file in memory-mapped pages only those that are needed are read.

use crate::{NnError, VarBuilder};
use secateur_storage::{Dense, Packed, Places};
use std::borrow::Cow;

/// A table of `[rows, width]`, shared with the checkpoint where it can be.
#[derive(Debug)]
pub(super) struct Embedding {
    table: Packed,
    width: usize,
}

impl Embedding {
    pub fn load(
        vb: &VarBuilder<'_>,
        name: &str,
        rows: usize,
        width: usize,
    ) -> Result<Self, NnError> {
        let table = vb.pp(name).get_packed((rows, width), "weight")?.to_f32()?;
        let borrowed = matches!(table.values().to_f32()?, Cow::Borrowed(_));
        let table = match table.places() {
            Places::Dense | Places::NOfM(_) if borrowed => table,
            // Formats whose rows cannot be found at once, and numbers that lie unaligned in a file.
            _ => {
                let dense = table.unpack();
                Dense::new(dense.to_f32()?.into_owned(), dense.shape())?.into()
            }
        };
        Ok(Self { table, width })
    }

    /// Adds row `row` to `to`; `None` if there is no such row.
    pub fn add_row(&self, row: usize, to: &mut [f32]) -> Option<()> {
        let values = self.table.values().to_f32().ok()?;
        match self.table.places() {
            Places::NOfM(indices) => {
                let slots = indices.slots();
                if row >= self.table.matrix().0 {
                    return None;
                }
                let values = values.get(row.checked_mul(slots)?..)?.get(..slots)?;
                for (column, value) in indices.columns(row).zip(values) {
                    // The slots that fill a last group up may lie beyond the row.
                    if let Some(to) = to.get_mut(column) {
                        *to += value;
                    }
                }
            }
            _ => {
                let values = values.get(row.checked_mul(self.width)?..)?.get(..self.width)?;
                to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
            }
        }
        Some(())
    }

    /// Bytes of the table as it is kept.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use secateur_kernels::Dispatcher;
    use secateur_mask::{Scores, Target};
    use secateur_storage::Checkpoint;

    #[test]
    fn rows_are_the_same_in_every_format() {
        let shape = [5, 10];
        let values: Vec<f32> = (0..50).map(|i| (i * 37 % 50) as f32 - 20.0).collect();
        let dense = Dense::new(values.clone(), &shape).unwrap();
        for pattern in ["2:4", "4:8", "0.7", "block2x2@0.5"] {
            let target: Target = pattern.parse().unwrap();
            let scores = Scores::new(values.iter().map(|v| v.abs()).collect::<Vec<_>>(), &shape);
            let mask = target.pattern().select(scores.unwrap(), target.sparsity()).unwrap();
            let packed = Packed::pack(&dense, &mask, target.pattern()).unwrap();
            let mut expected = values.clone();
            mask.apply(&mut expected).unwrap();
            let mut checkpoint = Checkpoint::default();
            checkpoint.tensors.insert("table.weight".into(), packed);
            let dispatcher = Dispatcher::probe().unwrap();
            let vb = VarBuilder::from_checkpoint(&checkpoint, &dispatcher, &Device::Cpu);
            let table = Embedding::load(&vb, "table", 5, 10).unwrap();
            for row in 0..5 {
                let mut found = [1.0; 10];
                table.add_row(row, &mut found).unwrap();
                let expected: Vec<f32> =
                    expected[row * 10..][..10].iter().map(|v| v + 1.0).collect();
                assert_eq!(found[..], expected, "{pattern} {row}");
            }
            assert_eq!(table.add_row(5, &mut [0.0; 10]), None);
            assert_eq!(table.add_row(usize::MAX, &mut [0.0; 10]), None);
            assert!(Embedding::load(&vb, "table", 5, 11).is_err());
        }
    }
}
