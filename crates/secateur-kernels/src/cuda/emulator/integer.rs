//! What do PTX's integer and bit instructions compute? One function of 64-bit words each, found by name and type.
//!
//! Arguments are cut to the type before, results after; division by zero gives all ones, as on the hardware.

use super::{
    instruction::Function::{self, Four, One, Three, Two},
    kind::Kind,
};

/// Writes a function of one to three operands for every width and sign.
macro_rules! for_integers {
    ($kind:expr, $shape:ident, |$($x:ident),+| $body:expr) => {
        for_integers!(@ $kind, $shape, |$($x),+| $body,
            [Unsigned 16 u16 u16, Unsigned 32 u32 u32, Unsigned 64 u64 u64,
             Signed 16 i16 u16, Signed 32 i32 u32, Signed 64 i64 u64])
    };
    (@ $kind:expr, $shape:ident, |$($x:ident),+| $body:expr, [$($sign:ident $bits:literal $t:ident $u:ident),+]) => {
        for_integers!(@@ $kind, $shape, ($($x),+), $body, $($sign $bits $t $u),+)
    };
    (@@ $kind:expr, $shape:ident, $args:tt, $body:expr, $($sign:ident $bits:literal $t:ident $u:ident),+) => {
        match $kind {
            $(Kind::$sign($bits) => $shape(for_integers!(@@@ $args, $body, $t, $u)),)+
            _ => return None,
        }
    };
    (@@@ ($($x:ident),+), $body:expr, $t:ident, $u:ident) => {
        |$($x),+| {
            #[allow(dead_code, reason = "not every body names its type")]
            type T = $t;
            $(let $x = $x as $t;)+
            ($body) as $u as u64
        }
    };
}

