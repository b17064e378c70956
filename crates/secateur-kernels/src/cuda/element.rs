//! Which numbers do sparse tensor cores multiply? Three types, and what of a layout depends on them.

use secateur_storage::Dtype;

/// A type of weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F16,
    Bf16,
    I8,
}

impl Element {
    /// None for a dtype that the kernels do not take.
    pub fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            Dtype::I8 => Some(Self::I8),
            _ => None,
        }
    }

    /// The ending of kernels' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I8 => "i8",
        }
    }

    /// Bytes of a weight and of an activation. Outputs have two: f16 of f16, else bf16.
    pub fn bytes(self) -> usize {
        if self == Self::I8 { 1 } else { 2 }
    }

    /// What a weight's rows and columns are padded to: rows of one small block, columns of a stage of the tiled
    /// product, which is 128 bytes of activations.
    pub fn multiples(self) -> [usize; 2] {
        [32, STAGE_BYTES / self.bytes()]
    }

    /// A weight's rows and columns with their padding, unless no address space holds them.
    pub fn padded(self, [rows, cols]: [usize; 2]) -> Option<[usize; 2]> {
        let [down, across] = self.multiples();
        Some([rows.checked_next_multiple_of(down)?, cols.checked_next_multiple_of(across)?])
    }
}

/// Bytes of a token's activations that the tiled product loads at a time.
pub(super) const STAGE_BYTES: usize = 128;
