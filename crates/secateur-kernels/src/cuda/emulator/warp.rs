//! How does a warp run? One instruction after the other, in those lanes that stand at the lowest one.
//!
//! Lanes that took different ways wait for each other at the first line that all of them reach, because the lowest
//! line goes first. Instructions that a warp executes as one (`.aligned`) are faults where lanes are missing.

use super::{
    access::Pending,
    counts::Counts,
    instruction::{Combine, Entry, Function, Operation, Predicate, Row},
    memory::Memory,
    shared::Shared,
};

/// All lanes of a warp.
pub(super) const ALL: u32 = u32::MAX;
/// A warp that executes so many instructions without a barrier is taken for one that never ends.
const PATIENCE: u64 = 1 << 28;

/// What a warp finds around it.
pub(super) struct Surroundings<'a> {
    pub entry: &'a Entry,
    pub memory: &'a mut Memory,
    pub shared: &'a mut Shared,
    pub counts: &'a mut Counts,
    pub parameters: &'a [u8],
    /// Whether copies arrive only when they are waited for.
    pub late: bool,
    /// The number in the launch of the block's first thread.
    pub first_thread: u32,
}

/// What keeps a warp from running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// Nothing: it is its turn.
    None,
    Barrier(u32),
    Exited,
}

/// 32 lanes.
#[derive(Debug)]
pub(super) struct Warp {
    pub index: u32,
    pub rows: Vec<[u64; 32]>,
    /// The instruction at which the lanes `active` stand.
    pub at: usize,
    active: u32,
    /// Where each lane of `waiting` stands, and the lowest of it.
    places: [usize; 32],
    waiting: u32,
    next: usize,
    /// Lanes that have not exited.
    pub live: u32,
    pub pause: Pause,
    /// The tick of its latest `bar.warp.sync`.
    pub synchronised: u32,
    pub pending: Vec<Pending>,
    pub committed: [u32; 32],
}

impl Warp {
    /// A warp at its first instruction; the rows' constants are filled by the caller.
    pub fn new(index: u32, lanes: u32, rows: usize) -> Self {
        Self {
            index,
            // What a register holds before it is written is nothing to rely on.
            rows: vec![[0xA5A5_A5A5_A5A5_A5A5; 32]; rows],
            at: 0,
            active: lanes,
            places: [0; 32],
            waiting: 0,
            next: usize::MAX,
            live: lanes,
            pause: Pause::None,
            synchronised: 0,
            pending: Vec::new(),
            committed: [0; 32],
        }
    }

    /// Runs to the next barrier, or the end.
    pub fn run(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        let entry = around.entry;
        let mut patience = PATIENCE;
        loop {
            if self.next <= self.at {
                self.regroup();
            }
            let Some(instruction) = entry.instructions.get(self.at) else {
                // The closing brace is a `ret`.
                self.exit(self.active)?;
                if self.live == 0 {
                    return Ok(());
                }
                continue;
            };
            around.counts.instructions += 1;
            patience -= 1;
            if patience == 0 {
                return Err(format!("the warp does not end within {PATIENCE} instructions"));
            }
            let lanes = match instruction.guard {
                None => self.active,
                Some(guard) => self.active & self.holds(guard),
            };
            match &instruction.operation {
                Operation::Branch { target } => {
                    self.branch(*target, lanes);
                    continue;
                }
                Operation::Exit => {
                    self.at += 1;
                    self.exit(lanes)?;
                    if self.live == 0 {
                        return Ok(());
                    }
                    continue;
                }
                Operation::Barrier { id } => {
                    if lanes != self.live {
                        return Err(format!(
                            "a barrier that lanes {:#x} do not reach",
                            self.live & !lanes
                        ));
                    }
                    around.counts.barriers += 1;
                    self.at += 1;
                    self.pause = Pause::Barrier(*id);
                    return Ok(());
                }
                // A false guard is nothing executed, except that `.aligned` instructions want all lanes or none.
                _ if lanes == 0 => {}
                operation => self.execute(operation, lanes, instruction.line, around)?,
            }
            self.at += 1;
        }
    }

    fn execute(
        &mut self,
        operation: &Operation,
        lanes: u32,
        line: u32,
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        match operation {
            Operation::Map { function, d, a } => self.map(*function, *d, *a, lanes),
            Operation::Compare { test, combine, p, q, a } => {
                self.compare(*test, *combine, [Some(*p), *q], *a, lanes);
            }
            Operation::Convert { conversion, d, a } => {
                let out = self.rows[*a as usize].map(|bits| conversion.apply(bits));
                self.write(*d, out, lanes);
            }
            Operation::ConvertPair { conversion, d, high, low } => {
                let (high, low) = (&self.rows[*high as usize], &self.rows[*low as usize]);
                let out = std::array::from_fn(|lane| {
                    conversion.apply(high[lane]) << 16 | conversion.apply(low[lane])
                });
                self.write(*d, out, lanes);
            }
            Operation::Join { d, parts, bits } => {
                let mut out = [0; 32];
                for (i, part) in parts.iter().enumerate() {
                    let part = &self.rows[*part as usize];
                    (0..32)
                        .for_each(|lane| out[lane] |= cut(part[lane], *bits) << (i as u32 * bits));
                }
                self.write(*d, out, lanes);
            }
            Operation::Split { parts, a, bits } => {
                let whole = self.rows[*a as usize];
                for (i, part) in parts.iter().enumerate() {
                    self.write(
                        *part,
                        whole.map(|whole| cut(whole >> (i as u32 * bits), *bits)),
                        lanes,
                    );
                }
            }
            Operation::ActiveMask { d } => self.write(*d, [lanes.into(); 32], lanes),
            Operation::Fence => {}
            Operation::WarpBarrier { members } => {
                self.has_members(*members, lanes)?;
                self.synchronised = around.shared.pass_warp();
            }
            Operation::Shuffle { mode, d, p, a, b, c, members } => {
                self.has_members(*members, lanes)?;
                self.shuffle(*mode, [*d, p.unwrap_or(0)], [*a, *b, *c], lanes)?;
            }
            Operation::Vote { mode, d, a, members } => {
                self.has_members(*members, lanes)?;
                self.vote(*mode, *d, *a, lanes);
            }
            Operation::Reduce { fold, d, a, members } => {
                self.has_members(*members, lanes)?;
                let values = self.rows[*a as usize];
                let values = (0..32).filter(|lane| lanes >> lane & 1 == 1).map(|lane| values[lane]);
                if let Some(sum) = values.reduce(fold) {
                    self.write(*d, [sum; 32], lanes);
                }
            }
            Operation::Tensor { tensor, d, a, b, c, metadata, selector } => {
                self.is_whole(lanes)?;
                around.counts.mma_sp += u64::from(tensor.is_sparse());
                self.tensor(*tensor, *d, [*a, *b, *c], *metadata, *selector)?;
            }
            memory => self.access(memory, lanes, line, around)?,
        }
        Ok(())
    }

