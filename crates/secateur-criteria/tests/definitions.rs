//! Is each criterion what its paper defines? Held against `reference`, which was written from the
//! papers alone.
//!
//! Masks have to be identical: every random layer here has scores that are distinct, which is checked
//! before anything is compared.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod reference;

#[path = "definitions/fisher.rs"]
mod fisher;
#[path = "definitions/flow.rs"]
mod flow;
#[path = "definitions/gradients.rs"]
mod gradients;
#[path = "definitions/inputs.rs"]
mod inputs;
#[path = "definitions/least_squares.rs"]
mod least_squares;
#[path = "definitions/refusals.rs"]
mod refusals;
#[path = "definitions/sparsegpt.rs"]
mod sparsegpt;
#[path = "definitions/weights.rs"]
mod weights;

use candle_core::{DType, Device, Tensor};
use reference::{Matrix, choose::Choice};
use secateur_criteria::{Criterion, Cut, Gram, InputNorms, Layer, Statistics};
use secateur_mask::{Mask, Pattern, Sparsity};

/// Scores closer than this, relatively, may be ranked either way: the crate ranks them in f32.
const DISTINCT: f64 = 1e-6;

/// Rows as an f32 tensor.
fn tensor(a: &Matrix) -> Tensor {
    Tensor::new(a.clone(), &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap()
}

/// Every value, row-major.
fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// What was observed of a layer with the inputs `x`, shown in two batches of unequal sequences.
fn observed(x: &Matrix) -> Statistics {
    let (features, half) = (x[0].len(), x.len() / 3 * 2);
    let batches = [
        tensor(&x[..half].to_vec()).reshape((2, half / 2, features)).unwrap(),
        tensor(&x[half..].to_vec()),
    ];
    let (mut gram, mut norms) = (Gram::new(features), InputNorms::new(features));
    for batch in &batches {
        gram.update(batch).unwrap();
        norms.update(batch).unwrap();
    }
    Statistics { gram: Some(gram), input_norms: Some(norms), ..Statistics::default() }
}

/// `criterion` cuts `share` of one layer; a pattern with a sparsity of its own takes that.
fn cut(
    criterion: &dyn Criterion,
    weight: &Tensor,
    statistics: &Statistics,
    pattern: &str,
    share: f64,
) -> Cut {
    let pattern: Pattern = pattern.parse().unwrap();
    let amount = pattern.fixed_sparsity().unwrap_or(Sparsity::new(share).unwrap());
    let layer = Layer::new("layer", weight).with_statistics(Some(statistics));
    criterion.prune(&layer, pattern, amount).unwrap()
}

/// The survivors' values, zeros elsewhere.
fn repaired(cut: &Cut, before: &Tensor) -> Vec<f64> {
    let mut values = values(cut.weight.as_ref().unwrap_or(before));
    for (value, kept) in values.iter_mut().zip(cut.mask.iter()) {
        if !kept {
            *value = 0.0;
        }
    }
    values
}

/// Fails unless the mask is the choice, entry by entry.
fn agrees(what: &str, mask: &Mask, choice: &Choice) {
    assert!(choice.gap > DISTINCT, "{what}: scores {} apart; take another seed", choice.gap);
    let found = mask.to_bools();
    assert_eq!(found.len(), choice.kept.len(), "{what}");
    let differ = (0..found.len()).filter(|&i| found[i] != choice.kept[i]).count();
    assert_eq!(differ, 0, "{what}: {differ} of {} entries differ", found.len());
}

/// Fails unless all values are equal to within `tolerance` of the largest expected.
fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(0.0, |size: f64, value| size.max(value.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (found - expected).abs() / size;
        assert!(apart <= tolerance, "{what}: entry {i} is {found}, not {expected}");
    }
}
