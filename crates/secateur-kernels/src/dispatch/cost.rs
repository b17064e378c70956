//! How long will a kernel take on one thread? Its work is counted in a few terms, each of which costs so
//! many nanoseconds; only those are measured ([`Costs`]), so that a plan is a sum of products.
//!
//! Every kernel has two regimes, because it has two loops: *few* tokens at once (one for dense, up to
//! [`FEW`] for the others), which read the weight and little else, and *many*. The terms:
//!
//! | | few | many |
//! | --- | --- | --- |
//! | dense | weights | weights (packed anew on each call); the same, times how often rows meet in one cache set; weights · tokens |
//! | sparse | values; values · tokens; runs · tokens | values; values · vectors of tokens; runs · vectors |
//! | all | tokens · (rows + columns) | lanes · (rows + columns): transposed in and out |
//!
//! *Values* count what is laid out, padding included; a *run* is where a row's sums are taken up and laid
//! down again: in each word of 64 columns for N:M, in each tile of 192 for CSR and blocks. Tokens count in
//! passes, as panels are cut (`cpu/drive.rs`). To that come [`START`] and values that must be widened to f32;
//! and no kernel is faster than memory yields what no cache holds.

use super::Tier;
use crate::{
    KernelKind, Problem,
    cpu::{
        drive::{FEW, Tiling},
        n_of_m::NOfM,
        runs::{self, Runs},
    },
};
use secateur_storage::{Dtype, Format};
use serde::{Deserialize, Serialize};

/// What a product costs before its first multiply-add, in nanoseconds.
pub(super) const START: f64 = 400.0;
/// Bytes that stay in some cache from call to call, about: a third-level cache's share.
const CACHE: f64 = (24 << 20) as f64;
/// Rows whose distance is a multiple of this many f32 lie in the same sets of a first-level cache.
const SET_STRIDE: u32 = 1024;

/// Nanoseconds per unit of each term.
pub(super) type Terms = [f64; 4];

/// One kernel in its two regimes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kernel {
    pub few: Terms,
    pub many: Terms,
}

/// What everything costs on one tier, in nanoseconds per unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Costs {
    pub dense: Kernel,
    pub n_of_m: Kernel,
    pub csr: Kernel,
    pub block: Kernel,
    /// Widening a value from BF16, F16 and I8, once a pass.
    pub widen: [f64; 3],
    /// Reading a byte from memory.
    pub memory: f64,
}

/// The terms of a problem for one kernel.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Work {
    pub few: Terms,
    pub many: Terms,
    /// Values widened from the problem's dtype.
    pub widened: f64,
    /// Bytes read from memory, while the rest goes on.
    pub bytes: f64,
}

impl Costs {
    pub fn of(&self, kind: KernelKind) -> &Kernel {
        match kind {
            KernelKind::Dense => &self.dense,
            KernelKind::NOfM => &self.n_of_m,
            KernelKind::Csr => &self.csr,
            KernelKind::Block => &self.block,
        }
    }

    /// The estimated time in nanoseconds.
    pub fn estimate(&self, kind: KernelKind, problem: &Problem, tier: Tier) -> f64 {
        let (work, kernel) = (Work::of(kind, problem, tier), self.of(kind));
        let widen = place(problem.dtype).map_or(0.0, |at| self.widen[at]);
        let computed = START
            + dot(&kernel.few, &work.few)
            + dot(&kernel.many, &work.many)
            + widen * work.widened;
        // Weights are asked for before they are needed: the slower of both is what it takes.
        computed.max(self.memory * work.bytes)
    }

    /// Every constant, with the kernel or the dtype and the term that it belongs to.
    pub fn named(&self) -> Vec<(String, &'static str, f64)> {
        let mut all = Vec::new();
        for kind in KernelKind::ALL {
            let (few, many) = match kind {
                KernelKind::Dense => (DENSE_FEW, DENSE_MANY),
                _ => (SPARSE_FEW, SPARSE_MANY),
            };
            let kernel = self.of(kind);
            for (regime, names, costs) in [("few", few, kernel.few), ("many", many, kernel.many)] {
                let named = names.into_iter().zip(costs).filter(|(name, _)| !name.is_empty());
                all.extend(named.map(|(name, cost)| (format!("{kind}, {regime}"), name, cost)));
            }
        }
        for (dtype, cost) in WIDENED.into_iter().zip(self.widen) {
            all.push((format!("{dtype}"), "value widened", cost));
        }
        all.push(("memory".to_owned(), "byte read", self.memory));
        all
    }

    /// Whether these can be costs: numbers, none negative, none that would take a millisecond.
    pub fn are_sane(&self) -> bool {
        let sane = |cost: &f64| (0.0..1e6).contains(cost);
        let all = |terms: &Terms| terms.iter().all(sane) && terms.iter().sum::<f64>() > 0.0;
        KernelKind::ALL.iter().all(|kind| all(&self.of(*kind).few) && all(&self.of(*kind).many))
            && self.widen.iter().chain([&self.memory]).all(sane)
    }
}

