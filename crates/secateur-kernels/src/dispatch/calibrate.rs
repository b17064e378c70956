//! What do kernels cost on this machine? Each runs a handful of small products, and the costs are those,
//! none negative, that come closest to the times measured.
//!
//! Times are the shortest of many calls: other processes of a shared machine slow some calls down, nothing
//! makes one faster than it is. Closest is in proportion: a microsecond in ten counts as much as a
//! millisecond in ten. One thread measures, because costs are a thread's.

use super::{
    Dispatcher, Tier,
    cache::{self, Machine},
    cost::{Costs, Kernel, START, Terms, WIDENED, Work, dot},
};
use crate::{KernelError, KernelKind, Problem, Product, cpu::drive::Tiling, machine::bandwidth};
use half::{bf16, f16};
use secateur_storage::{Dense, Dtype, Format, Packed, Values};
use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long one product at one number of tokens is timed.
const A_WHILE: Duration = Duration::from_millis(15);
/// Where the search for costs stops: it has long converged.
const SWEEPS: usize = 20_000;

/// The costs of one tier's kernels, measured on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    pub(super) machine: Machine,
    pub(super) tier: String,
    pub(super) costs: Costs,
}

impl Calibration {
    /// Every constant: of what, the term, and nanoseconds per unit of it.
    pub fn costs(&self) -> Vec<(String, &'static str, f64)> {
        self.costs.named()
    }

    /// The processor's name.
    pub fn processor(&self) -> &str {
        &self.machine.processor
    }

    /// Keeps it for [`Dispatcher::probe`], whole or not at all. Says where, or `None` when
    /// `SECATEUR_CACHE` is `off` or there is no folder for caches. Errors when it cannot be written.
    pub fn save(&self) -> Result<Option<PathBuf>, KernelError> {
        cache::save(self)
    }
}

impl Dispatcher {
    /// Measures the kernels of this tier, and the dense product: a second or two, and 300 MiB for the
    /// time. [`Calibration::save`] keeps the answer.
    ///
    /// Errors if a product cannot be laid out, which would be a defect of this crate.
    pub fn calibrate(&self) -> Result<Calibration, KernelError> {
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let costs = match alone {
            Ok(pool) => pool.install(|| measure(self))?,
            // No thread to be had: the caller's own threads then, which small products leave alone.
            Err(_) => measure(self)?,
        };
        let tier = self.tier().to_string();
        Ok(Calibration { machine: Machine::this(), tier, costs })
    }

    /// This machine, planned for by these costs. Errors if they belong to another one.
    pub fn with_calibration(calibration: &Calibration) -> Result<Self, KernelError> {
        let tier = Tier::ALL.into_iter().find(|tier| tier.name() == calibration.tier);
        let tier = tier.ok_or_else(|| KernelError::UnknownTier(calibration.tier.clone()))?;
        calibration.check(tier).map_err(KernelError::Calibration)?;
        Ok(Self::with_tier(tier)?.with_costs(calibration.costs))
    }
}

