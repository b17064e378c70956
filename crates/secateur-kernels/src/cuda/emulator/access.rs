//! How do lanes reach memory? Address by address, each checked, all of a warp counted together.

use super::{
    counts,
    instruction::{Address, Move, Operation, Row, Space},
    shared::{self, Place, WINDOW},
    warp::{Surroundings, Warp},
};

/// A `cp.async` that was issued and not waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    lane: usize,
    group: u32,
    to: u64,
    from: u64,
    bytes: usize,
    source: usize,
}

/// One address per lane that takes part.
type Addresses = [Option<u64>; 32];

impl Warp {
    pub(super) fn access(
        &mut self,
        operation: &Operation,
        lanes: u32,
        line: u32,
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        match operation {
            Operation::Load(load) => self.load(load, lanes, line, around),
            Operation::Store(store) => self.store(store, lanes, line, around),
            Operation::Atomic { space, update, width, d, address, a } => {
                let (space, addresses) = self.addresses(*space, *address, lanes)?;
                let mut old = [0; 32];
                let [a, b] = a.map(|row| self.rows[row as usize]);
                for (lane, address) in each(&addresses) {
                    let bytes = match space {
                        Space::Shared => {
                            around.shared.update(address, *width, self.place(lane, line))
                        }
                        _ => around.memory.update(address, *width),
                    };
                    let bytes = bytes.map_err(|what| in_lane(lane, what))?;
                    old[lane] = number(bytes);
                    let cut = |value: u64| value << (64 - 8 * *width) >> (64 - 8 * *width);
                    let new = update(old[lane], cut(a[lane]), cut(b[lane]));
                    bytes.copy_from_slice(&new.to_le_bytes()[..*width]);
                }
                if let Some(d) = d {
                    self.write(*d, old, lanes);
                }
                Ok(())
            }
            Operation::Copy { bytes, to, from, source_bytes } => {
                self.copy(*bytes, [*to, *from], *source_bytes, lanes, line, around)
            }
            Operation::CommitCopies => {
                (0..32)
                    .filter(|lane| lanes >> lane & 1 == 1)
                    .for_each(|lane| self.committed[lane] += 1);
                Ok(())
            }
            Operation::WaitCopies { but } => self.wait(*but, lanes, around),
            Operation::LoadMatrix { count, transposed, d, address } => {
                self.is_whole(lanes)?;
                self.load_matrices(*count, *transposed, *d, *address, line, around)
            }
            _ => Err("the emulator has no way to execute this".into()),
        }
    }

    fn place(&self, lane: usize, line: u32) -> Place {
        Place { thread: self.index * 32 + lane as u32, line, synchronised: self.synchronised }
    }

    /// Each lane's address, and the space that all of them point to.
    fn addresses(
        &self,
        space: Space,
        address: Address,
        lanes: u32,
    ) -> Result<(Space, Addresses), String> {
        let row = &self.rows[address.row as usize];
        let mut addresses: Addresses = std::array::from_fn(|lane| {
            (lanes >> lane & 1 == 1).then(|| row[lane].wrapping_add(address.offset as u64))
        });
        let window = |address: u64| (WINDOW..WINDOW + (1 << 24)).contains(&address);
        match space {
            Space::Generic => {
                let shared = addresses.iter().flatten().filter(|address| window(**address)).count();
                if shared == 0 {
                    return Ok((Space::Global, addresses));
                } else if shared < addresses.iter().flatten().count() {
                    return Err("some lanes' addresses are shared memory, others' are not".into());
                }
                addresses.iter_mut().flatten().for_each(|address| *address -= WINDOW);
                Ok((Space::Shared, addresses))
            }
            Space::Shared => {
                addresses.iter_mut().flatten().for_each(|address| *address &= 0xFFFF_FFFF);
                Ok((space, addresses))
            }
            _ => Ok((space, addresses)),
        }
    }

    fn load(
        &mut self,
        load: &Move,
        lanes: u32,
        line: u32,
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        let (space, addresses) = self.addresses(load.space, load.address, lanes)?;
        let bytes = load.width * load.count;
        count(space, &addresses, bytes, true, around);
        for (lane, address) in each(&addresses) {
            let place = self.place(lane, line);
            let found = match space {
                Space::Shared => around.shared.load(address, bytes, place, false),
                Space::Parameters => {
                    let at = address as usize;
                    around.parameters.get(at..at + bytes).ok_or("beyond the parameters".into())
                }
                _ => around.memory.load(address, bytes, bytes),
            };
            let found = found.map_err(|what| in_lane(lane, what))?;
            for (element, row) in found.chunks_exact(load.width).zip(load.rows) {
                let value = number(element);
                let unused = 64 - 8 * load.width as u32;
                let signed = (value << unused) as i64 >> unused;
                self.rows[row as usize][lane] = if load.signed { signed as u64 } else { value };
            }
        }
        Ok(())
    }

    fn store(
        &mut self,
        store: &Move,
        lanes: u32,
        line: u32,
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        let (space, addresses) = self.addresses(store.space, store.address, lanes)?;
        let bytes = store.width * store.count;
        count(space, &addresses, bytes, false, around);
        for (lane, address) in each(&addresses) {
            let place = self.place(lane, line);
            let into = match space {
                Space::Shared => around.shared.store(address, bytes, place),
                _ => around.memory.store(address, bytes, around.first_thread + place.thread + 1),
            };
            let into = into.map_err(|what| in_lane(lane, what))?;
            for (element, row) in into.chunks_exact_mut(store.width).zip(store.rows) {
                element
                    .copy_from_slice(&self.rows[row as usize][lane].to_le_bytes()[..store.width]);
            }
        }
        Ok(())
    }

