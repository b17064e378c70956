//! Who answers a problem on this machine, and why? Kernels are compared by what they cost here, the cheapest
//! runs, and a sparse kernel that would be slower than dense is turned down.
//!
//! Reading order: `cost.rs` (how long a kernel takes), `plan.rs` (what follows, in words), `built_in.rs` (costs
//! that everybody has), `calibrate.rs` (those of this machine), `cache.rs` (where they are kept).

mod built_in;
pub(crate) mod cache;
pub(crate) mod calibrate;
mod cost;
mod plan;
mod tier;
pub(crate) mod timings;

pub use calibrate::Calibration;
pub use plan::{Basis, Plan};
pub(crate) use plan::{plan_among, unsupported};
pub use tier::Tier;

use crate::{KernelError, KernelKind, Problem};
use cost::Costs;

/// Knows this machine and plans products for it.
///
/// Which kernel runs decides about the last bits of a sum. Where bytes must be the same again, take
/// [`Self::built_in`], whose plans depend on the processor alone, not on what was once measured.
#[derive(Debug, Clone, Copy)]
pub struct Dispatcher {
    tier: Tier,
    costs: Costs,
    basis: Basis,
}

impl Dispatcher {
    /// Finds out what this processor can do, and plans by the costs that [`Self::calibrate`] measured and
    /// [`Calibration::save`] kept for it; without any, as [`Self::built_in`] does. Measures nothing.
    ///
    /// The environment variable `SECATEUR_TIER` (`avx512`, `avx2`, `portable`) forces a lower tier,
    /// `SECATEUR_CACHE` (`off`, or a folder) says where costs are kept, if not in the user's folder for
    /// caches. A file that is damaged, or another machine's, is ignored with a warning.
    ///
    /// Errors when `SECATEUR_TIER` names no tier, or one that is not there.
    pub fn probe() -> Result<Self, KernelError> {
        let here = Self::built_in()?;
        let kept = cache::load(here.tier);
        Ok(kept.map_or(here, |kept| here.with_costs(kept.costs)))
    }

    /// Finds out what this processor can do, and plans by costs that come with this crate: always the
    /// same plans on the same processor. `SECATEUR_TIER` and errors as for [`Self::probe`].
    pub fn built_in() -> Result<Self, KernelError> {
        Self::with_tier(Tier::asked()?)
    }

    /// A dispatcher for one tier, by built-in costs. Errors where this processor lacks it.
    pub fn with_tier(tier: Tier) -> Result<Self, KernelError> {
        Ok(Self::of(tier.if_detected()?, Tier::best()))
    }

    /// The gemm crate picks its own instructions, whatever tier is forced on our kernels.
    fn of(tier: Tier, machine: Tier) -> Self {
        let costs = Costs { dense: built_in::costs(machine).dense, ..built_in::costs(tier) };
        Self { tier, costs, basis: Basis::BuiltIn }
    }

    fn with_costs(self, costs: Costs) -> Self {
        Self { costs, basis: Basis::Calibrated, ..self }
    }

    /// The tier that sparse kernels run on.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Where the costs come from: never [`Basis::Measured`], which products are.
    pub fn basis(&self) -> Basis {
        self.basis
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
        plan_among(self, problem, &KernelKind::ALL, self.basis, |kind| self.estimate(kind, problem))
    }

    /// The estimated time in nanoseconds, on one thread.
    pub(crate) fn estimate(&self, kind: KernelKind, problem: &Problem) -> f64 {
        self.costs.estimate(kind, problem, self.tier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secateur_storage::{Dtype, Format};

    fn explain(tier: Tier, problem: Problem) -> String {
        Dispatcher::of(tier, tier).plan(&problem).explain()
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

    /// The kernel planned on each tier for a square weight of `share` stored.
    fn planned(tier: Tier, format: Format, share: f64, tokens: usize) -> KernelKind {
        let (rows, cols) = (1000, 1000);
        let (stored, dtype) = ((share * 1e6) as usize, Dtype::F32);
        let problem = Problem { rows, cols, tokens, format, stored, dtype };
        Dispatcher::of(tier, tier).plan(&problem).kind()
    }

    #[test]
    fn a_sparse_kernel_slower_than_dense_does_not_run() {
        for tokens in [1, 2, 4, 5, 8, 16, 25, 128, 512] {
            for tier in [Tier::Avx512, Tier::Avx2] {
                let dense = planned(tier, Format::Dense, 1.0, tokens);
                assert_eq!(dense, KernelKind::Dense, "{tier}, {tokens} tokens");
            }
        }
        // Nearly nothing is zero. From 5 tokens to 16, CSR is faster even so: it was measured, because a
        // dense product spends its time on packing the weight.
        for tokens in [1, 2, 4, 64, 128, 512] {
            for tier in [Tier::Avx512, Tier::Avx2] {
                let nearly = planned(tier, Format::Bitmap, 0.95, tokens);
                assert_eq!(nearly, KernelKind::Dense, "{tier}, {tokens} tokens");
            }
        }
    }

    #[test]
    fn a_sparse_kernel_that_is_faster_runs() {
        for tokens in [1, 2, 4, 5, 8, 16, 25, 64, 128, 200, 512] {
            for tier in [Tier::Avx512, Tier::Avx2] {
                let regular = planned(tier, Format::TWO_OF_FOUR, 0.5, tokens);
                assert_eq!(regular, KernelKind::NOfM, "{tier}, {tokens} tokens");
                let sparse = planned(tier, Format::Bitmap, 0.05, tokens);
                assert_eq!(sparse, KernelKind::Csr, "{tier}, {tokens} tokens");
            }
        }
    }

    /// What is widened, kept in memory or cut into more panels takes longer; half the products do not.
    #[test]
    fn estimates_follow_what_is_asked() {
        let here = Dispatcher::of(Tier::Avx512, Tier::Avx512);
        let (format, stored, dtype) = (Format::TWO_OF_FOUR, 294_912, Dtype::F32);
        let problem = Problem { rows: 768, cols: 768, tokens: 16, format, stored, dtype };
        let time = |kind, problem| here.estimate(kind, &problem);
        let f32 = time(KernelKind::NOfM, problem);
        assert!(time(KernelKind::NOfM, Problem { dtype: Dtype::I8, ..problem }) > f32);
        assert!(time(KernelKind::NOfM, Problem { tokens: 21, ..problem }) > 1.8 * f32);
        let quarter = Problem { format: "1:4".parse().unwrap(), stored: stored / 2, ..problem };
        assert!(time(KernelKind::NOfM, quarter) < 0.7 * f32);
        // One row of cache sets for every row of the weight.
        let dense = |cols| time(KernelKind::Dense, Problem { cols, ..problem }) / cols as f64;
        assert!(dense(1024) > 2.0 * dense(1000));
        // 256 MiB at 30 GB/s.
        let large = Problem { rows: 8192, cols: 8192, tokens: 1, ..problem };
        assert!(time(KernelKind::Dense, large) > 8e6);
    }
}
