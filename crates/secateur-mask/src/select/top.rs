//! Which are the highest of many? A histogram finds the threshold in linear time, with exact ties.

use super::{lanes::at_least, unique_key};
use crate::{
    Mask,
    bits::{low_bits, set},
    scores::{rank_key, score_of},
};
use rayon::prelude::*;

/// Scores that one thread takes at a time: whole words of the mask.
const CHUNK: usize = 1 << 18;
/// Below this, ranking in place beats two histograms of 65 536 bins.
const FEW: usize = 1 << 15;

/// Marks the `keep` highest of `scores` in an empty mask; of equal scores, those of lower index.
pub(super) fn keep_highest(scores: &[f32], keep: usize, mask: &mut Mask) {
    let words = mask.words_mut();
    if keep >= scores.len() {
        fill(words, scores.len());
    } else if scores.len() <= FEW {
        keep_few(scores, keep, |index| set(words, index));
    } else if keep > 0 {
        keep_many(scores, keep, words);
    }
}

/// Calls `kept` for the `keep` highest of a few scores, by index ascending.
pub(super) fn keep_few(scores: &[f32], keep: usize, mut kept: impl FnMut(usize)) {
    if keep == 0 {
        return;
    }
    if keep >= scores.len() {
        return (0..scores.len()).for_each(kept);
    }
    let mut keys: Vec<u64> = scores.iter().enumerate().map(|(i, &s)| unique_key(s, i)).collect();
    let (_, &mut lowest, _) = keys.select_nth_unstable_by(keep - 1, |a, b| b.cmp(a));
    for (index, &score) in scores.iter().enumerate() {
        if unique_key(score, index) >= lowest {
            kept(index);
        }
    }
}

fn fill(words: &mut [u64], len: usize) {
    words.fill(u64::MAX);
    if !len.is_multiple_of(64)
        && let Some(last) = words.last_mut()
    {
        *last = low_bits(len % 64);
    }
}

/// `0 < keep < scores.len()`.
fn keep_many(scores: &[f32], keep: usize, words: &mut [u64]) {
    // The upper half of the threshold's key, then the lower half among those that share it.
    let upper = histogram(scores, |key| Some(key >> 16));
    let (high, left) = nth(&upper, keep);
    let lower = histogram(scores, |key| (key >> 16 == high).then_some(key & 0xFFFF));
    let (low, ties_kept) = nth(&lower, left);
    let threshold = high << 16 | low;

    let all_ties_stay = lower[low as usize] == ties_kept;
    let boundary = score_of(threshold);
    let fill = |words: &mut [u64], scores: &[f32], mut ties: usize| {
        let (whole, rest) = scores.as_chunks::<64>();
        let mut last = [f32::NEG_INFINITY; 64];
        last[..rest.len()].copy_from_slice(rest);
        for (place, word) in words.iter_mut().enumerate() {
            let (scores, len) = match whole.get(place) {
                Some(scores) => (scores, 64),
                None => (&last, rest.len()),
            };
            let mut kept = at_least(scores, boundary) & low_bits(len);
            if !all_ties_stay {
                let equal = kept & !at_least(scores, boundary.next_up());
                kept ^= equal ^ lowest_ones(equal, ties);
                ties = ties.saturating_sub(equal.count_ones() as usize);
            }
            *word = kept;
        }
    };
    // How many of the scores that equal the boundary each chunk may keep: first come first served.
    let ties: Vec<usize> = match all_ties_stay {
        true => vec![0; scores.len().div_ceil(CHUNK)],
        false => {
            let count = |scores: &[f32]| scores.iter().filter(|&&s| s == boundary).count();
            let counts: Vec<usize> = scores.par_chunks(CHUNK).map(count).collect();
            let before = counts.iter().scan(0, |sum, count| {
                *sum += count;
                Some(*sum - count)
            });
            before.map(|before| ties_kept.saturating_sub(before)).collect()
        }
    };
    words
        .par_chunks_mut(CHUNK / 64)
        .zip(scores.par_chunks(CHUNK))
        .zip(ties)
        .for_each(|((words, scores), ties)| fill(words, scores, ties));
}

/// How many keys fall into each of 65 536 bins.
fn histogram(scores: &[f32], bin: impl Fn(u32) -> Option<u32> + Sync) -> Vec<usize> {
    let empty = || vec![0_u32; 1 << 16];
    let count = |mut bins: Vec<u32>, scores: &[f32]| {
        for &score in scores {
            if let Some(bin) = bin(rank_key(score)) {
                bins[bin as usize] += 1;
            }
        }
        bins
    };
    // A chunk has far fewer than 2^32 scores, and so has what one thread takes in one go here.
    let most = (u32::MAX as usize / CHUNK) * CHUNK;
    let mut total = vec![0_usize; 1 << 16];
    for scores in scores.chunks(most) {
        let bins = scores.par_chunks(CHUNK).fold(empty, count).reduce_with(|mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        });
        total.iter_mut().zip(bins.unwrap_or_default()).for_each(|(a, b)| *a += b as usize);
    }
    total
}

/// The bin of the `n`-th highest key, and how many of that bin are among the `n`.
fn nth(bins: &[usize], n: usize) -> (u32, usize) {
    let mut left = n;
    for (bin, &count) in bins.iter().enumerate().rev() {
        if count >= left {
            return (bin as u32, left);
        }
        left -= count;
    }
    (0, left)
}

/// The lowest `count` set bits of `word`.
fn lowest_ones(word: u64, count: usize) -> u64 {
    if word.count_ones() as usize <= count {
        return word;
    }
    let mut rest = word;
    for _ in 0..count {
        rest &= rest - 1;
    }
    word & !rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many scores are ranked as few are, ties and signs of zero included.
    #[test]
    fn histograms_and_ranking_agree() {
        let len = (CHUNK + FEW) * 2 + 17;
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        };
        let coarse: Vec<f32> = (0..len).map(|_| (next() % 7) as f32 - 3.0).collect();
        let fine: Vec<f32> =
            (0..len).map(|_| f32::from_bits(next() as u32 % 0x7F00_0000)).collect();
        let same = vec![-0.0_f32; len];
        for scores in [coarse, fine, same] {
            for keep in [1, 2, 63, len / 3, len / 2, len - 65, len - 1] {
                let (mut many, mut few) = (vec![0; len.div_ceil(64)], vec![0; len.div_ceil(64)]);
                keep_many(&scores, keep, &mut many);
                keep_few(&scores, keep, |index| set(&mut few, index));
                assert!(many == few, "{keep} of {len}");
                assert_eq!(many.iter().map(|w| w.count_ones() as usize).sum::<usize>(), keep);
            }
        }
    }

    #[test]
    fn lowest_ones_are_counted() {
        assert_eq!(lowest_ones(0b1011, 2), 0b11);
        assert_eq!(lowest_ones(0b1011, 0), 0);
        assert_eq!(lowest_ones(u64::MAX, 64), u64::MAX);
    }
}
