//! How much faster is a whole network? A product alone leaves out attention, norms and activations.

use super::{
    cases::Number,
    contenders::{Contender, Timer, Who},
    peers, rounds,
    rows::{Figures, Limit},
    serve,
    suite::Machine,
};
use crate::{progress, table::STYLE, workspace};
use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor, safetensors};
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use rayon::{ThreadPool, ThreadPoolBuilder};
use secateur::{
    kernels::{self, Dispatcher, Problem},
    mask::{Pattern, Scores, Sparsity},
    nn::{Bert, BertConfig, SentenceEncoder, VarBuilder},
    storage::{Checkpoint, Packed, Source},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
};

/// The networks that can be timed end to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Model {
    /// all-MiniLM-L6-v2, an encoder of 22 M parameters
    Minilm,
}

/// Texts at a time.
const BATCHES: [usize; 2] = [1, 8];
/// Real text, in as many parts as the largest batch.
const TEXT: &str = include_str!("../../../docs/architecture.md");
/// What hidden states, whose features have a variance of about one, may differ by.
const CLOSE: f64 = 1e-5;

/// What `--json` prints: the keys are those of products.
#[derive(Serialize)]
pub struct Answer {
    machine: Machine,
    dense: Vec<Value>,
    compared: [(); 0],
    break_even: [(); 0],
    rows: Vec<Row>,
}

/// Sequences of one length, a number at a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    shape: &'static str,
    tokens: usize,
    batch: usize,
    threads: usize,
    dtype: Number,
    pattern: &'static str,
    kernel: String,
    dense_best_name: &'static str,
    speedup: f64,
    speedup_at_min: f64,
    speedup_candle: Option<f64>,
    speedup_candle_at_min: Option<f64>,
    weights_share: f64,
    model_share: f64,
    ms: Ms,
    dense_ms: Ms,
    candle_ms: Option<Ms>,
}

/// Milliseconds of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Ms {
    median: f64,
    min: f64,
}

impl From<Figures> for Ms {
    fn from(Figures { median, min }: Figures) -> Self {
        Self { median: median * 1e3, min: min * 1e3 }
    }
}

/// Times `model`, dense and at 2:4: sequences of `lengths` (16 and 128) by `threads` (one).
pub fn run(
    model: Model,
    rounds: usize,
    lengths: &[usize],
    threads: &[usize],
    with_candle: bool,
) -> Result<Answer> {
    let Model::Minilm = model;
    let or = |asked: &[usize], usual: &[usize]| match asked {
        [] => usual.to_vec(),
        asked => asked.to_vec(),
    };
    let (lengths, threads) = (or(lengths, &[16, 128]), or(threads, &[1]));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let possible = threads.iter().all(|threads| (1..=cores).contains(threads));
    ensure!(possible, "--threads is from 1 to {cores}, the cores here");
    let network = Network::open()?;
    let candle = if with_candle { Some(peers::build()?) } else { None };
    let scratch = tempfile::tempdir()?;

    let tier = network.dispatcher.tier();
    let peak_gflops = BTreeMap::from([(tier.to_string(), kernels::peak(tier)?)]);
    let machine = Machine { peak_gflops, bandwidth_gb_s: kernels::bandwidth() };
    let turns = rounds * lengths.len() * BATCHES.len() * threads.len();
    let bar = progress::bar("bench minilm", turns);
    let mut rows = Vec::new();
    for threads in threads {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let candle = candle.as_deref().map(|path| peers::Peer::stock(path, threads)).transpose()?;
        let candle = candle.map(RefCell::new);
        for &length in &lengths {
            for batch in BATCHES {
                let tokens = network.tokens(batch, length)?;
                let dense = network.dense.forward(&tokens.ids, &tokens.types, None)?;
                let found = network.packed.forward(&tokens.ids, &tokens.types, None)?;
                let masked = network.masked.forward(&tokens.ids, &tokens.types, None)?;
                close(&found, &masked, "2:4 and dense with the same zeros")?;
                let mut all = vec![
                    contender("2:4", ours(&network.packed, &tokens, &pool)),
                    contender("dense", ours(&network.dense, &tokens, &pool)),
                ];
                if let Some(peer) = &candle {
                    let [asked, answered] =
                        ["tokens", "states"].map(|name| scratch.path().join(name));
                    safetensors::save(&tokens.named(), &asked)?;
                    let question =
                        json!({"model": network.folder, "tokens": asked, "states": answered});
                    all.push(contender("candle", peers::encoder(peer, &question)?));
                    let states = safetensors::load(&answered, &Device::Cpu)?;
                    let states = states.get("states").context("candle wrote no hidden states")?;
                    close(&dense, states, "ours and candle-transformers', both dense,")?;
                }
                let bar = || tracing_indicatif::span_ext::IndicatifSpanExt::pb_inc(&bar, 1);
                let (timed, _) = rounds::alternate(all, rounds, bar)?;
                let figures: Vec<Figures> = timed.iter().map(|timed| timed.figures).collect();
                rows.push(network.row((length, batch, threads), &figures)?);
            }
        }
    }
    drop(bar);
    let dense = rows.iter().map(Row::dense).collect();
    Ok(Answer { machine, dense, compared: [], break_even: [], rows })
}

