//! Which two of every four are largest? Decided on the bits of the floats, 64 at a time.
//!
//! A float without its sign bit orders as an integer, so that halves are not even converted. This is
//! what `Pattern::select` decides from the magnitudes, ties to the lower index, at several times its
//! speed; it exists because pruning must not be slower than reading.

use crate::Dtype;
use secateur_mask::lanes::{two_of_four, two_of_four_i16};

/// The words of the mask, for a whole number of words; `None` for other dtypes than F32, F16, BF16.
pub(crate) fn words(dtype: Dtype, data: &[u8]) -> Option<Vec<u64>> {
    // NaN ranks as infinity does.
    match dtype {
        Dtype::F16 => Some(halves(data, 0x7C00)),
        Dtype::BF16 => Some(halves(data, 0x7F80)),
        Dtype::F32 => {
            let magnitude = |bytes| f32::from_le_bytes(bytes).abs().min(f32::INFINITY);
            let blocks = data.as_chunks::<4>().0.as_chunks::<64>().0;
            Some(blocks.iter().map(|block| two_of_four(&block.map(magnitude))).collect())
        }
        _ => None,
    }
}

fn halves(data: &[u8], infinity: i16) -> Vec<u64> {
    let magnitude = |bytes| (i16::from_le_bytes(bytes) & i16::MAX).min(infinity);
    let blocks = data.as_chunks::<2>().0.as_chunks::<64>().0;
    blocks.iter().map(|block| two_of_four_i16(&block.map(magnitude))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Values;
    use half::{bf16, f16};
    use secateur_mask::{Pattern, Scores, Sparsity};

    /// What `Pattern::select` makes of the magnitudes.
    fn selected(floats: &[f32]) -> Vec<u64> {
        let scores: Vec<f32> =
            floats.iter().map(|w| if w.is_nan() { f32::INFINITY } else { w.abs() }).collect();
        let scores = Scores::new(scores, &[floats.len()]).unwrap();
        let half = Sparsity::new(0.5).unwrap();
        Pattern::TWO_OF_FOUR.select(scores, half).unwrap().words().to_vec()
    }

    #[test]
    fn as_selection_from_scores() {
        let special = [0.0, -0.0, 1.0, -1.0, 2.0, f32::INFINITY, f32::NAN, 6e-8, -3.5];
        let mut state = 7_u32;
        let floats: Vec<f32> = (0..64 * 200)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                special[(state >> 16) as usize % special.len()]
            })
            .collect();
        let words_of = |values: Values| words(values.dtype(), values.data()).unwrap();
        assert_eq!(words_of(floats.clone().into()), selected(&floats));
        let halves: Vec<f16> = floats.iter().map(|w| f16::from_f32(*w)).collect();
        let rounded: Vec<f32> = halves.iter().map(|w| w.to_f32()).collect();
        assert_eq!(words_of(halves.into()), selected(&rounded));
        let brain: Vec<bf16> = floats.iter().map(|w| bf16::from_f32(*w)).collect();
        let rounded: Vec<f32> = brain.iter().map(|w| w.to_f32()).collect();
        assert_eq!(words_of(brain.into()), selected(&rounded));
        assert!(words(Dtype::F64, &[0; 512]).is_none());
    }
}
