//! How is a network cut while it trains? Fast at first, slower and slower (Zhu & Gupta 2017).

use super::{Aim, Event, Every, Moment, Round, Schedule, check_share};
use crate::TrainError;
use secateur_mask::Sparsity;

/// One round in which sparsity grows along a cubic:
/// `s_t = s_f + (s_i − s_f)(1 − (t − t₀) / (n Δt))³` (Zhu & Gupta 2017, section 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gradual {
    /// `s_f`, the sparsity that is reached.
    pub target: Sparsity,
    /// `s_i`, the sparsity at the first step.
    pub initial: Sparsity,
    /// `Δt`: how often is cut.
    pub every: Every,
    /// `t₀`, where cutting begins, as a share of the round.
    pub begin: f64,
    /// `t₀ + n Δt`, where the target is reached, as a share of the round.
    pub end: f64,
}

impl Gradual {
    /// From dense to `target`, cut every so often, over the first three quarters of the round. Errors as
    /// [`Self::check`] does.
    pub fn new(target: Sparsity, every: Every) -> Result<Self, TrainError> {
        let schedule = Self { target, initial: Sparsity::DENSE, every, begin: 0.0, end: 0.75 };
        schedule.check().map(|()| schedule)
    }

    /// Errors unless begin and end are shares in this order, and sparsity grows.
    pub fn check(&self) -> Result<(), TrainError> {
        check_share("where gradual pruning begins", self.begin)?;
        check_share("where gradual pruning ends", self.end)?;
        let refuse = |what, value, must| Err(TrainError::Setting { what, value, must });
        if self.begin > self.end {
            return refuse("where gradual pruning ends", self.end.to_string(), "after its begin");
        }
        if self.initial > self.target {
            let value = self.initial.to_string();
            return refuse("the initial sparsity", value, "at most the target");
        }
        Ok(())
    }
}

impl Schedule for Gradual {
    fn next(&self, done: &[Round]) -> Option<Aim> {
        (done.len() == 1).then_some(Aim { sparsity: self.target, from: 0 })
    }

    fn rounds(&self) -> Option<usize> {
        Some(1)
    }

    fn event(&self, aim: Sparsity, moment: Moment) -> Option<Event> {
        let at = |share: f64| (share * moment.steps as f64) as usize;
        // The target is reached before the round ends, however short it is.
        let begin = at(self.begin).min(moment.steps.saturating_sub(1));
        let every = self.every.steps(moment.epoch);
        let cuts = at(self.end).min(moment.steps.saturating_sub(1)).saturating_sub(begin) / every;
        let since = moment.step.checked_sub(begin)?;
        if !since.is_multiple_of(every) || since / every > cuts {
            return None;
        }
        if since / every == cuts {
            return Some(Event::Prune(aim));
        }
        let left = 1.0 - (since / every) as f64 / cuts as f64;
        let (first, last) = (self.initial.share(), aim.share());
        let sparsity = last + (first - last) * left.powi(3);
        Sparsity::new(sparsity.clamp(0.0, 1.0)).ok().map(Event::Prune)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(schedule: &Gradual, steps: usize) -> Vec<(usize, f64)> {
        let moment = |step| Moment { step, steps, epoch: 10 };
        let event = |step| match schedule.event(schedule.target, moment(step))? {
            Event::Prune(sparsity) => Some((step, sparsity.share())),
            Event::Exchange { .. } => None,
        };
        (0..steps).filter_map(event).collect()
    }

    #[test]
    fn sparsity_follows_the_cubic_and_ends_on_the_target() {
        let target = Sparsity::new(0.8).unwrap();
        let schedule =
            Gradual { begin: 0.1, end: 0.5, ..Gradual::new(target, Every::Steps(10)).unwrap() };
        let cuts = cuts(&schedule, 100);
        let expected = [(10, 0.0), (20, 0.4625), (30, 0.7), (40, 0.7875), (50, 0.8)];
        assert_eq!(cuts.len(), expected.len());
        for ((step, sparsity), (at, of)) in cuts.into_iter().zip(expected) {
            assert!(step == at && (sparsity - of).abs() < 1e-12, "{step} {sparsity}");
        }
    }

    #[test]
    fn epochs_are_steps_too_and_a_short_round_still_reaches_the_target() {
        let target = Sparsity::new(0.8).unwrap();
        let schedule = Gradual::new(target, Every::Epochs(1)).unwrap();
        let steps: Vec<usize> = cuts(&schedule, 40).into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [0, 10, 20, 30]);
        assert_eq!(cuts(&schedule, 1), [(0, 0.8)]);
        let late = Gradual { begin: 1.0, end: 1.0, ..schedule };
        assert_eq!(cuts(&late, 7), [(6, 0.8)]);
        assert!(Gradual { begin: 0.9, end: 0.5, ..schedule }.check().is_err());
        assert!(Gradual { initial: Sparsity::new(0.9).unwrap(), ..schedule }.check().is_err());
        assert!(Gradual { end: f64::NAN, ..schedule }.check().is_err());
    }
}
