//! What is a weight made of? Elements of one dtype, little-endian as in files, shared, never copied
//! without need.
//!
//! [`Bytes`] is a counted view: of a memory-mapped file, of somebody's `Vec<f32>`, or of a part of
//! either. So a tensor that is read, packed as it lies and written again is not copied once.

use crate::StorageError;
use bytemuck::Pod;
use bytes::Bytes;
use half::{bf16, f16, slice::HalfFloatSliceExt};
pub use safetensors::Dtype;
use std::{borrow::Cow, fmt, sync::Arc};

/// The elements of a tensor in the order in which they are stored.
///
/// Equal means: the same dtype, the same bits, the same scales.
#[derive(Clone, PartialEq)]
pub struct Values {
    dtype: Dtype,
    data: Bytes,
    scales: Option<Arc<[f32]>>,
}

/// A typed vector seen as bytes.
struct Owned<T>(Vec<T>);

impl<T: Pod> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Files and these values are little-endian; so is every machine that this was written for.
#[cfg(target_endian = "big")]
compile_error!("secateur-storage shares the bytes of files, which are little-endian");

macro_rules! from_vec {
    ($($element:ty => $dtype:ident),*) => {$(
        impl From<Vec<$element>> for Values {
            fn from(values: Vec<$element>) -> Self {
                let data = Bytes::from_owner(Owned(values));
                Self { dtype: Dtype::$dtype, data, scales: None }
            }
        }
    )*};
}
// Not f64: a literal `vec![0.5]` is to be f32, as everywhere in this field.
from_vec!(f32 => F32, f16 => F16, bf16 => BF16, i8 => I8);

impl Values {
    /// Elements of `dtype` from their little-endian bytes. Errors on a broken last element.
    pub fn new(dtype: Dtype, data: impl Into<Bytes>) -> Result<Self, StorageError> {
        let data = data.into();
        if (data.len() * 8) % dtype.bitsize() != 0 {
            let expected = (data.len() * 8).div_ceil(dtype.bitsize()) * dtype.bitsize() / 8;
            let what = "the bytes of a tensor";
            return Err(StorageError::Length { what, found: data.len(), expected });
        }
        Ok(Self { dtype, data, scales: None })
    }

    /// F64 elements, which nothing here computes with.
    pub fn from_f64(values: Vec<f64>) -> Self {
        Self { dtype: Dtype::F64, data: Bytes::from_owner(Owned(values)), scales: None }
    }

    /// The same elements, each multiplied by the scale of its output row when it is used (per-channel
    /// quantisation). Errors unless they are I8 and every scale is finite.
    pub fn with_scales(self, scales: impl Into<Arc<[f32]>>) -> Result<Self, StorageError> {
        let scales = scales.into();
        if self.dtype != Dtype::I8 {
            return Err(StorageError::ScaledDtype { found: self.dtype });
        }
        match scales.iter().position(|scale| !scale.is_finite()) {
            Some(row) => Err(StorageError::Scale { row }),
            None => Ok(Self { scales: Some(scales), ..self }),
        }
    }

