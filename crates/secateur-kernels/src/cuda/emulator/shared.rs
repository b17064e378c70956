//! Who wrote a byte of shared memory, who read it, and was a barrier between them?
//!
//! Time goes on (a *tick*) when the block passes a barrier and when a warp synchronises itself. A byte knows the
//! tick, thread and line of its latest write and read. Two warps that touch it since the latest barrier, one of
//! them writing, race: a fault, whether or not this run's order happened to give the right number. So do two lanes
//! of a warp, unless `bar.warp.sync` is between them, where the first one wrote; lanes that only run in step do not
//! have to. What `cp.async` brings is nobody's while it is under way; once waited for it belongs to the thread that
//! issued it, after a `bar.warp.sync` to its warp, after a barrier to all.

use super::memory::aligned;

/// Where shared memory begins, in its own addresses: not at 0, so that a kernel which takes offsets for addresses
/// is found.
pub(super) const BASE: u64 = 1024;
/// Where it begins in generic addresses, less [`BASE`].
pub(super) const WINDOW: u64 = 0x7F00_0000_0000;

/// A thread of a block at a line of its kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub thread: u32,
    pub line: u32,
    /// The tick at which its warp last synchronised itself.
    pub synchronised: u32,
}

impl Place {
    fn warp(self) -> u32 {
        self.thread / 32
    }
}

/// What is known of one byte.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// Tick of the latest write; 0 is never.
    written: u32,
    write_line: u32,
    writer: u16,
    state: State,
    read: u32,
    read_line: u32,
    /// A bit for each warp that read it at or after the tick `read` reached the latest barrier.
    readers: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Stored,
    Atomic,
    /// A copy is under way.
    Copying,
    /// Brought by a copy that its thread waited for.
    Copied,
}

/// Shared memory of the block at work.
#[derive(Debug)]
pub(super) struct Shared {
    bytes: Vec<u8>,
    cells: Vec<Cell>,
    tick: u32,
    /// Ticks at which the block started and passed its latest barrier.
    start: u32,
    barrier: u32,
}

impl Shared {
    pub fn new(bytes: usize) -> Self {
        let cells = vec![Cell::default(); bytes];
        Self { bytes: vec![0; bytes], cells, tick: 0, start: 0, barrier: 0 }
    }

    /// Another block begins; nothing is written.
    pub fn begin(&mut self) {
        self.pass_barrier();
        self.start = self.tick;
    }

    pub fn pass_barrier(&mut self) {
        self.tick += 1;
        self.barrier = self.tick;
    }

    /// A warp synchronised itself: the tick from which its lanes see each other's copies.
    pub fn pass_warp(&mut self) -> u32 {
        self.tick += 1;
        self.tick
    }

    fn find(&self, address: u64, bytes: usize) -> Result<usize, String> {
        aligned(address, bytes)?;
        let at = address.checked_sub(BASE).map(|at| at as usize);
        at.filter(|at| at + bytes <= self.bytes.len()).ok_or_else(|| {
            let offset = address as i64 - BASE as i64;
            format!(
                "{bytes} bytes at {offset} of the block's {} bytes of shared memory are outside",
                self.bytes.len()
            )
        })
    }

    /// What a thread reads; `whole_warp` where it reads for all lanes.
    pub fn load(
        &mut self,
        address: u64,
        bytes: usize,
        place: Place,
        whole_warp: bool,
    ) -> Result<&[u8], String> {
        let at = self.find(address, bytes)?;
        let (start, barrier, tick, warp) = (self.start, self.barrier, self.tick, place.warp());
        for (i, cell) in self.cells[at..at + bytes].iter_mut().enumerate() {
            if cell.written < start {
                return Err(format!(
                    "byte {} of shared memory is read but was never written",
                    at + i
                ));
            }
            if cell.written >= barrier || cell.state == State::Copying {
                cell.is_visible(at + i, place, whole_warp)?;
            }
            if cell.read < barrier {
                cell.readers = 0;
            }
            (cell.read, cell.read_line) = (tick, place.line);
            cell.readers |= 1 << warp;
        }
        Ok(&self.bytes[at..at + bytes])
    }

