//! How is 2:4 packed at the speed of memory? A byte of mask, or of indices, stands for eight columns.

use rayon::prelude::*;

/// Packs some rows of a 2:4 weight: elements of `size` bytes (2 or 4), a whole number of words of mask.
/// `words` become those of the stored slots. `false` if a group keeps more than two.
pub(crate) fn pack_pairs(
    words: &mut [u64],
    dense: &[u8],
    size: usize,
    values: &mut Vec<u8>,
    indices: &mut Vec<u8>,
) -> bool {
    if !none_over(words) {
        return false;
    }
    values.resize(dense.len() / 2, 0);
    indices.resize(words.len() * 8, 0);
    let kept = bytemuck::cast_slice(words);
    match size {
        2 => gather_band::<2>(kept, dense.as_chunks().0, values, indices),
        _ => gather_band::<4>(kept, dense.as_chunks().0, values, indices),
    }
    let taken: u32 = words.iter().map(|word| word.count_ones()).sum();
    if taken as usize != words.len() * 32 {
        mask(indices, words);
    }
    true
}

/// What a nibble of mask bits says about its group.
#[derive(Clone, Copy)]
struct Group {
    lanes: [u8; 2],
    index: u8,
}

const GROUPS: [Group; 16] = {
    let mut groups = [Group { lanes: [2, 3], index: 0xE }; 16];
    let mut kept = 0;
    while kept < 16_u8 {
        let (mut filled, mut lane) = (kept, 2);
        while filled.count_ones() < 2 {
            filled |= 1 << lane;
            lane += 1;
        }
        let low = filled.trailing_zeros() as u8;
        let high = (filled & (filled - 1)).trailing_zeros() as u8;
        groups[kept as usize] = Group { lanes: [low, high], index: low | high << 2 };
        kept += 1;
    }
    groups
};

/// The mask bits of a byte of indices; 0 for a byte that no writer makes.
static MASKS: [u8; 256] = {
    let mut masks = [0; 256];
    let (mut low, mut high) = (0, 0);
    while low < 16 {
        while high < 16 {
            let index = GROUPS[low].index | GROUPS[high].index << 4;
            let lanes = [GROUPS[low].lanes, GROUPS[high].lanes];
            masks[index as usize] =
                1 << lanes[0][0] | 1 << lanes[0][1] | 16 << lanes[1][0] | 16 << lanes[1][1];
            high += 1;
        }
        (low, high) = (low + 1, 0);
    }
    masks
};

/// Bytes of indices that one thread takes at a time.
const BYTES: usize = 1 << 13;

pub(super) fn gather<const N: usize>(
    mask: &[u8],
    dense: &[[u8; N]],
    values: &mut [u8],
    indices: &mut [u8],
) {
    let bands = indices.par_chunks_mut(BYTES).zip(values.par_chunks_mut(BYTES * 4 * N));
    let bands = bands.zip(mask.par_chunks(BYTES)).zip(dense.par_chunks(BYTES * 8));
    bands.for_each(|(((indices, values), mask), dense)| {
        gather_band(mask, dense, values, indices);
    });
}

/// As [`gather`], on one thread.
pub(super) fn gather_band<const N: usize>(
    mask: &[u8],
    dense: &[[u8; N]],
    values: &mut [u8],
    indices: &mut [u8],
) {
    let quads = values.as_chunks_mut::<N>().0.as_chunks_mut::<4>().0;
    let columns = mask.iter().zip(dense.as_chunks::<8>().0);
    for ((index, quad), (bits, eight)) in indices.iter_mut().zip(quads).zip(columns) {
        let byte = &BYTES_OF_MASK[usize::from(*bits)];
        *quad = byte.lanes.map(|lane| eight[usize::from(lane & 7)]);
        *index = byte.index;
        if !byte.full {
            let filled = byte.lanes.map(|lane| bits >> lane & 1 == 0);
            for (value, _) in quad.iter_mut().zip(filled).filter(|(_, filled)| *filled) {
                *value = [0; N];
            }
        }
    }
}

/// What a byte of mask says about its two groups.
#[derive(Clone, Copy)]
struct Byte {
    /// The four lanes of eight that are stored.
    lanes: [u8; 4],
    index: u8,
    /// Whether all four are kept.
    full: bool,
}

static BYTES_OF_MASK: [Byte; 256] = {
    let mut bytes = [Byte { lanes: [0; 4], index: 0, full: false }; 256];
    let mut byte = 0;
    while byte < 256 {
        let (low, high) = (GROUPS[byte & 15], GROUPS[byte >> 4]);
        bytes[byte] = Byte {
            lanes: [low.lanes[0], low.lanes[1], 4 + high.lanes[0], 4 + high.lanes[1]],
            index: low.index | high.index << 4,
            full: (byte & 15).count_ones() == 2 && (byte >> 4).count_ones() == 2,
        };
        byte += 1;
    }
    bytes
};

/// Whether no group of four bits has more than two.
pub(super) fn none_over(words: &[u64]) -> bool {
    const ONES: u64 = 0x5555_5555_5555_5555;
    const TWOS: u64 = 0x3333_3333_3333_3333;
    const LOWEST: u64 = 0x1111_1111_1111_1111;
    words.iter().fold(true, |none, word| {
        let pairs = (word & ONES) + (word >> 1 & ONES);
        let count = (pairs & TWOS) + (pairs >> 2 & TWOS);
        none & ((count & count >> 1 | count >> 2) & LOWEST == 0)
    })
}

pub(super) fn places(mask: &[u8], indices: &mut [u8]) {
    for (index, bits) in indices.iter_mut().zip(mask) {
        *index = BYTES_OF_MASK[usize::from(*bits)].index;
    }
}

pub(super) fn scatter<const N: usize>(indices: &[u8], packed: &[[u8; N]], dense: &mut [u8]) {
    let bands = dense.par_chunks_mut(BYTES * 8 * N).zip(packed.par_chunks(BYTES * 4));
    bands.zip(indices.par_chunks(BYTES)).for_each(|((dense, packed), indices)| {
        let eights = dense.as_chunks_mut::<N>().0.as_chunks_mut::<8>().0;
        let quads = packed.as_chunks::<4>().0;
        for ((eight, quad), index) in eights.iter_mut().zip(quads).zip(indices) {
            for (slot, value) in quad.iter().enumerate() {
                eight[usize::from(slot as u8 / 2 * 4 + (index >> (2 * slot) & 3))] = *value;
            }
        }
    });
}

pub(super) fn mask(indices: &[u8], words: &mut [u64]) {
    for (word, indices) in words.iter_mut().zip(indices.chunks(8)) {
        let masks = indices.iter().rev().map(|index| u64::from(MASKS[usize::from(*index)]));
        *word = masks.fold(0, |word, mask| word << 8 | mask);
    }
}

/// Whether every byte is one that a writer makes.
pub(super) fn valid(indices: &[u8]) -> bool {
    indices.iter().all(|index| MASKS[usize::from(*index)] != 0)
}
