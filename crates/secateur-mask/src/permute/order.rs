//! Is a list of places a permutation, and which one undoes it?

use crate::MaskError;

/// Checks that each of `0..order.len()` appears exactly once, or names the first entry that is too
/// large or appeared before.
///
/// ```
/// use secateur_mask::permute::check;
///
/// check(&[2, 0, 1])?;
/// assert_eq!(
///     check(&[0, 2, 2]).unwrap_err().to_string(),
///     "entry 2 of the permutation is 2; each of 0..3 must appear exactly once"
/// );
/// # Ok::<(), secateur_mask::MaskError>(())
/// ```
pub fn check(order: &[usize]) -> Result<(), MaskError> {
    inverse(order).map(drop)
}

/// The permutation that undoes `order`: entry `order[j]` of it is `j`.
///
/// Errors as [`check`] does.
///
/// ```
/// # use secateur_mask::permute::inverse;
/// assert_eq!(inverse(&[2, 0, 1])?, [1, 2, 0]);
/// # Ok::<(), secateur_mask::MaskError>(())
/// ```
pub fn inverse(order: &[usize]) -> Result<Vec<usize>, MaskError> {
    let len = order.len();
    let mut inverse = vec![usize::MAX; len];
    for (index, &value) in order.iter().enumerate() {
        match inverse.get_mut(value) {
            Some(place) if *place == usize::MAX => *place = index,
            _ => return Err(MaskError::NotAPermutation { index, value, len }),
        }
    }
    Ok(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let order = [3, 1, 4, 0, 2];
        assert_eq!(inverse(&inverse(&order).unwrap()).unwrap(), order);
        assert_eq!(inverse(&[]).unwrap(), [0_usize; 0]);
    }

    #[test]
    fn what_is_none_is_refused() {
        for order in [&[1][..], &[0, 0], &[usize::MAX], &[0, 1, 3]] {
            assert!(check(order).is_err(), "{order:?}");
        }
    }
}
