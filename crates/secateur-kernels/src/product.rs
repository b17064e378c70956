//! How is a packed weight multiplied again and again? Laid out once, planned by tokens, then run.

use crate::{
    Dispatcher, Epilogue, KernelError, KernelKind, Panels, Plan, Problem, Tier, View, ViewMut,
    cpu::{
        drive::{self, Call, FEW, Input, Output, Weight},
        n_of_m::NOfM,
        rounding::Rounding,
        runs::Runs,
    },
    dense::DenseWeight,
    dispatch::{Basis, plan_among, timings::Timings},
    view::extent,
};
use secateur_storage::{Dtype, Format, Packed};

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
    /// Where each column of the input goes.
    order: Option<Vec<u32>>,
    /// What activations are rounded to.
    rounding: Option<Rounding>,
    /// What the layouts took, if they were measured.
    timings: Option<Timings>,
}

#[derive(Debug)]
enum Layout {
    Dense(DenseWeight),
    Sparse(KernelKind, Weight),
}

impl Layout {
    fn new(weight: &Packed, kind: KernelKind) -> Result<Self, KernelError> {
        let format = weight.format();
        if crate::dispatch::unsupported(kind, &Problem::of(weight, 1)).is_some() {
            return Err(KernelError::UnsupportedFormat { kind, format });
        }
        let laid = match kind {
            KernelKind::Dense => return Ok(Self::Dense(DenseWeight::new(weight)?)),
            KernelKind::NOfM => NOfM::new(weight)?.map(Weight::NOfM),
            KernelKind::Csr => Some(Weight::Runs(Runs::new(weight, 1)?)),
            KernelKind::Block => {
                let group = Runs::group(format);
                group.map(|group| Runs::new(weight, group)).transpose()?.map(Weight::Runs)
            }
        };
        let laid = laid.ok_or(KernelError::UnsupportedFormat { kind, format })?;
        Ok(Self::Sparse(kind, laid))
    }

    fn kind(&self) -> KernelKind {
        match self {
            Self::Dense(_) => KernelKind::Dense,
            Self::Sparse(kind, _) => *kind,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Dense(weight) => weight.bytes(),
            Self::Sparse(_, weight) => weight.bytes(),
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
        Ok(Self {
            problem,
            dispatcher: *dispatcher,
            first,
            others: Vec::new(),
            order: None,
            rounding: None,
            timings: None,
        })
    }

    /// Lays `weight` out for every kernel that can run it, times each at these numbers of tokens, keeps
    /// those that are fastest at one of them, and plans by these times: between two numbers of tokens by
    /// the line through both, beyond them in proportion. For weights whose plans must not be an estimate,
    /// on the threads of rayon's current pool; takes some tens of milliseconds for each kernel and number,
    /// and memory for all layouts.
    ///
    /// What is taken depends on what else the machine does meanwhile, and with it the last bits of sums.
    /// Errors if `tokens` is empty or holds a 0.
    pub fn measured(
        weight: &Packed,
        dispatcher: &Dispatcher,
        tokens: &[usize],
    ) -> Result<Self, KernelError> {
        let can = |kind: &KernelKind| {
            crate::dispatch::unsupported(*kind, &Problem::of(weight, 1)).is_none()
        };
        let mut timings = Timings::new(tokens)?;
        let mut layouts = Vec::new();
        for kind in KernelKind::ALL.into_iter().filter(can) {
            let product = Self::with_kernel(weight, dispatcher, kind)?;
            timings.measure(kind, &product)?;
            layouts.push(product.first);
        }
        let winners = timings.winners();
        layouts.retain(|layout| winners.contains(&layout.kind()));
        // Dense runs everything, so that something was measured, and something won.
        let mut product = Self::with_kernel(weight, dispatcher, winners[0])?;
        layouts.retain(|layout| layout.kind() != winners[0]);
        product.others = layouts;
        product.timings = Some(timings);
        Ok(product)
    }

    /// The same product of inputs in another order: input `i` is what column `order[i]` of the weight
    /// multiplies. Costs nothing when tokens are packed anyway (`docs/permutation.md` says what such an
    /// order is good for).
    ///
    /// Errors unless `order` names each column exactly once.
    ///
    /// ```
    /// # use secateur_kernels::{Dispatcher, Product};
    /// # use secateur_storage::{Dense, Packed};
    /// let weight = Packed::from(Dense::new(vec![1.0, 10.0, 100.0], &[1, 3])?);
    /// let product = Product::new(&weight, &Dispatcher::probe()?)?.with_input_order(&[2, 0, 1])?;
    /// let mut y = [0.0];
    /// product.run(&[3.0, 1.0, 2.0], 1, None, &mut y)?;
    /// assert_eq!(y, [321.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_input_order(mut self, order: &[usize]) -> Result<Self, KernelError> {
        let cols = self.problem.cols;
        let mut seen = vec![false; cols];
        let all = order.iter().all(|&to| to < cols && !std::mem::replace(&mut seen[to], true));
        if order.len() != cols || !all {
            return Err(KernelError::Order { cols });
        }
        let order = order.iter().map(|&to| u32::try_from(to)).collect::<Result<_, _>>();
        let too_large = KernelError::TooLarge { rows: self.problem.rows, cols, tokens: 0 };
        self.order = Some(order.map_err(|_| too_large)?);
        Ok(self)
    }

