//! How do the survivors lie in memory and on disk?
//!
//! A [`Packed`] weight holds only what a mask kept: [`Values`] of any dtype, and their [`Places`]. A
//! [`Source`] reads any checkpoint, tensor by tensor; [`convert()`] streams it into another [`Layout`]; a
//! [`Sink`] writes one tensor by tensor;
//! a [`Checkpoint`] is one that is wholly in memory. Files are written whole or not at all, and every
//! claim they make is proved again when they are read. `docs/format.md` is the normative layout.
//!
//! [`semi_structured`] and [`device_order`] speak 2:4 as PyTorch and sparse tensor cores do.
//!
//! A key decision of this crate: the *mask* says what is kept, never the values. A kept weight may
//! well be zero, and a cut one comes back as exactly `+0.0`.
//!
//! ```
//! use secateur_mask::{Mask, Pattern};
//! use secateur_storage::{Dense, Format, Packed};
//!
//! let weight = Dense::new(vec![0.0_f32, 5.0, 0.0, -3.0, 1.0, 0.0, 0.0, 2.0], &[2, 4])?;
//! let mask = weight.nonzero()?;
//!
//! let packed = Packed::pack(&weight, &mask, Pattern::TWO_OF_FOUR)?;
//! assert_eq!(packed.format(), Format::TWO_OF_FOUR);
//! assert_eq!(packed.bytes(), 4 * 4 + 2); // four values, one byte of indices for each row
//! assert_eq!(packed.unpack(), weight);
//! # Ok::<(), secateur_storage::StorageError>(())
//! ```
#![deny(unsafe_code)]

mod atomic;
mod bands;
mod checkpoint;
mod choose;
mod claimed;
mod claims;
mod compare;
mod compressed_tensors;
mod conversion;
mod convert;
mod dense;
pub mod device_order;
mod encode;
mod error;
mod folder;
mod format;
mod header;
mod inspect;
mod layout;
mod map;
mod nonzero;
mod packed;
mod places;
mod prune;
mod quantise;
mod rowbits;
pub mod semi_structured;
mod shape;
mod sink;
mod source;
mod stream;
mod structure;
mod tensor_file;
mod top_two;
mod unique;
mod values;
mod writer;

pub use atomic::write_atomically;
pub use checkpoint::Checkpoint;
pub use claims::mask_hash;
pub use compare::{Comparison, Differing, compare, compare_masks};
pub use conversion::{Conversion, Converted};
pub use convert::convert;
pub use dense::Dense;
pub use error::StorageError;
pub use format::{Format, UnknownFormat};
pub use inspect::{Inspected, Inspector};
pub use layout::Layout;
pub use packed::Packed;
pub use places::{Csr, Indices, Places};
pub use sink::Sink;
pub use source::{Entry, Source};
pub use structure::Structure;
pub use values::{Dtype, Values};
