//! How do kernels compare with each other? Other patterns with 2:4, and more threads with one.

use super::rows::Row;
use secateur::mask::{NOfM, Pattern};
use serde::Serialize;

/// A row beside another row of the same run (but not of the same rounds, where threads differ).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// `4:8 f32 avx512, 3072x768, 128 tokens`
    of: String,
    /// `2:4`, or `one thread`
    with: &'static str,
    /// Its speed in shares of the other's, medians.
    ratio: f64,
    /// The same at minima.
    ratio_at_min: f64,
}

/// Every N:M that keeps half beside 2:4, and everything on more threads beside one thread.
pub fn find(rows: &[Row]) -> Vec<Compared> {
    let mut found = Vec::new();
    for row in rows {
        let beside = |threads: usize, pattern: Pattern| {
            rows.iter().find(|other| {
                row.is_beside(other)
                    && (other.tokens, other.threads) == (row.tokens, threads)
                    && other.pattern.pattern() == pattern
            })
        };
        let tokens = if row.tokens == 1 { "token" } else { "tokens" };
        let threads =
            if row.threads > 1 { format!(", {} threads", row.threads) } else { String::new() };
        let of =
            format!("{} {}, {}, {} {tokens}{threads}", row.what(), row.tier, row.shape, row.tokens);
        let mut compare = |with, other: Option<&Row>| {
            if let Some(other) = other {
                let ratio = row.gflops / other.gflops;
                let ratio_at_min = row.gflops_at_min / other.gflops_at_min;
                found.push(Compared { of: of.clone(), with, ratio, ratio_at_min });
            }
        };
        let pattern = row.pattern.pattern();
        let is_half = matches!(pattern, Pattern::NOfM(one) if one.m() == 2 * one.n());
        if is_half && pattern != Pattern::NOfM(NOfM::TWO_OF_FOUR) {
            compare("2:4", beside(row.threads, Pattern::TWO_OF_FOUR));
        }
        if row.threads > 1 {
            compare("one thread", beside(1, pattern));
        }
    }
    found
}

/// What people read.
pub fn explain(found: &[Compared]) -> String {
    let line = |one: &Compared| {
        let Compared { of, with, ratio, ratio_at_min } = one;
        format!("{of}: {ratio:.2} times {with} ({ratio_at_min:.2} at minima)\n")
    };
    found.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        cases::{Number, Setting},
        rows::{rows, tests::measured},
    };
    use secateur::kernels::Tier;

    #[test]
    fn like_is_compared_with_like() {
        let of = |pattern: &str, tokens, threads, ms| {
            let setting =
                Setting { shape: "8x8".parse().unwrap(), tokens, threads, sparse: vec![] };
            let mut sparse = measured(Number::F32, Tier::Portable, ms);
            sparse.sparse.target = pattern.parse().unwrap();
            rows(&setting, &[], &[sparse], Tier::Portable, |_| None).remove(0)
        };
        let all = [
            of("2:4", 4, 1, 1.0),
            of("8:16", 4, 1, 2.0),
            of("8:16", 1, 1, 1.0),
            of("1:4", 4, 1, 1.0),
            of("2:4", 4, 2, 0.5),
        ];
        let found = find(&all);
        let said: Vec<_> = found.iter().map(|one| (&one.of[..], one.with, one.ratio)).collect();
        let expected = [
            ("f32 8:16 portable, 8x8, 4 tokens", "2:4", 0.5),
            ("f32 2:4 portable, 8x8, 4 tokens, 2 threads", "one thread", 2.0),
        ];
        assert_eq!(said, expected);
    }
}
