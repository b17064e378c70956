//! Would a mistake in a kernel be seen? Every line of its text that waits, copies, chooses or addresses is changed,
//! one at a time; the emulator has to accuse it or the product has to be wrong.

use super::{Check, ProductCheck, WeightCheck};
use crate::{
    Activation, KernelError,
    cuda::{
        CudaError, CudaKernel, Device, Emulator, Schedule,
        changed::Changed,
        element::Element,
        kernels::{GEMM, PACK, PRUNE, SMALL_BATCH},
    },
};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// One line of a text, changed.
struct Mutant {
    /// Which kind of change.
    kind: &'static str,
    line: usize,
    text: String,
}

/// Head and one entry of a module: parsing the rest would take most of the time.
fn entry(ptx: &str, name: &str) -> String {
    let head = ptx.find(".visible .entry").unwrap();
    let start = ptx.find(&format!(".visible .entry {name}(")).unwrap();
    let end = start + ptx[start..].find("\n}").unwrap() + 3;
    format!("{}{}", &ptx[..head], &ptx[start..end])
}

/// A change of one line, or none.
type Change = fn(&str) -> Option<String>;

/// The line with one word in place of another.
fn swap(line: &str, from: &str, to: &str) -> Option<String> {
    line.contains(from).then(|| line.replacen(from, to, 1))
}

/// The line with the number between two texts, the first one from the right, changed.
fn number(line: &str, before: &str, after: &str, change: fn(i64) -> i64) -> Option<String> {
    let start = line.rfind(before)? + before.len();
    let end = start + line[start..].find(after)?;
    let found: i64 = line[start..end].parse().ok()?;
    Some(format!("{}{}{}", &line[..start], change(found), &line[end..]))
}

const CHANGES: [(&str, Change); 15] = [
    ("barrier gone", |line| swap(line, "bar.sync", "//")),
    ("waits for one less", |line| number(line, "cp.async.wait_group ", ";", |n| n + 1)),
    ("does not wait", |line| swap(line, "cp.async.wait_group", "//")),
    ("group not closed", |line| swap(line, "cp.async.commit_group", "//")),
    ("other lanes' metadata", |line| {
        line.contains("mma.sp").then(|| swap(line, "0x1;", "0x0;")).flatten()
    }),
    ("no swizzle", |line| swap(line, "xor.b32", "or.b32 ")),
    ("copy gone", |line| swap(line, "cp.async.cg", "// ")),
    ("written beside", |line| {
        line.contains("st.shared").then(|| number(line, "+", "]", |n| n + 4)).flatten()
    }),
    ("read beside", |line| {
        line.contains("ld.shared").then(|| number(line, "+", "]", |n| n + 16)).flatten()
    }),
    ("output gone", |line| swap(line, "st.global", "// ")),
    ("larger for smaller", |line| swap(line, "min.u32", "max.u32")),
    ("or equal: lt", |line| {
        // A word is cut to four bytes or taken whole, which is the same.
        if line.ends_with(", 4;") { None } else { swap(line, "setp.lt.u32", "setp.le.u32") }
    }),
    ("or equal: gt", |line| swap(line, "setp.gt.u32", "setp.ge.u32")),
    ("copied past the edge", |line| {
        let start = line.find("cp.async.cg").and_then(|_| line.rfind(", %r"))?;
        Some(format!("{}, 16;", &line[..start]))
    }),
    ("other shift", |line| {
        line.contains("shl.b32").then(|| number(line, ", ", ";", |n| n + 1)).flatten()
    }),
];

fn mutants(text: &str) -> Vec<Mutant> {
    let lines: Vec<&str> = text.lines().collect();
    let changes = lines.iter().enumerate().flat_map(|(at, line)| {
        let lines = &lines;
        CHANGES.iter().filter_map(move |(kind, change)| {
            let changed = change(line)?;
            let mut all = lines.clone();
            all[at] = &changed;
            Some(Mutant { kind, line: at + 1, text: all.join("\n") + "\n" })
        })
    });
    changes.collect()
}

fn product(
    kernel: CudaKernel,
    element: Element,
    [rows, cols, tokens]: [usize; 3],
    activation: Activation,
) -> Check {
    // As many bytes of every type.
    let cols = cols / element.bytes();
    let (bias, apart) = (true, 16);
    let check = ProductCheck { kernel, element, rows, cols, tokens, bias, activation, apart };
    Check::Product(check)
}