    /// Where a thread writes.
    pub fn store(&mut self, address: u64, bytes: usize, place: Place) -> Result<&mut [u8], String> {
        self.write(address, bytes, place, State::Stored)
    }

    /// Where a thread changes a number atomically: those may meet, but not with other accesses.
    pub fn update(
        &mut self,
        address: u64,
        bytes: usize,
        place: Place,
    ) -> Result<&mut [u8], String> {
        let at = self.find(address, bytes)?;
        if self.cells[at..at + bytes].iter().any(|cell| cell.written < self.start) {
            return Err(format!("byte {at} of shared memory is updated but was never written"));
        }
        self.write(address, bytes, place, State::Atomic)
    }

    /// A copy to here begins.
    pub fn begin_copy(&mut self, address: u64, bytes: usize, place: Place) -> Result<(), String> {
        self.write(address, bytes, place, State::Copying).map(drop)
    }

    /// Its bytes arrive; still nobody may look.
    pub fn arrive(&mut self, address: u64, bytes: usize) -> Result<&mut [u8], String> {
        let at = self.find(address, bytes)?;
        Ok(&mut self.bytes[at..at + bytes])
    }

    /// The thread waited for it.
    pub fn end_copy(&mut self, address: u64, bytes: usize) -> Result<(), String> {
        let at = self.find(address, bytes)?;
        for cell in &mut self.cells[at..at + bytes] {
            (cell.state, cell.written) = (State::Copied, self.tick);
        }
        Ok(())
    }

    fn write(
        &mut self,
        address: u64,
        bytes: usize,
        place: Place,
        state: State,
    ) -> Result<&mut [u8], String> {
        let at = self.find(address, bytes)?;
        let others = !(1 << place.warp());
        for (i, cell) in self.cells[at..at + bytes].iter_mut().enumerate() {
            let both_atomic = state == State::Atomic && cell.state == State::Atomic;
            let of_this_block = cell.written >= self.start;
            if of_this_block
                && (cell.written >= self.barrier || cell.state == State::Copying)
                && !both_atomic
            {
                cell.is_visible(at + i, place, false)?;
            }
            if cell.read >= self.barrier && cell.readers & others != 0 {
                let (reader, line) = ((cell.readers & others).trailing_zeros(), cell.read_line);
                return Err(format!(
                    "race: byte {} of shared memory is written here, and was read by warp {reader} in line {line} \
                     since the latest barrier",
                    at + i
                ));
            }
            (cell.written, cell.write_line) = (self.tick, place.line);
            (cell.writer, cell.state) = (place.thread as u16, state);
        }
        Ok(&mut self.bytes[at..at + bytes])
    }
}

impl Cell {
    /// Whether a write since the latest barrier is seen from `place`.
    #[inline]
    fn is_visible(&self, byte: usize, place: Place, whole_warp: bool) -> Result<(), String> {
        let writer = u32::from(self.writer);
        let why = match self.state {
            State::Copying => "is still under way",
            _ if writer / 32 != place.warp() => "has no barrier behind it",
            _ if self.written < place.synchronised => return Ok(()),
            State::Copied if whole_warp || writer != place.thread => {
                "was waited for only by its own thread"
            }
            State::Stored | State::Atomic if whole_warp || writer != place.thread => {
                "has no bar.warp.sync behind it"
            }
            _ => return Ok(()),
        };
        let what =
            if matches!(self.state, State::Copying | State::Copied) { "copy" } else { "write" };
        Err(format!(
            "race: byte {byte} of shared memory is touched here, but thread {writer}'s {what} to it in line {} {why}",
            self.write_line
        ))
    }
}
