//! Do two tensors hold the same numbers, whatever they are stored as? Where not: how many entries
//! differ, and by how much.
//!
//! Equal parts need no unpacking. All else is compared dense, band by band on all threads; tensors of
//! different dtypes as f64, of which there is one band at a time.

use crate::{Dense, Dtype, Format, Packed, Source, StorageError, Values};
use half::{bf16, f16};
use rayon::prelude::*;
use secateur_mask::Mask;
use std::{cmp::Ordering, fmt};

/// Entries that one thread compares at a time.
const BAND: usize = 1 << 14;

/// What comparing two tensors found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Comparison {
    /// The same numbers.
    Same,
    /// The same shape, other numbers.
    Values(Differing),
    /// Different shapes.
    Shapes(Vec<usize>, Vec<usize>),
    /// Nothing that can be compared entry by entry, and why.
    Kinds(String),
}

/// How two tensors of one shape differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Differing {
    /// Entries that differ.
    pub count: usize,
    /// All entries.
    pub entries: usize,
    /// The largest absolute difference. NaN where NaN meets anything else, which counts as larger
    /// than infinity; `None` for dtypes whose numbers are not understood here (F4, F6, F8, C64).
    pub largest: Option<f64>,
    /// The indices of the first entry that differs so much.
    pub at: Vec<usize>,
    /// The two numbers there.
    pub numbers: Option<(f64, f64)>,
}

impl Comparison {
    /// Whether the numbers are the same.
    pub fn is_same(&self) -> bool {
        *self == Self::Same
    }
}

/// What differs, in a few words.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("the same"),
            Self::Shapes(a, b) => write!(f, "shapes {a:?} and {b:?}"),
            Self::Kinds(reason) => f.write_str(reason),
            Self::Values(Differing { count, entries, largest, at, numbers }) => {
                write!(f, "{count} of {entries} entries")?;
                match (largest, numbers) {
                    (Some(largest), Some((a, b))) if largest.is_nan() => {
                        write!(f, ", first NaN at {at:?}: {} and {}", Shown(*a), Shown(*b))
                    }
                    (Some(largest), Some((a, b))) => {
                        let (a, b) = (Shown(*a), Shown(*b));
                        write!(f, ", most by {largest:.3e} at {at:?}: {a} and {b}")
                    }
                    _ => write!(f, ", first at {at:?}"),
                }
            }
        }
    }
}

/// A number with as many digits as tell it from others; f32 have fewer.
struct Shown(f64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as f32 {
            narrow if f64::from(narrow) == self.0 => write!(f, "{narrow:?}"),
            _ => write!(f, "{:?}", self.0),
        }
    }
}

impl Source {
    /// Compares the tensor or mask `name`, which both must have, with that of `other`. A mask alone is
    /// no tensor and differs from any. Errors where [`Source::tensor`] does.
    pub fn compare(&self, other: &Self, name: &str) -> Result<Comparison, StorageError> {
        let is_mask = |source: &Self| {
            let entry = source.entries().get(name);
            let entry = entry.ok_or_else(|| StorageError::Missing(name.to_owned()))?;
            Ok::<_, StorageError>(entry.format == Format::Mask)
        };
        match (is_mask(self)?, is_mask(other)?) {
            (false, false) => Ok(compare(&self.tensor(name)?, &other.tensor(name)?)),
            (true, true) => match (self.mask(name)?, other.mask(name)?) {
                (Some(a), Some(b)) => Ok(compare_masks(&a, &b)),
                _ => Err(StorageError::Missing(name.to_owned())),
            },
            (a_is_mask, _) => {
                let (mask, tensor) = if a_is_mask { ("A", "B") } else { ("B", "A") };
                let reason = format!("a mask alone in {mask}, a tensor in {tensor}");
                Ok(Comparison::Kinds(reason))
            }
        }
    }
}

/// Compares two masks bit by bit.
pub fn compare_masks(a: &Mask, b: &Mask) -> Comparison {
    if a.shape() != b.shape() {
        return Comparison::Shapes(a.shape().to_vec(), b.shape().to_vec());
    }
    let other: Vec<u64> = a.words().iter().zip(b.words()).map(|(a, b)| a ^ b).collect();
    let Some(word) = other.iter().position(|word| *word != 0) else { return Comparison::Same };
    let first = word * 64 + other[word].trailing_zeros() as usize;
    let number = |mask: &Mask| if mask.get(first) == Some(true) { 1.0 } else { 0.0 };
    Comparison::Values(Differing {
        count: other.iter().map(|word| word.count_ones() as usize).sum(),
        entries: a.len(),
        largest: Some(1.0),
        at: indices(first, a.shape()),
        numbers: Some((number(a), number(b))),
    })
}

