//! What does a checkpoint really hold, and is what it claims true? Found out tensor by tensor.
//!
//! Metadata is held against the values: our own claims by [`Source::tensor`], those of a model's
//! configuration here. A claim that is false is a finding, and the tensor is looked at all the same;
//! what cannot be read is an error.

use crate::{
    Dtype, Entry, Format, Packed, Source, StorageError,
    shape::{checked_len, matrix_view},
    source::Stored,
    structure::Structure,
};
use secateur_mask::{Mask, Pattern};
use std::collections::BTreeSet;

/// Looks at the tensors of a checkpoint.
///
/// ```
/// # let mut checkpoint = secateur_storage::Checkpoint::default();
/// # let weight = secateur_storage::Dense::new(vec![0.0_f32, 0.0, 1.0, 2.0], &[1, 4])?;
/// # checkpoint.tensors.insert("fc1.weight".into(), weight.into());
/// # let bytes = checkpoint.to_bytes()?;
/// use secateur_mask::Pattern;
/// use secateur_storage::{Inspector, Source};
///
/// let source = Source::from_bytes(bytes)?;
/// let inspector = Inspector::new(&source)?;
/// for name in source.entries().keys() {
///     let found = inspector.inspect(name)?;
///     assert_eq!(found.pattern, Some(Pattern::TWO_OF_FOUR));
///     assert_eq!((found.bytes_dense, found.false_claim), (16, None));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Inspector<'a> {
    source: &'a Source,
    structure: Option<Structure>,
}

/// What was found about one tensor, or a mask alone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Inspected {
    /// Which values are not zero (`-0.0` is, and so is a quantised one under any scale); of a mask alone,
    /// the mask. `None` for dtypes whose zeros are not known (F4, F6, F8_E8M0), and for parts that a
    /// false claim makes unreadable.
    pub nonzero: Option<Mask>,
    /// The tightest pattern that those have; `None` without them, or where nothing is zero.
    pub pattern: Option<Pattern>,
    /// The format of ours that needs the fewest bytes for what is there.
    pub smallest: Format,
    /// Bytes with every zero spelled out.
    pub bytes_dense: u64,
    /// Bytes now.
    pub bytes_now: u64,
    /// Bytes in the smallest format.
    pub bytes_possible: u64,
    /// Whether the model's configuration claims its structure of this tensor.
    pub covered: bool,
    /// What is claimed of it and is not true.
    pub false_claim: Option<String>,
}

impl<'a> Inspector<'a> {
    /// Reads what the configuration claims. Errors when it cannot be understood.
    pub fn new(source: &'a Source) -> Result<Self, StorageError> {
        let folder = source.folder().unwrap_or_else(|| "".as_ref());
        let structure = match source.config() {
            Some(config) => Structure::of(config, folder)?,
            None => None,
        };
        Ok(Self { source, structure })
    }

    /// The configuration's claim.
    pub fn structure(&self) -> Option<&Structure> {
        self.structure.as_ref()
    }

    /// Reads the tensor or mask `name` and tells what it holds. Errors on what cannot be read; claims
    /// that are merely false are part of the answer.
    pub fn inspect(&self, name: &str) -> Result<Inspected, StorageError> {
        let source = self.source;
        let missing = || StorageError::Missing(name.to_owned());
        let entry = source.entries().get(name).ok_or_else(missing)?;
        let (packed, mut false_claim) = match entry.format {
            Format::Mask => return self.inspect_mask(name, entry),
            _ => match source.tensor(name) {
                Ok(packed) => (Some(packed), None),
                Err(error) => {
                    let said = is_claim(error)?;
                    (or_claim(source.unproved(name))?, Some(said))
                }
            },
        };
        let nonzero = match &packed {
            Some(packed) => known(packed.unpack().nonzero())?,
            None => None,
        };
        let claim = self.structure.as_ref().filter(|claim| claim.covers(name, entry));
        if let (Some(claim), Some(nonzero), None) = (claim, &nonzero, &false_claim)
            && let Err(error) = nonzero.verify(&claim.pattern())
            && flat(nonzero)?.verify(&claim.pattern()).is_err()
        {
            false_claim = Some(format!("config.json claims {}: {error}", claim.pattern()));
        }
        let scales = packed.as_ref().and_then(|packed| packed.values().scales());
        let scales = scales.map_or(0, size_of_val) as u64;
        let bits = checked_len(&entry.shape)? as u64 * entry.dtype.bitsize() as u64;
        let bytes_dense = bits.div_ceil(8) + scales;
        let pattern = nonzero.as_ref().and_then(tightest);
        let (smallest, bytes_possible) = match &nonzero {
            Some(nonzero) => smallest(nonzero, pattern, entry.dtype)?,
            None => (Format::Dense, bits.div_ceil(8)),
        };
        Ok(Inspected {
            pattern,
            nonzero,
            smallest,
            bytes_dense,
            bytes_now: entry.bytes,
            bytes_possible: bytes_possible + scales,
            covered: claim.is_some(),
            false_claim,
        })
    }

