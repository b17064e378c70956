//! Which kernels are embedded, and how are they launched?
//!
//! One entry for each `kernels/NAME.cu`, whose `NAME.ptx` beside it `cargo xtask kernels` writes. A test holds both
//! against each other and this table against what the compiler says.

/// A source file's kernels, as they are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedKernel {
    /// The `.cu` file's name without its ending.
    pub name: &'static str,
    /// The PTX.
    pub ptx: &'static str,
    /// Its kernels.
    pub functions: &'static [Function],
}

/// One kernel, and the shape of its launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Its `.entry`.
    pub name: &'static str,
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block at most, in bytes.
    pub shared_bytes: u32,
}

/// Every kernel of this crate, by the names of their files.
pub fn embedded() -> &'static [EmbeddedKernel] {
    &[]
}