/// How a mutant was seen, if it was.
fn seen(module: &'static str, text: &str, checks: &[Check]) -> Option<&'static str> {
    for (at, check) in checks.iter().enumerate() {
        // Another order for the first one; the others are about places, not time.
        for schedule in &Schedule::ALL[..if at == 0 { 2 } else { 1 }] {
            let emulator = Emulator::with_schedule(*schedule).written_once();
            let device: Device = Changed::text(emulator.device(), module, text.to_owned());
            match check.run(&device) {
                Ok(verdict) if verdict.holds() => {}
                Ok(_) => return Some("wrong result"),
                Err(KernelError::Cuda(CudaError::Fault { kernel, what })) => {
                    assert!(kernel.contains("::"), "not a mutant but no PTX: {what}");
                    return Some("accused");
                }
                Err(_) => return Some("another error"),
            }
        }
    }
    None
}

/// What is left unseen of every kind of change of a kernel, and how many were seen which way.
fn hunt(module: &'static str, text: &str, name: &str, checks: &[Check]) -> String {
    assert_eq!(seen(module, text, checks), None, "{name} as it is");
    let mutants = mutants(text);
    let found: Vec<_> =
        mutants.par_iter().map(|mutant| seen(module, &mutant.text, checks)).collect();
    let mut table: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    let mut unseen: BTreeMap<String, usize> = BTreeMap::new();
    for (mutant, found) in mutants.iter().zip(found) {
        *table.entry(mutant.kind).or_default().entry(found.unwrap_or("unseen")).or_default() += 1;
        if found.is_none() {
            let line = mutant.text.lines().nth(mutant.line - 1).unwrap();
            *unseen.entry(format!("{}: {}", mutant.kind, plain(line))).or_default() += 1;
        }
    }
    let mut said = format!("{name}\n");
    for (kind, ways) in table {
        let ways: Vec<String> = ways.iter().map(|(way, count)| format!("{count} {way}")).collect();
        said += &format!("  {kind}: {}\n", ways.join(", "));
    }
    said + &unseen
        .into_iter()
        .map(|(line, count)| format!("  unseen {count} x {line}\n"))
        .collect::<String>()
}

/// A line without the numbers of its registers, which every compiler chooses anew.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut register = false;
    for c in line.trim().chars() {
        register = c == '%' || register && c.is_ascii_alphanumeric();
        if !(register && c.is_ascii_digit()) {
            plain.push(if c == '\t' { ' ' } else { c });
        }
    }
    plain
}

/// Unseen is what changes nothing that counts: rows below a weight's end, read but not written; bounds that are met
/// exactly; a fourth number of four, which is never stored alone; metadata, always copied whole.
#[test]
fn mistakes_in_the_tiled_product_are_seen() {
    let mut shapes = vec![[131, 400, 129], [40, 1000, 20]];
    // One and two stages only; more than eight rows of tiles; a tile that ends with each eighth of its tokens.
    shapes.extend([[129, 120, 3], [129, 250, 3], [1030, 100, 130]]);
    shapes.extend((1..8).map(|eighth| [1, 400, 16 * eighth + 8]));
    let said = [(Element::F16, "gemm_f16"), (Element::I8, "gemm_i8")].map(|(element, name)| {
        let checks =
            shapes.iter().map(|shape| product(CudaKernel::Gemm, element, *shape, Activation::Gelu));
        hunt("gemm", &entry(GEMM.ptx, name), name, &checks.collect::<Vec<_>>())
    });
    insta::assert_snapshot!(said.join("\n"));
}

/// Behind the barrier are three copies of a text: without scales of rows, and with them with and without ReLU. A check
/// has those scales for I8, and there only. Zero times what lies behind a token is zero of I8, so that it is cut off
/// is seen of F16 only.
#[test]
fn mistakes_in_the_small_batch_are_seen() {
    let names = [
        (Element::F16, "small_batch_8_f16", 8),
        (Element::F16, "small_batch_16_f16", 16),
        (Element::I8, "small_batch_16_i8", 16),
    ];
    // Tokens that end in each word of each square that a warp has under way at once.
    let words = (0..8).flat_map(|round| (0..4).map(move |word| 512 * round + 16 * word + 6));
    let words: Vec<usize> = words.collect();
    let said = names.map(|(element, name, tokens)| {
        let product =
            |shape, activation| product(CudaKernel::SmallBatch, element, shape, activation);
        let mut checks = vec![
            product([33, 202, tokens - 1], Activation::Gelu),
            product([40, 4662, tokens], Activation::Relu),
            product([32, 140, tokens], Activation::Gelu),
        ];
        let words = words.iter().filter(|_| element == Element::F16);
        checks.extend(words.map(|bytes| product([32, *bytes, tokens], Activation::None)));
        hunt("small_batch", &entry(SMALL_BATCH.ptx, name), name, &checks)
    });
    insta::assert_snapshot!(said.join("\n"));
}

/// The first NaN there is, and so the bound that prunes it, is in `tests/cuda/hostile.rs`.
#[test]
fn mistakes_in_packing_and_pruning_are_seen() {
    let shapes = [(33, 65), (20, 260), (7, 5), (100, 130)];
    let checks: Vec<Check> = (0..4)
        .flat_map(|at| shapes.map(|(rows, cols)| WeightCheck::at(at, rows, cols)))
        .flatten()
        .collect();
    let of = |verb: &str| -> Vec<Check> {
        checks.iter().copied().filter(|check| check.name().starts_with(verb)).collect()
    };
    let said = [
        hunt("pack", PACK.ptx, "pack and unpack", &of("pack")),
        hunt("prune", PRUNE.ptx, "prune", &of("prune")),
    ];
    insta::assert_snapshot!(said.join("\n"));
}