    /// Elements like these, scales included, in other number and order.
    pub(crate) fn rearranged(&self, data: impl Into<Bytes>) -> Self {
        Self { dtype: self.dtype, data: data.into(), scales: self.scales.clone() }
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The little-endian bytes; cloning them copies nothing.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// One scale for each output row, where the elements are quantised.
    pub fn scales(&self) -> Option<&[f32]> {
        self.scales.as_deref()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.data.len() * 8 / self.dtype.bitsize()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements as f32, without scales: borrowed if that is what they are, else converted (F64
    /// and wide integers are rounded). Errors for the dtypes below one byte and for F8 and C64.
    pub fn to_f32(&self) -> Result<Cow<'_, [f32]>, StorageError> {
        if self.dtype == Dtype::F32
            && let Ok(floats) = bytemuck::try_cast_slice(&self.data)
        {
            return Ok(Cow::Borrowed(floats));
        }
        fn each<const N: usize>(data: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            data.as_chunks::<N>().0.iter().map(|bytes| f(*bytes)).collect()
        }
        let data = &self.data[..];
        Ok(Cow::Owned(match self.dtype {
            Dtype::F32 => each(data, f32::from_le_bytes),
            Dtype::F16 => match bytemuck::try_cast_slice::<u8, f16>(data) {
                Ok(halves) => halves.to_f32_vec(),
                Err(_) => each(data, |bytes| f16::from_le_bytes(bytes).to_f32()),
            },
            Dtype::BF16 => each(data, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::F64 => each(data, |bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::I8 => each(data, |bytes| f32::from(i8::from_le_bytes(bytes))),
            Dtype::U8 | Dtype::BOOL => each(data, |[byte]| f32::from(byte)),
            Dtype::I16 => each(data, |bytes| f32::from(i16::from_le_bytes(bytes))),
            Dtype::U16 => each(data, |bytes| f32::from(u16::from_le_bytes(bytes))),
            Dtype::I32 => each(data, |bytes| i32::from_le_bytes(bytes) as f32),
            Dtype::U32 => each(data, |bytes| u32::from_le_bytes(bytes) as f32),
            Dtype::I64 => each(data, |bytes| i64::from_le_bytes(bytes) as f32),
            Dtype::U64 => each(data, |bytes| u64::from_le_bytes(bytes) as f32),
            found => return Err(StorageError::NotNumbers { found }),
        }))
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scaled = if self.scales.is_some() { ", scaled by row" } else { "" };
        write!(f, "{} × {:?}{scaled}", self.len(), self.dtype)
    }
}

/// How an element says that it is zero: its size in bytes, and the bits that must be clear. Floats
/// ignore the sign, so that `-0.0` counts as zero. `None` for dtypes that cannot be packed.
pub(crate) fn zero_test(dtype: Dtype) -> Option<(usize, u64)> {
    Some(match dtype {
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
            let bits = dtype.bitsize();
            (bits / 8, u64::MAX >> (64 - bits) >> 1)
        }
        Dtype::F8_E4M3 | Dtype::F8_E5M2 => (1, 0x7F),
        Dtype::C64 => (8, 0x7FFF_FFFF_7FFF_FFFF),
        // A sign bit alone is NaN there.
        Dtype::F8_E4M3FNUZ | Dtype::F8_E5M2FNUZ => (1, 0xFF),
        Dtype::BOOL | Dtype::I8 | Dtype::U8 => (1, 0xFF),
        Dtype::I16 | Dtype::U16 => (2, 0xFFFF),
        Dtype::I32 | Dtype::U32 => (4, 0xFFFF_FFFF),
        Dtype::I64 | Dtype::U64 => (8, u64::MAX),
        _ => return None,
    })
}

/// Whether weights come in this dtype.
pub(crate) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_shared_and_read_back() {
        let floats = vec![1.5_f32, -0.0, f32::NAN];
        let at = floats.as_ptr() as usize;
        let values = Values::from(floats);
        assert_eq!(values.data().as_ptr() as usize, at);
        assert_eq!((values.len(), values.dtype()), (3, Dtype::F32));
        assert!(matches!(values.to_f32().unwrap(), Cow::Borrowed([1.5, ..])));
        assert_eq!(values, values.clone());
    }

    #[test]
    fn unaligned_and_other_dtypes_are_converted() {
        let bytes = Bytes::from([&[7_u8][..], &1.5_f32.to_le_bytes()].concat()).slice(1..);
        let values = Values::new(Dtype::F32, bytes).unwrap();
        assert_eq!(values.to_f32().unwrap()[..], [1.5]);
        assert_eq!(Values::from(vec![f16::from_f32(0.5)]).to_f32().unwrap()[..], [0.5]);
        assert_eq!(Values::from(vec![bf16::from_f32(-2.0)]).to_f32().unwrap()[..], [-2.0]);
        assert_eq!(Values::from(vec![-3_i8]).to_f32().unwrap()[..], [-3.0]);
        assert!(Values::new(Dtype::C64, vec![0; 8]).unwrap().to_f32().is_err());
    }

    #[test]
    fn broken_elements_and_scales_are_refused() {
        assert!(Values::new(Dtype::F32, vec![0; 5]).is_err());
        assert!(Values::from(vec![1.0_f32]).with_scales([1.0]).is_err());
        assert!(Values::from(vec![1_i8]).with_scales([f32::NAN]).is_err());
        assert!(Values::from(vec![1_i8]).with_scales([0.5]).unwrap().scales().is_some());
    }
}
