//! Which products are measured? Rows of a table, gathered into settings: what shares a shape, a number of
//! tokens and of threads alternates in one run, against the same dense products.

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use secateur::{
    kernels::{Dispatcher, Tier},
    mask::Target,
};
use serde::{Serialize, Serializer};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// No operand has more numbers than this: 1 GiB of f32, of which every contender holds its own.
const MOST: usize = 1 << 28;

/// Rows and columns of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    pub rows: usize,
    pub cols: usize,
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let sides =
            text.split_once('x').map(|(rows, cols)| (rows.parse::<usize>(), cols.parse::<usize>()));
        let Some((Ok(rows), Ok(cols))) = sides else {
            bail!("{text:?} is no shape: write ROWSxCOLS, outputs by inputs, such as 3072x768");
        };
        ensure!(rows > 0 && cols > 0, "a weight of {text} is empty: nothing to multiply");
        ensure!(
            rows.checked_mul(cols).is_some_and(|entries| entries <= MOST),
            "a weight of {text} is too large to measure: at most {MOST} entries"
        );
        Ok(Self { rows, cols })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.rows, self.cols)
    }
}

/// What a weight's values are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Number {
    F32,
    #[value(name = "bf16")]
    BF16,
    F16,
    /// One scale per row
    I8,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::BF16 => "bf16",
            Self::F16 => "f16",
            Self::I8 => "i8",
        })
    }
}

/// The name of a tier on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TierName {
    Avx512,
    Avx2,
    Portable,
}

impl TierName {
    pub fn tier(self) -> Tier {
        match self {
            Self::Avx512 => Tier::Avx512,
            Self::Avx2 => Tier::Avx2,
            Self::Portable => Tier::Portable,
        }
    }
}

/// How activations lie, in and out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `[tokens, features]`, as everywhere.
    TokenMajor,
    /// As kernels want them, kept so from layer to layer.
    FeatureMajor,
}

/// One sparse product: everything about it but the operands' size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sparse {
    pub number: Number,
    pub target: Target,
    pub tier: Tier,
    pub layout: Layout,
}

/// What alternates in one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    pub shape: Shape,
    pub tokens: usize,
    pub threads: usize,
    pub sparse: Vec<Sparse>,
}

impl Setting {
    /// Multiplications and additions of the dense product.
    pub fn flops(&self) -> f64 {
        2.0 * self.shape.rows as f64 * self.shape.cols as f64 * self.tokens as f64
    }
}

/// Everything crossed with everything.
#[derive(Debug, Clone)]
pub struct Request {
    pub shapes: Vec<Shape>,
    pub tokens: Vec<usize>,
    pub threads: Vec<usize>,
    pub numbers: Vec<Number>,
    pub targets: Vec<Target>,
    pub tiers: Vec<Tier>,
    pub layouts: Vec<Layout>,
}

impl Request {
    /// f32 2:4 at `tokens`, on one thread and the machine's best tier.
    fn two_four(shapes: &[&str], tokens: &[usize], best: Tier) -> Self {
        let shapes = shapes.iter().map(|shape| shape.parse().expect("a shape written here"));
        Self {
            shapes: shapes.collect(),
            tokens: tokens.to_vec(),
            threads: vec![1],
            numbers: vec![Number::F32],
            targets: targets(&["2:4"]),
            tiers: vec![best],
            layouts: vec![Layout::TokenMajor],
        }
    }
}

fn targets(names: &[&str]) -> Vec<Target> {
    names.iter().map(|name| name.parse().expect("a pattern written here")).collect()
}

/// What is measured if nothing is asked: what the kernels promise, and nothing else.
pub fn promised(here: &Dispatcher) -> Vec<Request> {
    let best = here.tier();
    let two_four = |shapes: &[&str], tokens: &[usize]| Request::two_four(shapes, tokens, best);
    let small = ["3072x768", "768x3072", "1536x384", "384x1536", "384x384"];
    let (ffn, large) = (["3072x768"], ["4096x4096", "11008x4096"]);
    let mut requests = vec![
        Request {
            layouts: vec![Layout::TokenMajor, Layout::FeatureMajor],
            ..two_four(&small, &[128, 512])
        },
        two_four(&small, &[16, 32, 64]),
        two_four(&large, &[1, 128, 512]),
        Request { numbers: vec![Number::BF16], ..two_four(&["3072x768", "4096x4096"], &[1, 128]) },
        Request { numbers: vec![Number::I8], ..two_four(&large, &[1]) },
        Request { targets: targets(&["4:8", "8:16"]), ..two_four(&ffn, &[128, 512]) },
        Request { targets: targets(&["1:4", "0.9"]), ..two_four(&ffn, &[128]) },
    ];
    if best == Tier::Avx512 {
        requests.push(Request { tiers: vec![Tier::Avx2], ..two_four(&ffn, &[128, 512]) });
    }
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2) {
        requests.push(Request { threads: vec![2], ..two_four(&ffn, &[128, 512]) });
    }
    requests
}

