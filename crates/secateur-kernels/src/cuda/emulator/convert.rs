//! What does `cvt` give? The value, rounded as asked, and clamped where its new type is too small.

use super::kind::Kind;
use half::{bf16, f16};

/// How a number becomes an integer, or a shorter float.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounding {
    /// To the nearest, ties to even.
    Nearest,
    Zero,
    Down,
    Up,
}

/// One `cvt`: types and modifiers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conversion {
    to: Kind,
    from: Kind,
    /// To an integer (`.rni` …), also where the new type is a float.
    integer: Option<Rounding>,
    saturate: bool,
    relu: bool,
    ftz: bool,
}

impl Conversion {
    /// The conversion of `cvt.modifiers.to.from`; `None` where a modifier is not known here.
    pub fn new(modifiers: &[&str], to: Kind, from: Kind) -> Option<Self> {
        let mut conversion =
            Self { to, from, integer: None, saturate: false, relu: false, ftz: false };
        for modifier in modifiers {
            match *modifier {
                "rn" => {}
                "rni" => conversion.integer = Some(Rounding::Nearest),
                "rzi" => conversion.integer = Some(Rounding::Zero),
                "rmi" => conversion.integer = Some(Rounding::Down),
                "rpi" => conversion.integer = Some(Rounding::Up),
                "sat" => conversion.saturate = true,
                "relu" => conversion.relu = true,
                "ftz" => conversion.ftz = true,
                _ => return None,
            }
        }
        let pairs = [Kind::F16x2, Kind::Bf16x2, Kind::Predicate];
        let complete = !from.is_float() || to.is_float() || conversion.integer.is_some();
        (complete && !pairs.contains(&to) && !pairs.contains(&from)).then_some(conversion)
    }

    /// The bits of the converted value.
    pub fn apply(self, bits: u64) -> u64 {
        if self.from.is_float() { self.of_float(bits) } else { self.of_integer(bits) }
    }

    fn of_integer(self, bits: u64) -> u64 {
        let value = widen(bits, self.from);
        match self.to {
            Kind::F32 => u64::from((value as f32).to_bits()),
            Kind::F64 => (value as f64).to_bits(),
            // An integer of 64 bits may lie between f64s; f16s end long before.
            Kind::F16 => u64::from(f16::from_f32(round_to_odd(value as f64)).to_bits()),
            Kind::Bf16 => u64::from(bf16::from_f32(round_to_odd(value as f64)).to_bits()),
            to if self.saturate => clamp(value, to),
            to => widen(value as u64, to) as u64,
        }
    }

    fn of_float(self, bits: u64) -> u64 {
        let mut value = match self.from {
            Kind::F16 => f16::from_bits(bits as u16).to_f64(),
            Kind::Bf16 => bf16::from_bits(bits as u16).to_f64(),
            Kind::F32 => f64::from(self.flush(f32::from_bits(bits as u32))),
            _ => f64::from_bits(bits),
        };
        if let Some(rounding) = self.integer {
            value = match rounding {
                Rounding::Nearest => value.round_ties_even(),
                Rounding::Zero => value.trunc(),
                Rounding::Down => value.floor(),
                Rounding::Up => value.ceil(),
            };
        }
        if !self.to.is_float() {
            // Clamped whether or not it says `.sat`; a NaN is 0, as `as` has it.
            return clamp(value as i128, self.to);
        }
        if self.saturate {
            value = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
        }
        if self.relu && value < 0.0 {
            value = 0.0;
        }
        match self.to {
            Kind::F16 if value.is_nan() => 0x7FFF,
            Kind::Bf16 if value.is_nan() => 0x7FFF,
            Kind::F16 => u64::from(f16::from_f32(round_to_odd(value)).to_bits()),
            Kind::Bf16 => u64::from(bf16::from_f32(round_to_odd(value)).to_bits()),
            Kind::F32 => u64::from(self.flush(value as f32).to_bits()),
            _ => value.to_bits(),
        }
    }

    fn flush(self, value: f32) -> f32 {
        if self.ftz && value.is_subnormal() { 0.0_f32.copysign(value) } else { value }
    }
}

/// The integer that bits of a type mean.
fn widen(bits: u64, kind: Kind) -> i128 {
    let unused = 64 - kind.bits();
    if kind.is_signed() {
        i128::from((bits << unused) as i64 >> unused)
    } else {
        i128::from(bits << unused >> unused)
    }
}

/// The nearest value that the integer type has, as bits.
fn clamp(value: i128, kind: Kind) -> u64 {
    let bits = kind.bits();
    let (least, most) = if kind.is_signed() {
        (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
    } else {
        (0, (1_i128 << bits) - 1)
    };
    // A register is wider than a byte: the sign goes on, as the hardware has it.
    value.clamp(least, most) as u64
}

/// The f32 towards zero, its last bit set if anything was lost: rounding that once more to fewer bits gives what
/// rounding the f64 would. (`half` looks at only 20 bits of an f64's mantissa.)
pub(super) fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    if value.is_nan() || f64::from(nearest) == value {
        return nearest;
    }
    let away = f64::from(nearest).abs() > value.abs();
    f32::from_bits((nearest.to_bits() - u32::from(away)) | 1)
}

/// `cvt.pack.sat.{s8,u8}.s32.b32`: `c` shifted up by two bytes, below it `a` and, lowest, `b`.
pub(super) fn pack_signed(a: u64, b: u64, c: u64) -> u64 {
    let byte = |x: u64| clamp(i128::from(x as i32), Kind::Signed(8)) & 0xFF;
    u64::from((c << 16 | byte(a) << 8 | byte(b)) as u32)
}
