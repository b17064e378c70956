//! Which kernel runs a problem, and why not the others? A plan says both in words.

use crate::{
    Dispatcher, KernelKind, Problem,
    cpu::{n_of_m::NOfM, rounding::Rounding, runs::Runs},
};
use secateur_storage::Format;
use std::fmt;

/// Where the times that a plan compares come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Estimated from constants of this crate, measured on some machine like this one.
    BuiltIn,
    /// Estimated from constants measured on this machine.
    Calibrated,
    /// The product itself was measured.
    Measured,
}

/// Which kernel runs a problem, and why the others do not.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    problem: Problem,
    kind: KernelKind,
    kernel: String,
    basis: Basis,
    nanoseconds: f64,
    turned_down: Vec<(String, String)>,
}

impl Plan {
    /// The kernel that runs.
    pub fn kind(&self) -> KernelKind {
        self.kind
    }

    /// The same plan, its kernel said to round activations.
    pub(crate) fn rounding(mut self, rounding: Rounding) -> Self {
        self.kernel += rounding.name();
        self
    }

    /// The kernel's name, tier included, such as `2:4 avx512`, or `2:4 avx512-bf16` where activations are
    /// rounded.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Where the times come from.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// The time it should take, on one thread unless it was measured on more.
    pub fn time(&self) -> std::time::Duration {
        std::time::Duration::from_secs_f64((self.nanoseconds / 1e9).clamp(0.0, 1e9))
    }

    /// Text for people: what runs, in what time, how that is known, and what was turned down and why.
    pub fn explain(&self) -> String {
        let (problem, kernel, time) = (self.problem, &self.kernel, Time(self.nanoseconds));
        let mut text = match self.basis {
            Basis::BuiltIn => {
                format!("{problem}: {kernel}, an estimated {time} a thread by built-in costs")
            }
            Basis::Calibrated => {
                format!("{problem}: {kernel}, an estimated {time} a thread by this machine's costs")
            }
            Basis::Measured => format!("{problem}: {kernel}, a measured {time}"),
        };
        for (name, reason) in &self.turned_down {
            text += &format!("\n  not {name}: {reason}");
        }
        text
    }
}

/// Plans with those kernels only for which the weight is laid out, by the nanoseconds that each takes.
pub(crate) fn plan_among(
    dispatcher: &Dispatcher,
    problem: &Problem,
    laid_out: &[KernelKind],
    basis: Basis,
    nanoseconds: impl Fn(KernelKind) -> f64,
) -> Plan {
    let mut offers = Vec::new();
    let mut turned_down = Vec::new();
    for kind in KernelKind::ALL {
        let name = kernel_name(dispatcher, kind, problem);
        match unsupported(kind, problem) {
            Some(reason) => turned_down.push((name, reason)),
            None if !laid_out.contains(&kind) => {
                turned_down.push((name, "the weight is not laid out for it".to_owned()));
            }
            None => offers.push((nanoseconds(kind), kind)),
        }
    }
    offers.sort_by(|a, b| a.0.total_cmp(&b.0));
    // A plan among nothing cannot be made by callers: dense supports everything, and a product lays
    // out at least one kernel that does.
    let (nanoseconds, kind) = offers.first().copied().unwrap_or((0.0, KernelKind::Dense));
    let how = if basis == Basis::Measured { "a measured" } else { "an estimated" };
    for (slower, kind) in offers.iter().skip(1) {
        let reason = format!("slower here, {how} {}", Time(*slower));
        turned_down.push((kernel_name(dispatcher, *kind, problem), reason));
    }
    let kernel = kernel_name(dispatcher, kind, problem);
    Plan { problem: *problem, kind, kernel, basis, nanoseconds, turned_down }
}

fn kernel_name(dispatcher: &Dispatcher, kind: KernelKind, problem: &Problem) -> String {
    let tier = dispatcher.tier();
    match kind {
        KernelKind::Dense => "dense gemm".to_owned(),
        KernelKind::NOfM | KernelKind::Block if unsupported(kind, problem).is_none() => {
            format!("{} {tier}", problem.format)
        }
        _ => format!("{kind} {tier}"),
    }
}

/// Why a kernel cannot run a problem at all.
pub(crate) fn unsupported(kind: KernelKind, problem: &Problem) -> Option<String> {
    let Problem { format, cols, .. } = problem;
    match (kind, format) {
        (KernelKind::Dense, _) => None,
        (KernelKind::NOfM, Format::NOfM(pattern)) => {
            let kept = NOfM::kept(pattern.n(), pattern.m());
            let reason = || format!("{format} keeps other than 2, 4 or 8 of 16");
            kept.is_none().then(reason)
        }
        (KernelKind::NOfM, _) => Some(format!("the weight is {format}, not N:M")),
        (KernelKind::Csr, Format::Dense) => Some("the weight has no zeros".to_owned()),
        (KernelKind::Block, _) if Runs::group(*format).is_none() => {
            Some(format!("the weight is {format}, not blocks of two or more rows"))
        }
        (KernelKind::Csr | KernelKind::Block, _) => {
            let reason = || "its column numbers are 16 bits wide".to_owned();
            (!Runs::addresses(*cols)).then(reason)
        }
    }
}

/// Nanoseconds, for people.
struct Time(f64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ns if ns < 1e6 => write!(f, "{:.1} us", ns / 1e3),
            ns => write!(f, "{:.1} ms", ns / 1e6),
        }
    }
}
