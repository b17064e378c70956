//! What does a run come to? The five questions of whoever deploys a model, dense beside pruned.

use crate::measure::Latency;
use secateur::train::{Proof, Round, data::Normalisation};
use serde::Serialize;
use std::collections::BTreeMap;

/// `report.json`. Latencies and resident memory are measured; everything else is the same for the
/// same seed.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The recipe's name.
    pub recipe: String,
    /// The seed used.
    pub seed: u64,
    /// The data set's name.
    pub data: String,
    /// Samples that neither training nor any choice has seen; both networks are judged by them.
    pub test_samples: usize,
    /// How inputs are normalised.
    pub normalisation: Normalisation,
    /// Samples in the large batch.
    pub batch_large: usize,
    /// The dense network, its latencies the better of candle's layers and the `gemm` crate.
    pub dense: Side,
    /// The dense network's latencies on candle's layers as they are.
    pub candle_latency_ms: Latency,
    /// The pruned network, packed.
    pub pruned: Pruned,
    /// The smaller dense network, where whole units were pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shrunk: Option<Shrunk>,
    /// That packing changed nothing.
    pub proof: Proof,
    /// What every stretch of training came to on validation samples, the dense one first.
    pub rounds: Vec<Round>,
    /// Which of them is the pruned network.
    pub chosen: usize,
    /// Seconds that this process took for training, pruning, packing and judging.
    pub seconds: f64,
    /// The machine and this program, by name.
    pub environment: BTreeMap<String, String>,
}

/// One network.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Side {
    /// Share of test samples classified rightly.
    pub accuracy: f64,
    /// Share classified wrongly.
    pub error: f64,
    /// Weights and biases, cut or not.
    pub parameters: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of weights in memory, in the layouts that run.
    pub weight_bytes: usize,
    /// Milliseconds for a forward pass.
    pub latency_ms: Latency,
    /// Resident bytes of a process that runs it on one thread.
    pub rss_bytes: u64,
}

/// The pruned network.
#[derive(Debug, Clone, Serialize)]
pub struct Pruned {
    /// What the dense one has too.
    #[serde(flatten)]
    pub side: Side,
    /// Parameters that are not zero.
    pub nonzero: usize,
    /// Parameters over non-zero parameters.
    pub compression: f64,
    /// The pattern.
    pub pattern: String,
    /// Whether every layer of the written file was proved to have the pattern, and the packed network
    /// to compute what the masked one does.
    pub verified: bool,
    /// The kernels that run a large batch.
    pub kernel: String,
}

/// The network without the units that were pruned, dense.
#[derive(Debug, Clone, Serialize)]
pub struct Shrunk {
    /// Weights and biases.
    pub parameters: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// Milliseconds for a forward pass.
    pub latency_ms: Timed,
    /// That it computes what the pruned network does, on validation samples.
    pub proof: Proof,
}

/// Two latencies on the same kernels, taken in turns.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Timed {
    /// The dense network's.
    pub dense: Latency,
    /// The smaller one's.
    pub shrunk: Latency,
}
