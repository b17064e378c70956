//! How is a network trained, dense or masked, without anything around it? One call.

use crate::{
    Evaluation, Observer, Split, TrainError, Training,
    session::{Session, Task},
};
use secateur_mask::Mask;
use secateur_nn::Network;
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

/// Trains `network` and leaves it with the weights of the evaluation that did best on `split.validation`.
///
/// Shuffling and dropout are drawn from the seed and the name. Test samples are not touched. Returns
/// what the best evaluation gave.
pub fn fit<N: Network + ?Sized>(
    network: &mut N,
    split: &Split,
    stretch: &Stretch<'_>,
    observer: &mut dyn Observer,
) -> Result<Evaluation, TrainError> {
    let mut session = Session::new(network, split, *stretch, Task::default())?;
    session.announce(observer);
    while session.advance(network, split, observer)? {}
    Ok(session.finish(network)?.0)
}
