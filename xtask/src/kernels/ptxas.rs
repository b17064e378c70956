//! What does a kernel take of a multiprocessor, and how many of its blocks fit on one? What the assembler says when
//! asked to be verbose, and the arithmetic of NVIDIA's occupancy calculator.

use std::collections::BTreeMap;

/// Lanes of a warp.
const WARP: u32 = 32;
/// Registers are given to a warp in pieces of so many.
const REGISTERS_PIECE: u32 = 256;
/// Warps get their registers four at a time, one on each quarter of the multiprocessor.
const QUARTERS: u32 = 4;
/// Shared memory is given in pieces of so many bytes.
const SHARED_PIECE: u32 = 128;
/// Bytes of shared memory that the system keeps in each block.
const SHARED_RESERVED: u32 = 1 << 10;

/// What one kernel needs, as the assembler says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Registers of a thread.
    pub registers: u32,
    /// Static shared memory of a block.
    pub shared_bytes: u32,
    /// Bytes that a thread writes to memory and reads from it for want of registers.
    pub spill_bytes: u32,
}

/// What a multiprocessor of a card has.
#[derive(Debug, Clone, Copy)]
pub struct Card {
    /// Compute capability times ten.
    pub sm: u32,
    registers: u32,
    shared_bytes: u32,
    warps: u32,
    blocks: u32,
}

impl Card {
    /// An A100 and an H100.
    pub const ALL: [Self; 2] = [
        Self { sm: 80, registers: 65536, shared_bytes: 164 << 10, warps: 64, blocks: 32 },
        Self { sm: 90, registers: 65536, shared_bytes: 228 << 10, warps: 64, blocks: 32 },
    ];

    /// How many blocks fit on one multiprocessor.
    pub fn blocks(&self, registers: u32, threads: u32, shared_bytes: u32) -> u32 {
        let warps = threads.div_ceil(WARP).max(1);
        let of_warp = (registers * WARP).next_multiple_of(REGISTERS_PIECE).max(REGISTERS_PIECE);
        let by_registers = self.registers / of_warp / QUARTERS * QUARTERS / warps;
        let of_block = (shared_bytes + SHARED_RESERVED).next_multiple_of(SHARED_PIECE);
        let by_shared = self.shared_bytes / of_block;
        by_registers.min(by_shared).min(self.warps / warps).min(self.blocks)
    }
}

/// What each kernel needs, by its name, from the log of `--ptxas-options=-v`.
pub fn usages(log: &str) -> BTreeMap<String, Usage> {
    let mut usages = BTreeMap::new();
    let mut current = None;
    for line in log.lines() {
        if let Some((_, after)) = line.split_once("Compiling entry function '") {
            current = after.split('\'').next();
        }
        let Some(name) = current else { continue };
        if line.contains("spill stores") {
            let usage: &mut Usage = usages.entry(name.to_owned()).or_default();
            usage.spill_bytes =
                before(line, " bytes spill stores") + before(line, " bytes spill loads");
        }
        if line.contains("Used ") {
            let usage: &mut Usage = usages.entry(name.to_owned()).or_default();
            usage.registers = before(line, " registers");
            usage.shared_bytes = before(line, " bytes smem");
            current = None;
        }
    }
    usages
}

/// The number right before `unit`; 0 without that unit.
fn before(line: &str, unit: &str) -> u32 {
    let number = line.split_once(unit).and_then(|(before, _)| before.split([' ', ',']).next_back());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assemblers_words_are_read() {
        let log = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'b' for 'sm_80'
ptxas info    : Function properties for b
ptxas         .     48 bytes stack frame, 40 bytes spill stores, 32 bytes spill loads
ptxas info    : Used 255 registers, 8192 bytes smem, 384 bytes cmem[0]
ptxas info    : Compiling entry function 'a' for 'sm_80'
ptxas info    : Function properties for a
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 20 registers
";
        let a = Usage { registers: 20, shared_bytes: 0, spill_bytes: 0 };
        let b = Usage { registers: 255, shared_bytes: 8192, spill_bytes: 72 };
        assert_eq!(usages(log), [("a".into(), a), ("b".into(), b)].into());
    }

    #[test]
    fn blocks_are_those_of_nvidias_calculator() {
        let [a100, h100] = Card::ALL;
        // Registers: 128 · 128 is a quarter of what there is; one register more, and it is 136 of each thread.
        assert_eq!(a100.blocks(128, 128, 0), 4);
        assert_eq!(a100.blocks(129, 128, 0), 3);
        assert_eq!(a100.blocks(255, 256, 0), 1);
        // 169 become 176: eleven warps fit, and eight of them by fours.
        assert_eq!(a100.blocks(169, 128, 0), 2);
        // Shared memory, with the kilobyte of the system.
        assert_eq!(a100.blocks(32, 128, 81 << 10), 2);
        assert_eq!(a100.blocks(32, 128, (81 << 10) + 1), 1);
        assert_eq!(a100.blocks(32, 128, (163 << 10) + 1), 0);
        assert_eq!(h100.blocks(32, 128, 75 << 10), 3);
        // Threads and blocks.
        assert_eq!(a100.blocks(16, 1024, 0), 2);
        assert_eq!(a100.blocks(16, 32, 0), 32);
        assert_eq!(a100.blocks(40, 96, 0), 16);
    }
}
