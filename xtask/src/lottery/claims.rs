//! Which of the published claims hold here? Each is one number a seed, and a side of it that is wrong.

use super::{
    seed::{Kind, Trained},
    student::Estimate,
};
use anyhow::{Context, Result};
use serde::Serialize;

/// What is equal: 20 of 10 000 test images, the standard error of the difference of two accuracies of 98 %
/// on so many.
pub const MARGIN: f64 = 0.2;

/// A claim and what was found of it.
#[derive(Debug, Serialize)]
pub struct Claim {
    pub claim: &'static str,
    /// In words: what is compared.
    pub measure: &'static str,
    /// Of all numbers here.
    pub unit: &'static str,
    /// By Frankle & Carbin (2019).
    pub published: &'static str,
    /// By others, on five seeds.
    pub reproduced: &'static str,
    pub expected: Expected,
    /// One a seed, in the order of the seeds.
    pub values: Vec<f64>,
    pub found: Estimate,
    pub verdict: Verdict,
}

impl Claim {
    /// What it says, what others found, and what was found here: a row of a table.
    pub fn cells(&self) -> [String; 6] {
        let show = |value: f64| match self.unit {
            "x" => format!("{value:.2}x"),
            "%" => format!("{value:+.0} %"),
            unit => format!("{value:+.2} {unit}"),
        };
        let interval = self.found.interval.map_or("(one seed)".to_owned(), |(low, high)| {
            format!("{} to {}", show(low), show(high))
        });
        [
            self.claim.to_owned(),
            self.published.to_owned(),
            self.reproduced.to_owned(),
            show(self.found.mean),
            interval,
            self.verdict.word().to_owned(),
        ]
    }
}

/// What the mean must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// Larger than this.
    Above(f64),
    /// Between minus this and this.
    Within(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The whole interval lies on the right side.
    Holds,
    /// The whole interval lies on the wrong side.
    Fails,
    /// It lies on both, or there is none: more seeds would tell.
    Open,
}

impl Verdict {
    pub fn of(found: Estimate, expected: Expected) -> Self {
        let Some((low, high)) = found.interval else { return Self::Open };
        let (right, wrong) = match expected {
            Expected::Above(bound) => (low > bound, high <= bound),
            Expected::Within(margin) => {
                (low >= -margin && high <= margin, low > margin || high < -margin)
            }
        };
        match (right, wrong) {
            (true, _) => Self::Holds,
            (_, true) => Self::Fails,
            _ => Self::Open,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Open => "open",
        }
    }
}

type Measure = fn(&Seed<'_>) -> Option<f64>;

/// All claims over `seeds`, each with all of its trainings.
pub fn judge(seeds: &[&[Trained]]) -> Result<Vec<Claim>> {
    let claim = |claim,
                 (measure, unit),
                 published,
                 reproduced,
                 expected,
                 of: Measure|
     -> Result<Claim> {
        let values: Option<Vec<f64>> = seeds.iter().map(|trained| of(&Seed(trained))).collect();
        let values = values.context("a training that a claim needs is missing")?;
        let found = Estimate::of(&values).context("no seed was trained")?;
        let verdict = Verdict::of(found, expected);
        Ok(Claim { claim, measure, unit, published, reproduced, expected, values, found, verdict })
    };
    Ok(vec![
        claim(
            "at 21.1 % the ticket stops earlier than dense",
            ("share of the dense early-stopping iteration saved", "%"),
            "+38 %",
            "+21 %",
            Expected::Above(0.0),
            |seed| Some(100.0 * (1.0 - seed.stop(Kind::Ticket, 7)? / seed.stop(Kind::Ticket, 0)?)),
        )?,
        claim(
            "at 13.5 % the ticket is more accurate than dense",
            ("difference of test accuracies", "pp"),
            "+0.3 pp",
            "+0.21 pp",
            Expected::Above(0.0),
            |seed| Some(seed.accuracy(Kind::Ticket, 9)? - seed.accuracy(Kind::Ticket, 0)?),
        )?,
        claim(
            "at 3.6 % the ticket is as accurate as dense",
            ("difference of test accuracies", "pp"),
            "0 pp",
            "+0.11 pp",
            Expected::Within(MARGIN),
            |seed| Some(seed.accuracy(Kind::Ticket, 15)? - seed.accuracy(Kind::Ticket, 0)?),
        )?,
        claim(
            "at 21.1 % the ticket stops earlier than re-initialised",
            ("early-stopping iteration of the control over the ticket's", "x"),
            "2.51x",
            "1.94x",
            Expected::Above(1.0),
            |seed| Some(seed.stop(Kind::Control, 7)? / seed.stop(Kind::Ticket, 7)?),
        )?,
        claim(
            "at 21.1 % the ticket is more accurate than re-initialised",
            ("difference of test accuracies", "pp"),
            "+0.5 pp",
            "+0.39 pp",
            Expected::Above(0.0),
            |seed| Some(seed.accuracy(Kind::Ticket, 7)? - seed.accuracy(Kind::Control, 7)?),
        )?,
    ])
}

/// The trainings of one seed.
struct Seed<'a>(&'a [Trained]);