    /// The same product, its activations rounded to `dtype` when five tokens or more come at once, where
    /// this machine multiplies pairs of such numbers in one instruction: BF16 for a 2:4 weight of BF16
    /// (`vdpbf16ps`; sums are f32), I8 for one of I8 (`vpdpwssd`; a scale for each token, sums are
    /// exact below 100 000 columns, and a token with a NaN or an infinity becomes NaN altogether). F32 takes it
    /// back. What dense BF16 layers do anyway; about 3 significant digits. Only the layout for N:M is kept.
    ///
    /// Errors for other weights, and where the processor lacks the instruction.
    pub fn with_activation_dtype(mut self, dtype: Dtype) -> Result<Self, KernelError> {
        self.rounding = match dtype {
            Dtype::F32 => None,
            Dtype::BF16 => Some(Rounding::Bf16),
            Dtype::I8 => Some(Rounding::I8),
            _ => return Err(KernelError::Activations { dtype }),
        };
        let runs = |rounding: Rounding| {
            self.dispatcher.tier() == Tier::Avx512
                && rounding.detected()
                && self.problem.dtype == dtype
                && self.problem.format == Format::TWO_OF_FOUR
                && self.layouts().any(|layout| layout.kind() == KernelKind::NOfM)
        };
        if self.rounding.is_none_or(runs) {
            // Rounded by whatever runs: only the kernel for N:M does.
            if self.rounding.is_some() {
                let layouts = std::iter::once(self.first).chain(self.others);
                let mut kept = layouts.filter(|layout| layout.kind() == KernelKind::NOfM);
                self.first = kept.next().ok_or(KernelError::Activations { dtype })?;
                self.others = Vec::new();
            }
            return Ok(self);
        }
        Err(KernelError::Activations { dtype })
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
        expect("x", x.len(), tokens.checked_mul(cols).ok_or(self.too_large(tokens))?)?;
        expect("y", y.len(), tokens.checked_mul(rows).ok_or(self.too_large(tokens))?)?;
        let (x, y) =
            (View { data: x, tokens, stride: cols }, ViewMut { data: y, tokens, stride: rows });
        self.apply(x, &Epilogue { bias, ..Epilogue::default() }, y)
    }

    /// `y = activation(x · Wᵀ + bias)` for activations at any distance from token to token. Errors
    /// unless both views hold the same number of tokens, `cols` and `rows` features each, and the bias
    /// `rows` numbers.
    pub fn apply(
        &self,
        x: View<'_>,
        epilogue: &Epilogue<'_>,
        y: ViewMut<'_>,
    ) -> Result<(), KernelError> {
        let (Problem { rows, cols, .. }, tokens) = (self.problem, x.tokens);
        self.check_view("x", x.data.len(), (tokens, tokens), (x.stride, cols))?;
        self.check_view("y", y.data.len(), (y.tokens, tokens), (y.stride, rows))?;
        self.check(epilogue)?;
        // From one token there is no next: its stride may be anything, and gemm reckons with it.
        let stride = |stride, features| if tokens > 1 { stride } else { features };
        let (input, output) = (
            Input::Tokens { x: x.data.as_ptr(), stride: stride(x.stride, cols) },
            Output::Tokens { y: y.data.as_mut_ptr(), stride: stride(y.stride, rows) },
        );
        // SAFETY: `x` and `y` hold these tokens, `cols` and `rows` features each, by the checks above;
        // `y` is borrowed mutably, so that nothing else touches it.
        unsafe { self.multiply(input, tokens, epilogue, output) };
        Ok(())
    }

    /// `y = activation(x · Wᵀ + bias)` from panels to panels, nothing transposed. Errors unless they
    /// have `cols` and `rows` features, as many tokens, and the dispatcher that this product has.
    pub fn run_panels(
        &self,
        x: &Panels,
        epilogue: &Epilogue<'_>,
        y: &mut Panels,
    ) -> Result<(), KernelError> {
        let (Problem { rows, cols, .. }, tokens) = (self.problem, x.tokens());
        expect("x, counted in features,", x.features(), cols)?;
        expect("y, counted in features,", y.features(), rows)?;
        expect("y, counted in tokens,", y.tokens(), tokens)?;
        let tier = self.dispatcher.tier();
        if x.dispatcher().tier() != tier || y.dispatcher().tier() != tier || self.order.is_some() {
            return Err(KernelError::Panels);
        }
        self.check(epilogue)?;
        let (input, output) = (Input::Panels(x.as_ptr()), Output::Panels(y.as_mut_ptr()));
        // SAFETY: both were cut for this tier, with as many tokens, `cols` and `rows` features; `y` is
        // borrowed mutably.
        unsafe { self.multiply(input, tokens, epilogue, output) };
        y.clear_padding();
        Ok(())
    }

