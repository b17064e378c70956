//! What did a launch do? Instructions, bytes, sectors and bank conflicts, counted.
//!
//! Counts are exact and the same on every run, so a test can hold a kernel to what its author claims: that every
//! weight is read once, that shared memory is read without conflicts.

use std::collections::BTreeMap;

/// What the warps of one launch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Instructions, counted once per warp however many of its lanes took part.
    pub instructions: u64,
    /// `mma.sp` among them.
    pub mma_sp: u64,
    /// Bytes that lanes loaded from global memory, copies to shared memory included.
    pub global_load_bytes: u64,
    /// Sectors of 32 bytes that these loads touched, per instruction of a warp.
    pub global_load_sectors: u64,
    /// Bytes that lanes stored to global memory.
    pub global_store_bytes: u64,
    /// Sectors of 32 bytes that these stores touched, per instruction of a warp.
    pub global_store_sectors: u64,
    /// Instructions that read or wrote shared memory, copies included.
    pub shared_accesses: u64,
    /// How often banks had to answer for them.
    pub shared_wavefronts: u64,
    /// How often they would have had to without conflicts: once per 32 lanes of four bytes, 16 of eight, 8 of 16.
    pub shared_wavefronts_ideal: u64,
    /// Barriers, counted once per warp.
    pub barriers: u64,
    /// Bytes loaded from each allocation, by its address.
    pub loaded: BTreeMap<u64, u64>,
}

impl Counts {
    /// Bytes loaded from the buffer at `address`.
    pub fn loaded_from(&self, address: u64) -> u64 {
        self.loaded.get(&address).copied().unwrap_or(0)
    }

    /// Wavefronts of shared memory that bank conflicts cost.
    pub fn bank_conflicts(&self) -> u64 {
        self.shared_wavefronts - self.shared_wavefronts_ideal
    }

    pub(super) fn shared(&mut self, addresses: &[Option<u64>; 32], width: usize) {
        self.shared_accesses += 1;
        // Lanes that are served together: all with four bytes or less, half of them with eight, a quarter with 16.
        for lanes in addresses.chunks(128 / width.max(4)) {
            let wavefronts = wavefronts(lanes, width);
            self.shared_wavefronts += wavefronts;
            self.shared_wavefronts_ideal += wavefronts.min(1);
        }
    }

    /// One of `ldmatrix`'s matrices: eight rows of 16 bytes.
    pub(super) fn shared_matrix(&mut self, rows: &[Option<u64>]) {
        self.shared_wavefronts += wavefronts(rows, 16);
        self.shared_wavefronts_ideal += 1;
    }
}

/// How often 32 banks of four bytes answer until every lane is served; a word serves any number of lanes at once.
fn wavefronts(lanes: &[Option<u64>], width: usize) -> u64 {
    let mut banks = [None; 32];
    let mut conflict = false;
    let words = || {
        let words = |address: u64| address / 4..(address + width as u64).div_ceil(4);
        lanes.iter().flatten().flat_map(move |address| words(*address))
    };
    for word in words() {
        match &mut banks[(word % 32) as usize] {
            empty @ None => *empty = Some(word),
            Some(before) => conflict |= *before != word,
        }
    }
    if !conflict {
        return banks.iter().flatten().count().min(1) as u64;
    }
    let mut words: Vec<u64> = words().collect();
    words.sort_unstable();
    words.dedup();
    let mut loads = [0_u64; 32];
    words.iter().for_each(|word| loads[(word % 32) as usize] += 1);
    loads.into_iter().max().unwrap_or(0)
}

/// How many sectors of 32 bytes a warp's accesses touch; none straddles two.
pub(super) fn sectors(addresses: &[Option<u64>; 32]) -> u64 {
    let mut sectors = [u64::MAX; 32];
    let mut count = 0;
    for address in addresses.iter().flatten() {
        // Neighbours mostly share a sector with the lane before.
        if count == 0 || sectors[count - 1] != address / 32 {
            sectors[count] = address / 32;
            count += 1;
        }
    }
    let sectors = &mut sectors[..count];
    sectors.sort_unstable();
    1_u64.min(count as u64) + sectors.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(width: usize, address: impl Fn(u64) -> Option<u64>) -> (u64, u64) {
        let mut counts = Counts::default();
        counts.shared(&std::array::from_fn(|lane| address(lane as u64)), width);
        (counts.shared_wavefronts, counts.shared_wavefronts_ideal)
    }

    #[test]
    fn banks_of_four_bytes() {
        assert_eq!(count(4, |lane| Some(4 * lane)), (1, 1));
        assert_eq!(count(4, |_| Some(64)), (1, 1), "a broadcast");
        assert_eq!(count(2, |lane| Some(2 * lane)), (1, 1), "two lanes share a word");
        assert_eq!(count(4, |lane| Some(8 * lane)), (2, 1));
        assert_eq!(count(4, |lane| Some(128 * lane)), (32, 1));
        assert_eq!(count(4, |_| None), (0, 0));
    }

    #[test]
    fn wide_accesses_go_by_halves_and_quarters() {
        assert_eq!(count(8, |lane| Some(8 * lane)), (2, 2));
        assert_eq!(count(16, |lane| Some(16 * lane)), (4, 4));
        assert_eq!(count(16, |lane| Some(128 * lane)), (32, 4));
        assert_eq!(count(16, |lane| (lane < 8).then_some(16 * lane)), (1, 1));
    }

    #[test]
    fn sectors_are_counted_once() {
        let sectors = |address: fn(u64) -> u64| {
            sectors(&std::array::from_fn(|lane| Some(address(lane as u64))))
        };
        assert_eq!(sectors(|lane| 4 * lane), 4);
        assert_eq!(sectors(|lane| 16 * lane), 16);
        assert_eq!(sectors(|lane| 16 + 4 * lane), 5);
        assert_eq!(sectors(|lane| 64 * (lane % 2)), 2);
        assert_eq!(sectors(|_| 96), 1);
    }
}
