//! Who runs in a setting? Our kernels, the dense products of this process, and those of children.
//!
//! **A new kernel, dtype or layout comes in here**, in [`Ours::contender`] and [`product`]: nothing else in
//! `bench` knows how a product is made.

use super::{
    cases::{Layout, Number, Setting, Shape, Sparse},
    rows::{Dense, Figures, Limit, Measured},
    serve,
};
use anyhow::{Context, Result};
use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use half::{bf16, f16};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rayon::ThreadPool;
use secateur::{
    kernels::{Dispatcher, Epilogue, KernelError, KernelKind, Panels, Problem, Product},
    mask::{Mask, Pattern, Scores, Target},
    storage::{Dense as Weight, Format, Packed, Values},
};
use std::sync::Arc;

/// Seconds of one call, timed over at least so many seconds after one call to warm up.
pub type Timer<'a> = Box<dyn FnMut(f64) -> Result<f64> + 'a>;

/// Somebody who multiplies.
pub struct Contender<'a> {
    pub who: Who,
    pub time: Timer<'a>,
}

/// Known before it is timed, which comes out with its figures.
#[derive(Debug, Clone)]
pub enum Who {
    Sparse(Measured),
    Dense(Dense),
}

/// Not timed yet.
const NEVER: Figures = Figures { median: f64::NAN, min: f64::NAN };

impl Who {
    /// A dense product that is yet to be timed.
    pub fn dense(name: &str, number: Number, limit: Limit) -> Self {
        Self::Dense(Dense { name: name.to_owned(), number, limit, figures: NEVER })
    }
}

/// The kernel of ours for a weight in this format; CSR takes what has none of its own.
fn product(packed: &Packed, dispatcher: &Dispatcher) -> Result<Product, KernelError> {
    let kind = match packed.format() {
        Format::NOfM(_) => KernelKind::NOfM,
        Format::Block(_) => KernelKind::Block,
        Format::Dense => KernelKind::Dense,
        _ => KernelKind::Csr,
    };
    match Product::with_kernel(packed, dispatcher, kind) {
        Err(KernelError::UnsupportedFormat { .. }) => {
            Product::with_kernel(packed, dispatcher, KernelKind::Csr)
        }
        made => made,
    }
}

/// The same product with its activations rounded to the weight's dtype, as dense layers of that dtype do it,
/// where a kernel here does; the row's kernel says so.
fn rounding(
    product: Product,
    packed: &Packed,
    dispatcher: &Dispatcher,
) -> Result<Product, KernelError> {
    match product.with_activation_dtype(packed.dtype()) {
        Err(KernelError::Activations { .. }) => self::product(packed, dispatcher),
        made => made,
    }
}

/// A weight of one shape, and what was packed of it: drawn once, used by all settings of the shape.
pub struct Ours {
    shape: Shape,
    weight: Weight,
    values: Vec<f32>,
    packed: Vec<((Number, Target), Packed)>,
    machine: Dispatcher,
}

