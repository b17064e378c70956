//! What do the tests of kernels share? Weights of every kind, every kernel that runs them, and the
//! yardstick.
#![allow(dead_code, reason = "every file of tests takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub mod yardstick;

use half::{bf16, f16};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use secateur_kernels::{
    Activation, Dispatcher, Epilogue, KernelKind, Panels, Product, Tier, View, ViewMut,
};
use secateur_mask::{Mask, Pattern, Scores, Sparsity};
use secateur_storage::{Dense, Dtype, Packed};
use std::io::Write;

/// The tiers of this machine; says which are missing.
pub fn tiers() -> Vec<Dispatcher> {
    let all = [Tier::Avx512, Tier::Avx2, Tier::Portable];
    let found = all.map(Dispatcher::with_tier);
    for missing in found.iter().filter_map(|tier| tier.as_ref().err()) {
        // Straight to standard error: what eprintln! says is swallowed while tests pass.
        let _ = writeln!(std::io::stderr(), "skipped: {missing}");
    }
    found.into_iter().flatten().collect()
}

/// Numbers in `-1..1`, in a vector that holds no room for more.
pub fn numbers(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A kind of weight: its pattern, its format, and the share of zeros where the pattern has none.
pub type Sort = (&'static str, &'static str, f64);

/// Every kind of weight that some kernel treats in its own way.
pub const SORTS: [Sort; 19] = [
    ("2:4", "2:4", 0.5),
    ("4:8", "4:8", 0.5),
    ("8:16", "8:16", 0.5),
    ("1:2", "1:2", 0.5),
    ("1:4", "1:4", 0.75),
    ("2:8", "2:8", 0.75),
    ("4:16", "4:16", 0.75),
    ("1:8", "1:8", 0.875),
    ("2:16", "2:16", 0.875),
    ("unstructured", "csr", 0.99),
    ("unstructured", "csr", 0.9),
    ("unstructured", "bitmap", 0.6),
    ("unstructured", "bitmap", 0.1),
    ("block4x4", "block4x4", 0.8),
    ("block2x3", "block2x3", 0.6),
    ("block1x4", "block1x4", 0.7),
    ("block3x3", "block3x3", 0.7),
    ("block6x1", "block6x1", 0.8),
    ("unstructured", "dense", 0.0),
];

/// What kernels keep weights as.
pub const DTYPES: [Dtype; 4] = [Dtype::F32, Dtype::BF16, Dtype::F16, Dtype::I8];

/// What may come after a sum.
pub const ACTIVATIONS: [Activation; 3] = [Activation::None, Activation::Relu, Activation::Gelu];

/// The numbers as `dtype`; I8 with one scale for each row.
pub fn dense(values: Vec<f32>, [rows, cols]: [usize; 2], dtype: Dtype) -> Dense {
    let shape = [rows, cols];
    match dtype {
        Dtype::BF16 => {
            let halves: Vec<bf16> = values.into_iter().map(bf16::from_f32).collect();
            Dense::new(halves, &shape).unwrap()
        }
        Dtype::F16 => {
            let halves: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
            Dense::new(halves, &shape).unwrap()
        }
        Dtype::I8 => Dense::new(values, &shape).unwrap().quantise_i8().unwrap(),
        _ => Dense::new(values, &shape).unwrap(),
    }
}

/// A mask of this sort.
pub fn mask(rng: &mut ChaCha8Rng, [rows, cols]: [usize; 2], (pattern, _, share): Sort) -> Mask {
    let scores = Scores::new(numbers(rng, rows * cols), &[rows, cols]).unwrap();
    let pattern: Pattern = pattern.parse().unwrap();
    let amount = pattern.fixed_sparsity().unwrap_or(Sparsity::new(share).unwrap());
    pattern.select(scores, amount).unwrap()
}

/// A weight of this sort.
pub fn weight(rng: &mut ChaCha8Rng, shape: [usize; 2], sort: Sort, dtype: Dtype) -> Packed {
    let dense = dense(numbers(rng, shape[0] * shape[1]), shape, dtype);
    Packed::pack_as(&dense, &mask(rng, shape, sort), sort.1.parse().unwrap()).unwrap()
}

/// The weight in every layout that a kernel runs. Which there are is part of the promise.
pub fn products(weight: &Packed, dispatcher: &Dispatcher) -> Vec<(KernelKind, Product)> {
    let product = |kind| Some((kind, Product::with_kernel(weight, dispatcher, kind).ok()?));
    let found: Vec<_> = KernelKind::ALL.into_iter().filter_map(product).collect();
    let kinds: Vec<KernelKind> = found.iter().map(|(kind, _)| *kind).collect();
    let format = weight.format().to_string();
    let expected = match format.as_str() {
        "dense" => vec![KernelKind::Dense],
        name if name.contains(':') => vec![KernelKind::Dense, KernelKind::NOfM, KernelKind::Csr],
        "block4x4" | "block2x3" | "block6x1" => {
            vec![KernelKind::Dense, KernelKind::Csr, KernelKind::Block]
        }
        _ => vec![KernelKind::Dense, KernelKind::Csr],
    };
    assert_eq!(kinds, expected, "kernels for {format}");
    found
}

/// How activations come and go.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// Token after token.
    Tokens,
    /// Feature after feature.
    Panels,
}

/// Both ways.
pub const WAYS: [Way; 2] = [Way::Tokens, Way::Panels];

/// What is asked of a weight.
#[derive(Debug)]
pub struct Question {
    /// `[tokens, cols]`.
    pub x: Vec<f32>,
    /// How many tokens.
    pub tokens: usize,
    /// `[rows]`, or none.
    pub bias: Option<Vec<f32>>,
    /// What comes last.
    pub activation: Activation,
}

impl Question {
    /// A question at random.
    pub fn new(rng: &mut ChaCha8Rng, [rows, cols]: [usize; 2], tokens: usize) -> Self {
        let x = numbers(rng, tokens * cols);
        let bias = rng.random_range(0..3) > 0;
        let bias = bias.then(|| numbers(rng, rows));
        Self { x, tokens, bias, activation: ACTIVATIONS[rng.random_range(0..3)] }
    }

    /// What happens to sums.
    pub fn epilogue(&self) -> Epilogue<'_> {
        Epilogue { bias: self.bias.as_deref(), activation: self.activation }
    }

    /// The product's answer, `[tokens, rows]`.
    pub fn ask(&self, product: &Product, dispatcher: &Dispatcher, way: Way) -> Vec<f32> {
        let (tokens, rows, cols) = (self.tokens, product.rows(), product.cols());
        let mut y = vec![f32::NAN; tokens * rows];
        match way {
            Way::Tokens if self.activation == Activation::None => {
                product.run(&self.x, tokens, self.bias.as_deref(), &mut y).unwrap();
            }
            Way::Tokens => {
                let x = View { data: &self.x, tokens, stride: cols };
                let y = ViewMut { data: &mut y, tokens, stride: rows };
                product.apply(x, &self.epilogue(), y).unwrap();
            }
            Way::Panels => {
                let x = Panels::pack(&self.x, tokens, cols, dispatcher).unwrap();
                let mut to = Panels::zeros(tokens, rows, dispatcher).unwrap();
                product.run_panels(&x, &self.epilogue(), &mut to).unwrap();
                to.unpack(&mut y).unwrap();
            }
        }
        y
    }
}

/// A pool of so many threads.
pub fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}
