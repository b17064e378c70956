//! What is a network that lost whole units? A smaller dense one: compared with the pruned one, and timed.

use super::folder::{PRUNED, SHRUNK};
use crate::{
    measure,
    report::{Shrunk, Timed},
};
use anyhow::Result;
use secateur::{
    nn::count_parameters,
    train::{Proof, Samples, logits},
};
use std::{fs, path::Path};

/// Judges the smaller network as it comes out of its file, if the run wrote one: against the pruned one's
/// outputs for `samples`, and against the dense one's latency.
pub fn report(out: &Path, dense: &Path, samples: &Samples) -> Result<Option<Shrunk>> {
    let file = out.join(SHRUNK);
    if !file.exists() {
        return Ok(None);
    }
    let (dense, shrunk) = (measure::load_on_gemm(dense)?, measure::load_on_gemm(&file)?);
    let pruned = measure::load_on_gemm(&out.join(PRUNED))?;
    let proof = Proof::of(&logits(&shrunk, samples)?, &logits(&pruned, samples)?)?;
    let [before, after] = measure::latencies([&*dense, &*shrunk], samples.xs())?;
    Ok(Some(Shrunk {
        parameters: count_parameters(&shrunk),
        bytes: fs::metadata(&file)?.len(),
        latency_ms: Timed { dense: before, shrunk: after },
        proof,
    }))
}

/// The largest difference that taking units out may make, relative to a sample's largest logit: a constant is
/// added to the next layer's bias in f32, once for each layer, and sums come in another order.
const TOLERANCE: f64 = 1e-4;

/// Whether the smaller network computes what the pruned one does. A prediction may differ where two classes
/// are as likely as makes no difference; that is reported, too.
pub fn holds(shrunk: &Shrunk) -> bool {
    shrunk.proof.difference <= TOLERANCE
}
