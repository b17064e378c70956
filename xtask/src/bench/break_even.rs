//! Where does a kernel stop being worth it? Where its speed-up crosses 1 between two numbers of tokens, and
//! where the dispatcher would run the dense product.

use super::{cases::Shape, rows::Row};
use serde::Serialize;
use std::fmt;

/// One kernel on one shape, over tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BreakEven {
    #[serde(serialize_with = "super::cases::as_text")]
    shape: Shape,
    threads: usize,
    what: String,
    kernel: String,
    /// Tokens measured.
    tokens: Vec<usize>,
    /// Those at which the best dense product was faster.
    slower_at: Vec<usize>,
    /// About where the speed-up crosses 1, between two measured numbers of tokens.
    crosses_at: Vec<f64>,
    /// Tokens at which the dispatcher plans dense.
    planned_dense_at: Vec<usize>,
}

/// Of every kernel and shape that was compared with anything.
pub fn find(rows: &[Row]) -> Vec<BreakEven> {
    let mut found: Vec<BreakEven> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let same = |other: &&Row| {
            row.is_beside(other)
                && (row.threads, row.pattern) == (other.threads, other.pattern)
                && other.speedup.is_some()
        };
        if row.speedup.is_none() || rows[..at].iter().any(|before| same(&before)) {
            continue;
        }
        let mut line: Vec<&Row> = rows.iter().filter(same).collect();
        line.sort_by_key(|row| row.tokens);
        let points: Vec<(usize, f64)> =
            line.iter().filter_map(|row| Some((row.tokens, row.speedup?))).collect();
        found.push(BreakEven {
            shape: row.shape,
            threads: row.threads,
            what: row.what(),
            kernel: row.kernel.clone(),
            tokens: points.iter().map(|(tokens, _)| *tokens).collect(),
            slower_at: points.iter().filter(|(_, s)| *s < 1.0).map(|(tokens, _)| *tokens).collect(),
            crosses_at: points.windows(2).filter_map(|pair| crossing(pair[0], pair[1])).collect(),
            planned_dense_at: line
                .iter()
                .filter(|row| row.plans_dense)
                .map(|row| row.tokens)
                .collect(),
        });
    }
    found
}

/// Where a line through two points, over the logarithm of tokens, crosses 1.
fn crossing((from, before): (usize, f64), (to, after): (usize, f64)) -> Option<f64> {
    if (before < 1.0) == (after < 1.0) {
        return None;
    }
    let (from, to) = ((from as f64).log2(), (to as f64).log2());
    let share = (1.0 - before) / (after - before);
    Some((from + share * (to - from)).exp2())
}

/// What people read: the kernels that dense beats somewhere, one line each, and how many it never beats.
pub fn explain(found: &[BreakEven]) -> String {
    let (plain, told): (Vec<_>, Vec<_>) =
        found.iter().partition(|one| one.slower_at.is_empty() && one.planned_dense_at.is_empty());
    let mut text = String::from("break-even:\n");
    for one in &told {
        text += &format!("  {one}\n");
    }
    let never = plain.len();
    text += &match (never, told.len()) {
        (0, 0) => "  no kernel was compared with a dense one\n".to_owned(),
        (0, _) => String::new(),
        (_, 0) => {
            "  every kernel was faster than the best dense one wherever measured\n".to_owned()
        }
        _ => format!(
            "  the other {never} (kernel and shape) were faster than dense wherever measured\n"
        ),
    };
    text
}

impl fmt::Display for BreakEven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, threads, what, kernel, .. } = self;
        write!(f, "{shape} {what}, {kernel}")?;
        if *threads > 1 {
            write!(f, ", {threads} threads")?;
        }
        let list = |tokens: &[usize]| {
            let said: Vec<String> = tokens.iter().map(usize::to_string).collect();
            format!("{} token{}", said.join(", "), if tokens == [1] { "" } else { "s" })
        };
        let mut separator = ": ";
        if !self.slower_at.is_empty() {
            write!(f, "{separator}slower than dense at {}", list(&self.slower_at))?;
            separator = "; ";
        }
        if !self.crosses_at.is_empty() {
            let digits = |tokens: f64| usize::from(tokens < 10.0);
            let said: Vec<String> =
                self.crosses_at.iter().map(|&at| format!("{at:.*}", digits(at))).collect();
            write!(f, "{separator}breaks even at about {} tokens", said.join(" and "))?;
            separator = "; ";
        }
        if !self.planned_dense_at.is_empty() {
            write!(f, "{separator}the dispatcher plans dense at {}", list(&self.planned_dense_at))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        cases::{Number, Setting},
        rows::{Dense, Figures, Limit, rows, tests::measured},
    };
    use secateur::kernels::Tier;

    /// Rows of a kernel that takes 1 ms where dense takes as many as given.
    fn line(dense_ms: &[(usize, f64)], plans_dense: bool) -> Vec<Row> {
        let row = |&(tokens, ms): &(usize, f64)| {
            let setting =
                Setting { shape: "8x8".parse().unwrap(), tokens, threads: 1, sparse: vec![] };
            let figures = Figures { median: ms / 1e3, min: ms / 1e3 };
            let (name, limit) = ("faer_f32".to_owned(), Limit::None);
            let dense = [Dense { name, number: Number::F32, limit, figures }];
            let mut sparse = measured(Number::F32, Tier::Portable, 1.0);
            sparse.plans_dense = plans_dense;
            rows(&setting, &dense, &[sparse], Tier::Portable, |_| None)
        };
        dense_ms.iter().flat_map(row).collect()
    }

    #[test]
    fn crossings_lie_between_what_was_measured() {
        let found = find(&line(&[(16, 1.5), (1, 0.5), (4, 0.5), (64, 0.5)], false));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].slower_at, [1, 4, 64]);
        assert_eq!(found[0].crosses_at, [8.0, 32.0]);
        assert_eq!(
            explain(&found),
            "break-even:\n  8x8 f32 2:4, 2:4 portable: slower than dense at 1, 4, 64 tokens; breaks even \
             at about 8.0 and 32 tokens\n"
        );
    }

    #[test]
    fn a_kernel_that_always_wins_is_only_counted() {
        let found = find(&line(&[(1, 1.5), (4, 2.5)], false));
        assert!(found[0].crosses_at.is_empty() && found[0].slower_at.is_empty());
        assert!(explain(&found).contains("every kernel was faster"));
        assert!(explain(&[]).contains("no kernel was compared"));
    }

    /// Faster, and yet not run: a constant of the dispatcher is wrong.
    #[test]
    fn what_the_dispatcher_would_not_run_is_said() {
        let found = find(&line(&[(1, 1.5)], true));
        assert!(explain(&found).contains("the dispatcher plans dense at 1 token\n"));
    }
}
