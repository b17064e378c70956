//! Which entries stayed? One bit per weight, 1 = kept.

use crate::{
    MaskError,
    bits::{low_bits, spans},
    matrix::Matrix,
    scores::checked_len,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A bit per entry of a weight tensor, row-major, 64 to a word, lowest bit first; 1 means kept.
///
/// Bits beyond the last entry are zero; the constructors see to it, deserialisation included.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawMask")]
pub struct Mask {
    shape: Vec<usize>,
    words: Vec<u64>,
}

#[derive(Deserialize)]
struct RawMask {
    shape: Vec<usize>,
    words: Vec<u64>,
}

impl TryFrom<RawMask> for Mask {
    type Error = MaskError;
    fn try_from(raw: RawMask) -> Result<Self, MaskError> {
        Self::from_words(raw.words, &raw.shape)
    }
}

impl Mask {
    /// A mask that keeps everything.
    pub fn full(shape: &[usize]) -> Result<Self, MaskError> {
        let mut mask = Self::empty(shape)?;
        let len = mask.len();
        mask.words.fill(u64::MAX);
        if let Some(last) = mask.words.last_mut() {
            *last = low_bits(len - (len - 1) / 64 * 64);
        }
        Ok(mask)
    }

    /// A mask that keeps nothing.
    pub fn empty(shape: &[usize]) -> Result<Self, MaskError> {
        let len = checked_len(shape)
            .ok_or_else(|| MaskError::Shape { shape: shape.to_vec(), len: usize::MAX })?;
        Ok(Self { shape: shape.to_vec(), words: vec![0; len.div_ceil(64)] })
    }

    /// A mask of one `bool` per entry, row-major. Errors when the count does not match the shape.
    pub fn from_bools(kept: &[bool], shape: &[usize]) -> Result<Self, MaskError> {
        if checked_len(shape) != Some(kept.len()) {
            return Err(MaskError::Shape { shape: shape.to_vec(), len: kept.len() });
        }
        let mut mask = Self::empty(shape)?;
        for (word, kept) in mask.words.iter_mut().zip(kept.chunks(64)) {
            *word = kept.iter().rev().fold(0, |word, kept| word << 1 | u64::from(*kept));
        }
        Ok(mask)
    }

    /// A mask from its own words; see [`Self::words`]. Errors on padding bits that are set.
    pub fn from_words(words: Vec<u64>, shape: &[usize]) -> Result<Self, MaskError> {
        let len = checked_len(shape)
            .ok_or_else(|| MaskError::Shape { shape: shape.to_vec(), len: usize::MAX })?;
        let expected = len.div_ceil(64);
        let padding_clear = words.last().is_none_or(|last| match len % 64 {
            0 => true,
            used => last & !low_bits(used) == 0,
        });
        if words.len() != expected || !padding_clear {
            return Err(MaskError::Words { len, expected });
        }
        Ok(Self { shape: shape.to_vec(), words })
    }

    /// The shape of the weight.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bits, 64 entries to a word, the first entry lowest.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Entries of the weight, kept or not.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the weight has no entries at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the entry at a row-major `index` is kept. `None` beyond the end.
    pub fn get(&self, index: usize) -> Option<bool> {
        (index < self.len()).then(|| self.words[index / 64] >> (index % 64) & 1 == 1)
    }

    /// The bits to be set. The caller leaves those beyond `len` alone.
    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// The number of kept entries.
    pub fn count_kept(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The number of kept entries in `start..end`, row-major. The caller stays within `len`.
    pub(crate) fn count_range(&self, start: usize, end: usize) -> usize {
        let kept = |(word, bits): (usize, u64)| (self.words[word] & bits).count_ones() as usize;
        spans(start, end).map(kept).sum()
    }

    /// The number of kept entries of every row of the weight seen as a matrix, outputs × inputs.
    ///
    /// ```
    /// # use secateur_mask::Mask;
    /// let mask = Mask::from_bools(&[true, true, false, false], &[2, 2])?;
    /// assert_eq!(mask.row_counts(), [2, 0]);
    /// # Ok::<(), secateur_mask::MaskError>(())
    /// ```
    pub fn row_counts(&self) -> Vec<usize> {
        let matrix = Matrix::new(self);
        (0..matrix.rows).map(|row| matrix.kept(row, 0, matrix.cols)).collect()
    }

    /// The share of entries that are kept; 1 for a weight without entries.
    pub fn density(&self) -> f64 {
        match self.len() {
            0 => 1.0,
            len => self.count_kept() as f64 / len as f64,
        }
    }

    /// One `bool` per entry, row-major.
    pub fn to_bools(&self) -> Vec<bool> {
        self.iter().collect()
    }

    /// One `bool` per entry, row-major.
    pub fn iter(&self) -> impl Iterator<Item = bool> + '_ {
        (0..self.len()).map(|index| self.words[index / 64] >> (index % 64) & 1 == 1)
    }

    /// Kept in both.
    pub fn and(&self, other: &Self) -> Result<Self, MaskError> {
        self.zip(other, |a, b| a & b)
    }

    /// Kept in either.
    pub fn or(&self, other: &Self) -> Result<Self, MaskError> {
        self.zip(other, |a, b| a | b)
    }

    /// Kept here and cut there.
    pub fn minus(&self, other: &Self) -> Result<Self, MaskError> {
        self.zip(other, |a, b| a & !b)
    }

    /// Whether everything kept here is kept in `other` too.
    pub fn is_subset_of(&self, other: &Self) -> Result<bool, MaskError> {
        Ok(self.minus(other)?.count_kept() == 0)
    }

    /// Sets the cut entries of `values` to exactly `+0.0`. Errors when the lengths differ.
    ///
    /// ```
    /// # use secateur_mask::Mask;
    /// let mask = Mask::from_bools(&[true, false], &[2])?;
    /// let mut weights = [-1.0, f32::NAN];
    /// mask.apply(&mut weights)?;
    /// assert_eq!(weights.map(f32::to_bits), [(-1.0_f32).to_bits(), 0]);
    /// # Ok::<(), secateur_mask::MaskError>(())
    /// ```
    pub fn apply(&self, values: &mut [f32]) -> Result<(), MaskError> {
        if values.len() != self.len() {
            return Err(MaskError::Shape { shape: self.shape.clone(), len: values.len() });
        }
        for (word, values) in self.words.iter().zip(values.chunks_mut(64)) {
            for (bit, value) in values.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *value = 0.0;
                }
            }
        }
        Ok(())
    }

    fn zip(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Result<Self, MaskError> {
        if self.shape != other.shape {
            return Err(MaskError::ShapeMismatch {
                left: self.shape.clone(),
                right: other.shape.clone(),
            });
        }
        let words = self.words.iter().zip(&other.words).map(|(&a, &b)| f(a, b)).collect();
        Ok(Self { shape: self.shape.clone(), words })
    }
}