fn measure(dispatcher: &Dispatcher) -> Result<Costs, KernelError> {
    let lanes = Tiling::of(dispatcher.tier()).lanes(1);
    // Two weights for each kernel, of other shapes and densities: what is paid for a value, for a run
    // and for a side comes apart. Rows 8 KiB apart meet in a cache set when they are packed.
    let kernels = [
        (KernelKind::Dense, [("dense", [768, 784], 1), ("dense", [256, 2048], 1)]),
        (KernelKind::NOfM, [("2:4", [768, 784], 2), ("1:4", [320, 400], 4)]),
        (KernelKind::Csr, [("bitmap", [768, 784], 3), ("bitmap", [320, 400], 20)]),
        (KernelKind::Block, [("block4x4", [768, 784], 3), ("block4x4", [320, 400], 12)]),
    ];
    let mut fitted = Vec::new();
    for (kind, weights) in kernels {
        let (mut few, mut many) = (Vec::new(), Vec::new());
        for (format, shape, one_in) in weights {
            let packed = weight(format, shape, one_in, Dtype::F32)?;
            let product = Product::with_kernel(&packed, dispatcher, kind)?;
            for tokens in [1, 2, 4, lanes, 2 * lanes, 8 * lanes] {
                let taken = time(&product, tokens, A_WHILE)?;
                let work = Work::of(kind, &Problem::of(&packed, tokens), dispatcher.tier());
                let in_few = work.few[0] > 0.0;
                if in_few { &mut few } else { &mut many }.push((work, taken));
            }
        }
        let fit = |points: &[(Work, f64)], terms: fn(&Work) -> Terms| {
            fit(&points.iter().map(|(work, ns)| (terms(work), *ns)).collect::<Vec<_>>())
        };
        fitted.push(Kernel { few: fit(&few, |work| work.few), many: fit(&many, |work| work.many) });
    }
    let [dense, n_of_m, csr, block] = fitted[..] else { unreachable!("four kernels were fitted") };

    let mut widen = [0.0; 3];
    for (widen, dtype) in widen.iter_mut().zip(WIDENED) {
        let packed = weight("2:4", [768, 784], 2, dtype)?;
        let product = Product::with_kernel(&packed, dispatcher, KernelKind::NOfM)?;
        let mut extra = Vec::new();
        for tokens in [1, lanes, 4 * lanes] {
            let problem = Problem::of(&packed, tokens);
            let work = Work::of(KernelKind::NOfM, &problem, dispatcher.tier());
            let plain = START + dot(&n_of_m.few, &work.few) + dot(&n_of_m.many, &work.many);
            let taken = time(&product, tokens, A_WHILE)?;
            // In proportion to all that it takes: a pass over many tokens hides the widening.
            extra.push(([work.widened, 0.0, 0.0, 0.0], taken - plain + START, taken));
        }
        let (above, below) =
            extra.iter().fold((0.0, 0.0), |(above, below), (work, rest, taken)| {
                let (work, rest) = (work[0] / taken, (rest - START) / taken);
                (above + work * rest, below + work * work)
            });
        *widen = (above / below).max(0.0);
    }
    let memory = 1.0 / bandwidth();
    Ok(Costs { dense, n_of_m, csr, block, widen, memory })
}

/// The costs, none negative, at which `START + costs · work` comes closest to the nanoseconds taken, in
/// proportion: least squares, one cost at a time.
pub(super) fn fit(points: &[(Terms, f64)]) -> Terms {
    let scaled: Vec<(Terms, f64)> = points
        .iter()
        .map(|(work, ns)| (work.map(|count| count / ns), ((ns - START) / ns).max(0.0)))
        .collect();
    let mut costs = Terms::default();
    for _ in 0..SWEEPS {
        for at in 0..costs.len() {
            let (mut above, mut below) = (0.0, 0.0);
            for (work, one) in &scaled {
                let rest = one - dot(&costs, work) + costs[at] * work[at];
                above += work[at] * rest;
                below += work[at] * work[at];
            }
            costs[at] = if below > 0.0 { (above / below).max(0.0) } else { 0.0 };
        }
    }
    costs
}

/// Nanoseconds of one run of a product on random activations: the shortest of those that fall into about
/// `a_while`, of three at least, after one to warm up.
pub(crate) fn time(
    product: &Product,
    tokens: usize,
    a_while: Duration,
) -> Result<f64, KernelError> {
    let (rows, cols) = (product.rows(), product.cols());
    // No more than a machine might hold: 2^40 numbers.
    let fits = |side: usize| tokens.checked_mul(side).filter(|numbers| *numbers <= 1 << 40);
    let too_large = KernelError::TooLarge { rows, cols, tokens };
    let (Some(inputs), Some(outputs)) = (fits(cols), fits(rows)) else { return Err(too_large) };
    let (x, mut y) = (numbers(inputs), vec![0.0; outputs]);
    product.run(&x, tokens, None, &mut y)?;
    let (start, mut shortest) = (Instant::now(), f64::INFINITY);
    for turn in 0.. {
        let (from, mut calls) = (Instant::now(), 0_u32);
        // Long enough for the clock, short enough to fall between two interruptions.
        while calls == 0 || from.elapsed() < Duration::from_micros(20) {
            product.run(&x, tokens, None, &mut y)?;
            calls += 1;
        }
        shortest = shortest.min(from.elapsed().as_nanos() as f64 / f64::from(calls));
        if turn >= 2 && start.elapsed() >= a_while {
            break;
        }
    }
    Ok(shortest)
}

