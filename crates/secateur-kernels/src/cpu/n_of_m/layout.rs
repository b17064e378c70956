//! How does an N:M weight lie in memory for the kernels?

use super::{UNIT, UNITS, WORD};
use crate::{cpu::drive::BLOCK_ROWS, cpu::element::Number, lines::Lines};
use secateur_storage::{Packed, Places, StorageError, Values};

/// Rows are padded to a multiple of this, so that kernels may take two pairs at once.
const ROW_QUANTUM: usize = 8;

/// An N:M weight in traversal order; see the module.
#[derive(Debug)]
pub(crate) struct NOfM {
    pub rows: usize,
    pub cols: usize,
    pub words: usize,
    pub number: Number,
    /// Values of a row in 16 columns: 2, 4 or 8.
    pub kept: usize,
    /// Bits of an index: 2 for 2:4, 4 for all others.
    pub bits: usize,
    pub scales: Option<Box<[f32]>>,
    values: Lines,
    indices: Lines,
}

impl NOfM {
    /// Values of a row in 16 columns if these kernels run `n`:`m`.
    pub fn kept(n: usize, m: usize) -> Option<usize> {
        let kept = UNIT / m * n;
        (UNIT.is_multiple_of(m) && matches!(kept, 2 | 4 | 8)).then_some(kept)
    }

    /// `None` for weights that are not N:M, or of an N:M that [`Self::kept`] turns down.
    pub fn new(weight: &Packed) -> Result<Option<Self>, StorageError> {
        let Places::NOfM(indices) = weight.places() else { return Ok(None) };
        let (n, m) = (indices.pattern().n(), indices.pattern().m());
        let Some(kept) = Self::kept(n, m) else { return Ok(None) };
        let ((rows, cols), values) = (weight.matrix(), weight.values());
        let floats;
        let (number, values) = match Number::of(values.dtype()) {
            Some(number) => (number, values),
            None => {
                floats = Values::from(values.to_f32()?.into_owned());
                (Number::F32, &floats)
            }
        };
        let (bits, words) = (if (n, m) == (2, 4) { 2 } else { 4 }, cols.div_ceil(WORD));
        let units = rows.next_multiple_of(ROW_QUANTUM) * kept / UNIT * words * UNITS;
        let mut laid = Self {
            rows,
            cols,
            words,
            number,
            kept,
            bits,
            scales: values.scales().map(Into::into),
            values: Lines::zeros(units * UNIT, number.size()),
            indices: Lines::zeros(units * 2 * bits, 1),
        };
        laid.fill(indices, values.data());
        Ok(Some(laid))
    }

    fn fill(&mut self, indices: &secateur_storage::Indices, data: &[u8]) {
        let (size, kept, bits) = (self.number.size(), self.kept, self.bits);
        let (rows, cols_per_row) = (self.rows, indices.slots() * size);
        let (set_rows, words) = (self.set_rows(), self.words);
        let starts: Vec<usize> = (0..rows).map(|row| self.unit(row, 0)).collect();
        let strides: Vec<usize> = (0..rows).map(|row| self.word_units(row / BLOCK_ROWS)).collect();
        let (values, places) = (self.values.bytes_mut(), self.indices.bytes_mut());
        // Indices that stand for nothing point at the last columns of the unit, or of the group: where one
        // is missing, those lie beyond the row's end and are zero, while the first might be infinite. In 2:4
        // they are 2 and 3, because pairs (`pairs/`) have a place for two different ones only.
        places.fill(if bits == 4 { 0xFF } else { 0xEE });
        for row in 0..rows {
            let (in_set, mut unit, mut seen) = (row % set_rows, usize::MAX, 0);
            let data = data[row * cols_per_row..][..cols_per_row].chunks_exact(size);
            for (col, value) in indices.columns(row).zip(data) {
                if col / UNIT != unit {
                    (unit, seen) = (col / UNIT, 0);
                }
                // Slots beyond the row's end too: they point at padding, which is zero.
                debug_assert!(unit < words * UNITS && seen < kept);
                let at = starts[row] + unit / UNITS * strides[row] + unit % UNITS;
                let lane = in_set / 2 * 2 * kept + seen / 2 * 4 + in_set % 2 * 2 + seen % 2;
                seen += 1;
                values[(at * UNIT + lane) * size..][..size].copy_from_slice(value);
                let (place, bit) = (col % (1 << bits), (at * UNIT + lane) * bits);
                let byte = &mut places[bit / 8];
                *byte = *byte & !(((1 << bits) - 1) << (bit % 8)) | (place << (bit % 8)) as u8;
            }
        }
    }

    pub fn bytes(&self) -> usize {
        self.values.len() + self.indices.len() + self.scales.as_ref().map_or(0, |s| s.len() * 4)
    }

    /// Rows of one unit.
    pub fn set_rows(&self) -> usize {
        UNIT / self.kept
    }

    /// Pairs of rows in a block, padding included.
    pub fn pairs(&self, block: usize) -> usize {
        let padded = self.rows.next_multiple_of(ROW_QUANTUM);
        (padded - block * BLOCK_ROWS).min(BLOCK_ROWS) / 2
    }

    /// Units of a word in a block.
    pub fn word_units(&self, block: usize) -> usize {
        self.pairs(block) * 2 / self.set_rows() * UNITS
    }

    /// The first unit of a row in a word.
    pub fn unit(&self, row: usize, word: usize) -> usize {
        let (block, in_block) = (row / BLOCK_ROWS, row % BLOCK_ROWS);
        let before = block * BLOCK_ROWS / self.set_rows() * UNITS * self.words;
        before + word * self.word_units(block) + in_block / self.set_rows() * UNITS
    }

    /// The values from a unit on. Valid for the units that follow.
    pub fn values<T>(&self, unit: usize) -> *const T {
        debug_assert_eq!(size_of::<T>(), self.number.size());
        self.values.as_ptr::<T>().wrapping_add(unit * UNIT)
    }

    /// The indices from a unit on: `2 · bits` bytes a unit.
    pub fn indices(&self, unit: usize) -> *const u8 {
        self.indices.as_ptr::<u8>().wrapping_add(unit * UNIT * self.bits / 8)
    }

    /// The scale of each lane in the units of the rows from `row` on.
    pub fn lane_scales(&self, row: usize) -> [f32; UNIT] {
        let Some(scales) = &self.scales else { return [1.0; UNIT] };
        std::array::from_fn(|lane| scales.get(row + self.row_of(lane)).copied().unwrap_or(0.0))
    }

    /// The row of a lane within its unit.
    pub fn row_of(&self, lane: usize) -> usize {
        lane / (2 * self.kept) * 2 + lane % 4 / 2
    }
}
