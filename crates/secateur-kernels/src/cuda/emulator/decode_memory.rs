//! What do names of loads, stores, copies, atomics and tensor instructions mean?

use super::{
    instruction::{Move, Operation, Row, Space, Tensor},
    kind::Kind,
    rows::Rows,
    text::Operand,
};
use crate::cuda::lane_model::Float;

/// What a name's words may be that say how a cache is used, or who else sees the access.
const HINTS: [&str; 17] = [
    "nc", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "weak", "volatile", "relaxed", "acquire",
    "release", "acq_rel", "gpu", "cta", "sys",
];

fn is_hint(word: &str) -> bool {
    HINTS.contains(&word) || word.starts_with("L1::") || word.starts_with("L2::")
}

fn space(words: &[&str]) -> Space {
    match words.first() {
        Some(&("global" | "const")) => Space::Global,
        Some(&"shared") => Space::Shared,
        Some(&"param") => Space::Parameters,
        _ => Space::Generic,
    }
}

/// The first `count` registers of a vector; a single register is one of length 1.
pub(super) fn written<'a>(
    operand: &Operand<'a>,
    count: usize,
    rows: &mut Rows<'a>,
) -> Result<[Row; 4], String> {
    each(operand, count, |operand| rows.written(operand))
}

fn read<'a>(operand: &Operand<'a>, count: usize, rows: &mut Rows<'a>) -> Result<[Row; 4], String> {
    each(operand, count, |operand| rows.read(operand))
}

fn each<'a>(
    operand: &Operand<'a>,
    count: usize,
    mut row: impl FnMut(&Operand<'a>) -> Result<Row, String>,
) -> Result<[Row; 4], String> {
    let single = std::slice::from_ref(operand);
    let parts = if let Operand::Vector(parts) = operand { parts } else { single };
    if parts.len() != count {
        return Err(format!("{} registers where {count} are needed", parts.len()));
    }
    let mut found = [0; 4];
    for (found, part) in found.iter_mut().zip(parts) {
        *found = row(part)?;
    }
    Ok(found)
}

pub(super) fn load_or_store<'a>(
    name: &str,
    words: &[&str],
    [first, second]: [&Operand<'a>; 2],
    rows: &mut Rows<'a>,
) -> Result<Option<Operation>, String> {
    let space = space(words);
    let words = if space == Space::Generic { words } else { &words[1..] };
    let words: Vec<&str> = words.iter().copied().filter(|word| !is_hint(word)).collect();
    let (count, kind) = match words[..] {
        [kind] => (1, kind),
        ["v2", kind] => (2, kind),
        ["v4", kind] => (4, kind),
        _ => return Ok(None),
    };
    let Some(kind) = Kind::named(kind).filter(|kind| kind.bytes() * count <= 16) else {
        return Ok(None);
    };
    let (width, signed) = (kind.bytes(), kind.is_signed());
    Ok(match (name, space) {
        ("st", Space::Parameters) => None,
        ("st", _) => {
            let (address, rows) = (rows.address(first)?, read(second, count, rows)?);
            Some(Operation::Store(Move { space, rows, count, width, signed, address }))
        }
        _ => {
            let (address, rows) = (rows.address(second)?, written(first, count, rows)?);
            Some(Operation::Load(Move { space, rows, count, width, signed, address }))
        }
    })
}

pub(super) fn atomic<'a>(
    name: &str,
    words: &[&str],
    operands: &[Operand<'a>],
    rows: &mut Rows<'a>,
) -> Result<Option<Operation>, String> {
    let space = space(words);
    let words = if space == Space::Generic { words } else { &words[1..] };
    let words: Vec<&str> = words.iter().copied().filter(|word| !is_hint(word)).collect();
    let [update, .., kind] = words[..] else { return Ok(None) };
    let Some(kind) = Kind::named(kind) else { return Ok(None) };
    let update: fn(u64, u64, u64) -> u64 = match (update, kind) {
        ("add", Kind::Unsigned(32) | Kind::Signed(32)) => {
            |old, a, _| u64::from((old as u32).wrapping_add(a as u32))
        }
        ("add", Kind::Unsigned(64)) => |old, a, _| old.wrapping_add(a),
        ("add", Kind::F32) => {
            |old, a, _| u64::from((f32::from_bits(old as u32) + f32::from_bits(a as u32)).to_bits())
        }
        ("min", Kind::Unsigned(_)) => |old, a, _| old.min(a),
        ("max", Kind::Unsigned(_)) => |old, a, _| old.max(a),
        ("min", Kind::Signed(32)) => |old, a, _| (old as i32).min(a as i32) as u32 as u64,
        ("max", Kind::Signed(32)) => |old, a, _| (old as i32).max(a as i32) as u32 as u64,
        ("and", Kind::Unsigned(_)) => |old, a, _| old & a,
        ("or", Kind::Unsigned(_)) => |old, a, _| old | a,
        ("xor", Kind::Unsigned(_)) => |old, a, _| old ^ a,
        ("exch", Kind::Unsigned(_)) => |_, a, _| a,
        ("inc", Kind::Unsigned(32)) => |old, a, _| if old >= a { 0 } else { old + 1 },
        ("dec", Kind::Unsigned(32)) => |old, a, _| if old == 0 || old > a { a } else { old - 1 },
        ("cas", Kind::Unsigned(_)) => |old, a, b| if old == a { b } else { old },
        _ => return Ok(None),
    };
    let (d, rest) = match (name, operands) {
        ("atom", [d, rest @ ..]) => (Some(rows.written(d)?), rest),
        ("red", rest) => (None, rest),
        _ => return Ok(None),
    };
    let (address, a) = match rest {
        [address, a] if words[0] != "cas" => (rows.address(address)?, [rows.read(a)?; 2]),
        [address, a, b] if words[0] == "cas" => {
            (rows.address(address)?, [rows.read(a)?, rows.read(b)?])
        }
        _ => return Ok(None),
    };
    Ok(Some(Operation::Atomic { space, update, width: kind.bytes(), d, address, a }))
}

