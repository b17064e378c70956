//! Who answers a problem on this machine, and why? The machine is probed once, plans explain
//! themselves, and a sparse kernel that would be slower than dense is turned down.

use crate::{
    KernelError, KernelKind, Problem,
    cpu::{drive::FEW, n_of_m::NOfM, runs::Runs},
};
use secateur_storage::Format;
use std::fmt;

/// What a processor can do, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// AVX-512 F and DQ, with BMI2.
    Avx512,
    /// AVX2 and FMA, with BMI2 and F16C.
    Avx2,
    /// Whatever the compiler makes of plain Rust.
    Portable,
}

impl Tier {
    const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn detected(self) -> bool {
        let bmi2 = is_x86_feature_detected!("bmi2");
        let fma = is_x86_feature_detected!("fma");
        match self {
            Self::Avx512 => {
                bmi2 && fma
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
            }
            Self::Avx2 => {
                bmi2 && fma && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")
            }
            Self::Portable => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detected(self) -> bool {
        self == Self::Portable
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How fast a kernel is on one core, in multiply-adds per nanosecond: of all weights for dense, of
/// stored values for sparse kernels.
///
/// Measured (`docs/kernel-cpu.md`); what matters is the ratio between the kernels of one tier, which
/// carries over far better than the figures. Constants rather than a measurement at start-up: the
/// same machine always plans the same.
struct Rates {
    /// At one token; sparse kernels hold it for up to four.
    few: f64,
    /// At very many tokens.
    many: f64,
    /// At this many tokens, half of `many` is reached: packing, edges and start-up.
    half: f64,
}

/// What a product costs before its first multiply-add, in nanoseconds.
const START: f64 = 400.0;

fn rates(kind: KernelKind, tier: Tier) -> Rates {
    let (few, many, half) = match (kind, tier) {
        // The gemm crate picks its own instructions, whatever tier is forced on our kernels.
        (KernelKind::Dense, Tier::Avx512) => (15.0, 48.0, 48.0),
        (KernelKind::Dense, Tier::Avx2) => (15.0, 40.0, 48.0),
        (KernelKind::Dense, Tier::Portable) => (6.0, 12.0, 16.0),
        (KernelKind::NOfM, Tier::Avx512) => (15.0, 38.0, 5.0),
        (KernelKind::NOfM, Tier::Avx2) => (12.0, 32.0, 2.0),
        (KernelKind::NOfM, Tier::Portable) => (2.0, 8.0, 1.0),
        (KernelKind::Csr | KernelKind::Block, Tier::Avx512) => (2.1, 20.0, 5.0),
        (KernelKind::Csr | KernelKind::Block, Tier::Avx2) => (2.1, 20.0, 2.0),
        (KernelKind::Csr | KernelKind::Block, Tier::Portable) => (2.1, 10.0, 1.0),
    };
    Rates { few, many, half }
}

/// Knows this machine and plans products for it.
#[derive(Debug, Clone, Copy)]
pub struct Dispatcher {
    tier: Tier,
    machine: Tier,
}

impl Dispatcher {
    /// Finds out what this processor can do.
    ///
    /// The environment variable `SECATEUR_TIER` (`avx512`, `avx2`, `portable`) forces a lower tier.
    /// Errors when it names none, or one that is not there.
    pub fn probe() -> Result<Self, KernelError> {
        match std::env::var_os("SECATEUR_TIER") {
            None => Ok(Self::detect()),
            Some(name) => {
                let unknown = || KernelError::UnknownTier(name.to_string_lossy().into_owned());
                let tier = Tier::ALL.into_iter().find(|tier| name == tier.name());
                Self::with_tier(tier.ok_or_else(unknown)?)
            }
        }
    }

    /// A dispatcher for one tier. Errors where this processor lacks it.
    pub fn with_tier(tier: Tier) -> Result<Self, KernelError> {
        let machine = Self::detect().machine;
        if !tier.detected() {
            return Err(KernelError::NoSuchTier { asked: tier.name(), best: machine.name() });
        }
        Ok(Self { tier, machine })
    }

    fn detect() -> Self {
        let best = Tier::ALL.into_iter().find(|tier| tier.detected()).unwrap_or(Tier::Portable);
        Self { tier: best, machine: best }
    }

    /// The tier that sparse kernels run on.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Plans a product: the cheapest kernel of those that can run it.
    ///
    /// ```
    /// use secateur_kernels::{Dispatcher, Problem};
    /// use secateur_storage::{Dtype, Format};
    /// let (format, stored, dtype) = (Format::TWO_OF_FOUR, 117_600, Dtype::F32);
    /// let problem = Problem { rows: 300, cols: 784, tokens: 1, format, stored, dtype };
    /// let plan = Dispatcher::probe()?.plan(&problem);
    /// println!("{}", plan.explain());
    /// # Ok::<(), secateur_kernels::KernelError>(())
    /// ```
    pub fn plan(&self, problem: &Problem) -> Plan {
        self.plan_among(problem, &KernelKind::ALL)
    }

    /// Plans with those kernels only for which the weight is laid out.
    pub(crate) fn plan_among(&self, problem: &Problem, laid_out: &[KernelKind]) -> Plan {
        let mut offers = Vec::new();
        let mut turned_down = Vec::new();
        for kind in KernelKind::ALL {
            let name = self.kernel_name(kind, problem);
            match unsupported(kind, problem) {
                Some(reason) => turned_down.push((name, reason)),
                None if !laid_out.contains(&kind) => {
                    turned_down.push((name, "the weight is not laid out for it".to_owned()));
                }
                None => offers.push((self.estimate(kind, problem), kind)),
            }
        }
        offers.sort_by(|a, b| a.0.total_cmp(&b.0));
        // A plan among nothing cannot be made by callers: dense supports everything, and a product
        // lays out at least one kernel that does.
        let (estimate, kind) = offers.first().copied().unwrap_or((0.0, KernelKind::Dense));
        for (slower, kind) in offers.iter().skip(1) {
            let reason = format!("slower here, an estimated {}", Duration(*slower));
            turned_down.push((self.kernel_name(*kind, problem), reason));
        }
        Plan {
            problem: *problem,
            kind,
            kernel: self.kernel_name(kind, problem),
            estimate,
            turned_down,
        }
    }

    /// The estimated time in nanoseconds.
    pub(crate) fn estimate(&self, kind: KernelKind, problem: &Problem) -> f64 {
        let tier = if kind == KernelKind::Dense { self.machine } else { self.tier };
        let rates = rates(kind, tier);
        let tokens = problem.tokens as f64;
        let (work, few) = match kind {
            KernelKind::Dense => (problem.rows as f64 * problem.cols as f64 * tokens, 1),
            _ => (problem.stored as f64 * tokens, FEW),
        };
        let saturating = rates.many * tokens / (tokens + rates.half);
        START + work / if problem.tokens <= few { rates.few } else { saturating }
    }

    fn kernel_name(&self, kind: KernelKind, problem: &Problem) -> String {
        match kind {
            KernelKind::Dense => "dense gemm".to_owned(),
            KernelKind::NOfM | KernelKind::Block if unsupported(kind, problem).is_none() => {
                format!("{} {}", problem.format, self.tier)
            }
            _ => format!("{kind} {}", self.tier),
        }
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

/// Which kernel runs a problem, and why the others do not.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    problem: Problem,
    kind: KernelKind,
    kernel: String,
    estimate: f64,
    turned_down: Vec<(String, String)>,
}

impl Plan {
    /// The kernel that runs.
    pub fn kind(&self) -> KernelKind {
        self.kind
    }

    /// The kernel's name, tier included, such as `2:4 avx512`.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Text for people: what runs, the estimate, and what was turned down and why.
    pub fn explain(&self) -> String {
        let mut text =
            format!("{}: {}, an estimated {}", self.problem, self.kernel, Duration(self.estimate));
        for (name, reason) in &self.turned_down {
            text += &format!("\n  not {name}: {reason}");
        }
        text
    }
}

/// Nanoseconds, for people.
struct Duration(f64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ns if ns < 1e6 => write!(f, "{:.1} us", ns / 1e3),
            ns => write!(f, "{:.1} ms", ns / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secateur_storage::Dtype;

    fn explain(tier: Tier, problem: Problem) -> String {
        Dispatcher { tier, machine: tier }.plan(&problem).explain()
    }

    #[test]
    fn plans_explain_themselves() {
        let lenet = Problem {
            rows: 300,
            cols: 784,
            tokens: 128,
            format: Format::TWO_OF_FOUR,
            stored: 117_600,
            dtype: Dtype::F32,
        };
        let plans = [
            explain(Tier::Avx512, lenet),
            explain(Tier::Portable, Problem { tokens: 1, ..lenet }),
            explain(Tier::Avx512, Problem { format: Format::Bitmap, stored: 18_000, ..lenet }),
            explain(Tier::Avx512, Problem { format: Format::Bitmap, stored: 200_000, ..lenet }),
            explain(Tier::Avx2, Problem { format: Format::Dense, stored: 235_200, ..lenet }),
        ];
        insta::assert_snapshot!(plans.join("\n\n"));
    }

    #[test]
    fn a_sparse_kernel_slower_than_dense_does_not_run() {
        let problem = Problem {
            rows: 1000,
            cols: 1000,
            tokens: 128,
            format: Format::Bitmap,
            stored: 950_000,
            dtype: Dtype::F32,
        };
        let plan = Dispatcher { tier: Tier::Avx512, machine: Tier::Avx512 }.plan(&problem);
        assert_eq!(plan.kind(), KernelKind::Dense);
    }
}
