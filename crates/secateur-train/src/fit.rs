//! How does a network learn, dense or masked? One loop, early stopping on validation samples.

use crate::{
    Epoch, Evaluation, Masked, Observer, Optimizer, Phase, Split, TrainError, Training, evaluate,
    training::Distillation,
};
use candle_core::{D, Tensor};
use candle_nn::{
    loss::cross_entropy,
    ops::{log_softmax, softmax},
};
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
    /// A teacher's logits `[training samples, classes]`, for [`Training::distillation`].
    pub teacher: Option<&'a Tensor>,
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
    let Stretch { name, training, masks, seed, .. } = *stretch;
    training.check()?;
    let sparsity = sparsity(masks);
    let parameters = network.parameters();
    let mut optimizer = Masked::new(training.optimizer(parameters.clone())?, masks)?;
    let mut dropout = Dropout::new(training.dropout * (1.0 - sparsity).sqrt(), seed, name);
    let mut order: Vec<u32> = (0..split.train.len() as u32).collect();
    let steps = order.len().div_ceil(training.batch_size);
    observer.phase(&Phase { name: name.to_owned(), sparsity, epochs: training.epochs, steps });

    let mut best: Option<(usize, Evaluation, Vec<Tensor>)> = None;
    for epoch in 0..training.epochs {
        order.shuffle(&mut seed::stream(seed, &format!("shuffle/{name}/{epoch}")));
        let mut total = 0.0;
        for (step, indices) in order.chunks(training.batch_size).enumerate() {
            let rate = training.rate(epoch * steps + step, training.epochs * steps);
            optimizer.set_learning_rate(rate);
            let batch = split.train.take(indices)?;
            let logits = network.forward_train(batch.xs(), &mut dropout)?;
            let loss = stretch.loss(&logits, batch.ys(), indices)?;
            optimizer.step(&loss.backward()?)?;
            total += f64::from(loss.to_scalar::<f32>()?) * indices.len() as f64;
            observer.step();
        }
        let train_loss = total / order.len() as f64;
        if !train_loss.is_finite() {
            let phase = name.to_owned();
            return Err(TrainError::Diverged { loss: train_loss, phase, epoch: epoch + 1 });
        }
        let found = evaluate(network, &split.validation)?;
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
    for (parameter, best) in parameters.values().zip(&weights) {
        parameter.set(best)?;
    }
    Ok(evaluation)
}

impl Stretch<'_> {
    /// The loss of a batch: cross-entropy with the labels, and with the teacher where there is one.
    fn loss(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        indices: &[u32],
    ) -> Result<Tensor, TrainError> {
        let hard = cross_entropy(logits, labels)?;
        let (Some(Distillation { weight, temperature }), Some(teacher)) =
            (self.training.distillation, self.teacher)
        else {
            return Ok(hard);
        };
        let teacher = teacher.index_select(&Tensor::new(indices, teacher.device())?, 0)?;
        let targets = softmax(&(teacher / temperature)?, D::Minus1)?.detach();
        let student = log_softmax(&(logits / temperature)?, D::Minus1)?;
        let soft = (targets * student)?.sum(D::Minus1)?.mean_all()?.neg()?;
        let soft_share = weight * temperature * temperature;
        Ok(((hard * (1.0 - weight))? + (soft * soft_share)?)?)
    }
}

/// The share of masked entries that are cut; 0 without masks.
fn sparsity(masks: &BTreeMap<String, Mask>) -> f64 {
    let (total, kept) = masks
        .values()
        .fold((0, 0), |(total, kept), mask| (total + mask.len(), kept + mask.count_kept()));
    if total == 0 { 0.0 } else { (total - kept) as f64 / total as f64 }
}

/// Copies that later steps do not change.
fn snapshot(parameters: &BTreeMap<String, candle_core::Var>) -> Result<Vec<Tensor>, TrainError> {
    let copies = parameters.values().map(|parameter| parameter.copy().map(|copy| copy.detach()));
    Ok(copies.collect::<candle_core::Result<_>>()?)
}
