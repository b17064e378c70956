//! Do the kernels for sparse tensor cores keep what their authors promise? Their PTX, executed by the emulator.
//!
//! Nothing here needs a card. What changes the PTX and has to be seen is inside the crate, in
//! `src/cuda/check/mutants.rs`, as are plans for cards that the emulator is not (`src/cuda/plan/tests.rs`).
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../common/mod.rs"]
mod common;

/// What is read, written and multiplied, counted.
mod counts;
/// Arguments that are wrong, one at a time.
mod hostile;
/// Weights, activations and outputs on a device, and what they should be.
mod operands;
/// The device's packing and pruning, bit for bit that of the CPU.
mod parity;
/// Products from the host's memory and from the device's.
mod product;
/// Whatever hardware does first, the same bits.
mod schedules;
/// Every kernel over more than a thousand shapes.
mod sweep;