/// Compares the dense tensors that `a` and `b` stand for, packed or not.
///
/// - Of one dtype, entries are the same if their bits are, or if both are zero: `-0.0` is `+0.0`.
///   NaNs are the same only with the same sign and payload.
/// - Of different dtypes, or where rows are scaled, entries are the same if they are as f64: integers
///   beyond 2^53 are rounded, NaN is NaN. A scaled entry is the f32 product of value and scale, as in
///   [`Dense::to_f32`].
///
/// Equal parts are not unpacked. Otherwise both are, and no more memory is needed than for that.
///
/// ```
/// use secateur_storage::{Dense, Format, Packed, Values, compare};
/// let dense = Dense::new(vec![0.0_f32, 5.0, 0.0, -3.0], &[1, 4])?;
/// let packed = Packed::pack_as(&dense, &dense.nonzero()?, Format::Bitmap)?;
/// let doubles = Dense::new(Values::from_f64(vec![0.0, 5.0, 0.0, -2.5]), &[1, 4])?;
///
/// assert!(compare(&packed, &dense.clone().into()).is_same());
/// let difference = compare(&packed, &doubles.into());
/// let said = "1 of 4 entries, most by 5.000e-1 at [0, 3]: -3.0 and -2.5";
/// assert_eq!(difference.to_string(), said);
/// # Ok::<(), secateur_storage::StorageError>(())
/// ```
pub fn compare(a: &Packed, b: &Packed) -> Comparison {
    if a.shape() != b.shape() {
        return Comparison::Shapes(a.shape().to_vec(), b.shape().to_vec());
    }
    if a == b {
        return Comparison::Same;
    }
    let (a, b) = (a.unpack(), b.unpack());
    let plain = a.values().scales().is_none() && b.values().scales().is_none();
    let found = if a.dtype() == b.dtype() && plain {
        by_bits(a.values(), b.values())
    } else {
        match [&a, &b].into_iter().find(|dense| numbers(dense, 0..0, &mut vec![]).is_none()) {
            Some(unknown) => {
                let (a, b, unknown) = (a.dtype(), b.dtype(), unknown.dtype());
                let reason = format!("{a:?} and {b:?}, and {unknown:?} is not understood here");
                return Comparison::Kinds(reason);
            }
            None => as_numbers(&a, &b),
        }
    };
    let Some(found) = found else { return Comparison::Same };
    let at = found.at;
    let (mut one, mut other) = (vec![], vec![]);
    let known = numbers(&a, at..at + 1, &mut one).and(numbers(&b, at..at + 1, &mut other));
    Comparison::Values(Differing {
        count: found.count,
        entries: a.values().len(),
        largest: found.largest,
        at: indices(at, a.shape()),
        numbers: known.and(one.pop().zip(other.pop())),
    })
}

/// What a band found.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Found {
    count: usize,
    largest: Option<f64>,
    /// The first place of the largest difference.
    at: usize,
}

impl Found {
    fn one(at: usize, by: Option<f64>) -> Self {
        // NaN without a sign, so that it is ordered above infinity.
        let largest = by.map(|by| if by.is_nan() { f64::NAN } else { by.abs() });
        Self { count: 1, largest, at }
    }

    fn and(self, other: Self) -> Self {
        let count = self.count + other.count;
        let order = match (self.largest, other.largest) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => Ordering::Equal,
        };
        let first = order.then(other.at.cmp(&self.at)) == Ordering::Greater;
        Self { count, ..if first { self } else { other } }
    }
}

/// The differences of all bands together; `band` looks at the entries of a range.
fn in_bands(
    entries: usize,
    band: impl Fn(std::ops::Range<usize>) -> Option<Found> + Sync,
) -> Option<Found> {
    let bands = (0..entries.div_ceil(BAND)).into_par_iter();
    let found = bands.filter_map(|at| band(at * BAND..entries.min((at + 1) * BAND)));
    found.reduce_with(Found::and)
}

fn by_bits(a: &Values, b: &Values) -> Option<Found> {
    let dtype = a.dtype();
    let width = dtype.bitsize();
    let zero = magnitude_bits(dtype);
    in_bands(a.len(), |range| {
        // A band is a whole number of bytes, whatever the width of its entries.
        let bytes = range.start * width / 8..(range.end * width).div_ceil(8);
        let (a, b) = (&a.data()[bytes.clone()], &b.data()[bytes]);
        if a == b {
            return None;
        }
        let (places, mut one, mut other) = (0..range.len(), vec![], vec![]);
        let known = widen(dtype, a, &mut one).and(widen(dtype, b, &mut other)).is_some();
        let differing = places.filter_map(|place| {
            let (a, b) = (bits(a, place, width), bits(b, place, width));
            let same = a == b || same_zeros(dtype, zero, a, b);
            let numbers = known.then(|| (one[place], other[place]));
            (!same).then(|| Found::one(range.start + place, distance(dtype, a, b, numbers)))
        });
        differing.reduce(Found::and)
    })
}

