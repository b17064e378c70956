//! `cargo xtask bench`: does a zero save time here? Every kernel against the best dense product, in turns.

mod break_even;
mod cases;
mod compare;
mod contenders;
mod csv;
mod model;
mod peers;
mod plot;
mod rounds;
mod rows;
/// The text that the program of stock candle is made of, here with AVX-512.
#[path = "../../peers/src/serve.rs"]
mod serve;
mod show;
mod suite;

use crate::progress;
use anyhow::{Result, bail, ensure};
use cases::{Layout, Number, Request, Shape, TierName};
use rows::Row;
use secateur::{
    kernels::{Dispatcher, Tier},
    mask::Target,
};
use serde::Serialize;
use std::path::PathBuf;
use suite::{Bench, DenseRow, Machine};

const HELP: &str = "\
A product y = x · Wᵀ has W [rows, cols] and x [tokens, cols]. Everybody who can multiply it runs
once per round, timed over 5 ms or more after a call to warm up; figures are medians over the
rounds, and minima beside them. GFLOP/s are as if dense: 2 · rows · cols · tokens / time.

Without --shapes, --tokens, --threads, --dtypes, --patterns and --tiers, everything that is
promised of the kernels is measured, in some minutes. With any of them, all their values are
crossed; what is left out is 3072x768, 1,16,128,512 tokens, 1 thread, f32, 2:4, and the best tier
here.

Dense products in the same rounds: candle as its users have it (candle_*, built once as a program
of its own: AVX-512 is off in it), candle with gemm/x86-v4 (candle_x86v4_*), the dense kernel here
(secateur_gemm_f32) and faer. The speed-up is over the fastest of them that has the weight's dtype
or f32; for the AVX2 tier, over those that AVX2 limits as well: of the ones started here only candle,
which allocates its result as well. Kernels of bf16 and i8 weights whose name says so (avx512-bf16)
round activations to the weight's dtype, as dense layers of it do. A share of the peak is as if
dense too: above 1 is what only zeros bring. To hold it against oneDNN and ONNX Runtime:

  python xtask/peers/dense.py --out peers.csv             # says what to install
  ONEDNN_MAX_CPU_ISA=AVX2 python xtask/peers/dense.py --out peers-avx2.csv
  cargo xtask bench --peers peers.csv --peers peers-avx2.csv