    /// `y = activation(x · Wᵀ + bias)` out of panels, for who packs once and needs several products, or
    /// whose next step wants `[tokens, rows]`. Errors as [`Self::run_panels`] does, and on a `y` that
    /// [`Self::apply`] would refuse.
    pub fn run_panels_to_tokens(
        &self,
        x: &Panels,
        epilogue: &Epilogue<'_>,
        y: ViewMut<'_>,
    ) -> Result<(), KernelError> {
        let Problem { rows, cols, .. } = self.problem;
        expect("x, counted in features,", x.features(), cols)?;
        self.check_view("y", y.data.len(), (y.tokens, x.tokens()), (y.stride, rows))?;
        if x.dispatcher().tier() != self.dispatcher.tier() || self.order.is_some() {
            return Err(KernelError::Panels);
        }
        self.check(epilogue)?;
        // As in `apply`.
        let stride = if x.tokens() > 1 { y.stride } else { rows };
        let (input, output) =
            (Input::Panels(x.as_ptr()), Output::Tokens { y: y.data.as_mut_ptr(), stride });
        // SAFETY: `x` was cut for this tier, with `cols` features; `y` holds as many tokens of `rows`
        // features by the check above, and is borrowed mutably.
        unsafe { self.multiply(input, x.tokens(), epilogue, output) };
        Ok(())
    }

    /// Errors unless a view of `found` numbers holds the tokens expected, `features` each.
    fn check_view(
        &self,
        what: &'static str,
        found: usize,
        (tokens, expected): (usize, usize),
        (stride, features): (usize, usize),
    ) -> Result<(), KernelError> {
        expect("y, counted in tokens,", tokens, expected)?;
        let least = extent(tokens, stride, features).ok_or(self.too_large(tokens))?;
        if found < least || (tokens > 1 && stride < features) {
            return Err(KernelError::View { what, found, tokens, stride, features });
        }
        Ok(())
    }

    fn too_large(&self, tokens: usize) -> KernelError {
        let Problem { rows, cols, .. } = self.problem;
        KernelError::TooLarge { rows, cols, tokens }
    }

    fn check(&self, epilogue: &Epilogue<'_>) -> Result<(), KernelError> {
        epilogue.bias.map_or(Ok(()), |bias| expect("bias", bias.len(), self.problem.rows))
    }

    /// # Safety
    ///
    /// As for [`drive::run`], but for the tier.
    unsafe fn multiply(&self, x: Input, tokens: usize, epilogue: &Epilogue<'_>, y: Output) {
        if tokens == 0 || self.problem.rows == 0 {
            return;
        }
        let call = Call {
            tier: self.dispatcher.tier(),
            x,
            y,
            tokens,
            epilogue: *epilogue,
            order: self.order.as_deref(),
            rounding: self.rounding.filter(|_| tokens > FEW),
        };
        // SAFETY: the dispatcher's tier is this machine's, the order was checked when it was set, and
        // the rest is the caller's promise.
        unsafe {
            match self.choose(tokens) {
                Layout::Dense(weight) => weight.run(&call),
                Layout::Sparse(_, weight) => drive::run(weight, &call),
            }
        }
    }

    /// The layout whose kernel is cheapest: what [`Self::plan`] explains, without the words, which
    /// would cost a small product more than its multiplications.
    fn choose(&self, tokens: usize) -> &Layout {
        if self.others.is_empty() {
            return &self.first;
        }
        let problem = Problem { tokens, ..self.problem };
        let cost = |layout: &Layout| self.cost(layout.kind(), &problem);
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
        let problem = Problem { tokens, ..self.problem };
        let basis = self.timings.as_ref().map_or(self.dispatcher.basis(), |_| Basis::Measured);
        let plan =
            plan_among(&self.dispatcher, &problem, &kinds, basis, |kind| self.cost(kind, &problem));
        match self.rounding {
            Some(rounding) if tokens > FEW => plan.rounding(rounding),
            _ => plan,
        }
    }

    /// Nanoseconds, measured or estimated.
    fn cost(&self, kind: KernelKind, problem: &Problem) -> f64 {
        let estimate = || self.dispatcher.estimate(kind, problem);
        self.timings.as_ref().map_or_else(estimate, |timings| timings.at(kind, problem.tokens))
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

fn expect(what: &'static str, found: usize, expected: usize) -> Result<(), KernelError> {
    let error = KernelError::Length { what, found, expected };
    if found == expected { Ok(()) } else { Err(error) }
}
