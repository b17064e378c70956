//! What can go wrong between this crate and a GPU.

use std::path::PathBuf;

/// Errors of devices, drivers and the libraries of CUDA. Each says what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// There is no driver on this machine.
    #[error(
        "no NVIDIA driver here ({reason}); products run on the CPU. Install the driver, version 520 or later"
    )]
    NoDriver {
        /// What the loader said of each name tried.
        reason: String,
    },
    /// A library of CUDA, other than the driver, is not there.
    #[error("{library} is not here ({reason}); {advice}")]
    NoLibrary {
        /// The library's name for people.
        library: &'static str,
        /// What the loader said.
        reason: String,
        /// How to get it.
        advice: &'static str,
    },
    /// A library that lacks a function.
    #[error("{library} has no function {symbol}: it is too old, or something else of that name")]
    MissingSymbol {
        /// The file that was loaded.
        library: PathBuf,
        /// The function.
        symbol: &'static str,
    },
    /// A driver that does not know the PTX of this crate.
    #[error(
        "the NVIDIA driver supports CUDA {}.{}, the kernels need {}.{}; install driver 520 or later",
        found / 1000, found % 1000 / 10, needed / 1000, needed % 1000 / 10
    )]
    DriverTooOld {
        /// `1000 · major + 10 · minor` of the CUDA version, as the driver gives it.
        found: u32,
        /// The least version, likewise.
        needed: u32,
    },
    /// A driver, but no such card.
    #[error(
        "there is no device {ordinal}: the driver sees {count}; the first is 0, and CUDA_VISIBLE_DEVICES may hide some"
    )]
    NoSuchDevice {
        /// The number asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// A card without sparse tensor cores.
    #[error("{name} is sm_{sm}; sparse tensor cores need sm_80 or later (Ampere)")]
    TooOldDevice {
        /// The card's name.
        name: String,
        /// Its compute capability, times ten.
        sm: u32,
    },
    /// A call that failed.
    #[error("{call} failed: {name} ({code})")]
    Call {
        /// The function called.
        call: &'static str,
        /// What it returned.
        code: i32,
        /// The code's name.
        name: String,
    },
    /// The device has too little memory left.
    #[error("the device has no {bytes} bytes left; free buffers, or take a smaller batch")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// PTX that the driver does not take.
    #[error("the driver refused the kernels of {name}: {reason}\n{log}")]
    Load {
        /// The module's name.
        name: String,
        /// What the driver calls it.
        reason: String,
        /// What its compiler wrote.
        log: String,
    },
    /// A launch that wants more shared memory than a block can have.
    #[error("{kernel} needs {bytes} bytes of shared memory a block, this device has {limit}")]
    SharedMemory {
        /// The kernel.
        kernel: String,
        /// What it asked for, its own static memory included.
        bytes: usize,
        /// What there is.
        limit: usize,
    },
    /// A launch whose values are not those that the kernel's text declares: a mistake in this crate.
    #[error("{kernel} takes {wanted}, not {given}: a mistake in secateur, please report it")]
    Arguments {
        /// The kernel.
        kernel: String,
        /// What its PTX declares.
        wanted: String,
        /// What it was to be given.
        given: String,
    },
    /// A source that does not compile.
    #[error("NVRTC refused {name}:\n{log}")]
    Compile {
        /// The source's name.
        name: String,
        /// What the compiler wrote.
        log: String,
    },
    /// A kernel did what it must not: found by the emulator.
    #[error("{kernel}: {what}")]
    Fault {
        /// The kernel.
        kernel: String,
        /// What it did, in which block, warp, lane and line.
        what: String,
    },
    /// Metadata for which the sparse tensor core does not say what it computes.
    #[error(
        "lane {lane}'s metadata has nibble {nibble} = {bits:#x}: its first place is not below its second; \
         load words of verified metadata, in the device's order"
    )]
    Metadata {
        /// The lane that supplies the word.
        lane: usize,
        /// Which of its eight nibbles, the lowest first.
        nibble: usize,
        /// The nibble.
        bits: u32,
    },
    /// A sparsity selector that the instruction does not have.
    #[error("there is no sparsity selector {selector}; the largest is {most}")]
    Selector {
        /// What was asked for.
        selector: u32,
        /// The largest that the instruction has.
        most: u32,
    },
    /// A copy that is longer than the buffer.
    #[error("{bytes} bytes do not fit a device buffer of {buffer}")]
    Buffer {
        /// Bytes to copy.
        bytes: usize,
        /// Bytes of the buffer.
        buffer: usize,
    },
    /// A buffer or a distance between tokens that kernels cannot load from.
    #[error(
        "{what} must begin, and be apart, at multiples of {multiple} bytes; pad it, or copy it to a buffer of its own"
    )]
    Alignment {
        /// Which argument.
        what: &'static str,
        /// Bytes.
        multiple: u64,
    },
    /// A weight of a type that sparse tensor cores do not multiply.
    #[error(
        "the kernels take f16, bf16 and i8, not {dtype}; convert the weight (`cargo xtask convert`)"
    )]
    Dtype {
        /// The weight's type.
        dtype: String,
    },
    /// Rows that do not fall into groups of four.
    #[error(
        "{cols} columns are no multiple of four, so 2:4 does not divide them; pad the weight, or leave it dense"
    )]
    Columns {
        /// The weight's columns.
        cols: usize,
    },
    /// A weight that is not 2:4.
    #[error(
        "row {row}, group {group} has more than two of four weights that are not zero; prune it first"
    )]
    Crowded {
        /// The row.
        row: usize,
        /// The group of four columns in it.
        group: usize,
    },
    /// A weight without a magnitude.
    #[error("row {row}, group {group} has a NaN, which no magnitude can rank; mend the weight")]
    NotANumber {
        /// The row.
        row: usize,
        /// The group of four columns in it.
        group: usize,
    },
    /// More tokens than a kernel takes.
    #[error("the {kernel} kernel takes {most} tokens at most, not {tokens}; a plan picks another")]
    Tokens {
        /// The kernel asked for.
        kernel: super::CudaKernel,
        /// Tokens asked for.
        tokens: usize,
        /// Tokens it takes.
        most: usize,
    },
    /// Buffers of two devices in one call.
    #[error("{what} lies on another device than the weight; open a device once and clone it")]
    OtherDevice {
        /// Which argument.
        what: &'static str,
    },
    /// A product of device buffers that no kernel of the device should run.
    #[error("no kernel of the device runs this; the plan says why:\n{plan}")]
    NoKernel {
        /// The plan in words.
        plan: String,
    },
    /// The emulator was asked how long something takes.
    #[error("an emulated device has no clock; times are measured on a card")]
    NoClock,
    /// A library of CUDA was to work on the emulator.
    #[error("an emulated device has no stream; CUDA's own libraries run on a card")]
    NoStream,
}