/// The settings of all requests, each once, in the order in which their shapes were first named.
///
/// Errors on sizes that no machine should be asked for.
pub fn settings(requests: &[Request]) -> Result<Vec<Setting>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut order: Vec<Shape> = Vec::new();
    let mut found: BTreeMap<(usize, usize, usize), Setting> = BTreeMap::new();
    for request in requests {
        for &threads in &request.threads {
            ensure!(threads > 0, "0 threads multiply nothing: --threads is at least 1");
            ensure!(threads <= cores, "{threads} threads on {cores} cores wait for each other");
        }
        for (&shape, &tokens, &threads) in crossed(request) {
            ensure!(tokens > 0, "0 tokens are nothing to multiply: --tokens is at least 1");
            ensure!(
                tokens.checked_mul(shape.rows.max(shape.cols)).is_some_and(|count| count <= MOST),
                "{tokens} tokens of {shape} are too large to measure: at most {MOST} activations"
            );
            let known = order.iter().position(|other| *other == shape);
            let place = known.unwrap_or_else(|| {
                order.push(shape);
                order.len() - 1
            });
            let empty = || Setting { shape, tokens, threads, sparse: Vec::new() };
            let setting = found.entry((place, threads, tokens)).or_insert_with(empty);
            for sparse in request.sparse() {
                if !setting.sparse.contains(&sparse) {
                    setting.sparse.push(sparse);
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

fn crossed(request: &Request) -> impl Iterator<Item = (&Shape, &usize, &usize)> {
    let with_threads = |(shape, tokens)| request.threads.iter().map(move |n| (shape, tokens, n));
    let with_tokens = |shape| request.tokens.iter().map(move |tokens| (shape, tokens));
    request.shapes.iter().flat_map(with_tokens).flat_map(with_threads)
}

impl Request {
    fn sparse(&self) -> Vec<Sparse> {
        let mut all = Vec::new();
        for &number in &self.numbers {
            for &target in &self.targets {
                for &tier in &self.tiers {
                    let of = |&layout: &Layout| Sparse { number, target, tier, layout };
                    all.extend(self.layouts.iter().map(of));
                }
            }
        }
        all
    }
}

/// Serialised as people write it.
pub fn as_text<T: fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_cannot_be_measured_say_why() {
        let said = |text: &str| text.parse::<Shape>().unwrap_err().to_string();
        assert_eq!("12x34".parse::<Shape>().unwrap(), Shape { rows: 12, cols: 34 });
        assert!(said("0x0").contains("empty"));
        assert!(said("768").contains("ROWSxCOLS") && said("-1x4").contains("ROWSxCOLS"));
        assert!(said("99999x99999").contains("too large"));
        assert!(said("4294967296x4294967296").contains("too large"));
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let request = Request::two_four(&["8x8"], &[1], Tier::Portable);
        let said = |request: Request| settings(&[request]).unwrap_err().to_string();
        assert!(said(Request { tokens: vec![0], ..request.clone() }).contains("0 tokens"));
        assert!(
            said(Request { tokens: vec![usize::MAX], ..request.clone() }).contains("too large")
        );
        assert!(said(Request { threads: vec![0], ..request.clone() }).contains("0 threads"));
        assert!(said(Request { threads: vec![1 << 20], ..request }).contains("cores"));
    }

    #[test]
    fn what_shares_operands_alternates_once() {
        let plain = Request::two_four(&["16x16", "8x8"], &[4, 1], Tier::Portable);
        let other = Request { targets: targets(&["0.9", "2:4"]), ..plain.clone() };
        let settings = settings(&[plain, other]).unwrap();
        let said: Vec<_> =
            settings.iter().map(|s| (s.shape.rows, s.tokens, s.sparse.len())).collect();
        assert_eq!(said, [(16, 1, 2), (16, 4, 2), (8, 1, 2), (8, 4, 2)]);
    }

    #[test]
    fn what_is_promised_is_measured() {
        let here = Dispatcher::probe().unwrap();
        let settings = settings(&promised(&here)).unwrap();
        let has = |shape: &str, tokens, test: &dyn Fn(&Sparse) -> bool| {
            let here = |s: &&Setting| s.shape.to_string() == shape && s.tokens == tokens;
            settings.iter().filter(here).any(|setting| setting.sparse.iter().any(test))
        };
        assert!(has("384x1536", 512, &|s| s.layout == Layout::FeatureMajor));
        assert!(has("11008x4096", 1, &|s| s.number == Number::I8));
        assert!(has("3072x768", 128, &|s| s.target.to_string() == "0.9"));
        assert!(has("4096x4096", 128, &|s| s.number == Number::BF16));
    }
}
