//! How does a network learn, dense or masked? One loop, early stopping on validation samples.

use crate::{
    Epoch, Evaluation, Masked, Observer, Optimizer, Phase, Split, TrainError, Training,
    allocator::keep_what_steps_free, evaluate,
};
use candle_core::{Tensor, Var};
use candle_nn::loss::cross_entropy;
use rand::seq::SliceRandom;
use secateur_criteria::seed;
use secateur_mask::Mask;
use secateur_nn::{Dropout, Network};
use std::collections::BTreeMap;

/// One stretch of training: what [`fit`] does to a network.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a> {
    /// `dense`, `retrain 1/6`, …: names the random streams and the metrics.
    pub name: &'a str,
    /// The settings.
    pub training: &'a Training,
    /// The masks that hold meanwhile, by parameter name; none for a dense network.
    pub masks: &'a BTreeMap<String, Mask>,
    /// Where all random numbers come from.
    pub seed: u64,
}

/// Trains `network` and leaves it with the weights of the epoch that did best on `split.validation`.
///
/// Shuffling and dropout are drawn from the seed and the name. Test samples are not touched. Returns
/// what the best epoch gave.
pub fn fit<N: Network + ?Sized>(
    network: &N,
    split: &Split,
    stretch: &Stretch<'_>,
    observer: &mut dyn Observer,
) -> Result<Evaluation, TrainError> {
    let Stretch { name, training, masks, seed } = *stretch;
    training.check()?;
    keep_what_steps_free();
    let sparsity = sparsity(masks);
    let parameters = network.parameters();
    let mut optimizer = Masked::new(training.optimizer(parameters.clone())?, masks)?;
    let mut dropout = Dropout::new(training.dropout * (1.0 - sparsity).sqrt(), seed, name);
    let mut input_dropout = Dropout::new(training.input_dropout, seed, &format!("{name}/inputs"));
    let mut order: Vec<u32> = (0..split.train.len() as u32).collect();
    let steps = order.len().div_ceil(training.batch_size);
    observer.phase(&Phase { name: name.to_owned(), sparsity, epochs: training.epochs, steps });

    let mut best: Option<(usize, Evaluation, Vec<Tensor>)> = None;
    for epoch in 0..training.epochs {
        order.shuffle(&mut seed::stream(seed, &format!("shuffle/{name}/{epoch}")));
        let mut total = 0.0;
        for (step, indices) in order.chunks(training.batch_size).enumerate() {
            let rate = training.rate(epoch * steps + step, training.epochs.saturating_mul(steps));
            optimizer.set_learning_rate(rate);
            let batch = split.train.take(indices)?;
            input_dropout.at((epoch * steps + step) as u64);
            dropout.at((epoch * steps + step) as u64);
            let xs = input_dropout.forward(batch.xs())?;
            let logits = network.forward_train(&xs, &mut dropout)?;
            let loss = cross_entropy(&logits, batch.ys())?;
            optimizer.step(&loss.backward()?)?;
            total += f64::from(loss.to_scalar::<f32>()?) * indices.len() as f64;
            observer.step();
        }
        let train_loss = total / order.len() as f64;
        let found = evaluate(network, &split.validation)?;
        if let Some(loss) = [train_loss, found.loss].into_iter().find(|loss| !loss.is_finite()) {
            if let Some((.., weights)) = &best {
                restore(&parameters, weights)?;
            }
            return Err(TrainError::Diverged { loss, phase: name.to_owned(), epoch: epoch + 1 });
        }
        let is_best = best.as_ref().is_none_or(|(_, before, _)| found.beats(before));
        if is_best {
            best = Some((epoch, found, snapshot(&parameters)?));
        }
        observer.epoch(&Epoch {
            phase: name.to_owned(),
            epoch: epoch + 1,
            sparsity,
            learning_rate: optimizer.learning_rate(),
            train_loss,
            validation_loss: found.loss,
            validation_accuracy: found.accuracy,
            best: is_best,
        });
        let since_best = best.as_ref().map_or(0, |(at, ..)| epoch - at);
        if training.patience.is_some_and(|patience| since_best >= patience) {
            break;
        }
    }
    let (_, evaluation, weights) = best.ok_or(TrainError::Setting {
        what: "epochs",
        value: "0".to_owned(),
        must: "at least 1",
    })?;
    restore(&parameters, &weights)?;
    Ok(evaluation)
}

/// The share of masked entries that are cut; 0 without masks.
fn sparsity(masks: &BTreeMap<String, Mask>) -> f64 {
    let (total, kept) = masks
        .values()
        .fold((0, 0), |(total, kept), mask| (total + mask.len(), kept + mask.count_kept()));
    if total == 0 { 0.0 } else { (total - kept) as f64 / total as f64 }
}

/// Copies that later steps do not change.
fn snapshot(parameters: &BTreeMap<String, Var>) -> Result<Vec<Tensor>, TrainError> {
    let copies = parameters.values().map(|parameter| parameter.copy().map(|copy| copy.detach()));
    Ok(copies.collect::<candle_core::Result<_>>()?)
}

fn restore(parameters: &BTreeMap<String, Var>, weights: &[Tensor]) -> Result<(), TrainError> {
    for (parameter, weight) in parameters.values().zip(weights) {
        parameter.set(weight)?;
    }
    Ok(())
}
