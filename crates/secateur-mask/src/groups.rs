//! Which groups of M bits have more than N set? A word holds many groups and is asked once.

use crate::bits::low_bits;

/// The question whether groups of `m` bits have more than `n` set; `n < m <= 64`.
///
/// A word holds `64 / m` whole groups from its lowest bit up, and nothing above them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Over {
    pub n: usize,
    pub m: usize,
}

impl Over {
    /// Whether any group of `words` has more than `n` set.
    pub fn any(self, words: &[u64]) -> bool {
        // Without a branch inside, so that several words are counted at once.
        fn any<const M: usize>(words: &[u64], n: usize) -> bool {
            words.iter().fold(0, |marks, word| marks | marks_of::<M>(*word, n)) != 0
        }
        match self.m {
            2 => any::<2>(words, self.n),
            4 => any::<4>(words, self.n),
            8 => any::<8>(words, self.n),
            16 => any::<16>(words, self.n),
            32 => any::<32>(words, self.n),
            64 => any::<64>(words, self.n),
            _ => words.iter().any(|word| self.one_by_one(*word) > 0),
        }
    }

    /// How many groups of `words` have more than `n` set.
    pub fn count(self, words: &[u64]) -> usize {
        fn count<const M: usize>(words: &[u64], n: usize) -> usize {
            words.iter().map(|word| marks_of::<M>(*word, n).count_ones() as usize).sum()
        }
        match self.m {
            2 => count::<2>(words, self.n),
            4 => count::<4>(words, self.n),
            8 => count::<8>(words, self.n),
            16 => count::<16>(words, self.n),
            32 => count::<32>(words, self.n),
            64 => count::<64>(words, self.n),
            _ => words.iter().map(|word| self.one_by_one(*word)).sum(),
        }
    }

    /// How many groups of `word` have more than `n` set, for any `m`.
    fn one_by_one(self, word: u64) -> usize {
        let group = |index: usize| word >> (index * self.m) & low_bits(self.m);
        (0..64 / self.m).filter(|&index| group(index).count_ones() as usize > self.n).count()
    }
}

/// The highest bit of every group of `M` bits that has more than `n` set; `M` is a power of two.
#[inline(always)]
fn marks_of<const M: usize>(word: u64, n: usize) -> u64 {
    // Neighbours are added until every group holds its own count.
    let mut counts = word - (word >> 1 & 0x5555_5555_5555_5555);
    if M >= 4 {
        counts = (counts & 0x3333_3333_3333_3333) + (counts >> 2 & 0x3333_3333_3333_3333);
    }
    if M >= 8 {
        counts = (counts + (counts >> 4)) & 0x0F0F_0F0F_0F0F_0F0F;
    }
    if M >= 16 {
        counts = (counts + (counts >> 8)) & 0x00FF_00FF_00FF_00FF;
    }
    if M >= 32 {
        counts = (counts + (counts >> 16)) & 0x0000_FFFF_0000_FFFF;
    }
    if M >= 64 {
        counts = (counts + (counts >> 32)) & 0xFFFF_FFFF;
    }
    // More than n are at least n + 1: topped up so that exactly those reach the highest bit. A
    // count is at most M, so that no group spills into the next.
    let every_group = u64::MAX / low_bits(M);
    let highest = 1 << (M - 1);
    (counts + every_group * (highest - (n as u64 + 1))) & (every_group * highest)
}

/// Sixty-four counters up to 64, one per bit of the words added: plane `p` holds bit `p` of each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Columns([u64; 7]);

impl Columns {
    /// Counts the set bits of up to 64 words at each place.
    pub fn count(words: impl ExactSizeIterator<Item = u64>) -> Self {
        let mut planes = [0; 7];
        let used = words.len().max(1).ilog2() as usize + 1;
        for word in words {
            let mut carry = word;
            for plane in &mut planes[..used] {
                (*plane, carry) = (*plane ^ carry, *plane & carry);
            }
        }
        Self(planes)
    }

    /// The places that counted more than `n`; `n < 64`.
    pub fn over(&self, n: usize) -> u64 {
        let (mut over, mut equal) = (0, u64::MAX);
        for (bit, plane) in self.0.iter().enumerate().rev() {
            if n >> bit & 1 == 1 {
                equal &= plane;
            } else {
                over |= equal & plane;
                equal &= !plane;
            }
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::{
        Xoshiro256PlusPlus,
        rand_core::{Rng, SeedableRng},
    };

    /// Words of all densities, the extremes too.
    fn words() -> Vec<u64> {
        let mut stream = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut draw = || stream.next_u64();
        let mut words = vec![0, u64::MAX];
        for _ in 0..20 {
            let word = draw();
            words.extend([word, word & draw(), word | draw(), word & draw() & draw()]);
        }
        words
    }

    #[test]
    fn groups_are_counted_as_one_by_one() {
        for m in 2..=64 {
            for n in 0..m {
                let over = Over { n, m };
                for word in words() {
                    let word = word & low_bits(64 / m * m);
                    let groups = (0..64 / m).map(|g| (word >> (g * m) & low_bits(m)).count_ones());
                    let expected = groups.filter(|count| *count as usize > n).count();
                    assert_eq!(over.count(&[word]), expected, "{n}:{m} of {word:#x}");
                    assert_eq!(over.any(&[0, word]), expected > 0, "{n}:{m} of {word:#x}");
                }
            }
        }
    }

    #[test]
    fn columns_are_counted_as_one_by_one() {
        let words = words();
        for len in [0, 1, 2, 3, 4, 7, 8, 16, 33, 63, 64] {
            let words = &words[..len];
            let columns = Columns::count(words.iter().copied());
            for n in 0..64 {
                for place in 0..64 {
                    let count = words.iter().filter(|word| *word >> place & 1 == 1).count();
                    assert_eq!(columns.over(n) >> place & 1 == 1, count > n, "{len}, {n}, {place}");
                }
            }
        }
    }
}
