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
    #[error("there is no device {ordinal}: the driver sees {count}")]
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
    /// The emulator was asked how long something takes.
    #[error("an emulated device has no clock; times are measured on a card")]
    NoClock,
}
