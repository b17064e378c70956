//! How is a network trained, dense or masked, without anything around it? One call.

use crate::{
    Evaluation, Observer, Split, TrainError, Training,
    rewind::{snapshot, state},
    session::{Session, Task},
};
use candle_core::Tensor;
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

/// What a stretch of training came to, at its best evaluation and at its end.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The best evaluation on validation samples; the network has its weights.
    pub best: Evaluation,
    /// Steps done at that evaluation: with [`BestBy::Loss`](crate::BestBy::Loss), the early-stopping iteration
    /// (Frankle & Carbin 2019, section 2).
    pub best_step: usize,
    /// Parameters and buffers after the last step, by name, f32 in the network's shapes.
    pub last: BTreeMap<String, Tensor>,
}

/// Trains `network` as [`fit`] does, but for `steps` steps, whatever the number of epochs says, and hands
/// out the weights of the last step besides those of the best evaluation.
///
/// The last step is followed by an evaluation, even if none is due. Papers that count iterations, and
/// methods that prune the weights of the last one, need this. Errors as [`fit`] does, and on no steps.
///
/// ```
/// use secateur_train::{BestBy, Every, Stretch, Training, data::digits, fit_steps};
/// # use candle_core::Device;
/// # use secateur_nn::Mlp;
/// # use std::collections::BTreeMap;
/// let split = digits(&Device::Cpu)?.split(200, 1)?;
/// let mut network = Mlp::digits(1, &Device::Cpu)?;
/// let (evaluate, best_by) = (Every::Steps(10), BestBy::Loss);
/// let training = Training { evaluate, best_by, ..Training::adam(1, 60, 1.2e-3) };
/// let stretch = Stretch { name: "dense", training: &training, masks: &BTreeMap::new(), seed: 1 };
/// let fitted = fit_steps(&mut network, &split, &stretch, 45, &mut ())?;
/// assert!(fitted.best_step <= 45 && fitted.last.contains_key("fc1.weight"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn fit_steps<N: Network + ?Sized>(
    network: &mut N,
    split: &Split,
    stretch: &Stretch<'_>,
    steps: usize,
    observer: &mut dyn Observer,
) -> Result<Fitted, TrainError> {
    let mut session = Session::new(network, split, *stretch, Task::default())?;
    session.take_steps(steps);
    session.announce(observer);
    while session.advance(network, split, observer)? {}
    let (best_step, last) = (session.best_step(), snapshot(&state(network))?);
    let (best, _) = session.finish(network)?;
    Ok(Fitted { best, best_step, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BestBy, Epoch, Every, data::digits, evaluate};
    use candle_core::Device;
    use secateur_nn::Mlp;

    /// What was seen on the way.
    #[derive(Default)]
    struct Seen(Vec<Epoch>);

    impl Observer for Seen {
        fn epoch(&mut self, epoch: &Epoch) {
            self.0.push(epoch.clone());
        }
    }

    #[test]
    fn the_network_has_the_best_weights_and_the_last_are_handed_out() {
        let split = digits(&Device::Cpu).unwrap().split(200, 1).unwrap();
        let mut network = Mlp::digits(1, &Device::Cpu).unwrap();
        // A rate so high that the best comes early: 1238 samples are 21 steps an epoch.
        let (evaluate_every, best_by) = (Every::Steps(10), BestBy::Loss);
        let training =
            Training { evaluate: evaluate_every, best_by, ..Training::adam(1, 60, 0.05) };
        let masks = BTreeMap::new();
        let stretch = Stretch { name: "dense", training: &training, masks: &masks, seed: 1 };
        let mut seen = Seen::default();
        let fitted = fit_steps(&mut network, &split, &stretch, 175, &mut seen).unwrap();

        let steps: Vec<usize> = seen.0.iter().map(|epoch| epoch.step).collect();
        assert_eq!(steps.len(), 18);
        assert_eq!(steps[16..], [170, 175]);
        let by_loss = |a: &&Epoch, b: &&Epoch| a.validation_loss.total_cmp(&b.validation_loss);
        let best = seen.0.iter().min_by(by_loss).unwrap();
        assert_eq!(fitted.best_step, best.step);
        assert!(best.step < 175, "the best came last: this test sees nothing");
        assert_eq!(evaluate(&network, &split.validation).unwrap(), fitted.best);
        assert_eq!(fitted.best.loss, best.validation_loss);
        crate::rewind::restore(&state(&network), &fitted.last).unwrap();
        let last = evaluate(&network, &split.validation).unwrap();
        assert_eq!(last.loss, seen.0[17].validation_loss);
        assert!(fit_steps(&mut network, &split, &stretch, 0, &mut ()).is_err());
    }
}
