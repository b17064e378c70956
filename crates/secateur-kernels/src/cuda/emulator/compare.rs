//! When does `setp` say yes? One test of two words per comparison and type.

use super::kind::Kind;
use half::{bf16, f16};
use std::cmp::Ordering::{Equal, Greater, Less};

macro_rules! ordered {
    ($name:expr, $t:ident) => {
        Some(match $name {
            "eq" => |a, b| a as $t == b as $t,
            "ne" => |a, b| a as $t != b as $t,
            "lt" | "lo" => |a, b| (a as $t) < b as $t,
            "le" | "ls" => |a, b| a as $t <= b as $t,
            "gt" | "hi" => |a, b| a as $t > b as $t,
            "ge" | "hs" => |a, b| a as $t >= b as $t,
            _ => return None,
        })
    };
}

/// With a NaN every comparison is false but those that end in `u`, which are true.
macro_rules! partial {
    ($name:expr, $number:expr) => {
        Some(match $name {
            "eq" => |a, b| order($number, a, b) == Some(Equal),
            "ne" => |a, b| matches!(order($number, a, b), Some(Less | Greater)),
            "lt" => |a, b| order($number, a, b) == Some(Less),
            "le" => |a, b| matches!(order($number, a, b), Some(Less | Equal)),
            "gt" => |a, b| order($number, a, b) == Some(Greater),
            "ge" => |a, b| matches!(order($number, a, b), Some(Greater | Equal)),
            "equ" => |a, b| matches!(order($number, a, b), None | Some(Equal)),
            "neu" => |a, b| order($number, a, b) != Some(Equal),
            "ltu" => |a, b| matches!(order($number, a, b), None | Some(Less)),
            "leu" => |a, b| order($number, a, b) != Some(Greater),
            "gtu" => |a, b| matches!(order($number, a, b), None | Some(Greater)),
            "geu" => |a, b| order($number, a, b) != Some(Less),
            "num" => |a, b| order($number, a, b).is_some(),
            "nan" => |a, b| order($number, a, b).is_none(),
            _ => return None,
        })
    };
}

/// A test of two words.
pub(super) type Test = fn(u64, u64) -> bool;

/// The test `name` between values of `kind`; `ftz` flushes subnormal f32 operands.
pub(super) fn comparison(name: &str, kind: Kind, ftz: bool) -> Option<Test> {
    match kind {
        Kind::Unsigned(16) => ordered!(name, u16),
        Kind::Unsigned(32) => ordered!(name, u32),
        Kind::Unsigned(64) => ordered!(name, u64),
        Kind::Signed(16) => ordered!(name, i16),
        Kind::Signed(32) => ordered!(name, i32),
        Kind::Signed(64) => ordered!(name, i64),
        Kind::F32 if ftz => partial!(name, flushed),
        Kind::F32 => partial!(name, |bits| f64::from(f32::from_bits(bits as u32))),
        Kind::F64 => partial!(name, f64::from_bits),
        Kind::F16 => partial!(name, |bits| f16::from_bits(bits as u16).to_f64()),
        Kind::Bf16 => partial!(name, |bits| bf16::from_bits(bits as u16).to_f64()),
        _ => None,
    }
}

fn flushed(bits: u64) -> f64 {
    let value = f32::from_bits(bits as u32);
    if value.is_subnormal() { 0.0 } else { value.into() }
}

fn order(number: fn(u64) -> f64, a: u64, b: u64) -> Option<std::cmp::Ordering> {
    number(a).partial_cmp(&number(b))
}