/// A weight of which one entry in `one_in` is not zero, as regular as its format wants it.
fn weight(
    format: &str,
    shape: [usize; 2],
    one_in: usize,
    dtype: Dtype,
) -> Result<Packed, KernelError> {
    let format: Format = format.parse().map_err(|error| KernelError::Weight(format!("{error}")))?;
    let [rows, cols] = shape;
    let mut values = numbers(rows * cols);
    for (at, value) in values.iter_mut().enumerate() {
        let (row, col) = (at / cols, at % cols);
        let kept = match format {
            Format::NOfM(_) => (col % 4 + hash(at / 4)) % 4 < 4 / one_in,
            Format::Block(_) => hash(row / 4 * cols + col / 4).is_multiple_of(one_in),
            _ => hash(at).is_multiple_of(one_in),
        };
        // No number drawn is zero itself, or it would be missing.
        *value = if kept { *value + 2.0 } else { 0.0 };
    }
    let values: Values = match dtype {
        Dtype::BF16 => values.iter().map(|v| bf16::from_f32(*v)).collect::<Vec<_>>().into(),
        Dtype::F16 => values.iter().map(|v| f16::from_f32(*v)).collect::<Vec<_>>().into(),
        _ => values.into(),
    };
    let dense = Dense::new(values, &shape)?;
    let dense = if dtype == Dtype::I8 { dense.quantise_i8()? } else { dense };
    if format == Format::Dense {
        return Ok(Packed::from(dense));
    }
    Ok(Packed::pack_as(&dense, &dense.nonzero()?, format)?)
}

/// Between -1 and 1, the same each time.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|at| (hash(at) % 2001) as f32 / 1000.0 - 1.0).collect()
}

/// A number that looks random (splitmix64's last step).
fn hash(at: usize) -> usize {
    let mut bits = (at as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 33) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_found_again_and_never_negative() {
        let work = |few: f64, each: f64| [few, few * each, each, 0.0];
        let taken = |work: &Terms| START + 2.0 * work[0] + 0.5 * work[1];
        let points: Vec<(Terms, f64)> = [(10.0, 1.0), (10.0, 8.0), (500.0, 2.0), (70.0, 30.0)]
            .map(|(few, each)| work(few, each))
            .map(|work| (work, taken(&work)))
            .to_vec();
        let found = fit(&points);
        for (found, expected) in found.into_iter().zip([2.0, 0.5, 0.0, 0.0]) {
            assert!((found - expected).abs() < 0.01, "{found} for {expected}");
        }
        // Faster than its start: nothing costs less than nothing.
        assert!(fit(&[(work(10.0, 1.0), START / 2.0)]).iter().all(|cost| *cost == 0.0));
    }

    #[test]
    fn a_machine_can_be_calibrated() {
        let here = Dispatcher::built_in().unwrap();
        let calibration = here.calibrate().unwrap();
        assert!(calibration.costs.are_sane(), "{calibration:?}");
        let calibrated = Dispatcher::with_calibration(&calibration).unwrap();
        assert_eq!(calibrated.tier(), here.tier());
        let packed = weight("2:4", [64, 64], 2, Dtype::F32).unwrap();
        let plan = calibrated.plan(&Problem::of(&packed, 16));
        assert!(plan.explain().contains("by this machine's costs"), "{}", plan.explain());
    }
}
