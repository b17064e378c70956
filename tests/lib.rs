//! Nothing but the programs of `docs/extending.md`, run as doctests; the tests are in `tests.rs`.
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../docs/extending.md")]
struct Extending;