const DENSE_FEW: [&str; 4] = ["weight", "", "", "token x side"];
const DENSE_MANY: [&str; 4] =
    ["weight packed", "weight packed, same set", "weight x token", "token x side"];
const SPARSE_FEW: [&str; 4] = ["value", "value x token", "run x token", "token x side"];
const SPARSE_MANY: [&str; 4] = ["value", "value x vector", "run x vector", "lane x side"];
/// The dtypes that are widened on the way.
pub(super) const WIDENED: [Dtype; 3] = [Dtype::BF16, Dtype::F16, Dtype::I8];

fn place(dtype: Dtype) -> Option<usize> {
    WIDENED.iter().position(|widened| *widened == dtype)
}

pub(super) fn dot(costs: &Terms, work: &Terms) -> f64 {
    costs.iter().zip(work).map(|(cost, count)| cost * count).sum()
}

impl Work {
    /// The terms of `problem` for a kernel that can run it.
    pub fn of(kind: KernelKind, problem: &Problem, tier: Tier) -> Self {
        let Problem { rows, cols, tokens, .. } = *problem;
        let sides = rows as f64 + cols as f64;
        let mut work = Self::default();
        if kind == KernelKind::Dense {
            let weights = rows as f64 * cols as f64;
            if tokens == 1 {
                work.few = [weights, 0.0, 0.0, sides];
            } else {
                let tokens = tokens as f64;
                let stride = 1 << cols.trailing_zeros().min(SET_STRIDE.ilog2());
                // Half as far apart, a third of the price: so it was measured.
                let same_set = (f64::from(stride) / f64::from(SET_STRIDE)).powf(1.5);
                work.many = [weights, weights * same_set, weights * tokens, sides * tokens];
            }
            work.bytes = from_memory(4.0 * weights);
            return work;
        }
        let (values, runs, bytes) = laid_out(kind, problem);
        let mut tiling = Tiling::of(tier);
        if kind != KernelKind::NOfM {
            tiling = tiling.at_most(runs::TOKENS);
        }
        // All full panels at once, then those that are left: however many tokens there are.
        let (full, left) = (tokens / tiling.widest(), tokens % tiling.widest());
        let full = (full > 0).then_some((full as f64, tiling.widest(), tiling.widest()));
        let left = tiling.panels(left).map(|cut| (1.0, cut.tokens, cut.width));
        for (times, tokens, width) in full.into_iter().chain(left) {
            let (regime, at_once, lanes) = if tokens <= FEW {
                (&mut work.few, tokens, tokens)
            } else {
                (&mut work.many, width / tiling.lanes(1), width)
            };
            let at_once = at_once as f64;
            let terms = [values, values * at_once, runs * at_once, sides * lanes as f64];
            regime.iter_mut().zip(terms).for_each(|(sum, term)| *sum += times * term);
            work.bytes += times * from_memory(bytes);
            if kind == KernelKind::NOfM && place(problem.dtype).is_some() {
                work.widened += times * values;
            }
        }
        work
    }
}

/// A weight somewhat larger than the cache is partly found in it.
fn from_memory(bytes: f64) -> f64 {
    (2.0 * (bytes - CACHE)).clamp(0.0, bytes)
}

/// Values, runs and bytes of a sparse layout.
fn laid_out(kind: KernelKind, problem: &Problem) -> (f64, f64, f64) {
    let Problem { rows, cols, stored, dtype, .. } = *problem;
    match (kind, problem.format) {
        (KernelKind::NOfM, Format::NOfM(pattern)) => {
            let (rows, words) = (rows.div_ceil(8) as f64 * 8.0, cols.div_ceil(64) as f64);
            let kept = NOfM::kept(pattern.n(), pattern.m()).unwrap_or(16) as f64;
            let values = rows * words * 4.0 * kept;
            let size = place(dtype).map_or(4.0, |_| dtype.bitsize() as f64 / 8.0);
            (values, rows * words, values * (size + 0.5))
        }
        (_, format) => {
            let group = if kind == KernelKind::Block { Runs::group(format) } else { None };
            let group = group.unwrap_or(1);
            let runs = rows.div_ceil(group) as f64 * cols.div_ceil(runs::TILE) as f64;
            // The last quad of a run is filled up, unless blocks are whole quads anyway.
            let whole = matches!(format, Format::Block(block) if block.cols().is_multiple_of(4));
            let filled = if kind == KernelKind::Block && whole { 0.0 } else { 1.5 };
            let values = stored as f64 + filled * runs * group as f64;
            (values, runs, values * (4.0 + 2.0 / group as f64))
        }
    }
}