    fn inspect_mask(&self, name: &str, entry: &Entry) -> Result<Inspected, StorageError> {
        let (mask, false_claim) = match self.source.mask(name) {
            Ok(mask) => (mask, None),
            Err(error) => (None, Some(is_claim(error)?)),
        };
        let (rows, cols) = matrix_view(&entry.shape)?;
        let bytes = (rows * cols.div_ceil(8)) as u64;
        Ok(Inspected {
            pattern: mask.as_ref().and_then(tightest),
            nonzero: mask,
            smallest: Format::Mask,
            bytes_dense: bytes,
            bytes_now: entry.bytes,
            bytes_possible: bytes,
            covered: false,
            false_claim,
        })
    }
}

fn tightest(nonzero: &Mask) -> Option<Pattern> {
    (nonzero.count_kept() < nonzero.len()).then(|| nonzero.tightest())
}

/// What is claimed and false, in words; all other errors stay errors.
fn is_claim(error: StorageError) -> Result<String, StorageError> {
    match &error {
        // The tensor is named beside it.
        StorageError::Claim { source, .. } => Ok(source.to_string()),
        StorageError::MaskHash { .. } => {
            Ok("the mask does not have the hash written beside it".to_owned())
        }
        StorageError::NotTwoOfFour { .. } => Ok(error.to_string()),
        _ => Err(error),
    }
}

/// Groups as compressed-tensors counts them: along the flattened weight.
fn flat(mask: &Mask) -> Result<Mask, StorageError> {
    Ok(Mask::from_words(mask.words().to_vec(), &[mask.len()])?)
}

fn or_claim(read: Result<Packed, StorageError>) -> Result<Option<Packed>, StorageError> {
    match read {
        Ok(packed) => Ok(Some(packed)),
        Err(error) => is_claim(error).map(|_| None),
    }
}

fn known(mask: Result<Mask, StorageError>) -> Result<Option<Mask>, StorageError> {
    match mask {
        Err(StorageError::NotNumbers { .. }) => Ok(None),
        mask => mask.map(Some),
    }
}

/// The format that needs the fewest bytes for what `mask` keeps, and the bytes. Of equals the first:
/// dense, then what kernels like. `pattern` is the mask's tightest, if anything is cut.
fn smallest(
    mask: &Mask,
    pattern: Option<Pattern>,
    dtype: Dtype,
) -> Result<(Format, u64), StorageError> {
    let regular = match pattern {
        Some(Pattern::NOfM(n_of_m)) if n_of_m.m() <= Format::MOST_M => Some(Format::NOfM(n_of_m)),
        Some(Pattern::Block(block)) => Some(Format::Block(block)),
        _ => None,
    };
    let is_two_of_four = pattern.is_some() && mask.verify(&Pattern::TWO_OF_FOUR).is_ok();
    let two_of_four = is_two_of_four.then_some(Format::TWO_OF_FOUR);
    let formats =
        [Some(Format::Dense), regular, two_of_four, Some(Format::Bitmap), Some(Format::Csr)];
    let mut best = (Format::Dense, usize::MAX);
    for format in formats.into_iter().flatten() {
        let bytes = Packed::bytes_as(format, dtype, mask)?;
        if bytes < best.1 {
            best = (format, bytes);
        }
    }
    Ok((best.0, best.1 as u64))
}

impl Source {
    /// How its tensors are stored, in words: `secateur version 2`, `plain safetensors`, ...
    pub fn layout(&self) -> String {
        let mut words = BTreeSet::new();
        for name in self.entries().keys() {
            words.insert(match self.stored(name) {
                Some(Stored::Claimed(..)) => match self.version() {
                    Some(version) => (0, format!("secateur version {version}")),
                    None => (0, "secateur".to_owned()),
                },
                Some(Stored::Compressed(compressed)) => {
                    (1, format!("compressed-tensors {}", compressed.layout()))
                }
                _ => (2, "plain safetensors".to_owned()),
            });
        }
        let compressed = words.iter().any(|(order, _)| *order == 1);
        // Dense tensors are part of every compressed-tensors checkpoint.
        let words: Vec<String> = words
            .into_iter()
            .filter(|(order, _)| !(compressed && *order == 2))
            .map(|(_, word)| word)
            .collect();
        match words.is_empty() {
            true => "no tensors".to_owned(),
            false => words.join(" and "),
        }
    }
}
