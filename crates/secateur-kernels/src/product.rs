//! How is a packed weight multiplied again and again? Laid out once, planned by tokens, then run.

use crate::{
    Dispatcher, KernelError, KernelKind, Plan, Problem,
    cpu::{
        csr::Csr,
        drive::{self, Weight},
        two_four::TwoFour,
    },
    dense::DenseWeight,
};
use secateur_storage::{Format, Packed, Places};

/// Token counts at which layouts are decided.
const PROBES: [usize; 8] = [1, 4, 8, 16, 32, 64, 128, 512];

/// A weight laid out for the kernels that this machine should run it with.
///
/// Only layouts that win at some number of tokens are kept: usually one. The product is `Send` and
/// `Sync`; threads come from rayon's current pool.
#[derive(Debug)]
pub struct Product {
    problem: Problem,
    dispatcher: Dispatcher,
    first: Layout,
    others: Vec<Layout>,
}

#[derive(Debug)]
enum Layout {
    Dense(DenseWeight),
    Sparse(Weight),
}

impl Layout {
    fn new(weight: &Packed, kind: KernelKind) -> Result<Self, KernelError> {
        let unsupported = || KernelError::UnsupportedFormat { kind, format: weight.format() };
        match (kind, weight.places()) {
            (KernelKind::Dense, _) => Ok(Self::Dense(DenseWeight::new(weight)?)),
            (KernelKind::TwoFour, Places::NOfM(indices))
                if weight.format() == Format::TWO_OF_FOUR =>
            {
                let floats = weight.to_f32()?;
                // Scales are applied by packing once more, which may move the padding.
                let indices = match floats.places() {
                    Places::NOfM(indices) => indices,
                    _ => indices,
                };
                let values = floats.values().to_f32()?;
                Ok(Self::Sparse(Weight::TwoFour(TwoFour::new(weight.matrix(), indices, &values))))
            }
            (KernelKind::TwoFour, _) | (KernelKind::Csr, Places::Dense) => Err(unsupported()),
            (KernelKind::Csr, _) => {
                Ok(Self::Sparse(Weight::Csr(Csr::new(weight)?.ok_or_else(unsupported)?)))
            }
        }
    }

    fn kind(&self) -> KernelKind {
        match self {
            Self::Dense(_) => KernelKind::Dense,
            Self::Sparse(Weight::TwoFour(_)) => KernelKind::TwoFour,
            Self::Sparse(Weight::Csr(_)) => KernelKind::Csr,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Dense(weight) => weight.bytes(),
            Self::Sparse(weight) => weight.bytes(),
        }
    }
}

impl Product {
    /// Lays `weight` out for the kernels that `dispatcher` plans for it.
    pub fn new(weight: &Packed, dispatcher: &Dispatcher) -> Result<Self, KernelError> {
        let problem = Problem::of(weight, 1);
        let mut kinds =
            PROBES.map(|tokens| dispatcher.plan(&Problem { tokens, ..problem }).kind()).to_vec();
        kinds.sort();
        kinds.dedup();
        let mut product = Self::with_kernel(weight, dispatcher, kinds[0])?;
        for kind in &kinds[1..] {
            product.others.push(Layout::new(weight, *kind)?);
        }
        Ok(product)
    }

    /// Lays `weight` out for one kernel only, faster or not: for benchmarks and tests.
    pub fn with_kernel(
        weight: &Packed,
        dispatcher: &Dispatcher,
        kind: KernelKind,
    ) -> Result<Self, KernelError> {
        let (problem, first) = (Problem::of(weight, 1), Layout::new(weight, kind)?);
        Ok(Self { problem, dispatcher: *dispatcher, first, others: Vec::new() })
    }

