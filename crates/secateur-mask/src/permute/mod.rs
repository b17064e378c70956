//! In which order should a layer's inputs stand, so that N:M keeps more of it?
//!
//! N:M keeps N of every M *neighbours*. Which inputs are neighbours is an accident of training, and
//! a layer computes the same when its inputs are reordered together with the outputs that feed
//! them. Pool & Yu (2021, "Channel Permutations for N:M Sparsity") search for a better order;
//! [`Search`] does so by simulated annealing over swaps, whose gain is two L1 distances (`swap.rs`).
//! `docs/permutation.md` tells what was tried and how good it is.
//!
//! ```
//! use secateur_mask::{NOfM, Scores, permute::Search};
//!
//! // All four large scores share a group, which keeps two of them.
//! let scores = Scores::new(&[9.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0_f32][..], &[1, 8])?;
//! let search = Search { pattern: NOfM::TWO_OF_FOUR, seconds: 1.0, seed: 0, threads: 1 };
//! let found = search.run(&scores)?;
//! assert_eq!((found.kept_default(), found.kept()), (20.0, 36.0));
//! assert_eq!(found.efficacy(), 100.0);
//! # Ok::<(), secateur_mask::MaskError>(())
//! ```

mod anneal;
mod cost;
mod lanes;
mod order;
mod scale;
mod search;
mod swap;
mod value;
mod wide;

pub use order::{check, inverse};

/// A search for the order of input channels in which `pattern` keeps the highest sum of scores.
///
/// The same scores, fields and version of this crate give the same permutation on every machine, as
/// long as the search was [complete](Permuted::complete).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// The pattern, along the inputs.
    pub pattern: crate::NOfM,
    /// The budget in seconds of wall clock. It is turned into a fixed number of steps before the
    /// search starts, by the speed of a modest machine, so that most machines need less; small
    /// matrices, on which more search is pointless, end long before it. By the clock, annealing is
    /// stopped at 95 % of the budget, whatever was planned; see [`Permuted::complete`]. Setting up and
    /// adding up are not stopped: on a large matrix a tiny budget is exceeded by them.
    pub seconds: f64,
    /// Where the random numbers start.
    pub seed: u64,
    /// Independent searches, at least 1, on the threads of the current rayon pool; the best wins,
    /// the first among equals. The result depends on this number, never on scheduling.
    pub threads: usize,
}

/// What a [`Search`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Permuted {
    permutation: Vec<usize>,
    kept: f64,
    kept_default: f64,
    kept_rows: f64,
    seconds: f64,
    proposals: u64,
    complete: bool,
}

impl Permuted {
    /// The order found: entry `j` is the old channel that comes to place `j`. As long as the layer
    /// has input channels.
    pub fn permutation(&self) -> &[usize] {
        &self.permutation
    }

    /// The permutation itself, without a copy.
    pub fn into_permutation(self) -> Vec<usize> {
        self.permutation
    }

    /// The sum of scores that the pattern keeps in this order, never less than
    /// [`Self::kept_default`].
    pub fn kept(&self) -> f64 {
        self.kept
    }

    /// The sum of scores that the pattern keeps in the order given.
    pub fn kept_default(&self) -> f64 {
        self.kept_default
    }

    /// The sum of the best scores of every row, as many as the pattern keeps, wherever they stand:
    /// a bound that no order exceeds.
    pub fn kept_rows(&self) -> f64 {
        self.kept_rows
    }

    /// Seconds of wall clock that the search took. Measured: the only number here that differs from
    /// run to run.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Swaps that were looked at, over all threads.
    pub fn proposals(&self) -> u64 {
        self.proposals
    }

    /// Whether all that was planned was done. `false` means that the machine was so slow that the
    /// clock ran out first: the permutation is valid and no worse than none, but another run may
    /// find another one.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// How much of the loss that N:M causes over rows pruned freely is won back, in percent:
    /// `(kept − kept_default) / (kept_rows − kept_default) · 100` (Pool & Yu 2021, section 5). 0 when
    /// nothing is lost.
    pub fn efficacy(&self) -> f64 {
        let lost = self.kept_rows - self.kept_default;
        if lost > 0.0 { (self.kept - self.kept_default) / lost * 100.0 } else { 0.0 }
    }
}
