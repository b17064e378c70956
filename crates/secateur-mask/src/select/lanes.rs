//! How do comparisons become bits? Sixty-four scores at a time, four to an instruction, no branch.

use wide::{f32x4, i16x8, u64x2};

/// Bit i is set where `scores[i] >= threshold`.
pub(super) fn at_least(scores: &[f32; 64], threshold: f32) -> u64 {
    let (groups, threshold) = (scores.as_chunks::<4>().0, f32x4::splat(threshold));
    groups.iter().enumerate().fold(0, |word, (place, &group)| {
        let above = f32x4::new(group).simd_ge(threshold).to_bitmask();
        word | u64::from(above as u8 & 0xF) << (place * 4)
    })
}

/// The two highest of every four, the lower index among equals, as the bits of a mask's word. No score
/// may be NaN.
pub fn two_of_four(scores: &[f32; 64]) -> u64 {
    let groups = scores.as_chunks::<4>().0;
    groups.iter().enumerate().fold(0, |word, (place, &[a, b, c, d])| {
        let near = f32x4::new([a, b, c, a]).simd_ge(f32x4::new([b, c, d, d])).to_bitmask();
        let far = f32x4::new([a, b, a, a]).simd_ge(f32x4::new([c, d, d, d])).to_bitmask();
        let outcome = (near as usize & 15) | (far as usize & 3) << 4;
        word | u64::from(KEPT[outcome]) << (place * 4)
    })
}

/// As [`two_of_four`], of scores that are integers of 16 bits: the magnitudes of f16 and bf16 are, once
/// their sign bit is gone.
pub fn two_of_four_i16(scores: &[i16; 64]) -> u64 {
    let pairs_of_groups = scores.as_chunks::<8>().0;
    pairs_of_groups.iter().enumerate().fold(0, |word, (place, &pair)| {
        let both: u64x2 = bytemuck::cast(pair);
        let below = |x: u64x2, y: u64x2| -> usize {
            let (x, y): (i16x8, i16x8) = (bytemuck::cast(x), bytemuck::cast(y));
            y.simd_gt(x).to_bitmask() as usize
        };
        // In each group: a b c a against b c d d, and a b against c d.
        let near = below(
            both & u64x2::splat(u64::MAX >> 16) | both << 48,
            both >> 16 | both & u64x2::splat(0xFFFF << 48),
        );
        let far = below(both & u64x2::splat(0xFFFF_FFFF), both >> 32);
        let (near, far) = (!near, !far);
        let low = KEPT[near & 15 | (far & 3) << 4];
        let high = KEPT[near >> 4 & 15 | (far >> 4 & 3) << 4];
        word | u64::from(low | high << 4) << (place * 8)
    })
}

/// What stays of a group, by the outcome of its six pairings. Bits: a ≥ b, b ≥ c, c ≥ d, a ≥ d,
/// a ≥ c, b ≥ d. Each pair has one winner, of equals the earlier; who wins two or more stays.
static KEPT: [u8; 64] = {
    let mut kept = [0; 64];
    let mut outcome = 0;
    while outcome < 64 {
        let (ab, bc, cd) = (outcome & 1, outcome >> 1 & 1, outcome >> 2 & 1);
        let (ad, ac, bd) = (outcome >> 3 & 1, outcome >> 4 & 1, outcome >> 5 & 1);
        let wins = [ab + ac + ad, 1 - ab + bc + bd, 2 - ac - bc + cd, 3 - ad - bd - cd];
        let mut place = 0;
        while place < 4 {
            kept[outcome] |= ((wins[place] >= 2) as u8) << place;
            place += 1;
        }
        outcome += 1;
    }
    kept
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Every order of four scores with ties, in every place of the word, and both signs of zero.
    #[test]
    fn lanes_keep_what_ranking_keeps() {
        let level = [-1.0, -0.0, 0.0, 1.0, 2.0, f32::INFINITY, f32::NEG_INFINITY, 0.5];
        for code in 0..8_usize.pow(4) {
            let score = |i: usize| level[((code >> (3 * (i % 4))) + i / 4) & 7];
            let scores: [f32; 64] = std::array::from_fn(score);
            let kept = two_of_four(&scores);
            for (place, group) in scores.as_chunks::<4>().0.iter().enumerate() {
                let mut order = [0, 1, 2, 3];
                order.sort_by(|&i, &j| (group[j] + 0.0).total_cmp(&(group[i] + 0.0)));
                let expected = 1 << order[0] | 1 << order[1];
                assert_eq!(kept >> (4 * place) & 0xF, expected, "{group:?}");
            }
            let ranks = scores.map(|score| (score.clamp(-9.0, 9.0) * 2.0) as i16);
            assert_eq!(two_of_four_i16(&ranks), kept, "{ranks:?}");
            for threshold in [0.0, -0.0, 1.0] {
                let found = at_least(&scores, threshold);
                assert!((0..64).all(|i| found >> i & 1 == u64::from(scores[i] >= threshold)));
            }
        }
    }
}
