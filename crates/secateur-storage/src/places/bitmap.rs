//! How are elements with a bit each put together and apart? Word by word, in row-major order.

use rayon::prelude::*;

/// Words of a mask that one thread takes at a time: 64 times as many elements.
const WORDS: usize = 1 << 10;

/// The elements whose bit is set, in order. `N` is their size in bytes.
pub(super) fn compress<const N: usize>(words: &[u64], dense: &[u8]) -> Vec<u8> {
    let dense = dense.as_chunks::<N>().0;
    let mut packed = vec![0; count(words) * N];
    let mut rest = packed.as_chunks_mut::<N>().0;
    let mut bands = Vec::new();
    for (words, dense) in words.chunks(WORDS).zip(dense.chunks(WORDS * 64)) {
        let (band, later) = rest.split_at_mut(count(words));
        bands.push((words, dense, band));
        rest = later;
    }
    bands.into_par_iter().for_each(|(words, dense, band)| {
        let mut to = band.iter_mut();
        for (word, from) in words.iter().zip(dense.chunks(64)) {
            for (bit, to) in bits(*word).zip(&mut to) {
                *to = from[bit];
            }
        }
    });
    packed
}

/// `len` elements: those whose bit is set from `packed`, in order, the others all zero bits.
pub(super) fn expand<const N: usize>(words: &[u64], packed: &[u8], len: usize) -> Vec<u8> {
    let mut rest = packed.as_chunks::<N>().0;
    let mut dense = vec![0; len * N];
    let mut bands = Vec::new();
    let elements = dense.as_chunks_mut::<N>().0;
    for (words, dense) in words.chunks(WORDS).zip(elements.chunks_mut(WORDS * 64)) {
        let (band, later) = rest.split_at(count(words).min(rest.len()));
        bands.push((words, dense, band));
        rest = later;
    }
    bands.into_par_iter().for_each(|(words, dense, band)| {
        let mut from = band.iter();
        for (word, to) in words.iter().zip(dense.chunks_mut(64)) {
            for (bit, from) in bits(*word).zip(&mut from) {
                to[bit] = *from;
            }
        }
    });
    dense
}

/// The bits set in a word, lowest first.
pub(super) fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

fn count(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn together_and_apart() {
        // Long enough for several bands, the last one ragged.
        let len = WORDS * 64 * 2 + 77;
        let mut words = vec![0_u64; len.div_ceil(64)];
        let mut dense = vec![0_u8; len * 2];
        for index in (0..len).filter(|index| index % 7 == 3 || index % 64 == 63) {
            words[index / 64] |= 1 << (index % 64);
            dense[2 * index..2 * index + 2].copy_from_slice(&(index as u16 | 1).to_le_bytes());
        }
        let packed = compress::<2>(&words, &dense);
        assert_eq!(packed.len(), 2 * count(&words));
        assert_eq!(packed[..4], [3, 0, 11, 0]);
        assert_eq!(expand::<2>(&words, &packed, len), dense);
    }
}
