//! Which format does a weight get, and what is in it? Its stored values, and where they belong.

use crate::{
    Dense, Dtype, Format, Places, StorageError, Values,
    dense::scales_fit,
    places,
    shape::{bounded, checked_len, matrix_view},
    values::zero_test,
};
use secateur_mask::{Mask, NOfM, Pattern};

/// A weight in whichever format holds it: a shape, the values that are stored, and their places.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    shape: Vec<usize>,
    values: Values,
    places: Places,
}

impl From<Dense> for Packed {
    fn from(dense: Dense) -> Self {
        let (shape, values) = (dense.shape().to_vec(), dense.values().clone());
        Self { shape, values, places: Places::Dense }
    }
}

impl Packed {
    /// Packs what `mask` keeps of `dense`, after proving that the mask has `pattern`.
    ///
    /// `N:M` with M up to 16 becomes [`Format::NOfM`], and so does transposable 2:4 unless its ragged
    /// edge keeps fewer than two of a group; blocks become [`Format::Block`]; a mask that keeps
    /// everything [`Format::Dense`]; all else the smaller of [`Format::Bitmap`] and [`Format::Csr`].
    pub fn pack(dense: &Dense, mask: &Mask, pattern: Pattern) -> Result<Self, StorageError> {
        fits(dense, mask)?;
        mask.verify(&pattern)?;
        Self::gather(dense, mask, Self::format_of(dense.dtype(), mask, pattern)?)
    }

    /// The format that [`Self::pack`] chooses.
    pub(crate) fn format_of(
        dtype: Dtype,
        mask: &Mask,
        pattern: Pattern,
    ) -> Result<Format, StorageError> {
        let bytes = |format| Self::bytes_as(format, dtype, mask);
        let readable = |format| Self::is_readable(format, dtype, mask);
        match pattern {
            Pattern::NOfM(n_of_m) if n_of_m.m() <= Format::MOST_M => Ok(Format::NOfM(n_of_m)),
            // Slots that the format fills up would not be in the pattern along the columns.
            Pattern::TransposableTwoOfFour
                if Places::of_full_groups(NOfM::TWO_OF_FOUR, mask)?.is_some() =>
            {
                Ok(Format::TWO_OF_FOUR)
            }
            _ if mask.count_kept() == mask.len() => Ok(Format::Dense),
            Pattern::Block(block)
                if bytes(Format::Block(block))? <= bytes(Format::Bitmap)?
                    && readable(Format::Block(block))? =>
            {
                Ok(Format::Block(block))
            }
            _ if bytes(Format::Csr)? < bytes(Format::Bitmap)? && readable(Format::Csr)? => {
                Ok(Format::Csr)
            }
            _ => Ok(Format::Bitmap),
        }
    }

    /// Packs what `mask` keeps of `dense` in this very format. Errors when the format cannot hold
    /// the mask: too many in a group of `N:M`, or blocks that are kept in part.
    pub fn pack_as(dense: &Dense, mask: &Mask, format: Format) -> Result<Self, StorageError> {
        fits(dense, mask)?;
        match format {
            Format::NOfM(n_of_m) if n_of_m.m() > Format::MOST_M => {
                return Err(StorageError::NoSuchFormat(Pattern::NOfM(n_of_m).to_string()));
            }
            Format::Mask => return Err(StorageError::NoSuchFormat("a mask alone".into())),
            Format::NOfM(n_of_m) => mask.verify(&Pattern::NOfM(n_of_m))?,
            Format::Block(block) => {
                mask.verify(&Pattern::Block(block))?;
                // A block far larger than the weight is padding and nothing else.
                let bytes = Self::bytes_as(format, dense.dtype(), mask)?;
                if bytes >> 10 > dense.values().data().len() + (1 << 16) {
                    return Err(StorageError::TooLarge(vec![block.rows(), block.cols()]));
                }
            }
            Format::Dense if mask.count_kept() < mask.len() => {
                let bitmap = Self::gather(dense, mask, Format::Bitmap)?;
                return Ok(bitmap.unpack().into());
            }
            _ => {}
        }
        Self::gather(dense, mask, format)
    }

    fn gather(dense: &Dense, mask: &Mask, format: Format) -> Result<Self, StorageError> {
        let (size, _) = packable(dense.dtype())?;
        let (places, data) = Places::gather(format, mask, dense.values().data(), size)?;
        let values = dense.values().rearranged(data);
        Ok(Self { shape: dense.shape().to_vec(), values, places })
    }

    /// A weight from parts that were checked against each other.
    pub(crate) fn from_parts(
        shape: &[usize],
        values: Values,
        places: Places,
    ) -> Result<Self, StorageError> {
        scales_fit(&values, matrix_view(shape)?.0)?;
        let stored = match &places {
            Places::Dense => Some(checked_len(shape)?),
            Places::Bitmap(mask) => Some(mask.count_kept()),
            _ => None,
        };
        if let Some(expected) = stored.filter(|stored| *stored != values.len()) {
            let (what, found) = ("the values of a tensor", values.len());
            return Err(StorageError::Length { what, found, expected });
        }
        Ok(Self { shape: shape.to_vec(), values, places })
    }

