//! Where is global memory, and who may touch it? Allocations far apart, and nothing between them.
//!
//! An address is used once: what was freed is never given out again, so a use after it is found. Each access has to
//! lie within one allocation, at a multiple of its width.

use crate::cuda::CudaError;
use std::{collections::BTreeMap, fmt};

/// The first address given out, and the least gap between allocations.
const FIRST: u64 = 0x10_0000_0000;
const GAP: u64 = 64 << 10;

/// A card's memory.
#[derive(Debug)]
pub(super) struct Memory {
    allocations: Vec<Allocation>,
    next: u64,
    free: u64,
    /// Which allocation was touched last: mostly it is touched again.
    latest: usize,
    /// Whether a byte written by two threads of a launch is a fault.
    pub written_once: bool,
}

struct Allocation {
    address: u64,
    bytes: Vec<u8>,
    loaded: u64,
    /// For each byte the thread that wrote it in this launch, counted from 1; empty until one does.
    writers: Vec<u32>,
}

/// Where and how long, not what: it may be a gigabyte.
impl fmt::Debug for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {:#x}", self.bytes.len(), self.address)
    }
}

impl Memory {
    pub fn new(bytes: u64) -> Self {
        Self { allocations: Vec::new(), next: FIRST, free: bytes, latest: 0, written_once: false }
    }

    pub fn allocate(&mut self, bytes: usize) -> Result<u64, CudaError> {
        let Some(free) = self.free.checked_sub(bytes as u64) else {
            return Err(CudaError::OutOfMemory { bytes });
        };
        self.free = free;
        let address = self.next;
        self.next = (address + bytes as u64 + GAP).next_multiple_of(256);
        let (bytes, writers) = (vec![0; bytes], Vec::new());
        self.allocations.push(Allocation { address, bytes, loaded: 0, writers });
        Ok(address)
    }

    pub fn free(&mut self, address: u64) {
        if let Some(at) = self.allocations.iter().position(|one| one.address == address) {
            self.free += self.allocations.remove(at).bytes.len() as u64;
            self.latest = 0;
        }
    }

    /// The allocation and the place in it; addresses ascend, so this is a search by halves.
    fn find(&mut self, address: u64, bytes: usize) -> Result<(usize, usize), String> {
        let inside = |one: &Allocation| {
            let at = address.checked_sub(one.address)? as usize;
            (at.checked_add(bytes)? <= one.bytes.len()).then_some(at)
        };
        if let Some(at) = self.allocations.get(self.latest).and_then(inside) {
            return Ok((self.latest, at));
        }
        let after = self.allocations.partition_point(|one| one.address <= address);
        let found =
            after.checked_sub(1).and_then(|one| Some((one, inside(&self.allocations[one])?)));
        let Some((one, at)) = found else {
            let near = after.checked_sub(1).map(|one| &self.allocations[one]);
            let near = near.map_or("below all buffers".into(), |one| {
                let offset = address - one.address;
                format!("{offset} bytes into a buffer of {}", one.bytes.len())
            });
            return Err(format!(
                "{bytes} bytes at {address:#x} of global memory are outside: {near}"
            ));
        };
        self.latest = one;
        Ok((one, at))
    }

    /// A copy between host and device, of any alignment.
    pub fn bytes(&mut self, address: u64, bytes: usize) -> Result<&mut [u8], String> {
        let (one, at) = self.find(address, bytes)?;
        Ok(&mut self.allocations[one].bytes[at..at + bytes])
    }

    /// What a lane loads, of an access `width` bytes wide.
    pub fn load(&mut self, address: u64, bytes: usize, width: usize) -> Result<&[u8], String> {
        aligned(address, width)?;
        let (one, at) = self.find(address, bytes)?;
        self.allocations[one].loaded += bytes as u64;
        Ok(&self.allocations[one].bytes[at..at + bytes])
    }

    /// Where a lane stores; `thread` counts through the launch, from 1.
    pub fn store(&mut self, address: u64, bytes: usize, thread: u32) -> Result<&mut [u8], String> {
        aligned(address, bytes)?;
        let (one, at) = self.find(address, bytes)?;
        let allocation = &mut self.allocations[one];
        if self.written_once {
            allocation.writers.resize(allocation.bytes.len(), 0);
            for writer in &mut allocation.writers[at..at + bytes] {
                if *writer != 0 && *writer != thread {
                    return Err(format!(
                        "{address:#x} of global memory is written twice, by threads {} and {} of the launch",
                        *writer - 1,
                        thread - 1
                    ));
                }
                *writer = thread;
            }
        }
        Ok(&mut allocation.bytes[at..at + bytes])
    }

    /// Where an atomic operation reads and writes; any number of threads may.
    pub fn update(&mut self, address: u64, bytes: usize) -> Result<&mut [u8], String> {
        aligned(address, bytes)?;
        self.bytes(address, bytes)
    }

    /// Forgets who read and wrote: a launch begins.
    pub fn begin(&mut self) {
        for allocation in &mut self.allocations {
            allocation.loaded = 0;
            allocation.writers.clear();
        }
    }

    /// Bytes loaded from each allocation since [`Self::begin`].
    pub fn loaded(&self) -> BTreeMap<u64, u64> {
        let loaded = self.allocations.iter().filter(|one| one.loaded > 0);
        loaded.map(|one| (one.address, one.loaded)).collect()
    }
}

/// Every access begins at a multiple of its own length.
pub(super) fn aligned(address: u64, bytes: usize) -> Result<(), String> {
    if address.is_multiple_of(bytes as u64) {
        Ok(())
    } else {
        Err(format!("{bytes} bytes at {address:#x} are misaligned"))
    }
}
