//! What does an instruction's name mean? Its words choose a shape; its operands become rows.

use super::{
    compare::comparison,
    convert::{self, Conversion},
    decode_memory::{atomic, copy, load_or_store, tensor, written},
    float::float,
    instruction::{Combine, Function, Operation, Shuffle, Vote},
    integer::integer,
    kind::Kind,
    rows::Rows,
    text::Operand,
};

/// The operations of one instruction: one, or two where `.sat` follows. Errors name it.
pub(super) fn decode<'a>(
    name: &'a str,
    operands: &[Operand<'a>],
    rows: &mut Rows<'a>,
) -> Result<Vec<Operation>, String> {
    let words: Vec<&str> = name.split('.').collect();
    match operation(words[0], &words[1..], operands, rows)? {
        Some(operations) => Ok(operations),
        None => Err(format!("the emulator does not know {name} with {} operands", operands.len())),
    }
}

fn operation<'a>(
    name: &str,
    words: &[&str],
    operands: &[Operand<'a>],
    rows: &mut Rows<'a>,
) -> Result<Option<Vec<Operation>>, String> {
    let kind = words.last().and_then(|word| Kind::named(word));
    let one = match (name, words, operands) {
        ("bra", [] | ["uni"], [_]) => Operation::Branch { target: 0 },
        ("ret" | "exit", [] | ["uni"], []) => Operation::Exit,
        ("bar", ["sync"], [id]) | ("barrier", ["sync"] | ["sync", "aligned"], [id]) => match id {
            Operand::Number(id) if *id < 16 => Operation::Barrier { id: *id as u32 },
            _ => return Err("a barrier whose number is not an immediate below 16".into()),
        },
        ("bar", ["warp", "sync"], [members]) => {
            Operation::WarpBarrier { members: rows.read(members)? }
        }
        ("membar", ["gl" | "cta" | "sys"], []) | ("fence", [_, _] | ["sc" | "acq_rel", ..], []) => {
            Operation::Fence
        }
        ("cvta", _, [d, a]) => return cvta(words, d, a, rows).map(|one| one.map(|one| vec![one])),
        ("mov", ["b16" | "b32" | "b64" | "u32" | "u64"], [d, a])
            if is_vector(d) || is_vector(a) =>
        {
            join_or_split(kind.map_or(0, Kind::bits), d, a, rows)?
        }
        ("setp", _, [p, a, b, rest @ ..]) => {
            return Ok(compare(words, p, [a, b], rest, rows)?.map(|one| vec![one]));
        }
        ("cvt", ["pack", "sat", "s8", "s32", "b32"], [_, _, _, _]) => {
            map(Function::Three(convert::pack_signed), operands, rows)?
        }
        ("cvt", [modifiers @ .., to, from], _) => {
            return Ok(convert(modifiers, to, from, operands, rows)?.map(|one| vec![one]));
        }
        ("ld" | "st" | "ldu", [_, ..], [a, b]) => {
            return Ok(load_or_store(name, words, [a, b], rows)?.map(|one| vec![one]));
        }
        ("atom" | "red", _, _) => {
            return Ok(atomic(name, words, operands, rows)?.map(|one| vec![one]));
        }
        ("cp", ["async", ..], _) => {
            return Ok(copy(&words[1..], operands, rows)?.map(|one| vec![one]));
        }
        ("ldmatrix", ["sync", "aligned", "m8n8", count, rest @ ..], [d, address]) => {
            let count = match *count {
                "x1" => 1,
                "x2" => 2,
                "x4" => 4,
                _ => return Ok(None),
            };
            let transposed = match rest {
                ["shared", "b16"] => false,
                ["trans", "shared", "b16"] => true,
                _ => return Ok(None),
            };
            let d = written(d, count, rows)?;
            Operation::LoadMatrix { count, transposed, d, address: rows.address(address)? }
        }
        ("mma", _, _) => return Ok(tensor(words, operands, rows)?.map(|one| vec![one])),
        ("shfl", ["sync", mode, "b32"], [d, a, b, c, members]) => {
            let mode = match *mode {
                "idx" => Shuffle::Index,
                "bfly" => Shuffle::Butterfly,
                "down" => Shuffle::Down,
                "up" => Shuffle::Up,
                _ => return Ok(None),
            };
            let (d, p) = match d {
                Operand::Pair(d, p) => {
                    (rows.written(&Operand::Word(d))?, Some(rows.written(&Operand::Word(p))?))
                }
                d => (rows.written(d)?, None),
            };
            let [a, b, c] = [rows.read(a)?, rows.read(b)?, rows.read(c)?];
            Operation::Shuffle { mode, d, p, a, b, c, members: rows.read(members)? }
        }
        ("vote", ["sync", mode, "pred" | "b32"], [d, a, members]) => {
            let mode = match *mode {
                "all" => Vote::All,
                "any" => Vote::Any,
                "uni" => Vote::Uniform,
                "ballot" => Vote::Ballot,
                _ => return Ok(None),
            };
            let (d, a) = (rows.written(d)?, rows.predicate(a)?);
            Operation::Vote { mode, d, a, members: rows.read(members)? }
        }
        ("redux", ["sync", modifiers @ .., _], [d, a, members]) => {
            let Some(Function::Two(fold)) =
                kind.and_then(|kind| integer(modifiers.first()?, &[], kind))
            else {
                return Ok(None);
            };
            let (d, a) = (rows.written(d)?, rows.read(a)?);
            Operation::Reduce { fold, d, a, members: rows.read(members)? }
        }
        ("activemask", ["b32"], [d]) => Operation::ActiveMask { d: rows.written(d)? },
        _ => return arithmetic(name, words, kind, operands, rows),
    };
    Ok(Some(vec![one]))
}