--json prints one object on standard output, and everything else elsewhere:
  {\"machine\": {\"peak_gflops\": {tier: of one core}, \"bandwidth_gb_s\"},
   \"dense\": [{\"shape\", \"tokens\", \"threads\", \"name\", \"dtype\", \"gflops\", \"gflops_at_min\"}],
   \"compared\": [{\"of\", \"with\", \"ratio\", \"ratio_at_min\"}],
   \"break_even\": [{\"shape\", \"threads\", \"what\", \"kernel\", \"tokens\", \"slower_at\", \"crosses_at\",
     \"planned_dense_at\"}],
   \"rows\": [{\"shape\", \"tokens\", \"threads\", \"dtype\", \"pattern\", \"layout\", \"tier\", \"kernel\",
     \"planned\": what the dispatcher would run, \"gflops\", \"dense_best\", \"dense_best_name\",
     \"speedup\", each also ..._at_min, \"speedup_candle\": over candle_*, \"share_of_peak\"}]}
What was not measured is null.

--model minilm times all-MiniLM-L6-v2 end to end instead, on real text in sequences of --tokens
(16,128), one and eight at a time: our encoder dense, at 2:4 in every matrix of the encoder, and
candle-transformers' as its users have it. First all are held against each other: ours against
candle's, packed against dense with the same zeros. Its rows:
  {\"shape\": \"minilm\", \"tokens\": of a sequence, \"batch\", \"threads\", \"dtype\", \"pattern\", \"kernel\",
   \"dense_best_name\", \"speedup\": 2:4 over dense, \"speedup_candle\", each also ..._at_min,
   \"weights_share\": bytes of the encoder's matrices in memory, 2:4 over dense,
   \"model_share\": with the embeddings, \"ms\", \"dense_ms\", \"candle_ms\": {\"median\", \"min\"}}

Examples:
  cargo xtask bench
  cargo xtask bench --shapes 4096x4096 --tokens 1,8,128 --dtypes f32,bf16,i8 --patterns 2:4,8:16
  cargo xtask bench --tokens 128 --patterns 2:4,0.8,0.9,0.95 --plot speed.svg --no-peers
  cargo xtask bench --peers peers.csv --json > bench.json";

/// Time every kernel against the best dense product on this machine.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Weights, outputs by inputs
    #[arg(long, value_name = "ROWSxCOLS,...", value_delimiter = ',')]
    shapes: Vec<Shape>,
    /// Rows of activations: batch size times sequence length
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    tokens: Vec<usize>,
    /// Threads of each product
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    threads: Vec<usize>,
    /// What weights are stored as
    #[arg(long, value_name = "DTYPE,...", value_delimiter = ',')]
    dtypes: Vec<Number>,
    /// What is kept: 2:4, 8:16, 0.9, block4x1@0.8, ...
    #[arg(long, value_name = "PATTERN,...", value_delimiter = ',')]
    patterns: Vec<Target>,
    /// Kernel tiers
    #[arg(long, value_name = "TIER,...", value_delimiter = ',')]
    tiers: Vec<TierName>,
    /// Time a whole network instead
    #[arg(long, value_name = "MODEL")]
    model: Option<model::Model>,
    /// Figures of other programs, as xtask/peers/dense.py writes them; may be given again
    #[arg(long, value_name = "CSV")]
    peers: Vec<PathBuf>,
    /// Start no other program: no candle
    #[arg(long)]
    no_peers: bool,
    /// How often everybody has a turn
    #[arg(long, value_name = "N", default_value_t = 31)]
    rounds: usize,
    /// Draw speed-up over tokens and a roofline
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print all figures as one JSON object on standard output, and the table on standard error
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
pub struct Answer {
    machine: Machine,
    dense: Vec<DenseRow>,
    compared: Vec<compare::Compared>,
    break_even: Vec<break_even::BreakEven>,
    rows: Vec<Row>,
}

pub fn run(args: Args) -> Result<()> {
    if let Some(model) = args.model {
        return args.time(model);
    }
    ensure!((1..=10_000).contains(&args.rounds), "--rounds is between 1 and 10000");
    let here = Dispatcher::probe()?;
    let settings = cases::settings(&args.requests(&here)?)?;
    let read = args.peers.iter().map(|path| csv::read(path)).collect::<Result<Vec<_>>>()?;
    let others: Vec<csv::Peer> = read.into_iter().flatten().collect();
    for path in args.plot.iter().filter_map(|path| path.parent()) {
        let is_there = path.as_os_str().is_empty() || path.is_dir();
        ensure!(is_there, "--plot: there is no folder {}", path.display());
    }
    if let Some(folder) = args.plot.iter().find(|path| path.is_dir()) {
        bail!("--plot: {} is a folder, not a file to write", folder.display());
    }
    let candle = if args.no_peers { None } else { Some(peers::build()?) };

    let answer = Bench { here, rounds: args.rounds, candle, others }.run(&settings)?;
    if let Some(path) = &args.plot {
        plot::write(&answer, path)?;
    }
    let text = show::render(&answer);
    if args.json {
        progress::tell(&text);
        progress::answer(&serde_json::to_string(&answer)?)
    } else {
        progress::answer(&text)
    }
}

/// Answers as a child of another run, with AVX-512 switched on.
pub fn serve() -> Result<()> {
    // Whole networks are asked of the other program: this one would need candle-transformers for it.
    let mut encode = |_: &str| candle_core::bail!("this program has no encoder");
    Ok(serve::serve(std::io::stdin().lock(), std::io::stdout().lock(), &mut encode)?)
}

impl Args {
    /// A whole network, in the sequences of `--tokens` and by `--threads`.
    fn time(&self, model: model::Model) -> Result<()> {
        ensure!((1..=10_000).contains(&self.rounds), "--rounds is between 1 and 10000");
        ensure!(
            self.shapes.is_empty()
                && self.dtypes.is_empty()
                && self.patterns.is_empty()
                && self.tiers.is_empty()
                && self.peers.is_empty()
                && self.plot.is_none(),
            "--model is timed in f32, dense and at 2:4, on the best tier here; it goes with --tokens, \
             --threads, --rounds, --no-peers and --json only"
        );
        let answer = model::run(model, self.rounds, &self.tokens, &self.threads, !self.no_peers)?;
        let text = answer.render();
        if self.json {
            progress::tell(&text);
            progress::answer(&serde_json::to_string(&answer)?)
        } else {
            progress::answer(&text)
        }
    }

    fn requests(&self, here: &Dispatcher) -> Result<Vec<Request>> {
        let tiers: Vec<Tier> = self.tiers.iter().map(|name| name.tier()).collect();
        for tier in &tiers {
            Dispatcher::with_tier(*tier)?;
        }
        let lists = [&self.tokens, &self.threads];
        let nothing_asked = self.shapes.is_empty()
            && lists.iter().all(|list| list.is_empty())
            && self.dtypes.is_empty()
            && self.patterns.is_empty()
            && tiers.is_empty();
        if nothing_asked {
            return Ok(cases::promised(here));
        }
        fn or<T: Clone>(asked: &[T], usual: Vec<T>) -> Vec<T> {
            if asked.is_empty() { usual } else { asked.to_vec() }
        }
        Ok(vec![Request {
            shapes: or(&self.shapes, vec![Shape { rows: 3072, cols: 768 }]),
            tokens: or(&self.tokens, vec![1, 16, 128, 512]),
            threads: or(&self.threads, vec![1]),
            numbers: or(&self.dtypes, vec![Number::F32]),
            targets: or(&self.patterns, vec!["2:4".parse()?]),
            tiers: or(&tiers, vec![here.tier()]),
            layouts: vec![Layout::TokenMajor, Layout::FeatureMajor],
        }])
    }
}