    fn layouts(&self) -> impl Iterator<Item = &Layout> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// `y = x · Wᵀ + bias`, overwriting `y`: `x` is `[tokens, cols]`, `bias` `[rows]`, `y`
    /// `[tokens, rows]`, all row-major. Errors on any other length.
    pub fn run(
        &self,
        x: &[f32],
        tokens: usize,
        bias: Option<&[f32]>,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        let Problem { rows, cols, .. } = self.problem;
        let too_large = || KernelError::TooLarge { rows, cols, tokens };
        let expect = |what, found: usize, expected: usize| {
            let error = KernelError::Length { what, found, expected };
            if found == expected { Ok(()) } else { Err(error) }
        };
        expect("x", x.len(), tokens.checked_mul(cols).ok_or_else(too_large)?)?;
        expect("y", y.len(), tokens.checked_mul(rows).ok_or_else(too_large)?)?;
        if let Some(bias) = bias {
            expect("bias", bias.len(), rows)?;
        }
        if y.is_empty() || cols == 0 {
            // Sums over nothing.
            for row in y.chunks_exact_mut(rows.max(1)) {
                match bias {
                    Some(bias) => row.copy_from_slice(bias),
                    None => row.fill(0.0),
                }
            }
            return Ok(());
        }
        let threads = rayon::current_num_threads();
        match self.choose(tokens) {
            Layout::Dense(weight) => {
                weight.run(x, tokens, y, threads);
                if let Some(bias) = bias {
                    for row in y.chunks_exact_mut(rows) {
                        row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                    }
                }
            }
            Layout::Sparse(weight) => {
                drive::run(self.dispatcher.tier(), weight, x, tokens, bias, y, threads);
            }
        }
        Ok(())
    }

    /// The layout whose kernel is cheapest: what [`Self::plan`] explains, without the words, which
    /// would cost a small product more than its multiplications.
    fn choose(&self, tokens: usize) -> &Layout {
        let problem = Problem { tokens, ..self.problem };
        let cost = |layout: &Layout| self.dispatcher.estimate(layout.kind(), &problem);
        self.others.iter().fold(
            &self.first,
            |best, layout| {
                if cost(layout) < cost(best) { layout } else { best }
            },
        )
    }

    /// The plan for a number of tokens: which of the kernels laid out runs, and why.
    pub fn plan(&self, tokens: usize) -> Plan {
        let kinds: Vec<KernelKind> = self.layouts().map(Layout::kind).collect();
        self.dispatcher.plan_among(&Problem { tokens, ..self.problem }, &kinds)
    }

    /// Outputs: rows of the weight.
    pub fn rows(&self) -> usize {
        self.problem.rows
    }

    /// Inputs: columns of the weight.
    pub fn cols(&self) -> usize {
        self.problem.cols
    }

    /// Bytes of all layouts kept in memory.
    pub fn bytes(&self) -> usize {
        self.layouts().map(Layout::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tier;
    use secateur_mask::{Pattern, Scores, Sparsity};
    use secateur_storage::Dense;

    /// Dense wins some of these, CSR others; what is explained must be what runs.
    #[test]
    fn what_runs_is_what_the_plan_says() {
        let values: Vec<f32> = (0..40_000).map(|i| (i * 7919 % 1009) as f32).collect();
        let (dispatcher, mut kinds) = (Dispatcher::with_tier(Tier::Portable).unwrap(), vec![]);
        for share in [0.3, 0.7, 0.8, 0.9] {
            let dense = Dense::new(values.clone(), &[200, 200]).unwrap();
            let scores = Scores::new(&values[..], &[200, 200]).unwrap();
            let mask = Pattern::Unstructured.select(scores, Sparsity::new(share).unwrap()).unwrap();
            let packed = Packed::pack(&dense, &mask, Pattern::Unstructured).unwrap();
            let product = Product::new(&packed, &dispatcher).unwrap();
            for tokens in [1, 2, 5, 16, 100, 1000] {
                assert_eq!(product.choose(tokens).kind(), product.plan(tokens).kind());
                kinds.push(product.choose(tokens).kind());
            }
        }
        assert!(kinds.contains(&KernelKind::Dense) && kinds.contains(&KernelKind::Csr));
    }
}