/// The bits of entry `place`.
fn bits(data: &[u8], place: usize, width: usize) -> u64 {
    let (start, mut word) = (place * width, [0; 8]);
    let bytes = &data[start / 8..(start + width).div_ceil(8)];
    word[..bytes.len()].copy_from_slice(bytes);
    (u64::from_le_bytes(word) >> (start % 8)) & (u64::MAX >> (64 - width))
}

/// Which bits of a number are not its sign; of a dtype with one zero only, all.
fn magnitude_bits(dtype: Dtype) -> u64 {
    let all = u64::MAX >> (64 - dtype.bitsize());
    match dtype {
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => all >> 1,
        Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F6_E2M3 | Dtype::F6_E3M2 | Dtype::F4 => all >> 1,
        _ => all,
    }
}

fn same_zeros(dtype: Dtype, magnitude: u64, a: u64, b: u64) -> bool {
    match dtype {
        // Each of its two numbers may be a zero of either sign.
        Dtype::C64 => [(a, b), (a >> 32, b >> 32)]
            .into_iter()
            .all(|(a, b)| a as u32 == b as u32 || (a | b) & 0x7FFF_FFFF == 0),
        _ => (a | b) & magnitude == 0,
    }
}

/// The difference of two entries of one dtype; of wide integers it is rounded once, as a difference.
fn distance(dtype: Dtype, a: u64, b: u64, numbers: Option<(f64, f64)>) -> Option<f64> {
    match dtype {
        Dtype::I64 => Some((a as i64).abs_diff(b as i64) as f64),
        Dtype::U64 => Some(a.abs_diff(b) as f64),
        _ => numbers.map(|(a, b)| a - b),
    }
}

fn as_numbers(a: &Dense, b: &Dense) -> Option<Found> {
    in_bands(a.values().len(), |range| {
        let (mut one, mut other) = (vec![], vec![]);
        numbers(a, range.clone(), &mut one)?;
        numbers(b, range.clone(), &mut other)?;
        let pairs = range.zip(one.into_iter().zip(other));
        let differing = pairs.filter(|(_, (a, b))| a != b && !(a.is_nan() && b.is_nan()));
        differing.map(|(at, (a, b))| Found::one(at, Some(a - b))).reduce(Found::and)
    })
}

/// The entries `range` as f64, scales applied. `None` for dtypes that are not understood.
fn numbers(dense: &Dense, range: std::ops::Range<usize>, to: &mut Vec<f64>) -> Option<()> {
    let values = dense.values();
    let width = values.dtype().bitsize();
    if !width.is_multiple_of(8) {
        return None;
    }
    widen(values.dtype(), &values.data()[range.start * width / 8..range.end * width / 8], to)?;
    if let Some(scales) = values.scales() {
        let cols = values.len() / scales.len().max(1);
        for (number, place) in to.iter_mut().zip(range) {
            *number = f64::from(*number as f32 * scales[place / cols]);
        }
    }
    Some(())
}

/// Elements as f64. `None` for dtypes that are not understood.
fn widen(dtype: Dtype, data: &[u8], to: &mut Vec<f64>) -> Option<()> {
    macro_rules! each {
        ($element:ty, $number:expr) => {{
            let elements = data.as_chunks::<{ size_of::<$element>() }>().0.iter();
            to.extend(elements.map(|bytes| $number(<$element>::from_le_bytes(*bytes))));
        }};
    }
    match dtype {
        Dtype::F64 => each!(f64, |number| number),
        Dtype::F32 => each!(f32, f64::from),
        Dtype::F16 => each!(f16, f16::to_f64),
        Dtype::BF16 => each!(bf16, bf16::to_f64),
        Dtype::I8 => each!(i8, f64::from),
        Dtype::U8 | Dtype::BOOL => each!(u8, f64::from),
        Dtype::I16 => each!(i16, f64::from),
        Dtype::U16 => each!(u16, f64::from),
        Dtype::I32 => each!(i32, f64::from),
        Dtype::U32 => each!(u32, f64::from),
        Dtype::I64 => each!(i64, |number| number as f64),
        Dtype::U64 => each!(u64, |number| number as f64),
        _ => return None,
    }
    Some(())
}

/// A row-major place as indices.
fn indices(mut place: usize, shape: &[usize]) -> Vec<usize> {
    let mut indices = vec![0; shape.len()];
    for (index, side) in indices.iter_mut().zip(shape).rev() {
        (*index, place) = (place % side, place / side);
    }
    indices
}

#[cfg(test)]
mod tests;