/// The network three times: as it is, at 2:4, and with the zeros of that spelled out.
struct Network {
    folder: PathBuf,
    config: BertConfig,
    dispatcher: Dispatcher,
    checkpoint: Checkpoint,
    dense: Bert,
    packed: Bert,
    masked: Bert,
    kernel: String,
}

/// What an encoder is given.
struct Tokens {
    ids: Tensor,
    types: Tensor,
}

impl Tokens {
    fn named(&self) -> HashMap<&str, Tensor> {
        HashMap::from([("ids", self.ids.clone()), ("types", self.types.clone())])
    }
}

impl Network {
    fn open() -> Result<Self> {
        let folder = workspace::data().join("minilm");
        ensure!(
            folder.join("model.safetensors").exists(),
            "all-MiniLM-L6-v2 is not there: `cargo xtask data minilm` fetches it"
        );
        let source = Source::open(&folder)?;
        let config = BertConfig::from_json(source.config().context("there is no config.json")?)?;
        let dispatcher = Dispatcher::probe()?;
        let checkpoint = Checkpoint::load(&folder)?;
        let (mut cut, mut spelled_out) = (checkpoint.clone(), checkpoint.clone());
        let mut kernel = None;
        for (name, weight) in &checkpoint.tensors {
            if name.contains("encoder.layer") && weight.shape().len() == 2 {
                let packed = two_of_four(weight)?;
                spelled_out.tensors.insert(name.clone(), packed.unpack().into());
                kernel.get_or_insert_with(|| {
                    dispatcher.plan(&Problem::of(&packed, 128)).kernel().to_owned()
                });
                cut.tensors.insert(name.clone(), packed);
            }
        }
        let kernel = kernel.context("the model has no encoder layer")?;
        let load = |checkpoint: &Checkpoint| load(checkpoint, &config, &dispatcher);
        let (dense, packed, masked) = (load(&checkpoint)?, load(&cut)?, load(&spelled_out)?);
        Ok(Self { folder, config, dispatcher, checkpoint, dense, packed, masked, kernel })
    }

    /// The first `length` tokens, special ones included, of each of `batch` texts.
    fn tokens(&self, batch: usize, length: usize) -> Result<Tokens> {
        let tokenizer = fs::read(self.folder.join("tokenizer.json"))?;
        let bert = load(&self.checkpoint, &self.config, &self.dispatcher)?;
        let encoder = SentenceEncoder::new(bert, &tokenizer, Some(length))?;
        let words: Vec<&str> = TEXT.split_whitespace().collect();
        let parts = words.chunks(words.len().div_ceil(BATCHES[1])).map(|words| words.join(" "));
        let parts: Vec<String> = parts.take(batch).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (mut ids, mut types) = (Vec::new(), Vec::new());
        for encoding in encoder.tokenize(&parts)? {
            let found = encoding.len();
            ensure!(
                found == length,
                "--tokens: a sequence of {length} is too long, {found} is not"
            );
            ids.extend_from_slice(encoding.get_ids());
            types.extend_from_slice(encoding.get_type_ids());
        }
        let tensor = |numbers| Tensor::from_vec(numbers, (batch, length), &Device::Cpu);
        Ok(Tokens { ids: tensor(ids)?, types: tensor(types)? })
    }

    /// What was measured: 2:4, dense, and candle if it was asked.
    fn row(&self, case: (usize, usize, usize), figures: &[Figures]) -> Result<Row> {
        let [packed, dense] = [&self.packed, &self.dense].map(Bert::weight_bytes);
        let embeddings = [&self.packed, &self.dense].map(Bert::embedding_bytes);
        let share = |packed: usize, dense: usize| packed as f64 / dense as f64;
        let shares = (share(packed, dense), share(packed + embeddings[0], dense + embeddings[1]));
        row(case, figures, shares, &self.kernel)
    }
}

fn row(
    (tokens, batch, threads): (usize, usize, usize),
    figures: &[Figures],
    (weights_share, model_share): (f64, f64),
    kernel: &str,
) -> Result<Row> {
    let [packed, dense, rest @ ..] = figures else { anyhow::bail!("nobody was timed") };
    let candle = rest.first();
    Ok(Row {
        shape: "minilm",
        tokens,
        batch,
        threads,
        dtype: Number::F32,
        pattern: "2:4",
        kernel: kernel.to_owned(),
        dense_best_name: "secateur_gemm_f32",
        speedup: dense.median / packed.median,
        speedup_at_min: dense.min / packed.min,
        speedup_candle: candle.map(|candle| candle.median / packed.median),
        speedup_candle_at_min: candle.map(|candle| candle.min / packed.min),
        weights_share,
        model_share,
        ms: (*packed).into(),
        dense_ms: (*dense).into(),
        candle_ms: candle.map(|candle| (*candle).into()),
    })
}