    /// `cp.async`: read at once where copies are early, when they are waited for where they are late.
    fn copy(
        &mut self,
        bytes: usize,
        [to, from]: [Address; 2],
        source_bytes: Option<Row>,
        lanes: u32,
        line: u32,
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        let to = self.addresses(Space::Shared, to, lanes)?.1;
        let mut from = self.addresses(Space::Global, from, lanes)?.1;
        count(Space::Shared, &to, bytes, false, around);
        for (lane, to) in each(&to) {
            let source =
                source_bytes.map_or(bytes, |row| self.rows[row as usize][lane] as u32 as usize);
            if source > bytes {
                return Err(in_lane(lane, format!("cp.async reads {source} bytes for {bytes}")));
            }
            let place = self.place(lane, line);
            around.shared.begin_copy(to, bytes, place).map_err(|what| in_lane(lane, what))?;
            let group = self.committed[lane];
            let one = Pending { lane, group, to, from: from[lane].unwrap_or(0), bytes, source };
            if source == 0 {
                from[lane] = None;
            }
            around.counts.global_load_bytes += source as u64;
            if !around.late {
                transfer(&one, around)?;
            }
            self.pending.push(one);
        }
        around.counts.global_load_sectors += counts::sectors(&from);
        Ok(())
    }

    fn wait(&mut self, but: u32, lanes: u32, around: &mut Surroundings<'_>) -> Result<(), String> {
        let committed = self.committed;
        let done = |one: &Pending| {
            let covered = but == u32::MAX || one.group + but < committed[one.lane];
            covered && lanes >> one.lane & 1 == 1
        };
        for one in self.pending.iter().filter(|one| done(one)) {
            if around.late {
                transfer(one, around)?;
            }
            around.shared.end_copy(one.to, one.bytes)?;
        }
        self.pending.retain(|one| !done(one));
        Ok(())
    }

    /// Errors if one of these lanes has copies that it never waited for: they would arrive in memory of another block.
    pub(super) fn has_waited(&self, lanes: u32) -> Result<(), String> {
        let left = self.pending.iter().find(|one| lanes >> one.lane & 1 == 1);
        left.map_or(Ok(()), |one| Err(in_lane(one.lane, "exits before its copies have arrived")))
    }

    fn load_matrices(
        &mut self,
        count: usize,
        transposed: bool,
        d: [Row; 4],
        address: Address,
        line: u32,
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        let addresses = self.addresses(Space::Shared, address, super::warp::ALL)?.1;
        around.counts.shared_accesses += 1;
        for (matrix, lanes) in addresses.chunks(8).take(count).enumerate() {
            around.counts.shared_matrix(lanes);
            let mut elements = [[0_u16; 8]; 8];
            for (row, address) in lanes.iter().enumerate() {
                let lane = matrix * 8 + row;
                let found =
                    around.shared.load(address.unwrap_or(0), 16, self.place(lane, line), true);
                let found = found.map_err(|what| in_lane(lane, what))?;
                for (element, bytes) in elements[row].iter_mut().zip(found.as_chunks::<2>().0) {
                    *element = u16::from_le_bytes(*bytes);
                }
            }
            let register = |lane: usize| {
                let (g, t) = (lane / 4, 2 * (lane % 4));
                let pair = if transposed {
                    [elements[t][g], elements[t + 1][g]]
                } else {
                    [elements[g][t], elements[g][t + 1]]
                };
                u64::from(pair[0]) | u64::from(pair[1]) << 16
            };
            self.write(d[matrix], std::array::from_fn(register), super::warp::ALL);
        }
        Ok(())
    }
}

/// The copy itself: bytes from global memory, zeros behind them.
fn transfer(one: &Pending, around: &mut Surroundings<'_>) -> Result<(), String> {
    let mut bytes = [0; 16];
    if one.source > 0 {
        let found = around.memory.load(one.from, one.source, one.bytes);
        bytes[..one.source].copy_from_slice(found.map_err(|what| in_lane(one.lane, what))?);
    }
    around.shared.arrive(one.to, one.bytes)?.copy_from_slice(&bytes[..one.bytes]);
    Ok(())
}

fn count(
    space: Space,
    addresses: &Addresses,
    bytes: usize,
    load: bool,
    around: &mut Surroundings<'_>,
) {
    let counts = &mut *around.counts;
    match space {
        Space::Parameters => {}
        Space::Shared => {
            // In the banks' own addresses, which begin where shared memory does.
            const { assert!(shared::BASE.is_multiple_of(128)) };
            counts.shared(addresses, bytes);
        }
        _ => {
            let total = addresses.iter().flatten().count() as u64 * bytes as u64;
            let sectors = counts::sectors(addresses);
            if load {
                counts.global_load_bytes += total;
                counts.global_load_sectors += sectors;
            } else {
                counts.global_store_bytes += total;
                counts.global_store_sectors += sectors;
            }
        }
    }
}

fn each(addresses: &Addresses) -> impl Iterator<Item = (usize, u64)> {
    addresses.iter().enumerate().filter_map(|(lane, address)| Some((lane, (*address)?)))
}

fn in_lane(lane: usize, what: impl std::fmt::Display) -> String {
    format!("lane {lane}: {what}")
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rfold(0, |number, byte| number << 8 | u64::from(*byte))
}
