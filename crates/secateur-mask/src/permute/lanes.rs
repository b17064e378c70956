//! How do two columns compare, fast? Plain loops over fixed lanes, which become SIMD.
//!
//! Eight-bit scores are four times as many per register as floats, and the sum of absolute
//! differences of bytes is a single instruction on the oldest 64-bit processors (`psadbw`). It is
//! the one loop whose speed decides how good a permutation is, so its shape is chosen for the
//! compiler: chunks of 32 bytes give whole registers, longer and shorter ones do not.

/// Rows that are handled at once when thresholds are computed.
pub(super) const STEP: usize = 16;
/// Columns are padded to a multiple of so many rows, zero in every column.
pub(super) const PADDING: usize = 32;

/// Up to so many sorted entries, loops over them have a constant length.
pub(super) const UNROLLED: usize = 5;

/// A score as the search sees it: shifted so that none is below zero.
pub(super) trait Lane: Copy + PartialOrd + Send + Sync {
    /// What padding and virtual columns hold; no score is less.
    const ZERO: Self;
    /// Bytes of one score.
    const BYTES: usize = size_of::<Self>();

    /// Σ |a − b|, exact for bytes. Rows beyond the last whole [`PADDING`] do not count.
    fn distance(a: &[Self], b: &[Self]) -> f64;
    /// Σ |a − b| + Σ |c − d|, as [`Self::distance`], in one loop.
    fn distances(a: &[Self], b: &[Self], c: &[Self], d: &[Self]) -> f64;
    /// Σ a, exact for bytes.
    fn total(a: &[Self; STEP]) -> f64;
    /// The larger.
    fn max(self, other: Self) -> Self;
    /// The smaller.
    fn min(self, other: Self) -> Self;

    /// The first [`STEP`] of `rows`.
    #[inline]
    fn step(rows: &[Self]) -> [Self; STEP] {
        let mut step = [Self::ZERO; STEP];
        step.copy_from_slice(&rows[..STEP]);
        step
    }
}

/// One register pair's worth of [`u8::distance`].
#[inline(always)]
fn bytes_apart(a: &[u8; PADDING], b: &[u8; PADDING]) -> u32 {
    let mut sum = 0;
    for lane in 0..PADDING {
        sum += u32::from(a[lane].abs_diff(b[lane]));
    }
    sum
}

impl Lane for u8 {
    const ZERO: Self = 0;

    #[inline]
    fn distance(a: &[Self], b: &[Self]) -> f64 {
        let mut sum = 0;
        for (a, b) in a.as_chunks::<PADDING>().0.iter().zip(b.as_chunks::<PADDING>().0) {
            sum += bytes_apart(a, b);
        }
        f64::from(sum)
    }

    #[inline(always)]
    fn distances(a: &[Self], b: &[Self], c: &[Self], d: &[Self]) -> f64 {
        let mut sum = 0;
        let first = a.as_chunks::<PADDING>().0.iter().zip(b.as_chunks::<PADDING>().0);
        let second = c.as_chunks::<PADDING>().0.iter().zip(d.as_chunks::<PADDING>().0);
        for ((a, b), (c, d)) in first.zip(second) {
            sum += bytes_apart(a, b);
            sum += bytes_apart(c, d);
        }
        f64::from(sum)
    }

    #[inline]
    fn total(a: &[Self; STEP]) -> f64 {
        f64::from(a.iter().map(|&a| u32::from(a)).sum::<u32>())
    }

    #[inline]
    fn max(self, other: Self) -> Self {
        Ord::max(self, other)
    }

    #[inline]
    fn min(self, other: Self) -> Self {
        Ord::min(self, other)
    }
}

impl Lane for f32 {
    const ZERO: Self = 0.0;

    #[inline]
    fn distance(a: &[Self], b: &[Self]) -> f64 {
        let mut sums = [0.0_f32; STEP];
        for (a, b) in a.as_chunks::<STEP>().0.iter().zip(b.as_chunks::<STEP>().0) {
            for lane in 0..STEP {
                sums[lane] += (a[lane] - b[lane]).abs();
            }
        }
        f64::from(sums.iter().sum::<f32>())
    }

    #[inline]
    fn distances(a: &[Self], b: &[Self], c: &[Self], d: &[Self]) -> f64 {
        Self::distance(a, b) + Self::distance(c, d)
    }

    #[inline]
    fn total(a: &[Self; STEP]) -> f64 {
        let mut sums = [0.0; 4];
        for lane in 0..STEP {
            sums[lane % 4] += a[lane];
        }
        f64::from((sums[0] + sums[1]) + (sums[2] + sums[3]))
    }

    // `f32::max` would look for NaN, of which there is none.
    #[inline]
    fn max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    #[inline]
    fn min(self, other: Self) -> Self {
        if self < other { self } else { other }
    }
}

/// The `keep` largest of `columns` in every lane, largest first; the other entries stay as given.
#[inline]
pub(super) fn largest<L: Lane, const K: usize>(
    columns: impl Iterator<Item = [L; STEP]>,
    keep: usize,
) -> [[L; STEP]; K] {
    let mut top = [[L::ZERO; STEP]; K];
    for mut rest in columns {
        for best in &mut top[..keep] {
            for lane in 0..STEP {
                let value = rest[lane];
                rest[lane] = value.min(best[lane]);
                best[lane] = value.max(best[lane]);
            }
        }
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_the_plain_sum() {
        for rows in [0, 32, 64, 96, 160] {
            let a: Vec<u8> = (0..rows).map(|i| (i * 37 % 256) as u8).collect();
            let b: Vec<u8> = (0..rows).map(|i| (i * 101 % 256) as u8).collect();
            let plain: u32 = a.iter().zip(&b).map(|(&a, &b)| u32::from(a.abs_diff(b))).sum();
            assert_eq!(u8::distance(&a, &b), f64::from(plain));
            let float = |bytes: &[u8]| bytes.iter().map(|&b| f32::from(b)).collect::<Vec<_>>();
            assert_eq!(f32::distance(&float(&a), &float(&b)), f64::from(plain));
        }
    }

    #[test]
    fn the_largest_come_first() {
        let columns = [3, 9, 1, 9, 5].map(|value: u8| [value; STEP]);
        let top = largest::<u8, 3>(columns.into_iter(), 3);
        assert_eq!(top.map(|column| column[0]), [9, 9, 5]);
        assert_eq!(u8::total(&top[2]), 80.0);
    }
}
