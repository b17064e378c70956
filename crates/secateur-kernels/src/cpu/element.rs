//! What are weights kept as? As they are stored: kernels widen them on the way into a register.

use super::simd::Simd;
use secateur_storage::Dtype;

/// The kinds of numbers that kernels keep as they are; others become f32 when a weight is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    F32,
    Bf16,
    F16,
    I8,
}

impl Number {
    pub fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::BF16 => Some(Self::Bf16),
            Dtype::F16 => Some(Self::F16),
            Dtype::I8 => Some(Self::I8),
            _ => None,
        }
    }

    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::I8 => 1,
        }
    }
}

/// One kind of number, at compile time.
pub(super) trait Element {
    type Raw;

    /// `LANES` numbers as f32.
    ///
    /// # Safety
    ///
    /// As for [`Simd`].
    unsafe fn load<S: Simd>(from: *const Self::Raw) -> S::V;
}

pub(super) struct F32;
pub(super) struct Bf16;
pub(super) struct F16;
pub(super) struct I8;

impl Element for F32 {
    type Raw = f32;
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const f32) -> S::V {
        // SAFETY: handed on to the caller.
        unsafe { S::load(from) }
    }
}

impl Element for Bf16 {
    type Raw = u16;
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u16) -> S::V {
        // SAFETY: handed on to the caller.
        unsafe { S::load_bf16(from) }
    }
}

impl Element for F16 {
    type Raw = u16;
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u16) -> S::V {
        // SAFETY: handed on to the caller.
        unsafe { S::load_f16(from) }
    }
}

impl Element for I8 {
    type Raw = i8;
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const i8) -> S::V {
        // SAFETY: handed on to the caller.
        unsafe { S::load_i8(from) }
    }
}
