//! Which types do PTX instructions name?

/// The type behind an instruction's last dots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bits, or an unsigned integer, of so many bits.
    Unsigned(u32),
    /// A signed integer of so many bits.
    Signed(u32),
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
    Predicate,
}

impl Kind {
    /// The type of that name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "b8" | "u8" => Self::Unsigned(8),
            "b16" | "u16" => Self::Unsigned(16),
            "b32" | "u32" => Self::Unsigned(32),
            "b64" | "u64" => Self::Unsigned(64),
            "s8" => Self::Signed(8),
            "s16" => Self::Signed(16),
            "s32" => Self::Signed(32),
            "s64" => Self::Signed(64),
            "f16" => Self::F16,
            "f16x2" => Self::F16x2,
            "bf16" => Self::Bf16,
            "bf16x2" => Self::Bf16x2,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "pred" => Self::Predicate,
            _ => return None,
        })
    }

    /// Its bits; a predicate counts as 8 and lies in no memory.
    pub fn bits(self) -> u32 {
        match self {
            Self::Unsigned(bits) | Self::Signed(bits) => bits,
            Self::F16 | Self::Bf16 => 16,
            Self::F16x2 | Self::Bf16x2 | Self::F32 => 32,
            Self::F64 => 64,
            Self::Predicate => 8,
        }
    }

    /// Its bytes in memory.
    pub fn bytes(self) -> usize {
        self.bits() as usize / 8
    }

    /// Whether it is an integer with a sign.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::Signed(_))
    }

    /// Whether it is a number with a fraction.
    pub fn is_float(self) -> bool {
        !matches!(self, Self::Unsigned(_) | Self::Signed(_) | Self::Predicate)
    }
}