fn load(checkpoint: &Checkpoint, config: &BertConfig, dispatcher: &Dispatcher) -> Result<Bert> {
    let vb = VarBuilder::from_checkpoint(checkpoint, dispatcher, &Device::Cpu);
    Ok(Bert::load(&vb, config.clone())?)
}

fn two_of_four(weight: &Packed) -> Result<Packed> {
    let dense = weight.unpack();
    let scores: Vec<f32> = dense.to_f32()?.iter().map(|weight| weight.abs()).collect();
    let pattern = Pattern::TWO_OF_FOUR;
    let mask = pattern.select(Scores::new(scores, dense.shape())?, Sparsity::new(0.5)?)?;
    Ok(Packed::pack(&dense, &mask, pattern)?)
}

fn contender<'a>(name: &str, time: Timer<'a>) -> Contender<'a> {
    Contender { who: Who::dense(name, Number::F32, Limit::None), time }
}

fn ours<'a>(bert: &'a Bert, Tokens { ids, types }: &Tokens, pool: &'a ThreadPool) -> Timer<'a> {
    let (ids, types) = (ids.clone(), types.clone());
    Box::new(move |seconds| {
        let once = || bert.forward(&ids, &types, None).map(drop);
        Ok(pool.install(|| serve::time(once, seconds))?)
    })
}

/// Errors unless hidden states agree.
fn close(a: &Tensor, b: &Tensor, who: &str) -> Result<()> {
    let apart = (a - b)?.abs()?.to_dtype(DType::F64)?;
    // The largest passes over what is no number, the sum does not.
    let numbers = apart.sum_all()?.to_scalar::<f64>()?.is_finite();
    let apart = apart.max_all()?.to_scalar::<f64>()?;
    ensure!(numbers && apart <= CLOSE, "{who} differ by {apart:.1e}: nothing was timed");
    Ok(())
}

impl Row {
    /// The dense encoders of a row, as the key `dense` of products.
    fn dense(&self) -> Value {
        let Self { shape, tokens, batch, threads, dtype, .. } = self;
        let (ms, candle_ms, name) = (self.dense_ms, self.candle_ms, self.dense_best_name);
        json!({"shape": shape, "tokens": tokens, "batch": batch, "threads": threads, "dtype": dtype,
            "name": name, "ms": ms, "candle_ms": candle_ms})
    }
}

impl Answer {
    /// What people read.
    pub fn render(&self) -> String {
        const COLUMNS: [&str; 9] = [
            "batch x tokens",
            "threads",
            "2:4, ms",
            "dense, ms",
            "candle, ms",
            "speed-up",
            "at minima",
            "over candle",
            "at minima",
        ];
        let mut table = Table::new();
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(COLUMNS);
        let ms = |ms: Option<Ms>| ms.map_or("-".to_owned(), |ms| format!("{:.2}", ms.median));
        let times =
            |times: Option<f64>| times.map_or("-".to_owned(), |times| format!("{times:.2}x"));
        for row in &self.rows {
            table.add_row([
                format!("{} x {}", row.batch, row.tokens),
                row.threads.to_string(),
                ms(Some(row.ms)),
                ms(Some(row.dense_ms)),
                ms(row.candle_ms),
                times(Some(row.speedup)),
                times(Some(row.speedup_at_min)),
                times(row.speedup_candle),
                times(row.speedup_candle_at_min),
            ]);
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let Some(row) = self.rows.first() else { return table.to_string() };
        format!(
            "{table}\n\nall-MiniLM-L6-v2, f32, 2:4 by {}, dense by {}; medians of alternating rounds\n\
             in memory, 2:4 over dense: {:.3} of the encoder's matrices, {:.3} of the model",
            row.kernel, row.dense_best_name, row.weights_share, row.model_share
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_ups_are_over_dense_and_over_candle() {
        let figures = [1.0, 1.5, 4.0].map(|ms| Figures { median: ms / 1e3, min: ms / 2e3 });
        let found = row((16, 8, 1), &figures, (0.53, 0.75), "2:4 portable").unwrap();
        assert_eq!((found.tokens, found.batch, found.threads), (16, 8, 1));
        assert_eq!((found.speedup, found.speedup_candle), (1.5, Some(4.0)));
        assert_eq!((found.speedup_at_min, found.ms), (1.5, Ms { median: 1.0, min: 0.5 }));
        let alone = row((16, 8, 1), &figures[..2], (0.53, 0.75), "2:4 portable").unwrap();
        assert_eq!((alone.speedup, alone.speedup_candle), (1.5, None));
        assert!(row((16, 8, 1), &figures[..1], (0.5, 0.7), "").is_err());
    }

    #[test]
    fn hidden_states_that_differ_are_not_timed() {
        let tensor = |x: f32| Tensor::new(&[[1.0, x]], &Device::Cpu).unwrap();
        assert!(close(&tensor(2.0), &tensor(2.000_005), "both").is_ok());
        let error = close(&tensor(2.0), &tensor(2.001), "both").unwrap_err().to_string();
        assert!(error.contains("both differ by 1.0e-3"), "{error}");
        assert!(close(&tensor(2.0), &tensor(f32::NAN), "both").is_err());
    }
}