/// The function of an instruction such as `add.s32`, by the words between its name and its type.
pub(super) fn integer(name: &str, modifiers: &[&str], kind: Kind) -> Option<Function> {
    if kind == Kind::Predicate {
        return logic(name, modifiers);
    }
    Some(match (name, modifiers) {
        ("add", []) => for_integers!(kind, Two, |a, b| a.wrapping_add(b)),
        ("sub", []) => for_integers!(kind, Two, |a, b| a.wrapping_sub(b)),
        ("mul", ["lo"]) => for_integers!(kind, Two, |a, b| a.wrapping_mul(b)),
        ("mad", ["lo"]) => for_integers!(kind, Three, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        ("mul", ["hi"]) => for_integers!(kind, Two, |a, b| high(a as i128, b as i128, T::BITS)),
        ("mad", ["hi"]) => {
            for_integers!(kind, Three, |a, b, c| (high(a as i128, b as i128, T::BITS) as T)
                .wrapping_add(c))
        }
        ("mul", ["wide"]) => match kind {
            Kind::Unsigned(16) => Two(|a, b| u64::from(a as u16) * u64::from(b as u16)),
            Kind::Unsigned(32) => Two(|a, b| u64::from(a as u32) * u64::from(b as u32)),
            Kind::Signed(16) => {
                Two(|a, b| (i32::from(a as i16) * i32::from(b as i16)) as u32 as u64)
            }
            Kind::Signed(32) => Two(|a, b| (i64::from(a as i32) * i64::from(b as i32)) as u64),
            _ => return None,
        },
        ("mad", ["wide"]) => match kind {
            Kind::Unsigned(16) => Three(|a, b, c| {
                u64::from((u32::from(a as u16) * u32::from(b as u16)).wrapping_add(c as u32))
            }),
            Kind::Unsigned(32) => {
                Three(|a, b, c| (u64::from(a as u32) * u64::from(b as u32)).wrapping_add(c))
            }
            Kind::Signed(16) => Three(|a, b, c| {
                (i32::from(a as i16) * i32::from(b as i16)).wrapping_add(c as i32) as u32 as u64
            }),
            Kind::Signed(32) => Three(|a, b, c| {
                (i64::from(a as i32) * i64::from(b as i32)).wrapping_add(c as i64) as u64
            }),
            _ => return None,
        },
        ("div", []) => {
            for_integers!(kind, Two, |a, b| if b == 0 { !0 } else { a.wrapping_div(b) })
        }
        ("rem", []) => for_integers!(kind, Two, |a, b| if b == 0 { !0 } else { a.wrapping_rem(b) }),
        ("min", []) => for_integers!(kind, Two, |a, b| a.min(b)),
        ("max", []) => for_integers!(kind, Two, |a, b| a.max(b)),
        ("abs", []) => {
            for_integers!(kind, One, |a| if (a as i128) < 0 { (0 as T).wrapping_sub(a) } else { a })
        }
        ("neg", []) => for_integers!(kind, One, |a| (0 as T).wrapping_sub(a)),
        ("not", []) => for_integers!(kind, One, |a| !a),
        ("and", []) => for_integers!(kind, Two, |a, b| a & b),
        ("or", []) => for_integers!(kind, Two, |a, b| a | b),
        ("xor", []) => for_integers!(kind, Two, |a, b| a ^ b),
        ("cnot", []) => for_integers!(kind, One, |a| T::from(a == 0)),
        ("shl", []) => match kind.bits() {
            16 => Two(|a, b| u64::from((a as u16).checked_shl(b as u32).unwrap_or(0))),
            32 => Two(|a, b| u64::from((a as u32).checked_shl(b as u32).unwrap_or(0))),
            64 => Two(|a, b| a.checked_shl(b as u32).unwrap_or(0)),
            _ => return None,
        },
        ("shr", []) => match kind {
            Kind::Unsigned(16) => {
                Two(|a, b| u64::from((a as u16).checked_shr(b as u32).unwrap_or(0)))
            }
            Kind::Unsigned(32) => {
                Two(|a, b| u64::from((a as u32).checked_shr(b as u32).unwrap_or(0)))
            }
            Kind::Unsigned(64) => Two(|a, b| a.checked_shr(b as u32).unwrap_or(0)),
            Kind::Signed(16) => Two(|a, b| (a as i16 >> (b as u32).min(15)) as u16 as u64),
            Kind::Signed(32) => Two(|a, b| (a as i32 >> (b as u32).min(31)) as u32 as u64),
            Kind::Signed(64) => Two(|a, b| (a as i64 >> (b as u32).min(63)) as u64),
            _ => return None,
        },
        ("popc", []) => match kind.bits() {
            32 => One(|a| u64::from((a as u32).count_ones())),
            _ => One(|a| u64::from(a.count_ones())),
        },
        ("clz", []) => match kind.bits() {
            32 => One(|a| u64::from((a as u32).leading_zeros())),
            _ => One(|a| u64::from(a.leading_zeros())),
        },
        ("brev", []) => match kind.bits() {
            32 => One(|a| u64::from((a as u32).reverse_bits())),
            _ => One(u64::reverse_bits),
        },
        ("mov", []) => match kind.bits() {
            16 => One(|a| u64::from(a as u16)),
            32 => One(|a| u64::from(a as u32)),
            _ => One(|a| a),
        },
        ("selp", []) => match kind.bits() {
            16 => Three(|a, b, p| u64::from(if p == 0 { b } else { a } as u16)),
            32 => Three(|a, b, p| u64::from(if p == 0 { b } else { a } as u32)),
            _ => Three(|a, b, p| if p == 0 { b } else { a }),
        },
        ("bfe", []) => match kind {
            Kind::Unsigned(32) => Three(|a, b, c| extract(u64::from(a as u32), b, c, 32, false)),
            Kind::Unsigned(64) => Three(|a, b, c| extract(a, b, c, 64, false)),
            Kind::Signed(32) => Three(|a, b, c| extract(a as i32 as u64, b, c, 32, true)),
            Kind::Signed(64) => Three(|a, b, c| extract(a, b, c, 64, true)),
            _ => return None,
        },
        ("bfi", []) => match kind.bits() {
            32 => Four(|a, b, c, d| insert(a, u64::from(b as u32), c, d, 32)),
            64 => Four(|a, b, c, d| insert(a, b, c, d, 64)),
            _ => return None,
        },
        ("lop3", []) => Four(|a, b, c, table| {
            let term = |bit: u64| {
                let side = |x: u64, set: bool| if set { x } else { !x };
                if table >> bit & 1 == 0 {
                    return 0;
                }
                side(a, bit & 4 != 0) & side(b, bit & 2 != 0) & side(c, bit & 1 != 0)
            };
            u64::from((0..8).map(term).fold(0, |sum, term| sum | term) as u32)
        }),
        ("prmt", []) => Three(permute),
        ("shf", ["l", mode]) => match *mode {
            "wrap" => Three(|a, b, c| funnel(a, b, c & 31, true)),
            "clamp" => Three(|a, b, c| funnel(a, b, (c as u32).min(32).into(), true)),
            _ => return None,
        },
        ("shf", ["r", mode]) => match *mode {
            "wrap" => Three(|a, b, c| funnel(a, b, c & 31, false)),
            "clamp" => Three(|a, b, c| funnel(a, b, (c as u32).min(32).into(), false)),
            _ => return None,
        },
        ("dp4a", ["s32"]) if kind == Kind::Signed(32) => Three(|a, b, c| {
            let bytes = (a as u32).to_le_bytes().into_iter().zip((b as u32).to_le_bytes());
            let sum: i32 = bytes.map(|(a, b)| i32::from(a as i8) * i32::from(b as i8)).sum();
            u64::from((c as i32).wrapping_add(sum) as u32)
        }),
        _ => return None,
    })
}

/// Instructions on predicates.
fn logic(name: &str, modifiers: &[&str]) -> Option<Function> {
    Some(match (name, modifiers) {
        ("and", []) => Two(|a, b| a & b),
        ("or", []) => Two(|a, b| a | b),
        ("xor", []) => Two(|a, b| a ^ b),
        ("not", []) => One(|a| a ^ 1),
        ("mov", []) => One(|a| u64::from(a != 0)),
        _ => return None,
    })
}

/// The upper half of a product. Bits past 128 are the same whichever sign is meant.
fn high(a: i128, b: i128, bits: u32) -> i128 {
    a.wrapping_mul(b) >> bits
}

/// `bfe`: `length` bits of `a` from `position`; past the end stands the sign, or zero.
fn extract(a: u64, position: u64, length: u64, bits: u64, signed: bool) -> u64 {
    let (position, length) = (position & 0xFF, length & 0xFF);
    let sign_at = (position + length).saturating_sub(1).min(bits - 1);
    let sign = signed && length > 0 && a >> sign_at & 1 == 1;
    let bit = |i: u64| match position + i {
        at if i < length && at < bits => a >> at & 1,
        _ => u64::from(sign),
    };
    (0..bits).fold(0, |sum, i| sum | bit(i) << i)
}

/// `bfi`: `b` with the lowest `length` bits of `a` at `position`.
fn insert(a: u64, b: u64, position: u64, length: u64, bits: u64) -> u64 {
    let (position, length) = (position & 0xFF, length & 0xFF);
    (0..length.min(bits.saturating_sub(position)))
        .fold(b, |sum, i| sum & !(1 << (position + i)) | (a >> i & 1) << (position + i))
}

/// `prmt`: four bytes chosen from the eight of `a` and `b`, or their signs.
fn permute(a: u64, b: u64, selector: u64) -> u64 {
    let bytes = u64::from(a as u32) | b << 32;
    (0..4).fold(0, |sum, i| {
        let nibble = selector >> (4 * i) & 0xF;
        let byte = bytes >> (8 * (nibble & 7)) & 0xFF;
        let byte = if nibble & 8 == 0 { byte } else { (byte >> 7) * 0xFF };
        sum | byte << (8 * i)
    })
}

/// `shf`: the 64 bits `b:a` shifted; the left shift gives the upper half, the right one the lower.
fn funnel(a: u64, b: u64, by: u64, left: bool) -> u64 {
    let both = u64::from(a as u32) | b << 32;
    u64::from(if left { (both << by >> 32) as u32 } else { (both >> by) as u32 })
}
