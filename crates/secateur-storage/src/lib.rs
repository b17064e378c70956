//! How do the survivors lie in memory and on disk?
//!
//! [`Packed24`] and [`Bitmap`] hold only what a mask kept; [`Packed`] is either of them or a plain
//! dense tensor; a [`Checkpoint`] is a safetensors file of them, written whole or not at all, with
//! every claim it makes proved again when it is read. `docs/format.md` is the normative layout.
//!
//! A key decision of this crate: the *mask* says what is kept, never the values. A kept weight may
//! well be zero, and a cut one comes back as exactly `+0.0`.
//!
//! ```
//! use secateur_mask::{Mask, Pattern};
//! use secateur_storage::{Dense, Format, Packed};
//!
//! let weight = Dense::new(vec![0.0, 5.0, 0.0, -3.0, 1.0, 0.0, 0.0, 2.0], &[2, 4])?;
//! let bits: Vec<bool> = weight.values().iter().map(|w| *w != 0.0).collect();
//! let mask = Mask::from_bools(&bits, &[2, 4])?;
//!
//! let packed = Packed::pack(&weight, &mask, Pattern::TWO_OF_FOUR)?;
//! assert_eq!(packed.format(), Format::TwoFour);
//! assert_eq!(packed.bytes(), 4 * 4 + 2); // four values, one byte of indices for each row
//! assert_eq!(packed.unpack(), weight);
//! # Ok::<(), secateur_storage::StorageError>(())
//! ```
#![forbid(unsafe_code)]

mod atomic;
mod bitmap;
mod checkpoint;
mod dense;
mod error;
mod header;
mod packed;
mod packed24;
mod parts;
mod rowbits;

pub use atomic::write_atomically;
pub use bitmap::Bitmap;
pub use checkpoint::Checkpoint;
pub use dense::Dense;
pub use error::StorageError;
pub use header::mask_hash;
pub use packed::{Format, Packed};
pub use packed24::Packed24;