    fn map(&mut self, function: Function, d: Row, a: [Row; 4], lanes: u32) {
        let [a, b, c, e] = a.map(|row| &self.rows[row as usize]);
        let out = match function {
            Function::One(f) => a.map(f),
            Function::Two(f) => std::array::from_fn(|lane| f(a[lane], b[lane])),
            Function::Three(f) => std::array::from_fn(|lane| f(a[lane], b[lane], c[lane])),
            Function::Four(f) => std::array::from_fn(|lane| f(a[lane], b[lane], c[lane], e[lane])),
        };
        self.write(d, out, lanes);
    }

    fn compare(
        &mut self,
        test: fn(u64, u64) -> bool,
        combine: Option<(Combine, Predicate)>,
        outs: [Option<Row>; 2],
        a: [Row; 2],
        lanes: u32,
    ) {
        let [a, b] = a.map(|row| &self.rows[row as usize]);
        let found =
            (0..32).fold(0, |found, lane| found | u32::from(test(a[lane], b[lane])) << lane);
        let joined = [found, !found].map(|found| match combine {
            None => found,
            Some((Combine::And, other)) => found & self.holds(other),
            Some((Combine::Or, other)) => found | self.holds(other),
            Some((Combine::Xor, other)) => found ^ self.holds(other),
        });
        for (out, joined) in outs.into_iter().zip(joined) {
            if let Some(out) = out {
                self.write(out, std::array::from_fn(|lane| u64::from(joined >> lane & 1)), lanes);
            }
        }
    }

    /// Writes a row in some lanes.
    #[inline]
    pub fn write(&mut self, d: Row, out: [u64; 32], lanes: u32) {
        let row = &mut self.rows[d as usize];
        if lanes == ALL {
            *row = out;
        } else {
            (0..32).filter(|lane| lanes >> lane & 1 == 1).for_each(|lane| row[lane] = out[lane]);
        }
    }

    /// The lanes in which a predicate holds.
    pub fn holds(&self, predicate: Predicate) -> u32 {
        let row = &self.rows[predicate.row as usize];
        let lanes = (0..32).fold(0, |lanes, lane| lanes | u32::from(row[lane] != 0) << lane);
        if predicate.negated { !lanes } else { lanes }
    }

    fn branch(&mut self, target: usize, lanes: u32) {
        if lanes == self.active {
            self.at = target;
        } else if lanes == 0 {
            self.at += 1;
        } else {
            for lane in (0..32).filter(|lane| self.active >> lane & 1 == 1) {
                self.places[lane] = if lanes >> lane & 1 == 1 { target } else { self.at + 1 };
            }
            self.waiting |= self.active;
            self.active = 0;
            self.regroup();
        }
    }

    fn exit(&mut self, lanes: u32) -> Result<(), String> {
        self.has_waited(lanes)?;
        self.live &= !lanes;
        self.active &= !lanes;
        if self.live == 0 {
            self.pause = Pause::Exited;
        } else if self.active == 0 {
            self.regroup();
        }
        Ok(())
    }

    /// Chooses the lanes that stand lowest.
    fn regroup(&mut self) {
        let lanes = |mask: u32| (0..32).filter(move |lane| mask >> lane & 1 == 1);
        lanes(self.active).for_each(|lane| self.places[lane] = self.at);
        self.waiting |= self.active;
        self.at = lanes(self.waiting).map(|lane| self.places[lane]).min().unwrap_or(self.at);
        self.active = lanes(self.waiting)
            .filter(|lane| self.places[*lane] == self.at)
            .fold(0, |mask, lane| mask | 1 << lane);
        self.waiting &= !self.active;
        self.next = lanes(self.waiting).map(|lane| self.places[lane]).min().unwrap_or(usize::MAX);
    }

    /// An instruction that a warp executes as one.
    pub fn is_whole(&self, lanes: u32) -> Result<(), String> {
        if lanes == ALL {
            Ok(())
        } else {
            Err(format!("lanes {:#x} of the warp are not here", !lanes))
        }
    }

    /// The lanes that an instruction names have to be those that execute it.
    fn has_members(&self, members: Row, lanes: u32) -> Result<(), String> {
        let members = self.rows[members as usize][lanes.trailing_zeros() as usize % 32] as u32;
        if members == lanes || members & self.live == lanes {
            Ok(())
        } else {
            Err(format!("lanes {members:#x} are named, but {lanes:#x} are here"))
        }
    }
}

fn cut(value: u64, bits: u32) -> u64 {
    value & (u64::MAX >> (64 - bits))
}
