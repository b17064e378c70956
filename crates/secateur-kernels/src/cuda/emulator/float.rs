//! What do PTX's floating-point instructions compute? One function of bits each, found by name and type.
//!
//! Additions, products and fused products round once, to the nearest even. What the hardware approximates
//! (`ex2.approx`, `rcp.approx`, `div.full`, `tanh.approx` and so on) is computed in f64 and rounded, so it is nearer
//! to the truth here than there. `.ftz` flushes subnormal operands and results to zero, sign kept.

use super::{
    convert::round_to_odd,
    instruction::Function::{self, One, Three, Two},
    kind::Kind,
};
use half::{bf16, f16};

/// What an f32 is to these functions: bits in, bits out.
fn f32_of<const FTZ: bool>(bits: u64) -> f32 {
    flush::<FTZ>(f32::from_bits(bits as u32))
}

fn f32_to<const FTZ: bool>(value: f32) -> u64 {
    u64::from(flush::<FTZ>(value).to_bits())
}

fn flush<const FTZ: bool>(value: f32) -> f32 {
    if FTZ && value.is_subnormal() { 0.0_f32.copysign(value) } else { value }
}

/// A function of f32s as one of bits, with or without `.ftz`.
macro_rules! single {
    ($ftz:expr, $shape:ident, |$($x:ident),+| $body:expr) => {
        if $ftz {
            $shape(|$($x),+| { $(let $x = f32_of::<true>($x);)+ f32_to::<true>($body) })
        } else {
            $shape(|$($x),+| { $(let $x = f32_of::<false>($x);)+ f32_to::<false>($body) })
        }
    };
}

/// A function of f64s as one of bits.
macro_rules! double {
    ($shape:ident, |$($x:ident),+| $body:expr) => {
        $shape(|$($x),+| { $(let $x = f64::from_bits($x);)+ ($body).to_bits() })
    };
}

/// A function in f64 of 16-bit floats, one in a register or two.
macro_rules! short {
    ($kind:expr, $shape:ident, |$($x:ident),+| $body:expr) => {
        match $kind {
            Kind::F16 => $shape(|$($x),+| short!(@ f16, 0, ($($x),+), $body)),
            Kind::Bf16 => $shape(|$($x),+| short!(@ bf16, 0, ($($x),+), $body)),
            Kind::F16x2 => $shape(|$($x),+| short!(@ f16, 0, ($($x),+), $body) | short!(@ f16, 16, ($($x),+), $body)),
            Kind::Bf16x2 => $shape(|$($x),+| short!(@ bf16, 0, ($($x),+), $body) | short!(@ bf16, 16, ($($x),+), $body)),
            _ => return None,
        }
    };
    (@ $t:ident, $shift:literal, ($($x:ident),+), $body:expr) => {{
        $(let $x = $t::from_bits(($x >> $shift) as u16).to_f64();)+
        u64::from($t::from_f32(round_to_odd($body)).to_bits()) << $shift
    }};
}

/// The function of an instruction such as `fma.rn.f32`, by the words between its name and its type.
pub(super) fn float(name: &str, modifiers: &[&str], kind: Kind) -> Option<Function> {
    let ftz = modifiers.contains(&"ftz");
    let words: Vec<&str> = modifiers.iter().copied().filter(|word| *word != "ftz").collect();
    match (name, kind.bits()) {
        ("mov" | "selp", _) => {
            return super::integer::integer(name, modifiers, Kind::Unsigned(kind.bits()));
        }
        ("neg" | "abs", 16 | 32) if kind != Kind::F32 => return sign(name, &words, kind),
        _ => {}
    }
    match kind {
        Kind::F32 => f32_function(name, &words, ftz),
        Kind::F64 => f64_function(name, &words),
        _ => short_function(name, &words, kind),
    }
}

