//! Nothing: this crate is its tests; see `tests.rs`.
#![forbid(unsafe_code)]