/// Everything that is a function of a lane's own registers.
fn arithmetic<'a>(
    name: &str,
    words: &[&str],
    kind: Option<Kind>,
    operands: &[Operand<'a>],
    rows: &mut Rows<'a>,
) -> Result<Option<Vec<Operation>>, String> {
    let (Some(kind), [_, ..]) = (kind, operands) else { return Ok(None) };
    let modifiers = &words[..words.len() - 1];
    let saturate = kind == Kind::F32 && modifiers.contains(&"sat");
    let modifiers: Vec<&str> =
        modifiers.iter().copied().filter(|word| !(saturate && *word == "sat")).collect();
    let function = if kind.is_float() {
        float(name, &modifiers, kind)
    } else {
        integer(name, &modifiers, kind)
    };
    let Some(function) = function.filter(|function| function.operands() + 1 == operands.len())
    else {
        return Ok(None);
    };
    let mut operations = vec![map(function, operands, rows)?];
    if saturate && let Some(function) = float("saturate", &[], kind) {
        operations.push(map(function, &[operands[0].clone(), operands[0].clone()], rows)?);
    }
    Ok(Some(operations))
}

fn map<'a>(
    function: Function,
    operands: &[Operand<'a>],
    rows: &mut Rows<'a>,
) -> Result<Operation, String> {
    let mut a = [0; 4];
    for (row, operand) in a.iter_mut().zip(&operands[1..]) {
        *row = rows.read(operand)?;
    }
    Ok(Operation::Map { function, d: rows.written(&operands[0])?, a })
}

fn cvta<'a>(
    words: &[&str],
    d: &Operand<'a>,
    a: &Operand<'a>,
    rows: &mut Rows<'a>,
) -> Result<Option<Operation>, String> {
    let function: fn(u64) -> u64 = match words {
        ["global" | "const", "u64"] | ["to", "global" | "const", "u64"] => |a| a,
        ["shared", "u64"] => |a| a.wrapping_add(super::shared::WINDOW),
        ["to", "shared", "u64"] => |a| a.wrapping_sub(super::shared::WINDOW),
        _ => return Ok(None),
    };
    map(Function::One(function), &[d.clone(), a.clone()], rows).map(Some)
}

fn is_vector(operand: &Operand<'_>) -> bool {
    matches!(operand, Operand::Vector(_))
}

fn join_or_split<'a>(
    bits: u32,
    d: &Operand<'a>,
    a: &Operand<'a>,
    rows: &mut Rows<'a>,
) -> Result<Operation, String> {
    match (d, a) {
        (Operand::Vector(parts), a) => {
            let bits = bits / parts.len() as u32;
            let parts: Result<_, String> = parts.iter().map(|part| rows.written(part)).collect();
            Ok(Operation::Split { parts: parts?, a: rows.read(a)?, bits })
        }
        (d, Operand::Vector(parts)) => {
            let bits = bits / parts.len() as u32;
            let parts: Result<_, String> = parts.iter().map(|part| rows.read(part)).collect();
            Ok(Operation::Join { d: rows.written(d)?, parts: parts?, bits })
        }
        _ => Err("a mov of a vector without one".into()),
    }
}

fn compare<'a>(
    words: &[&str],
    p: &Operand<'a>,
    [a, b]: [&Operand<'a>; 2],
    rest: &[Operand<'a>],
    rows: &mut Rows<'a>,
) -> Result<Option<Operation>, String> {
    let ftz = words.contains(&"ftz");
    let words: Vec<&str> = words.iter().copied().filter(|word| *word != "ftz").collect();
    let (name, combine, kind) = match (&words[..], rest) {
        ([name, kind], []) => (name, None, kind),
        ([name, combine, kind], [c]) => {
            let combine = match *combine {
                "and" => Combine::And,
                "or" => Combine::Or,
                "xor" => Combine::Xor,
                _ => return Ok(None),
            };
            (name, Some((combine, rows.predicate(c)?)), kind)
        }
        _ => return Ok(None),
    };
    let Some(test) = Kind::named(kind).and_then(|kind| comparison(name, kind, ftz)) else {
        return Ok(None);
    };
    let (p, q) = match p {
        Operand::Pair(p, q) => {
            (rows.written(&Operand::Word(p))?, Some(rows.written(&Operand::Word(q))?))
        }
        p => (rows.written(p)?, None),
    };
    Ok(Some(Operation::Compare { test, combine, p, q, a: [rows.read(a)?, rows.read(b)?] }))
}

fn convert<'a>(
    modifiers: &[&str],
    to: &str,
    from: &str,
    operands: &[Operand<'a>],
    rows: &mut Rows<'a>,
) -> Result<Option<Operation>, String> {
    let (Some(to), Some(from)) = (Kind::named(to), Kind::named(from)) else { return Ok(None) };
    let element = match to {
        Kind::F16x2 => Kind::F16,
        Kind::Bf16x2 => Kind::Bf16,
        other => other,
    };
    let Some(conversion) = Conversion::new(modifiers, element, from) else { return Ok(None) };
    match operands {
        [d, a] if element == to => {
            Ok(Some(Operation::Convert { conversion, d: rows.written(d)?, a: rows.read(a)? }))
        }
        [d, high, low] if element != to => {
            let (high, low) = (rows.read(high)?, rows.read(low)?);
            Ok(Some(Operation::ConvertPair { conversion, d: rows.written(d)?, high, low }))
        }
        _ => Ok(None),
    }
}