fn f32_function(name: &str, words: &[&str], ftz: bool) -> Option<Function> {
    Some(match (name, words) {
        ("add", [] | ["rn"]) => single!(ftz, Two, |a, b| a + b),
        ("sub", [] | ["rn"]) => single!(ftz, Two, |a, b| a - b),
        ("mul", [] | ["rn"]) => single!(ftz, Two, |a, b| a * b),
        ("fma" | "mad", ["rn"]) => single!(ftz, Three, |a, b, c| a.mul_add(b, c)),
        ("min", []) => single!(ftz, Two, |a, b| least(a, b)),
        ("max", []) => single!(ftz, Two, |a, b| -least(-a, -b)),
        ("min", ["NaN"]) => {
            single!(ftz, Two, |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { least(a, b) })
        }
        ("max", ["NaN"]) => {
            single!(ftz, Two, |a, b| if a.is_nan() || b.is_nan() {
                f32::NAN
            } else {
                -least(-a, -b)
            })
        }
        ("abs", []) => single!(ftz, One, |a| a.abs()),
        ("neg", []) => single!(ftz, One, |a| -a),
        ("copysign", []) => Two(|a, b| (b & 0x7FFF_FFFF) | (a & 0x8000_0000)),
        ("div", ["rn" | "full" | "approx"]) => single!(ftz, Two, |a, b| a / b),
        ("rcp", ["rn" | "approx"]) => single!(ftz, One, |a| 1.0 / a),
        ("sqrt", ["rn" | "approx"]) => single!(ftz, One, |a| a.sqrt()),
        ("rsqrt", ["approx"]) => single!(ftz, One, |a| (1.0 / f64::from(a).sqrt()) as f32),
        ("ex2", ["approx"]) => single!(ftz, One, |a| f64::from(a).exp2() as f32),
        ("lg2", ["approx"]) => single!(ftz, One, |a| f64::from(a).log2() as f32),
        ("tanh", ["approx"]) => single!(ftz, One, |a| f64::from(a).tanh() as f32),
        ("sin", ["approx"]) => single!(ftz, One, |a| f64::from(a).sin() as f32),
        ("cos", ["approx"]) => single!(ftz, One, |a| f64::from(a).cos() as f32),
        // `.sat` is an instruction of its own here: between 0 and 1, and NaN is 0.
        ("saturate", []) => {
            single!(ftz, One, |a| if a.is_nan() { 0.0 } else { a.clamp(0.0, 1.0) + 0.0 })
        }
        _ => return None,
    })
}

fn f64_function(name: &str, words: &[&str]) -> Option<Function> {
    Some(match (name, words) {
        ("add", [] | ["rn"]) => double!(Two, |a, b| a + b),
        ("sub", [] | ["rn"]) => double!(Two, |a, b| a - b),
        ("mul", [] | ["rn"]) => double!(Two, |a, b| a * b),
        ("div", ["rn"]) => double!(Two, |a, b| a / b),
        ("fma", ["rn"]) => double!(Three, |a, b, c| a.mul_add(b, c)),
        ("sqrt", ["rn"]) => double!(One, |a| a.sqrt()),
        ("min", []) => double!(Two, |a, b| a.min(b)),
        ("max", []) => double!(Two, |a, b| a.max(b)),
        ("abs", []) => double!(One, |a| a.abs()),
        ("neg", []) => double!(One, |a| -a),
        _ => return None,
    })
}

fn short_function(name: &str, words: &[&str], kind: Kind) -> Option<Function> {
    Some(match (name, words) {
        ("add", [] | ["rn"]) => short!(kind, Two, |a, b| a + b),
        ("sub", [] | ["rn"]) => short!(kind, Two, |a, b| a - b),
        ("mul", [] | ["rn"]) => short!(kind, Two, |a, b| a * b),
        ("fma", ["rn"]) => short!(kind, Three, |a, b, c| a.mul_add(b, c)),
        ("min", []) => short!(kind, Two, |a, b| f64::from(least(a as f32, b as f32))),
        ("max", []) => short!(kind, Two, |a, b| -f64::from(least(-a as f32, -b as f32))),
        ("ex2", ["approx"]) => short!(kind, One, |a| a.exp2()),
        ("tanh", ["approx"]) => short!(kind, One, |a| a.tanh()),
        _ => return None,
    })
}

/// `neg` and `abs` of 16-bit floats touch nothing but the sign.
fn sign(name: &str, words: &[&str], kind: Kind) -> Option<Function> {
    let pair = matches!(kind, Kind::F16x2 | Kind::Bf16x2);
    Some(match (name, words, pair) {
        ("neg", [], false) => One(|a| (a ^ 0x8000) & 0xFFFF),
        ("neg", [], true) => One(|a| (a ^ 0x8000_8000) & 0xFFFF_FFFF),
        ("abs", [], false) => One(|a| a & 0x7FFF),
        ("abs", [], true) => One(|a| a & 0x7FFF_7FFF),
        _ => return None,
    })
}

/// The smaller of two; of a number and a NaN the number, and -0 is below 0.
fn least(a: f32, b: f32) -> f32 {
    match a == b {
        true if a.is_sign_negative() => a,
        true => b,
        false => a.min(b),
    }
}
