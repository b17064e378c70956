//! How much faster than the best dense product is each kernel? One row for each, against all dense products
//! of its setting that do the same work under the same limits.

use super::cases::{Layout, Number, Setting, Shape, Sparse, as_text};
use secateur::{kernels::Tier, mask::Target};
use serde::Serialize;

/// Seconds of one call, over all rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    pub median: f64,
    pub min: f64,
}

impl Figures {
    /// Of the rounds' times; there is at least one.
    pub fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let middle = seconds.len() / 2;
        let median = match seconds.len() % 2 {
            0 => seconds[middle - 1].midpoint(seconds[middle]),
            _ => seconds[middle],
        };
        Self { median, min: seconds[0] }
    }
}

/// Which instructions a dense product was held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// None: it runs as fast as it can.
    None,
    /// AVX2, as shipped: people run it so, on machines with AVX-512 too.
    Avx2Shipped,
    /// AVX2, by force: only a measure for our AVX2 kernels.
    Avx2Only,
}

/// A dense product that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    pub name: String,
    pub number: Number,
    pub limit: Limit,
    pub figures: Figures,
}

impl Dense {
    /// Whether somebody could run this instead: of the same dtype, or in f32; and for our AVX2 kernels,
    /// where a machine has more, without the more.
    fn is_rival(&self, sparse: &Sparse, machine: Tier) -> bool {
        let limited = sparse.tier == Tier::Avx2 && machine == Tier::Avx512;
        let instructions = match self.limit {
            Limit::None => !limited,
            Limit::Avx2Shipped => true,
            Limit::Avx2Only => limited,
        };
        instructions && [sparse.number, Number::F32].contains(&self.number)
    }
}

/// What candle's own product is called, as its users have it.
pub fn candle(number: Number) -> &'static str {
    match number {
        Number::F32 => "candle_f32",
        Number::BF16 => "candle_bf16",
        Number::F16 => "candle_f16",
        Number::I8 => "candle_q8_0",
    }
}

/// A sparse product that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub sparse: Sparse,
    pub kernel: String,
    /// What the dispatcher would run instead, were it left the choice.
    pub planned: String,
    pub plans_dense: bool,
    /// The share of the dense product's multiplications that are left.
    pub density: f64,
    /// Bytes that have to be read and written at least once.
    pub bytes: f64,
    pub figures: Figures,
}

/// What `--json` prints of every kernel.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    #[serde(serialize_with = "as_text")]
    pub shape: Shape,
    pub tokens: usize,
    pub threads: usize,
    pub dtype: Number,
    #[serde(serialize_with = "as_text")]
    pub pattern: Target,
    pub layout: Layout,
    #[serde(serialize_with = "as_text")]
    pub tier: Tier,
    pub kernel: String,
    pub planned: String,
    pub gflops: f64,
    pub dense_best: Option<f64>,
    pub dense_best_name: Option<String>,
    pub speedup: Option<f64>,
    pub gflops_at_min: f64,
    pub dense_best_at_min: Option<f64>,
    pub dense_best_name_at_min: Option<String>,
    pub speedup_at_min: Option<f64>,
    pub speedup_candle: Option<f64>,
    pub share_of_peak: Option<f64>,
    #[serde(skip)]
    pub plans_dense: bool,
    #[serde(skip)]
    pub density: f64,
    #[serde(skip)]
    pub bytes: f64,
}

impl Row {
    /// Whether another row differs in nothing but what `but` forgives.
    pub fn is_beside(&self, other: &Self) -> bool {
        (self.shape, self.dtype, self.tier, self.layout)
            == (other.shape, other.dtype, other.tier, other.layout)
    }

    /// `f32 2:4`, and how activations lie if not as everywhere.
    pub fn what(&self) -> String {
        let layout = if self.layout == Layout::FeatureMajor { ", feature-major" } else { "" };
        format!("{} {}{layout}", self.dtype, self.pattern)
    }
}

