//! Which kernels are embedded, and how are they launched?
//!
//! One entry for each `kernels/NAME.cu`, whose `NAME.ptx` beside it `cargo xtask kernels` writes. A test holds both
//! against each other and this table against what the compiler says.

use super::device::Ptx;

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

const fn function(name: &'static str, threads: u32, shared_bytes: u32) -> Function {
    Function { name, threads, shared_bytes }
}

macro_rules! embed {
    ($name:literal, $functions:expr) => {
        EmbeddedKernel {
            name: $name,
            ptx: include_str!(concat!("kernels/", $name, ".ptx")),
            functions: $functions,
        }
    };
}

/// Many tokens.
pub(super) const GEMM: EmbeddedKernel = embed!(
    "gemm",
    &[
        function("gemm_f16", 128, 76_800),
        function("gemm_bf16", 128, 76_800),
        function("gemm_i8", 128, 79_872),
    ]
);

/// One to sixteen tokens.
pub(super) const SMALL_BATCH: EmbeddedKernel = embed!(
    "small_batch",
    &[
        function("small_batch_8_f16", 256, 66_560),
        function("small_batch_16_f16", 256, 69_632),
        function("small_batch_8_bf16", 256, 66_560),
        function("small_batch_16_bf16", 256, 69_632),
        function("small_batch_8_i8", 256, 57_344),
        function("small_batch_16_i8", 256, 73_728),
    ]
);

/// Dense to packed, and back.
pub(super) const PACK: EmbeddedKernel = embed!(
    "pack",
    &[
        function("pack_16", 128, 0),
        function("pack_8", 128, 0),
        function("unpack_16", 128, 0),
        function("unpack_8", 128, 0),
    ]
);

/// 2:4 by magnitude.
pub(super) const PRUNE: EmbeddedKernel = embed!(
    "prune",
    &[
        function("prune_f32", 256, 0),
        function("prune_f16", 256, 0),
        function("prune_bf16", 256, 0),
        function("prune_i8", 256, 0),
    ]
);

/// One instruction, by itself and over and over.
pub(super) const PROBE: EmbeddedKernel = embed!(
    "probe",
    &[
        function("probe_f16_0", 32, 0),
        function("probe_f16_1", 32, 0),
        function("probe_bf16_0", 32, 0),
        function("probe_bf16_1", 32, 0),
        function("probe_i8_0", 32, 0),
        function("rate_sparse_f16", 256, 0),
        function("rate_sparse_bf16", 256, 0),
        function("rate_sparse_i8", 256, 0),
        function("rate_dense_f16", 256, 0),
        function("rate_dense_bf16", 256, 0),
        function("rate_dense_i8", 256, 0),
    ]
);

static EMBEDDED: [EmbeddedKernel; 5] = [GEMM, PACK, PROBE, PRUNE, SMALL_BATCH];

/// Every kernel of this crate, by the names of their files.
pub fn embedded() -> &'static [EmbeddedKernel] {
    &EMBEDDED
}

impl EmbeddedKernel {
    /// What a device loads, and one of its kernels by name. `name` is one of the table's: callers make it of a
    /// dtype, and a test walks through all of them.
    pub(super) fn function(&self, name: &str) -> (Ptx, Function) {
        let found = self.functions.iter().find(|function| function.name == name);
        let function = found.copied().expect("kernels are launched by the names of this table");
        (Ptx { name: self.name, text: self.ptx }, function)
    }
}
