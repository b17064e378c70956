//! How do bits lie in words? Sixty-four to a word, the first lowest.

/// Sets bit `index`. The caller stays within `words`.
pub(crate) fn set(words: &mut [u64], index: usize) {
    words[index / 64] |= 1 << (index % 64);
}

/// The bits `start..end` as words and the part of each that they take, in order.
pub(crate) fn spans(start: usize, end: usize) -> impl Iterator<Item = (usize, u64)> {
    let last = end.max(start).div_ceil(64);
    (start / 64..last).filter(move |_| start < end).map(move |word| {
        let (first, past) =
            (start.max(word * 64) - word * 64, end.min((word + 1) * 64) - word * 64);
        (word, low_bits(past) & !low_bits(first))
    })
}

/// A word whose lowest `count` bits are set; `count <= 64`.
pub(crate) fn low_bits(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_a_range_once() {
        for (start, end) in [(0, 0), (5, 5), (0, 1), (3, 64), (63, 65), (64, 128), (10, 200)] {
            let mut words = [0_u64; 4];
            for (word, bits) in spans(start, end) {
                assert_eq!(words[word] & bits, 0);
                words[word] |= bits;
            }
            let mut expected = [0_u64; 4];
            (start..end).for_each(|index| set(&mut expected, index));
            assert_eq!(words, expected, "{start}..{end}");
        }
    }
}