/// Rows of `0` and `1`, one line per row of the last axis.
impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cols = self.shape.last().copied().unwrap_or(1);
        let rows: usize = self.shape.iter().rev().skip(1).product();
        for row in 0..rows {
            if row > 0 {
                writeln!(f)?;
            }
            for col in 0..cols {
                let kept = self.get(row * cols + col) == Some(true);
                f.write_str(if kept { "1" } else { "0" })?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({:?}, keeps {} of {})", self.shape, self.count_kept(), self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_masks_have_clean_padding() {
        for len in [0, 1, 63, 64, 65, 128, 130] {
            let mask = Mask::full(&[len]).unwrap();
            assert_eq!(mask.count_kept(), len);
            assert_eq!(Mask::from_words(mask.words().to_vec(), &[len]).unwrap(), mask);
        }
    }

    #[test]
    fn dirty_padding_and_wrong_counts_are_refused() {
        assert!(Mask::from_words(vec![0b1000], &[3]).is_err());
        assert!(Mask::from_words(vec![0, 0], &[3]).is_err());
        assert!(Mask::from_words(vec![], &[usize::MAX, 2]).is_err());
        assert!(serde_json::from_str::<Mask>(r#"{"shape":[3],"words":[15]}"#).is_err());
    }

    #[test]
    fn algebra() {
        let a = Mask::from_bools(&[true, true, false], &[3]).unwrap();
        let b = Mask::from_bools(&[true, false, true], &[3]).unwrap();
        assert_eq!(a.and(&b).unwrap().to_string(), "100");
        assert_eq!(a.or(&b).unwrap().to_string(), "111");
        assert_eq!(a.minus(&b).unwrap().to_string(), "010");
        assert!(a.and(&b).unwrap().is_subset_of(&a).unwrap());
        assert!(!a.is_subset_of(&b).unwrap());
        assert!(a.and(&Mask::full(&[1, 3]).unwrap()).is_err());
    }

    #[test]
    fn ranges_are_counted_across_words() {
        let bits: Vec<bool> = (0..200).map(|i| i % 3 == 0).collect();
        let mask = Mask::from_bools(&bits, &[200]).unwrap();
        for (start, end) in [(0, 0), (0, 200), (60, 70), (63, 129), (128, 200)] {
            let expected = bits[start..end].iter().filter(|b| **b).count();
            assert_eq!(mask.count_range(start, end), expected);
        }
    }
}