impl Seed<'_> {
    fn find(&self, kind: Kind, round: usize) -> Option<&Trained> {
        self.0.iter().find(|trained| (trained.kind, trained.round) == (kind, round))
    }

    fn stop(&self, kind: Kind, round: usize) -> Option<f64> {
        Some(self.find(kind, round)?.stop as f64)
    }

    /// In percent.
    fn accuracy(&self, kind: Kind, round: usize) -> Option<f64> {
        Some(self.find(kind, round)?.test_accuracy * 100.0)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_the_whole_interval() {
        let verdict = |low, high, expected| {
            let found = Estimate { mean: (low + high) / 2.0, interval: Some((low, high)) };
            Verdict::of(found, expected)
        };
        let above = Expected::Above(1.0);
        assert_eq!(verdict(1.1, 2.0, above), Verdict::Holds);
        assert_eq!(verdict(0.9, 2.0, above), Verdict::Open);
        assert_eq!(verdict(0.5, 0.9, above), Verdict::Fails);
        let equal = Expected::Within(0.2);
        assert_eq!(verdict(-0.1, 0.15, equal), Verdict::Holds);
        assert_eq!(verdict(-0.3, 0.1, equal), Verdict::Open);
        assert_eq!(verdict(-0.3, 0.3, equal), Verdict::Open);
        assert_eq!(verdict(0.25, 0.3, equal), Verdict::Fails);
        assert_eq!(verdict(-0.9, -0.3, equal), Verdict::Fails);
        let one_seed = Estimate { mean: 9.0, interval: None };
        assert_eq!(Verdict::of(one_seed, above), Verdict::Open);
    }

    /// A seed whose dense network stops at 1000, and the rest as published.
    pub fn seed(shift: f64) -> Vec<Trained> {
        let trained = |kind, round, kept, stop, accuracy| Trained {
            kind,
            round,
            kept,
            stop,
            test_accuracy: accuracy + shift,
            validation_loss: 0.1,
            end_validation_accuracy: 0.98,
            seconds: 1.0,
        };
        vec![
            trained(Kind::Ticket, 0, 1.0, 1000, 0.98),
            trained(Kind::Ticket, 7, 0.211, 620, 0.984),
            trained(Kind::Control, 7, 0.211, 1556, 0.979),
            trained(Kind::Ticket, 9, 0.135, 700, 0.983),
            trained(Kind::Ticket, 15, 0.036, 900, 0.98),
        ]
    }

    #[test]
    fn each_claim_compares_what_it_says() {
        let (one, two) = (seed(0.0), seed(0.001));
        let claims = judge(&[&one, &two]).unwrap();
        let found: Vec<f64> =
            claims.iter().map(|claim| (claim.found.mean * 100.0).round() / 100.0).collect();
        assert_eq!(found, [38.0, 0.3, 0.0, 2.51, 0.5]);
        assert!(claims.iter().all(|claim| claim.verdict == Verdict::Holds), "{claims:?}");
        assert!(judge(&[&one[1..]]).is_err() && judge(&[]).is_err());
    }
}
