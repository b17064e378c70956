//! What did the kernels of one weight take? For products that are measured rather than estimated.

use super::calibrate::time;
use crate::{KernelError, KernelKind, Product};
use std::time::Duration;

/// How long each kernel runs at each number of tokens.
const A_WHILE: Duration = Duration::from_millis(20);

/// Nanoseconds of each kernel at each of some numbers of tokens.
#[derive(Debug, Clone)]
pub(crate) struct Timings {
    /// Ascending, none of them 0, at least one.
    tokens: Vec<usize>,
    /// As many nanoseconds as there are numbers of tokens.
    taken: Vec<(KernelKind, Vec<f64>)>,
}

impl Timings {
    /// Nothing measured yet. Errors if `tokens` is empty or holds a 0.
    pub fn new(tokens: &[usize]) -> Result<Self, KernelError> {
        if tokens.is_empty() || tokens.contains(&0) {
            return Err(KernelError::NothingToMeasure);
        }
        let mut tokens = tokens.to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        Ok(Self { tokens, taken: Vec::new() })
    }

    /// Measures the only kernel of `product`.
    pub fn measure(&mut self, kind: KernelKind, product: &Product) -> Result<(), KernelError> {
        let taken = self.tokens.iter().map(|tokens| time(product, *tokens, A_WHILE));
        let taken = taken.collect::<Result<_, _>>()?;
        self.taken.push((kind, taken));
        Ok(())
    }

    /// The kernels that are fastest at some measured number of tokens, each once.
    pub fn winners(&self) -> Vec<KernelKind> {
        let mut winners: Vec<KernelKind> = (0..self.tokens.len())
            .filter_map(|at| self.taken.iter().min_by(|a, b| a.1[at].total_cmp(&b.1[at])))
            .map(|(kind, _)| *kind)
            .collect();
        winners.sort();
        winners.dedup();
        winners
    }

    /// Nanoseconds at any number of tokens: what was measured, a line between two of those, and in
    /// proportion beyond. What was not measured takes for ever.
    pub fn at(&self, kind: KernelKind, tokens: usize) -> f64 {
        let Some((_, taken)) = self.taken.iter().find(|(known, _)| *known == kind) else {
            return f64::INFINITY;
        };
        match self.tokens.binary_search(&tokens) {
            Ok(at) => taken[at],
            // Fewer tokens than measured take no less, for all that is known.
            Err(0) => taken[0],
            Err(at) if at == taken.len() => {
                taken[at - 1] * tokens as f64 / self.tokens[at - 1] as f64
            }
            Err(at) => {
                let (from, to) = (self.tokens[at - 1] as f64, self.tokens[at] as f64);
                let share = (tokens as f64 - from) / (to - from);
                taken[at - 1] + share * (taken[at] - taken[at - 1])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lie_between_those_measured() {
        let mut timings = Timings::new(&[8, 2, 8]).unwrap();
        timings.taken = vec![
            (KernelKind::Dense, vec![10.0, 40.0]),
            (KernelKind::Csr, vec![20.0, 20.0]),
            (KernelKind::NOfM, vec![30.0, 30.0]),
        ];
        assert_eq!(timings.winners(), [KernelKind::Dense, KernelKind::Csr]);
        let at = |tokens| timings.at(KernelKind::Dense, tokens);
        assert_eq!([1, 2, 4, 8, 16].map(at), [10.0, 10.0, 20.0, 40.0, 80.0]);
        assert_eq!(timings.at(KernelKind::Block, 2), f64::INFINITY);
        assert!(Timings::new(&[]).is_err() && Timings::new(&[1, 0]).is_err());
    }
}