impl Ours {
    pub fn new(shape: Shape, machine: Dispatcher) -> Result<Self> {
        let values = numbers(shape.rows * shape.cols);
        let weight = Weight::new(values.clone(), &[shape.rows, shape.cols])?;
        Ok(Self { shape, weight, values, packed: Vec::new(), machine })
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Packs what the settings of this shape need, so that none waits for it while others run.
    pub fn prepare(&mut self, sparse: &[Sparse]) -> Result<()> {
        for &Sparse { number, target, .. } in sparse {
            if self.packed.iter().any(|(known, _)| *known == (number, target)) {
                continue;
            }
            let said = || format!("cannot pack {} as {number} {target}", self.shape);
            let packed = self.pack(number, target).with_context(said)?;
            self.packed.push(((number, target), packed));
        }
        Ok(())
    }

    fn pack(&self, number: Number, target: Target) -> Result<Packed> {
        let shape = [self.shape.rows, self.shape.cols];
        let magnitudes: Vec<f32> = self.values.iter().map(|value| value.abs()).collect();
        let scores = Scores::new(magnitudes, &shape)?;
        let mask: Mask = target.pattern().select(scores, target.sparsity())?;
        let of = |values: Values| Weight::new(values, &shape);
        let rounded = match number {
            Number::F32 => self.weight.clone(),
            Number::BF16 => {
                of(self.values.iter().map(|v| bf16::from_f32(*v)).collect::<Vec<_>>().into())?
            }
            Number::F16 => {
                of(self.values.iter().map(|v| f16::from_f32(*v)).collect::<Vec<_>>().into())?
            }
            Number::I8 => self.weight.quantise_i8()?,
        };
        Ok(match target.pattern() {
            // A bitmap is smaller where few blocks are cut, but no kernel would see the blocks.
            Pattern::Block(block) => Packed::pack_as(&rounded, &mask, Format::Block(block))?,
            pattern => Packed::pack(&rounded, &mask, pattern)?,
        })
    }

    /// The contenders of this process: our kernels, and who multiplies densely.
    pub fn contenders<'a>(
        &'a self,
        setting: &Setting,
        pool: &'a ThreadPool,
    ) -> Result<Vec<Contender<'a>>> {
        let x: Arc<[f32]> = numbers(setting.tokens * self.shape.cols).into();
        let mut all = vec![self.gemm(setting, &x, pool)?, self.faer(setting, &x, pool)];
        for sparse in &setting.sparse {
            all.push(self.contender(setting, sparse, &x, pool)?);
        }
        Ok(all)
    }

    /// One kernel of ours.
    fn contender<'a>(
        &'a self,
        setting: &Setting,
        sparse: &Sparse,
        x: &Arc<[f32]>,
        pool: &'a ThreadPool,
    ) -> Result<Contender<'a>> {
        let known = self.packed.iter().find(|(key, _)| *key == (sparse.number, sparse.target));
        let (_, packed) = known.context("a weight was not packed")?;
        let dispatcher = Dispatcher::with_tier(sparse.tier)?;
        let product = rounding(product(packed, &dispatcher)?, packed, &dispatcher)?;
        let plan = dispatcher.plan(&Problem::of(packed, setting.tokens));
        let (stored, activations) =
            (packed.values().len(), x.len() + setting.tokens * self.shape.rows);
        let measured = Measured {
            sparse: *sparse,
            kernel: product.plan(setting.tokens).kernel().to_owned(),
            planned: plan.kernel().to_owned(),
            plans_dense: plan.kind() == KernelKind::Dense,
            density: stored as f64 / self.values.len() as f64,
            bytes: (packed.bytes() + activations * size_of::<f32>()) as f64,
            figures: NEVER,
        };
        let time = match sparse.layout {
            Layout::TokenMajor => timer(product, setting, x, pool),
            Layout::FeatureMajor => panels_timer(product, &dispatcher, setting, x, pool)?,
        };
        Ok(Contender { who: Who::Sparse(measured), time })
    }

    /// The dense kernel of this workspace: `gemm`, with AVX-512 where there is any.
    fn gemm<'a>(
        &'a self,
        setting: &Setting,
        x: &Arc<[f32]>,
        pool: &'a ThreadPool,
    ) -> Result<Contender<'a>> {
        let dense = Packed::from(self.weight.clone());
        let product = Product::with_kernel(&dense, &self.machine, KernelKind::Dense)?;
        let who = Who::dense("secateur_gemm_f32", Number::F32, Limit::None);
        Ok(Contender { who, time: timer(product, setting, x, pool) })
    }

    fn faer<'a>(
        &'a self,
        setting: &Setting,
        x: &Arc<[f32]>,
        pool: &'a ThreadPool,
    ) -> Contender<'a> {
        let (Shape { rows, cols }, tokens) = (self.shape, setting.tokens);
        let par = if setting.threads > 1 { Par::rayon(setting.threads) } else { Par::Seq };
        let (x, mut y) = (x.clone(), vec![0.0_f32; tokens * rows]);
        let time = move |seconds| {
            let weight = MatRef::from_row_major_slice(&self.values, rows, cols);
            let x = MatRef::from_row_major_slice(&x, tokens, cols);
            pool.install(|| {
                serve::time(
                    || {
                        let y = MatMut::from_row_major_slice_mut(&mut y, tokens, rows);
                        matmul(y, Accum::Replace, x, weight.transpose(), 1.0, par);
                        Ok(())
                    },
                    seconds,
                )
            })
        };
        Contender { who: Who::dense("faer_f32", Number::F32, Limit::None), time: Box::new(time) }
    }
}

fn timer<'a>(
    product: Product,
    setting: &Setting,
    x: &Arc<[f32]>,
    pool: &'a ThreadPool,
) -> Timer<'a> {
    let (x, tokens) = (x.clone(), setting.tokens);
    let mut y = vec![0.0; tokens * product.rows()];
    Box::new(move |seconds| {
        Ok(pool.install(|| serve::time(|| product.run(&x, tokens, None, &mut y), seconds))?)
    })
}

/// The same from panels to panels, as inside a chain of layers: nothing is packed while it is timed.
fn panels_timer<'a>(
    product: Product,
    dispatcher: &Dispatcher,
    setting: &Setting,
    x: &[f32],
    pool: &'a ThreadPool,
) -> Result<Timer<'a>> {
    let x = Panels::pack(x, setting.tokens, product.cols(), dispatcher)?;
    let mut y = Panels::zeros(setting.tokens, product.rows(), dispatcher)?;
    let plain = Epilogue::default();
    Ok(Box::new(move |seconds| {
        Ok(pool.install(|| serve::time(|| product.run_panels(&x, &plain, &mut y), seconds))?)
    }))
}

/// Between -1 and 1, the same each time.
fn numbers(count: usize) -> Vec<f32> {
    let mut stream = ChaCha8Rng::seed_from_u64(count as u64);
    (0..count).map(|_| stream.random_range(-1.0..1.0)).collect()
}
