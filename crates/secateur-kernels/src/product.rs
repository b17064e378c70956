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
use secateur_storage::Packed;

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
    dense: Option<DenseWeight>,
    sparse: Option<(KernelKind, Weight)>,
}

impl Product {
    /// Lays `weight` out for the kernels that `dispatcher` plans for it.
    pub fn new(weight: &Packed, dispatcher: &Dispatcher) -> Result<Self, KernelError> {
        let problem = Problem::of(weight, 1);
        let plans = PROBES.map(|tokens| dispatcher.plan(&Problem { tokens, ..problem }).kind());
        let mut product = Self { problem, dispatcher: *dispatcher, dense: None, sparse: None };
        for kind in [KernelKind::TwoFour, KernelKind::Csr, KernelKind::Dense] {
            let wins = plans.contains(&kind);
            let second_sparse = product.sparse.is_some() && kind == KernelKind::Csr;
            if wins && !second_sparse {
                product.lay_out(weight, kind)?;
            }
        }
        Ok(product)
    }

    /// Lays `weight` out for one kernel only, faster or not: for benchmarks and tests.
    pub fn with_kernel(
        weight: &Packed,
        dispatcher: &Dispatcher,
        kind: KernelKind,
    ) -> Result<Self, KernelError> {
        let problem = Problem::of(weight, 1);
        let mut product = Self { problem, dispatcher: *dispatcher, dense: None, sparse: None };
        product.lay_out(weight, kind)?;
        Ok(product)
    }

    fn lay_out(&mut self, weight: &Packed, kind: KernelKind) -> Result<(), KernelError> {
        let unsupported = || KernelError::UnsupportedFormat { kind, format: weight.format() };
        match (kind, weight) {
            (KernelKind::Dense, _) => self.dense = Some(DenseWeight::new(weight)),
            (KernelKind::TwoFour, Packed::TwoFour(packed)) => {
                self.sparse = Some((kind, Weight::TwoFour(TwoFour::new(packed))));
            }
            (KernelKind::Csr, Packed::TwoFour(_) | Packed::Bitmap(_)) => {
                let csr = Csr::new(weight).ok_or_else(unsupported)?;
                self.sparse = Some((kind, Weight::Csr(csr)));
            }
            _ => return Err(unsupported()),
        }
        Ok(())
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
        match (self.plan(tokens).kind(), &self.sparse, &self.dense) {
            (KernelKind::Dense, _, Some(dense)) => {
                dense.run(x, tokens, y, threads);
                if let Some(bias) = bias {
                    for row in y.chunks_exact_mut(rows) {
                        row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                    }
                }
            }
            (_, Some((_, weight)), _) => {
                drive::run(self.dispatcher.tier(), weight, x, tokens, bias, y, threads);
            }
            (kind, None, _) => unreachable!("{kind} was planned without its layout"),
        }
        Ok(())
    }

    /// The plan for a number of tokens: which of the kernels laid out runs, and why.
    pub fn plan(&self, tokens: usize) -> Plan {
        let mut laid_out = Vec::with_capacity(2);
        laid_out.extend(self.dense.as_ref().map(|_| KernelKind::Dense));
        laid_out.extend(self.sparse.as_ref().map(|(kind, _)| *kind));
        self.dispatcher.plan_among(&Problem { tokens, ..self.problem }, &laid_out)
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
        let sparse = self.sparse.as_ref().map_or(0, |(_, weight)| weight.bytes());
        sparse + self.dense.as_ref().map_or(0, DenseWeight::bytes)
    }
}
