//! How does N:M become time? A fixed number of products, their columns decoded by a rotation and a mask.
//!
//! # The layout
//!
//! A *unit* is 16 columns of as many rows as make 16 values: 2 rows at half density (2:4, 4:8,
//! 8:16), 4 rows at a quarter (1:4, 2:8, 4:16), 8 at an eighth (1:8, 2:16). Its lanes are quads: two
//! values of a row, two of the row below. Four units make a *word* of 64 columns. Words lie in
//! traversal order,
//!
//! ```text
//! [block of 128 rows][word of 64 columns][rows of a unit][unit 0..4][lane 0..16]
//! ```
//!
//! so that either kernel reads the weight front to back, once:
//!
//! - [`tile`] (many tokens): tokens along the lanes. A tile of activations stays in L1 while a whole
//!   block of rows passes over it; a pair of rows × V vectors of sums stay in registers. The index
//!   of a weight says which row of the tile it multiplies.
//! - [`few`] (1 to 4 tokens): a unit along the lanes. The indices permute a vector of 16 activations;
//!   the sums of a block lie in L1.
//!
//! 2:4 needs two bits an index, because the lane tells the group; every other pattern takes four,
//! the column within the unit. Rows are padded to a multiple of 8 and columns to whole words, with
//! zeros. Values keep the dtype they are stored in.

mod few;
mod layout;
mod tile;

pub(super) use self::{few::few, tile::block};
pub(crate) use layout::NOfM;

/// Columns of a word.
pub(super) const WORD: usize = 64;
/// Columns of a unit, and values.
const UNIT: usize = 16;
/// Units of a word.
const UNITS: usize = WORD / UNIT;
