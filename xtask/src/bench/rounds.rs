//! How are figures made that a noisy machine does not spoil? In rounds: everybody once, then everybody
//! again, so that a slow minute is slow for all; medians and minima over the rounds.

use super::{
    contenders::{Contender, Who},
    rows::{Dense, Figures, Measured},
};
use anyhow::{Context, Result};

/// A contender is timed at least so long in each round, after a call to warm up.
pub const SECONDS: f64 = 0.005;

/// Times everybody in turns. `after_round` hears of every round.
pub fn alternate(
    mut contenders: Vec<Contender<'_>>,
    rounds: usize,
    mut after_round: impl FnMut(),
) -> Result<(Vec<Dense>, Vec<Measured>)> {
    let mut seconds = vec![Vec::with_capacity(rounds); contenders.len()];
    for _ in 0..rounds {
        for (contender, seconds) in contenders.iter_mut().zip(&mut seconds) {
            let said = || match &contender.who {
                Who::Dense(dense) => format!("cannot time {}", dense.name),
                Who::Sparse(sparse) => format!("cannot time {}", sparse.kernel),
            };
            seconds.push((contender.time)(SECONDS).with_context(said)?);
        }
        after_round();
    }
    let (mut dense, mut sparse) = (Vec::new(), Vec::new());
    for (contender, seconds) in contenders.into_iter().zip(seconds) {
        let figures = Figures::of(seconds);
        match contender.who {
            Who::Dense(known) => dense.push(Dense { figures, ..known }),
            Who::Sparse(known) => sparse.push(Measured { figures, ..known }),
        }
    }
    Ok((dense, sparse))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{cases::Number, rows::Limit};
    use std::cell::RefCell;

    #[test]
    fn everybody_has_a_turn_before_anybody_has_another() {
        let turns = RefCell::new(String::new());
        let contender = |name: &'static str| {
            let turns = &turns;
            let time = move |_| {
                turns.borrow_mut().push_str(name);
                Ok(turns.borrow().len() as f64)
            };
            let who = Who::dense(name, Number::F32, Limit::None);
            Contender { who, time: Box::new(time) }
        };
        let mut heard = 0;
        let all = vec![contender("a"), contender("b")];
        let (dense, sparse) = alternate(all, 3, || heard += 1).unwrap();
        assert_eq!((&turns.borrow()[..], heard, sparse.len()), ("ababab", 3, 0));
        assert_eq!(dense[0].figures, Figures { median: 3.0, min: 1.0 });
        assert_eq!(dense[1].figures, Figures { median: 4.0, min: 2.0 });
    }
}
