//! In which order do blocks and warps run? Blocks one after the other, warps as the schedule says.
//!
//! A warp runs until it meets a barrier or ends, and only then the next: the most that one warp can be ahead of
//! another, so that what only the usual order of the hardware would hide is seen.

use super::{
    Copies, Schedule, Warps,
    counts::Counts,
    instruction::{Constant, Entry},
    memory::Memory,
    shared::{self, Shared},
    warp::{Pause, Surroundings, Warp},
};

/// One kernel over its grid.
pub(super) struct Grid<'a> {
    pub entry: &'a Entry,
    pub blocks: [u32; 3],
    pub threads: u32,
    pub dynamic_shared: u32,
    pub parameters: &'a [u8],
    /// Addresses of the module's variables.
    pub variables: &'a [u64],
    pub schedule: Schedule,
}

/// Where a fault is, and which.
pub(super) struct Stop {
    pub block: [u32; 3],
    pub warp: u32,
    pub line: u32,
    pub what: String,
}

impl Grid<'_> {
    /// Where dynamic shared memory starts: behind the static one.
    fn dynamic_start(&self) -> usize {
        self.entry.shared.next_multiple_of(128)
    }

    /// Bytes of a block's shared memory.
    pub fn shared_bytes(&self) -> usize {
        match self.dynamic_shared as usize {
            0 => self.entry.shared,
            dynamic => self.dynamic_start() + dynamic,
        }
    }

    /// Runs every block.
    pub fn run(&self, memory: &mut Memory, counts: &mut Counts) -> Result<(), Stop> {
        let mut shared = Shared::new(self.shared_bytes());
        let mut random = match self.schedule.warps {
            Warps::Shuffled(seed) => seed ^ 0x9E37_79B9_7F4A_7C15,
            _ => 0,
        };
        let [x, y, z] = self.blocks;
        for number in 0..u64::from(x) * u64::from(y) * u64::from(z) {
            let plane = u64::from(x) * u64::from(y);
            let block = [
                (number % u64::from(x)) as u32,
                (number % plane / u64::from(x)) as u32,
                (number / plane) as u32,
            ];
            shared.begin();
            let mut around = Surroundings {
                entry: self.entry,
                memory,
                shared: &mut shared,
                counts,
                parameters: self.parameters,
                late: self.schedule.copies == Copies::Late,
                first_thread: (number as u32).wrapping_mul(self.threads),
            };
            self.run_block(block, &mut around, &mut random)?;
        }
        Ok(())
    }

    fn run_block(
        &self,
        block: [u32; 3],
        around: &mut Surroundings<'_>,
        random: &mut u64,
    ) -> Result<(), Stop> {
        let count = self.threads.div_ceil(32);
        let mut warps: Vec<Warp> = (0..count).map(|index| self.warp(index, block)).collect();
        let mut order: Vec<usize> = (0..warps.len()).collect();
        if self.schedule.warps == Warps::Reverse {
            order.reverse();
        }
        loop {
            if matches!(self.schedule.warps, Warps::Shuffled(_)) {
                shuffle(&mut order, random);
            }
            for at in &order {
                let warp = &mut warps[*at];
                if warp.pause == Pause::None {
                    warp.run(around).map_err(|what| self.stop(warp, block, what))?;
                }
            }
            // Now every warp waits, or is done. Those that are done count as having arrived.
            let mut waiting = warps.iter().filter(|warp| warp.pause != Pause::Exited);
            let Some(first) = waiting.next() else { return Ok(()) };
            if let Some(other) = waiting.find(|warp| warp.pause != first.pause) {
                let what =
                    format!("deadlock: it waits at another barrier than warp {}", other.index);
                return Err(self.stop(first, block, what));
            }
            around.shared.pass_barrier();
            for warp in warps.iter_mut().filter(|warp| warp.pause != Pause::Exited) {
                warp.pause = Pause::None;
            }
        }
    }

    fn stop(&self, warp: &Warp, block: [u32; 3], what: String) -> Stop {
        let line = self.entry.instructions.get(warp.at).map_or(0, |instruction| instruction.line);
        Stop { block, warp: warp.index, line, what }
    }

    fn warp(&self, index: u32, block: [u32; 3]) -> Warp {
        let lanes = (self.threads - index * 32).min(32);
        let mut warp = Warp::new(index, u32::MAX >> (32 - lanes), self.entry.rows);
        for (constant, row) in &self.entry.constants {
            let threads = [self.threads, 1, 1];
            let value = |lane: usize| match *constant {
                Constant::Value(value) => value,
                Constant::Thread(0) => u64::from(index) * 32 + lane as u64,
                Constant::Thread(_) => 0,
                Constant::Threads(axis) => threads[axis].into(),
                Constant::Block(axis) => block[axis].into(),
                Constant::Blocks(axis) => self.blocks[axis].into(),
                Constant::Lane => lane as u64,
                Constant::Warp => index.into(),
                Constant::LaneMask([below, itself, above]) => {
                    let below = if below { (1_u64 << lane) - 1 } else { 0 };
                    let itself = u64::from(itself) << lane;
                    below | itself | if above { 0xFFFF_FFFE_u64 << lane & 0xFFFF_FFFF } else { 0 }
                }
                Constant::Variable(number) => self.variables[number],
                Constant::DynamicShared => shared::BASE + self.dynamic_start() as u64,
            };
            warp.rows[*row as usize] = std::array::from_fn(value);
        }
        warp
    }
}

/// Fisher and Yates, on numbers of xorshift64.
fn shuffle(order: &mut [usize], random: &mut u64) {
    for end in (1..order.len()).rev() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        order.swap(end, (*random % (end as u64 + 1)) as usize);
    }
}
