//! How does any sparsity become time? Column numbers beside the values, tokens along the lanes.
//!
//! Rows that share their columns go together: one row if the weight is unstructured, two or four if
//! it is pruned in blocks that high, so that activations are loaded once for all of them. Per block
//! of 128 rows and *tile* of 192 columns, each group of rows is a run of quads: four columns (16 bits
//! each, counted from the tile's first) and four values for each row.
//!
//! ```text
//! [block of 128 rows][tile of 192 columns][group of rows, shortest run first][quad]
//! ```
//!
//! Runs of equal length lie together, so that the processor foresees where each ends. The last quad
//! of a run is filled up with zeros that multiply the panel's row of zeros, never an activation,
//! which might be infinite.

mod kernel;

use super::drive::{BLOCK_ROWS, panel_rows};
use crate::reference::entries;
pub(super) use kernel::{block, few};
use secateur_storage::{Format, Packed, StorageError};

/// Columns of a tile.
pub(crate) const TILE: usize = 192;
/// Tokens of a panel at best: with as many, a tile just fits L1.
pub(crate) const TOKENS: usize = 64;

/// A weight as runs; see the module.
#[derive(Debug)]
pub(crate) struct Runs {
    pub rows: usize,
    pub cols: usize,
    /// Rows of a group.
    group: usize,
    /// For each block and tile: where its runs and its quads begin.
    tiles: Vec<(usize, usize)>,
    runs: Vec<Run>,
    columns: Vec<[u16; 4]>,
    values: Vec<f32>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    /// Quads, the last of which may be filled up.
    quads: u16,
    /// Columns of the last quad that are filled up: 0 to 3.
    filled: u16,
    /// The group's first row in its block.
    row: u16,
}

impl Runs {
    /// Whether columns can be told by 16 bits.
    pub fn addresses(cols: usize) -> bool {
        panel_rows(cols) <= 1 << 16
    }

    /// Rows of a block-sparse weight that go together: 4, 2, or none.
    pub fn group(format: Format) -> Option<usize> {
        let Format::Block(block) = format else { return None };
        [4, 2].into_iter().find(|group| block.rows().is_multiple_of(*group))
    }

    /// Lays out a weight with fewer columns than [`Self::addresses`] allows, `group` (1, 2 or 4) rows
    /// together.
    pub fn new(weight: &Packed, group: usize) -> Result<Self, StorageError> {
        let (rows, cols) = weight.matrix();
        let mut laid = Self {
            rows,
            cols,
            group,
            tiles: vec![],
            runs: vec![],
            columns: vec![],
            values: vec![],
        };
        let entries = entries(weight)?;
        let mut from = 0;
        for block in (0..rows).step_by(BLOCK_ROWS) {
            let last = (block + BLOCK_ROWS).min(rows);
            let to = from + entries[from..].partition_point(|entry| entry.0 < last);
            laid.push_block(block, last, &entries[from..to]);
            from = to;
        }
        Ok(laid)
    }

    /// One block of rows, given its `(row, column, value)` by rows.
    fn push_block(&mut self, first: usize, last: usize, entries: &[(usize, usize, f32)]) {
        let groups = (last - first).div_ceil(self.group);
        let zeros = panel_rows(self.cols) - 1;
        // Per group: the columns stored, ascending, with the values of each row.
        let mut shared: Vec<Vec<(usize, [f32; 4])>> = vec![vec![]; groups];
        for chunk in
            entries.chunk_by(|a, b| (a.0 - first) / self.group == (b.0 - first) / self.group)
        {
            let mut sorted = chunk.to_vec();
            sorted.sort_by_key(|entry| entry.1);
            let shared = &mut shared[(chunk[0].0 - first) / self.group];
            for (row, col, value) in sorted {
                if shared.last().is_none_or(|held: &(usize, _)| held.0 != col) {
                    shared.push((col, [0.0; 4]));
                }
                if let Some(held) = shared.last_mut() {
                    held.1[(row - first) % self.group] = value;
                }
            }
        }
        for tile in (0..self.cols).step_by(TILE) {
            self.tiles.push((self.runs.len(), self.columns.len()));
            let of_tile = |shared: &[(usize, [f32; 4])]| {
                let at = |col: usize| shared.partition_point(|held| held.0 < col);
                at(tile)..at(tile + TILE)
            };
            let mut order: Vec<(usize, usize)> = shared
                .iter()
                .enumerate()
                .map(|(group, shared)| (of_tile(shared).len(), group))
                // The first tile writes every sum, later ones only add.
                .filter(|(columns, _)| tile == 0 || *columns > 0)
                .collect();
            order.sort_unstable();
            for (columns, group) in order {
                let row = (group * self.group) as u16;
                let filled = (columns.next_multiple_of(4) - columns) as u16;
                self.runs.push(Run { quads: columns.div_ceil(4) as u16, filled, row });
                let shared = &shared[group];
                for quad in shared[of_tile(shared)].chunks(4) {
                    let column = |i: usize| quad.get(i).map_or(zeros, |held| held.0) - tile;
                    self.columns.push(std::array::from_fn(|i| column(i) as u16));
                    for i in 0..4 {
                        let values = quad.get(i).map_or([0.0; 4], |held| held.1);
                        self.values.extend(&values[..self.group]);
                    }
                }
            }
        }
    }

    pub fn bytes(&self) -> usize {
        size_of_val(self.tiles.as_slice())
            + size_of_val(self.runs.as_slice())
            + size_of_val(self.columns.as_slice())
            + size_of_val(self.values.as_slice())
    }

    /// Values held, padding included.
    pub fn held(&self) -> usize {
        self.values.len()
    }

    /// The runs of each tile of a block, with the tile's first column and where its quads begin.
    fn tiles(&self, block: usize) -> impl Iterator<Item = (usize, &[Run], usize)> + '_ {
        let count = self.cols.div_ceil(TILE);
        (0..count).map(move |tile| {
            let at = block * count + tile;
            let (runs, quads) = self.tiles[at];
            let end = self.tiles.get(at + 1).map_or(self.runs.len(), |next| next.0);
            (tile * TILE, &self.runs[runs..end], quads)
        })
    }
}
