//! Which format does a tensor of somebody's checkpoint get? The one that its zeros prove and repay.

use crate::{
    Conversion, Dense, Dtype, Format, Layout, Packed, StorageError,
    prune::magnitude,
    values::{is_float, zero_test},
};
use secateur_mask::{Mask, Pattern};

/// What is to become of a tensor that was read.
pub(crate) enum Choice {
    /// It goes on as it is.
    Keep,
    /// What the mask keeps of it is packed.
    Pack {
        dense: Dense,
        mask: Mask,
        format: Format,
        /// What it may claim.
        pattern: Option<Pattern>,
    },
}

/// Chooses for `read`, which is pruned first if asked.
pub(crate) fn choose(read: &Packed, conversion: Conversion) -> Result<Choice, StorageError> {
    let to = conversion.to;
    if !is_weight(read) || read.shape().contains(&0) {
        return Ok(Choice::Keep);
    }
    let (dense, mask, pruned_to) = match conversion.prune {
        Some(target) => {
            let dense = read.unpack();
            let mask = magnitude(&dense, read.mask().as_ref(), target)?;
            (dense, mask, Some(target.pattern()))
        }
        None if to == Layout::Dense || to == Layout::Masks => return Ok(Choice::Keep),
        None if read.format() == Format::Dense => {
            let dense = read.unpack();
            let mask = dense.nonzero()?;
            (dense, mask, None)
        }
        None => match (to, read.mask()) {
            (Layout::Sparse24Bitmask, Some(mask)) if read.format() != Format::TWO_OF_FOUR => {
                (read.unpack(), mask, None)
            }
            _ => return Ok(Choice::Keep),
        },
    };
    let holds = |pattern| mask.verify(&pattern).is_ok();
    // What had been cut before may leave less than whole blocks or channels.
    let pruned_to = pruned_to.map(|pattern| match holds(pattern) {
        true => pattern,
        false => Pattern::Unstructured,
    });
    let (format, pattern) = match to {
        // Pruned weights are told from others by their zeros alone there.
        Layout::Dense | Layout::Masks => (Format::Bitmap, pruned_to),
        Layout::Secateur => match pruned_to {
            Some(pattern) => (Packed::format_of(dense.dtype(), &mask, pattern)?, pruned_to),
            None => tightest(&mask, dense.dtype())?,
        },
        Layout::Sparse24Bitmask if dense.shape().len() == 2 && holds(Pattern::TWO_OF_FOUR) => {
            (Format::TWO_OF_FOUR, None)
        }
        Layout::Sparse24Bitmask | Layout::SparseBitmask => (Format::Bitmap, None),
    };
    let bytes = Packed::bytes_as(format, dense.dtype(), &mask)?;
    let pays = bytes < dense.values().data().len() || pruned_to.is_some();
    match format {
        Format::Dense => Ok(Choice::Keep),
        _ if !pays => Ok(Choice::Keep),
        _ => Ok(Choice::Pack { dense, mask, format, pattern }),
    }
}

/// A float tensor of two or more sides.
pub(crate) fn is_weight(packed: &Packed) -> bool {
    packed.shape().len() >= 2 && (is_float(packed.dtype()) || packed.values().scales().is_some())
}

/// The format for what a mask keeps of a dense tensor, and the pattern that it proves. The smallest,
/// but a regular one that kernels like if it costs less than a quarter more.
fn tightest(mask: &Mask, dtype: Dtype) -> Result<(Format, Option<Pattern>), StorageError> {
    if zero_test(dtype).is_none() {
        return Ok((Format::Dense, None));
    }
    let bytes = |format| Packed::bytes_as(format, dtype, mask);
    let mut best = (bytes(Format::Dense)?, Format::Dense);
    for format in [Format::Bitmap, Format::Csr] {
        best = match bytes(format)? {
            smaller if smaller < best.0 && Packed::is_readable(format, dtype, mask)? => {
                (smaller, format)
            }
            _ => best,
        };
    }
    if best.1 == Format::Dense {
        return Ok((Format::Dense, None));
    }
    let pattern = mask.tightest();
    let own = match pattern {
        Pattern::NOfM(n_of_m) if n_of_m.m() <= Format::MOST_M => Some(Format::NOfM(n_of_m)),
        Pattern::Block(block) => Some(Format::Block(block)),
        _ => None,
    };
    // Whatever else it is, 2:4 is what kernels know best.
    let two_of_four = (Format::TWO_OF_FOUR, Pattern::TWO_OF_FOUR);
    let two_of_four = Some(two_of_four).filter(|(_, pattern)| mask.verify(pattern).is_ok());
    for (format, pattern) in two_of_four.into_iter().chain(own.map(|format| (format, pattern))) {
        let pays = bytes(format)? <= best.0 + best.0 / 4;
        if pays && Packed::is_readable(format, dtype, mask)? {
            return Ok((format, Some(pattern)));
        }
    }
    Ok((best.1, Some(pattern).filter(|pattern| *pattern != Pattern::Unstructured)))
}
