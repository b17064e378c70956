//! End-to-end promises, one module each, through the facade alone.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

/// Any criterion, pattern and allocation through the whole job.
mod choices;
/// A criterion of a user's own runs through the whole job.
mod custom;
/// A trained network on sparse tensor cores, executed by the emulator.
mod device;
/// What `docs/extending.md` promises.
mod extending;
/// A convolutional network through the whole job.
mod lenet5;
/// Channels reordered in a trained network: the same function, and 2:4 keeps more.
mod permute;
/// Train, prune, retrain, pack, save, load: the numbers stay the same and so do the bytes.
mod pipeline;
/// Runs that were stopped go on, and end with the same bytes.
mod resume;
/// When is cut, from where it goes on, how it trains while sparse.
mod schedules;
/// What each layer bears, measured one at a time.
mod sensitivity;
/// The best epoch is kept, patience ends a routine, the test set decides nothing.
mod training;
/// Cut weights stay exactly zero while real training goes on around them.
mod zeros;