/// The rows of a setting. `peak` is what one core reaches on a tier, in GFLOP/s.
pub fn rows(
    setting: &Setting,
    dense: &[Dense],
    measured: &[Measured],
    machine: Tier,
    peak: impl Fn(Tier) -> Option<f64>,
) -> Vec<Row> {
    let gflops = |seconds: f64| setting.flops() / seconds / 1e9;
    let row = |m: &Measured| {
        let rivals = || dense.iter().filter(|dense| dense.is_rival(&m.sparse, machine));
        let best = rivals().min_by(|a, b| a.figures.median.total_cmp(&b.figures.median));
        let at_min = rivals().min_by(|a, b| a.figures.min.total_cmp(&b.figures.min));
        let candle = dense.iter().find(|dense| dense.name == candle(m.sparse.number));
        let peak = peak(m.sparse.tier).map(|peak| peak * setting.threads as f64);
        Row {
            shape: setting.shape,
            tokens: setting.tokens,
            threads: setting.threads,
            dtype: m.sparse.number,
            pattern: m.sparse.target,
            layout: m.sparse.layout,
            tier: m.sparse.tier,
            kernel: m.kernel.clone(),
            planned: m.planned.clone(),
            gflops: gflops(m.figures.median),
            dense_best: best.map(|dense| gflops(dense.figures.median)),
            dense_best_name: best.map(|dense| dense.name.clone()),
            speedup: best.map(|dense| dense.figures.median / m.figures.median),
            gflops_at_min: gflops(m.figures.min),
            dense_best_at_min: at_min.map(|dense| gflops(dense.figures.min)),
            dense_best_name_at_min: at_min.map(|dense| dense.name.clone()),
            speedup_at_min: at_min.map(|dense| dense.figures.min / m.figures.min),
            speedup_candle: candle.map(|dense| dense.figures.median / m.figures.median),
            share_of_peak: peak.map(|peak| gflops(m.figures.median) / peak),
            plans_dense: m.plans_dense,
            density: m.density,
            bytes: m.bytes,
        }
    };
    measured.iter().map(row).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn dense(name: &str, number: Number, limit: Limit, ms: f64) -> Dense {
        let figures = Figures { median: ms / 1e3, min: ms / 2e3 };
        Dense { name: name.to_owned(), number, limit, figures }
    }

    pub fn measured(number: Number, tier: Tier, ms: f64) -> Measured {
        let (target, layout) = ("2:4".parse().unwrap(), Layout::TokenMajor);
        Measured {
            sparse: Sparse { number, target, tier, layout },
            kernel: format!("2:4 {tier}"),
            planned: format!("2:4 {tier}"),
            plans_dense: false,
            density: 0.5,
            bytes: 1e6,
            figures: Figures { median: ms / 1e3, min: ms / 1e3 },
        }
    }

    #[test]
    fn each_kernel_meets_its_own_rivals() {
        let setting =
            Setting { shape: "1000x1000".parse().unwrap(), tokens: 50, threads: 2, sparse: vec![] };
        let all = [
            dense("candle_f32", Number::F32, Limit::Avx2Shipped, 4.0),
            dense("faer_f32", Number::F32, Limit::None, 2.0),
            dense("torch_bf16", Number::BF16, Limit::None, 1.0),
            dense("onednn_avx2_f32", Number::F32, Limit::Avx2Only, 0.5),
        ];
        let named = |number, tier, machine| {
            let rows =
                rows(&setting, &all, &[measured(number, tier, 1.0)], machine, |_| Some(200.0));
            (rows[0].dense_best_name.clone().unwrap(), rows[0].speedup.unwrap(), rows[0].clone())
        };
        let (name, speedup, row) = named(Number::F32, Tier::Avx512, Tier::Avx512);
        assert_eq!((&name[..], speedup), ("faer_f32", 2.0));
        assert_eq!(
            (row.gflops, row.dense_best, row.speedup_candle),
            (100.0, Some(50.0), Some(4.0))
        );
        assert_eq!((row.share_of_peak, row.speedup_at_min), (Some(0.25), Some(1.0)));
        assert_eq!(named(Number::BF16, Tier::Avx512, Tier::Avx512).0, "torch_bf16");
        assert_eq!(named(Number::I8, Tier::Avx512, Tier::Avx512).0, "faer_f32");
        assert_eq!(named(Number::F32, Tier::Avx2, Tier::Avx512).0, "onednn_avx2_f32");
        assert_eq!(named(Number::F32, Tier::Avx2, Tier::Avx2).0, "faer_f32");
    }

    #[test]
    fn a_kernel_without_rivals_has_no_speedup() {
        let setting =
            Setting { shape: "8x8".parse().unwrap(), tokens: 1, threads: 1, sparse: vec![] };
        let all = [dense("torch_bf16", Number::BF16, Limit::None, 1.0)];
        let sparse = [measured(Number::F32, Tier::Portable, 1.0)];
        let row = &rows(&setting, &all, &sparse, Tier::Portable, |_| None)[0];
        assert_eq!((row.speedup, row.dense_best, row.share_of_peak), (None, None, None));
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(Figures::of(vec![3.0, 1.0, 2.0]), Figures { median: 2.0, min: 1.0 });
        assert_eq!(Figures::of(vec![4.0, 1.0]), Figures { median: 2.5, min: 1.0 });
    }
}
