//! Which entries does a group keep? Its N highest, along rows, along columns, or of a whole row.

use super::{lanes::two_of_four, top::keep_few, unique_key};
use crate::{Mask, NOfM, bands::Band, bits::low_bits};
use rayon::prelude::*;

/// Scores that one thread takes at a time: whole words of the mask, whole groups of four.
const CHUNK: usize = 1 << 16;

/// Keeps N of every M along each row.
pub(super) fn keep_n_of_m(mask: &mut Mask, scores: &[f32], matrix: (usize, usize), p: NOfM) {
    if p == NOfM::TWO_OF_FOUR && matrix.1.is_multiple_of(4) {
        return keep_two_of_four(mask.words_mut(), scores);
    }
    mask.fill_bands(scores, matrix, 1, |band, scores| {
        for (row, scores) in scores.chunks_exact(band.cols).enumerate() {
            for (group, scores) in scores.chunks(p.m()).enumerate() {
                let keys = scores.iter().enumerate().map(|(i, &score)| unique_key(score, i));
                highest(keys, p.n(), |i| band.keep(row, group * p.m() + i));
            }
        }
    });
}

/// Keeps N of every M along each column. A band holds whole groups of M rows.
pub(super) fn keep_in_columns(band: &mut Band<'_>, scores: &[f32], p: NOfM) {
    let (rows, cols) = (band.rows, band.cols);
    for top in (0..rows).step_by(p.m()) {
        let bottom = (top + p.m()).min(rows);
        for col in 0..cols {
            let keys = (top..bottom).map(|row| unique_key(scores[row * cols + col], row - top));
            highest(keys, p.n(), |i| band.keep(top + i, col));
        }
    }
}

/// Keeps the `keep` highest of each row.
pub(super) fn keep_in_rows(band: &mut Band<'_>, scores: &[f32], keep: usize) {
    for (row, scores) in scores.chunks_exact(band.cols).enumerate() {
        keep_few(scores, keep, |col| band.keep(row, col));
    }
}

/// Calls `kept` for the places of the `n` highest of at most 64 keys, no two alike.
pub(super) fn highest(keys: impl Iterator<Item = u64>, n: usize, mut kept: impl FnMut(usize)) {
    let mut held = [0_u64; 64];
    let mut len = 0;
    for (place, key) in held.iter_mut().zip(keys) {
        *place = key;
        len += 1;
    }
    let held = &held[..len];
    if n >= len {
        return (0..len).for_each(kept);
    }
    let lowest = if len <= 8 {
        // Counting who is beaten by fewer than n others needs no sorting.
        for (place, key) in held.iter().enumerate() {
            if held.iter().filter(|other| *other > key).count() < n {
                kept(place);
            }
        }
        return;
    } else {
        let mut sorted = [0_u64; 64];
        sorted[..len].copy_from_slice(held);
        *sorted[..len].select_nth_unstable_by(n - 1, |a, b| b.cmp(a)).1
    };
    for (place, _) in held.iter().enumerate().filter(|(_, key)| **key >= lowest) {
        kept(place);
    }
}

/// 2:4 over rows that are whole groups: sixty-four scores are a word.
fn keep_two_of_four(words: &mut [u64], scores: &[f32]) {
    words.par_chunks_mut(CHUNK / 64).zip(scores.par_chunks(CHUNK)).for_each(|(words, scores)| {
        let (whole, rest) = scores.as_chunks::<64>();
        for (word, scores) in words.iter_mut().zip(whole) {
            *word = two_of_four(scores);
        }
        if let (Some(word), false) = (words.get_mut(whole.len()), rest.is_empty()) {
            let mut scores = [0.0; 64];
            scores[..rest.len()].copy_from_slice(rest);
            *word = two_of_four(&scores) & low_bits(rest.len());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fast 2:4 is the general one, for every order of four scores with ties.
    #[test]
    fn two_of_four_agrees_with_the_general_rule() {
        for code in 0..4_u32.pow(4) {
            let scores: Vec<f32> = (0..4).map(|i| (code >> (2 * i) & 3) as f32 - 1.0).collect();
            let mut words = [0];
            keep_two_of_four(&mut words, &scores);
            let mut general = 0;
            let keys = scores.iter().enumerate().map(|(i, &score)| unique_key(score, i));
            highest(keys, 2, |i| general |= 1 << i);
            assert_eq!(words, [general], "{scores:?}");
            assert_eq!(words[0].count_ones(), 2);
        }
    }

    /// Counting and sorting keep the same.
    #[test]
    fn long_and_short_groups_are_ranked_alike() {
        for len in [8_usize, 9, 16, 64] {
            let keys: Vec<u64> = (0..len as u64).map(|i| (i * 37) % 64 * 100 + i).collect();
            for n in 1..=len {
                let mut kept = vec![];
                highest(keys.iter().copied(), n, |i| kept.push(i));
                let mut order: Vec<usize> = (0..len).collect();
                order.sort_by_key(|&i| std::cmp::Reverse(keys[i]));
                order.truncate(n);
                order.sort_unstable();
                assert_eq!(kept, order, "{n} of {len}");
            }
        }
    }
}
