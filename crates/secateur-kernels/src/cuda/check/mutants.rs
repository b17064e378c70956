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
    for check in checks {
        for schedule in &Schedule::ALL[..2] {
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
    let mut unseen = String::new();
    for (mutant, found) in mutants.iter().zip(found) {
        *table.entry(mutant.kind).or_default().entry(found.unwrap_or("unseen")).or_default() += 1;
        if found.is_none() {
            let line = mutant.text.lines().nth(mutant.line - 1).unwrap().trim();
            unseen += &format!("  unseen, {}: {line}\n", mutant.kind);
        }
    }
    let mut said = format!("{name}\n");
    for (kind, ways) in table {
        let ways: Vec<String> = ways.iter().map(|(way, count)| format!("{count} {way}")).collect();
        said += &format!("  {kind}: {}\n", ways.join(", "));
    }
    said + &unseen
}

/// Unseen are what changes nothing: bounds that are asked again inside, and a store that is never reached.
#[test]
fn mistakes_in_the_tiled_product_are_seen() {
    // The last ones have one and two stages only.
    let shapes = [[131, 400, 129], [40, 1000, 20], [129, 120, 3], [129, 250, 3]];
    let said = [(Element::F16, "gemm_f16"), (Element::I8, "gemm_i8")].map(|(element, name)| {
        let checks =
            shapes.map(|shape| product(CudaKernel::Gemm, element, shape, Activation::Gelu));
        hunt("gemm", &entry(GEMM.ptx, name), name, &checks)
    });
    insta::assert_snapshot!(said.join("\n"));
}

/// As above. There is a copy of the text behind the barrier for each activation.
#[test]
fn mistakes_in_the_small_batch_are_seen() {
    let names = [
        (Element::F16, "small_batch_8_f16", 8),
        (Element::F16, "small_batch_16_f16", 16),
        (Element::I8, "small_batch_16_i8", 16),
    ];
    let said = names.map(|(element, name, tokens)| {
        let product =
            |shape, activation| product(CudaKernel::SmallBatch, element, shape, activation);
        let checks = [
            product([40, 4662, tokens], Activation::Gelu),
            product([33, 202, tokens - 1], Activation::None),
            product([32, 140, tokens], Activation::None),
            product([33, 140, tokens], Activation::Relu),
        ];
        hunt("small_batch", &entry(SMALL_BATCH.ptx, name), name, &checks)
    });
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn mistakes_in_packing_and_pruning_are_seen() {
    let shapes = [(33, 65), (20, 260), (7, 5)];
    let checks: Vec<Check> = (0..12)
        .flat_map(|at| WeightCheck::at(at, shapes[at % 3].0, shapes[at / 2 % 3].1))
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
