//! Could a layer with this weight run sparse on this machine, from how many tokens on, and if not, why?

use secateur::{
    kernels::{Dispatcher, KernelKind, Problem},
    mask::{Mask, NOfM},
    storage::{Dtype, Entry, Format},
};

/// Tokens at which plans are asked for: from one to a long prompt, or a batch of them.
const MOST_TOKENS: usize = 4096;

/// Whether a 2:4 kernel runs a weight here, and from how many tokens on; or why none does.
pub fn answer(dispatcher: &Dispatcher, entry: &Entry, nonzero: &Mask) -> String {
    let (rows, cols) = match &entry.shape[..] {
        _ if entry.format == Format::Mask => return "-".to_owned(),
        [] => return "no: it has no side".to_owned(),
        [_] => return "no: it has one side".to_owned(),
        [rows, rest @ ..] => (*rows, rest.iter().product::<usize>()),
    };
    match entry.dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::I8 => {}
        Dtype::F64 => return "no: F64 would be rounded to F32".to_owned(),
        other => return format!("no: {other:?} is not multiplied here"),
    }
    if nonzero.is_empty() {
        return "no: it is empty".to_owned();
    }
    let kept = nonzero.count_kept();
    if kept == nonzero.len() {
        return "no: nothing is zero".to_owned();
    }
    let ran = |format, stored, kind| {
        ran(dispatcher, Problem { rows, cols, tokens: 1, format, stored, dtype: entry.dtype }, kind)
    };
    let over = nonzero.groups_over(NOfM::TWO_OF_FOUR);
    if over.over == 0 {
        let stored = rows * cols.div_ceil(4) * 2;
        return ran(Format::TWO_OF_FOUR, stored, KernelKind::NOfM)
            .unwrap_or_else(|| "no: dense is faster at this shape".to_owned());
    }
    let percent = format!("{:.0} %", over.share() * 100.0);
    let groups = match &percent[..] {
        _ if over.over == over.total => "all".to_owned(),
        "0 %" | "100 %" => format!("{} of {}", over.over, over.total),
        percent => format!("{percent} of the"),
    };
    let reason = format!("no: {groups} groups of four keep more than two");
    match ran(Format::Bitmap, kept, KernelKind::Csr) {
        Some(csr) => format!("{reason}; {csr}"),
        None => reason,
    }
}

/// The name of the kernel and the numbers of tokens at which it is planned, if it ever is.
fn ran(dispatcher: &Dispatcher, problem: Problem, kind: KernelKind) -> Option<String> {
    let runs = tokens(dispatcher, problem, kind);
    let plan = dispatcher.plan(&Problem { tokens: runs.first()?.0, ..problem });
    let tokens = |n: usize| if n == 1 { "1 token".to_owned() } else { format!("{n} tokens") };
    let said = runs.iter().map(|&(from, to)| match to {
        None => format!("from {} on", tokens(from)),
        Some(to) if to == from => format!("for {}", tokens(to)),
        Some(to) => format!("for {from} to {to} tokens"),
    });
    Some(format!("{} {}", plan.kernel(), said.collect::<Vec<_>>().join(", ")))
}

/// The runs of token counts for which a kernel is planned: from which and up to which, if that is not
/// the most looked at.
fn tokens(
    dispatcher: &Dispatcher,
    problem: Problem,
    kind: KernelKind,
) -> Vec<(usize, Option<usize>)> {
    // One by one where estimates have steps, beyond which they meet once.
    let few = 1_usize << 9;
    let asked = (1..few).chain((few.ilog2()..=MOST_TOKENS.ilog2()).map(|power| 1 << power));
    let is_planned = |tokens| dispatcher.plan(&Problem { tokens, ..problem }).kind() == kind;
    let edge = |mut no: usize, mut yes: usize| {
        while no.abs_diff(yes) > 1 {
            let middle = no.midpoint(yes);
            *if is_planned(middle) { &mut yes } else { &mut no } = middle;
        }
        yes
    };
    let mut runs: Vec<(usize, Option<usize>)> = Vec::new();
    let mut before: Option<(usize, bool)> = None;
    for tokens in asked {
        let planned = is_planned(tokens);
        match (before, planned) {
            (None, true) => runs.push((tokens, None)),
            (Some((no, false)), true) => runs.push((edge(no, tokens), None)),
            (Some((yes, true)), false) => {
                if let Some(run) = runs.last_mut() {
                    run.1 = Some(edge(tokens, yes));
                }
            }
            _ => {}
        }
        before = Some((tokens, planned));
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use secateur::kernels::Tier;

    #[test]
    fn the_tokens_named_are_those_that_are_planned() {
        let two_four = |rows, cols, tokens: usize| {
            let (format, stored) = (Format::TWO_OF_FOUR, rows * cols / 2);
            (Problem { rows, cols, tokens, format, stored, dtype: Dtype::F32 }, KernelKind::NOfM)
        };
        let csr = |rows, cols, stored| {
            (
                Problem {
                    rows,
                    cols,
                    tokens: 1,
                    format: Format::Bitmap,
                    stored,
                    dtype: Dtype::F32,
                },
                KernelKind::Csr,
            )
        };
        let cases = [
            two_four(300, 784, 1),
            two_four(4096, 4096, 1),
            csr(300, 784, 20_000),
            csr(300, 784, 100_000),
            csr(300, 784, 235_199),
        ];
        let here = [Dispatcher::probe(), Dispatcher::with_tier(Tier::Portable)];
        let cases = cases.map(|case| here.each_ref().map(|on| (case, on.as_ref().unwrap())));
        for ((problem, kind), dispatcher) in cases.into_iter().flatten() {
            let found = tokens(dispatcher, problem, kind);
            for tokens in 1..=MOST_TOKENS {
                let plan = dispatcher.plan(&Problem { tokens, ..problem });
                let holds = |&(from, to): &(usize, Option<usize>)| {
                    from <= tokens && to.is_none_or(|to| tokens <= to)
                };
                let named = found.iter().any(holds);
                assert_eq!(plan.kind() == kind, named, "{problem} at {tokens}: {found:?}");
            }
        }
    }
}
