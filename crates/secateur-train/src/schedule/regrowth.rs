//! How does a network of constant sparsity find better connections? It exchanges some while it trains.

use super::{Aim, Event, Every, Moment, Round, Schedule, check_share};
use crate::TrainError;
use secateur_mask::Sparsity;
use serde::{Deserialize, Serialize};

/// One round at constant sparsity: cut at its first step, then, every so often, the weakest connections of
/// each layer give way to as many new ones.
///
/// The share exchanged falls along half a cosine to nothing: `share / 2 · (1 + cos(π t / T))`
/// (Evci et al. 2020, "Rigging the Lottery", section 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConstantWithRegrowth {
    /// The sparsity, from the first step to the last.
    pub sparsity: Sparsity,
    /// How often connections are exchanged.
    pub every: Every,
    /// The share of the kept weights that is exchanged at first; 0.3 in the paper.
    pub share: f64,
    /// `T`, where it ends, as a share of the round; 0.75 in the paper.
    pub until: f64,
    /// Which connections come.
    pub regrow: Regrow,
}

/// Which of the weights that are cut come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Regrow {
    /// Those whose gradients are largest (RigL, Evci et al. 2020).
    #[default]
    Gradient,
    /// Any (SET, Mocanu et al. 2018).
    Random,
}

impl ConstantWithRegrowth {
    /// RigL with the paper's constants. Errors as [`Self::check`] does.
    pub fn new(sparsity: Sparsity, every: Every) -> Result<Self, TrainError> {
        let schedule = Self { sparsity, every, share: 0.3, until: 0.75, regrow: Regrow::default() };
        schedule.check().map(|()| schedule)
    }

    /// Errors unless both shares are shares.
    pub fn check(&self) -> Result<(), TrainError> {
        check_share("the share of weights exchanged", self.share)?;
        check_share("where regrowth ends", self.until)
    }
}

impl Schedule for ConstantWithRegrowth {
    fn next(&self, done: &[Round]) -> Option<Aim> {
        (done.len() == 1).then_some(Aim { sparsity: self.sparsity, from: 0 })
    }

    fn rounds(&self) -> Option<usize> {
        Some(1)
    }

    fn event(&self, aim: Sparsity, moment: Moment) -> Option<Event> {
        if moment.step == 0 {
            return Some(Event::Prune(aim));
        }
        let end = (self.until * moment.steps as f64) as usize;
        if moment.step >= end || !moment.step.is_multiple_of(self.every.steps(moment.epoch)) {
            return None;
        }
        let done = moment.step as f64 / end as f64;
        let exchanged = self.share / 2.0 * (1.0 + (std::f64::consts::PI * done).cos());
        Some(Event::Exchange { exchanged, regrow: self.regrow })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_exchanged_falls_along_a_cosine() {
        let sparsity = Sparsity::new(0.9).unwrap();
        let schedule = ConstantWithRegrowth::new(sparsity, Every::Steps(10)).unwrap();
        let event = |step| schedule.event(sparsity, Moment { step, steps: 80, epoch: 10 });
        assert_eq!(event(0), Some(Event::Prune(sparsity)));
        assert_eq!((event(5), event(60), event(70)), (None, None, None));
        let Some(Event::Exchange { exchanged, .. }) = event(30) else { panic!("no exchange") };
        assert!((exchanged - 0.15).abs() < 1e-12);
        assert!(ConstantWithRegrowth { share: 1.5, ..schedule }.check().is_err());
    }
}