    /// The same weight in another format. Values whose order stays are shared, not copied: between
    /// bitmap, CSR and `N:M` whose groups are all full. Errors when the format cannot hold it.
    pub fn to_format(&self, format: Format) -> Result<Self, StorageError> {
        if self.format() == format {
            return Ok(self.clone());
        }
        let Some(mask) = self.mask() else {
            let dense = self.unpack();
            return Self::pack_as(&dense, &dense.nonzero()?, format);
        };
        let in_order = mask.count_kept() == self.values.len() && !self.is_blocks();
        if in_order && format == Format::Bitmap {
            return Ok(Self { places: Places::Bitmap(mask), ..self.clone() });
        }
        let packed = Self::pack_as(&self.unpack(), &mask, format)?;
        let same_order = in_order && packed.values.data() == self.values.data();
        Ok(if same_order { Self { values: self.values.clone(), ..packed } } else { packed })
    }

    fn is_blocks(&self) -> bool {
        matches!(self.places, Places::Block(..))
    }

    /// The dense tensor: what is not stored is `+0.0`. Shares the values if all are stored.
    pub fn unpack(&self) -> Dense {
        let size = self.values.dtype().bitsize().div_ceil(8);
        let data = self.places.scatter(&self.shape, self.values.data(), size);
        Dense::new(self.values.rearranged(data), &self.shape).expect("one element per entry")
    }

    /// The shape of the dense weight.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Rows and columns of the matrix that a product sees: outputs × all that is reduced over. A
    /// vector is one row.
    pub fn matrix(&self) -> (usize, usize) {
        matrix_view(&self.shape).expect("the shape of a tensor that exists")
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.places.format()
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.values.dtype()
    }

    /// The values that are stored, in the order that [`Self::places`] has.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Where the values belong.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The same weight with F32 values, scales applied: shared where they are F32 already.
    pub fn to_f32(&self) -> Result<Self, StorageError> {
        if self.values.scales().is_some() {
            let dense = self.unpack();
            let floats = Dense::new(dense.to_f32()?.into_owned(), &self.shape)?;
            return match self.mask() {
                Some(mask) => Self::pack_as(&floats, &mask, self.format()),
                None => Ok(floats.into()),
            };
        }
        if self.dtype() == Dtype::F32 {
            return Ok(self.clone());
        }
        Ok(Self { values: self.values.to_f32()?.into_owned().into(), ..self.clone() })
    }

    /// Which entries are stored, or `None` for a dense tensor.
    pub fn mask(&self) -> Option<Mask> {
        self.places.mask(&self.shape)
    }

    /// Bytes of values, scales and places, as they lie in files (headers aside).
    pub fn bytes(&self) -> usize {
        let scales = self.values.scales().map_or(0, size_of_val);
        self.values.data().len() + scales + self.places.bytes(&self.shape)
    }

    /// Whether a reader takes what `mask` keeps in `format`, or finds the shape too large for so few
    /// bytes.
    pub(crate) fn is_readable(
        format: Format,
        dtype: Dtype,
        mask: &Mask,
    ) -> Result<bool, StorageError> {
        let bytes = Self::bytes_as(format, dtype, mask)? as u64;
        Ok(bounded(mask.shape(), bytes, format.entries_per_byte()).is_ok())
    }

    /// Bytes of what `mask` keeps of a tensor of `dtype`, in a format that can hold it.
    pub fn bytes_as(format: Format, dtype: Dtype, mask: &Mask) -> Result<usize, StorageError> {
        let (size, _) = packable(dtype)?;
        let (rows, cols) = matrix_view(mask.shape())?;
        let kept = mask.count_kept();
        Ok(match format {
            Format::Dense => mask.len() * size,
            Format::NOfM(pattern) => {
                let (slots, bytes) = places::n_of_m_sides(pattern, cols);
                rows * (slots * size + bytes)
            }
            Format::Bitmap => kept * size + rows * cols.div_ceil(8),
            Format::Csr => kept * (size + 4) + (rows + 1) * 8,
            Format::Mask => rows * cols.div_ceil(8),
            Format::Block(block) => {
                let (blocks, down) = places::count_blocks(block, mask, (rows, cols));
                let block_bytes = (block.rows().saturating_mul(block.cols())).saturating_mul(size);
                blocks.saturating_mul(block_bytes.saturating_add(4)).saturating_add((down + 1) * 8)
            }
        })
    }
}

/// Errors unless `mask` has the shape of `dense`.
fn fits(dense: &Dense, mask: &Mask) -> Result<(), StorageError> {
    if mask.shape() == dense.shape() {
        return Ok(());
    }
    Err(StorageError::MaskShape { mask: mask.shape().to_vec(), weight: dense.shape().to_vec() })
}

fn packable(dtype: Dtype) -> Result<(usize, u64), StorageError> {
    zero_test(dtype).ok_or(StorageError::NotNumbers { found: dtype })
}
