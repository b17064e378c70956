//! Which elements are not zero? One pass at the speed of memory, 64 elements to a word.

use crate::{Dtype, StorageError, Values, shape::checked_len, values::zero_test};
use rayon::prelude::*;
use secateur_mask::Mask;

/// Words that one thread makes at a time: 64 times as many elements.
const WORDS: usize = 1 << 10;

/// The mask of the elements that are not zero.
pub(crate) fn mask(values: &Values, shape: &[usize]) -> Result<Mask, StorageError> {
    Ok(Mask::from_words(words(values.dtype(), values.data(), checked_len(shape)?)?, shape)?)
}

/// The mask's words for `len` elements.
pub(crate) fn words(dtype: Dtype, data: &[u8], len: usize) -> Result<Vec<u64>, StorageError> {
    let (size, bits) = zero_test(dtype).ok_or(StorageError::NotNumbers { found: dtype })?;
    let mut words = vec![0; len.div_ceil(64)];
    // Comparing integers of the elements' own size is what the compiler can vectorise.
    match size {
        1 => fill(&mut words, data, |bytes| u8::from_le_bytes(bytes) & bits as u8 != 0),
        2 => fill(&mut words, data, |bytes| u16::from_le_bytes(bytes) & bits as u16 != 0),
        4 => fill(&mut words, data, |bytes| u32::from_le_bytes(bytes) & bits as u32 != 0),
        _ => fill(&mut words, data, |bytes| u64::from_le_bytes(bytes) & bits != 0),
    }
    Ok(words)
}

fn fill<const N: usize>(words: &mut [u64], data: &[u8], test: impl Fn([u8; N]) -> bool + Sync) {
    let elements = data.as_chunks::<N>().0;
    words.par_chunks_mut(WORDS).zip(elements.par_chunks(WORDS * 64)).for_each(|(words, from)| {
        let (whole, last) = from.as_chunks::<64>();
        for (word, from) in words.iter_mut().zip(whole) {
            *word = gather(from.map(|bytes| u8::from(test(bytes))));
        }
        if !last.is_empty()
            && let Some(word) = words.last_mut()
        {
            let set = last.iter().enumerate().filter(|(_, bytes)| test(**bytes));
            *word = set.fold(0, |word, (bit, _)| word | 1 << bit);
        }
    });
}

/// 64 flags of 0 or 1, each a byte, as the bits of a word.
fn gather(flags: [u8; 64]) -> u64 {
    let eights = flags.as_chunks::<8>().0;
    let mut word = 0;
    for (i, eight) in eights.iter().enumerate() {
        // Flag k, at bit 8k, is moved to bit 56 + k by the factor's bit 56 − 7k; nothing else
        // reaches the top byte.
        let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        word |= bits << (8 * i);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_finds_its_place() {
        for bit in 0..64 {
            let mut flags = [0; 64];
            flags[bit] = 1;
            assert_eq!(gather(flags), 1 << bit);
        }
        assert_eq!(gather([1; 64]), u64::MAX);
    }

    #[test]
    fn zeros_of_either_sign_and_nothing_else() {
        let zero_or_not = [0.0, -0.0, f32::NAN, 1e-45, -1e-45, f32::INFINITY];
        for len in [0, 1, 6, 63, 64, 65, 70_000] {
            let floats: Vec<f32> = (0..len).map(|i| zero_or_not[i * 7 % 6]).collect();
            let mask = mask(&Values::from(floats.clone()), &[len]).unwrap();
            for (index, float) in floats.iter().enumerate() {
                assert_eq!(mask.get(index), Some(*float != 0.0), "{index} of {len}");
            }
        }
    }

    #[test]
    fn each_dtype_has_its_own_zero() {
        let kept = |dtype, bytes: &[u8], len| {
            mask(&Values::new(dtype, bytes.to_vec()).unwrap(), &[len]).map(|m| m.to_bools())
        };
        assert_eq!(kept(Dtype::F16, &[0, 0x80, 1, 0], 2).unwrap(), [false, true]);
        assert_eq!(kept(Dtype::I16, &[0, 0x80, 0, 0], 2).unwrap(), [true, false]);
        assert_eq!(kept(Dtype::F8_E4M3, &[0x80, 1], 2).unwrap(), [false, true]);
        assert_eq!(kept(Dtype::F8_E4M3FNUZ, &[0x80, 0], 2).unwrap(), [true, false]);
        assert_eq!(kept(Dtype::C64, &[0, 0, 0, 0x80, 0, 0, 0, 0x80], 1).unwrap(), [false]);
        assert_eq!(kept(Dtype::C64, &[0, 0, 0, 0x80, 1, 0, 0, 0x80], 1).unwrap(), [true]);
        assert!(kept(Dtype::F8_E8M0, &[0], 1).is_err());
    }
}