/// `cp.async` and what waits for it.
pub(super) fn copy<'a>(
    words: &[&str],
    operands: &[Operand<'a>],
    rows: &mut Rows<'a>,
) -> Result<Option<Operation>, String> {
    let words: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with("L2::")).collect();
    Ok(match (&words[..], operands) {
        (["commit_group"], []) => Some(Operation::CommitCopies),
        (["wait_group"], [Operand::Number(but)]) => {
            Some(Operation::WaitCopies { but: *but as u32 })
        }
        // Unlike `wait_group 0` it also covers what was never committed.
        (["wait_all"], []) => Some(Operation::WaitCopies { but: u32::MAX }),
        (
            [cache @ ("ca" | "cg"), "shared", "global"],
            [to, from, Operand::Number(bytes), rest @ ..],
        ) => {
            let bytes = *bytes as usize;
            let allowed = if *cache == "cg" { bytes == 16 } else { [4, 8, 16].contains(&bytes) };
            let source_bytes = match rest {
                [] => None,
                [count] => Some(rows.read(count)?),
                _ => return Ok(None),
            };
            if !allowed {
                return Err(format!("cp.async.{cache} does not copy {bytes} bytes"));
            }
            let (to, from) = (rows.address(to)?, rows.address(from)?);
            Some(Operation::Copy { bytes, to, from, source_bytes })
        }
        _ => None,
    })
}

/// `mma` and `mma.sp`.
pub(super) fn tensor<'a>(
    words: &[&str],
    operands: &[Operand<'a>],
    rows: &mut Rows<'a>,
) -> Result<Option<Operation>, String> {
    let (tensor, b_registers) = match words {
        ["sp", "sync", "aligned", "m16n8k32", "row", "col", "f32", "f16", "f16", "f32"] => {
            (Tensor::SparseFloat(Float::F16), 4)
        }
        ["sp", "sync", "aligned", "m16n8k32", "row", "col", "f32", "bf16", "bf16", "f32"] => {
            (Tensor::SparseFloat(Float::Bf16), 4)
        }
        ["sp", "sync", "aligned", "m16n8k64", "row", "col", "s32", "s8", "s8", "s32"] => {
            (Tensor::SparseBytes, 4)
        }
        ["sync", "aligned", "m16n8k16", "row", "col", "f32", "f16", "f16", "f32"] => {
            (Tensor::DenseFloat(Float::F16), 2)
        }
        ["sync", "aligned", "m16n8k16", "row", "col", "f32", "bf16", "bf16", "f32"] => {
            (Tensor::DenseFloat(Float::Bf16), 2)
        }
        ["sync", "aligned", "m16n8k32", "row", "col", "s32", "s8", "s8", "s32"] => {
            (Tensor::DenseBytes, 2)
        }
        _ => return Ok(None),
    };
    let sparse = tensor.is_sparse();
    let (metadata, selector) = match &operands[4.min(operands.len())..] {
        [metadata, Operand::Number(selector)] if sparse => (rows.read(metadata)?, *selector as u32),
        [] if !sparse => (0, 0),
        _ => return Ok(None),
    };
    let most = if matches!(tensor, Tensor::SparseBytes) { 0 } else { 1 };
    if selector > most {
        return Err(crate::cuda::CudaError::Selector { selector, most }.to_string());
    }
    let [d, a, b, c, ..] = operands else { return Ok(None) };
    let d = written(d, 4, rows)?;
    let (a, b, c) = (read(a, 4, rows)?, read(b, b_registers, rows)?, read(c, 4, rows)?);
    Ok(Some(Operation::Tensor { tensor, d, a, b, c, metadata, selector }))
}
