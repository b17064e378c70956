//! Which entries does a score keep? Those that win the contest they are in.
//!
//! A pattern is a list of contests: the whole layer, each row, each group of M. Every contest
//! remembers by how much it was decided, because only where scores are distinct is there one answer.

/// What was kept, and how narrowly.
#[derive(Debug, Clone)]
pub struct Choice {
    /// One per entry, row-major.
    pub kept: Vec<bool>,
    /// Relative distance between the lowest score kept and the highest cut, the least of all contests.
    pub gap: f64,
}

impl Choice {
    /// Nothing kept yet of `len` entries.
    pub fn of(len: usize) -> Self {
        Self { kept: vec![false; len], gap: f64::INFINITY }
    }

    /// Keeps the `keep` best of the units, each of which is a list of entries with one score. Among
    /// equals the earlier unit.
    pub fn contest(&mut self, units: &[(f64, Vec<usize>)], keep: usize) {
        let mut order: Vec<usize> = (0..units.len()).collect();
        order.sort_by(|&a, &b| units[b].0.partial_cmp(&units[a].0).unwrap().then(a.cmp(&b)));
        for &unit in order.iter().take(keep) {
            for &entry in &units[unit].1 {
                self.kept[entry] = true;
            }
        }
        if 0 < keep && keep < units.len() {
            let (last, first) = (units[order[keep - 1]].0, units[order[keep]].0);
            let size = last.abs().max(first.abs());
            let gap = if size == 0.0 { 0.0 } else { (last - first) / size };
            self.gap = self.gap.min(gap);
        }
    }
}

/// The entries `places`, each a unit of its own.
fn single(scores: &[f64], places: impl Iterator<Item = usize>) -> Vec<(f64, Vec<usize>)> {
    places.map(|place| (scores[place], vec![place])).collect()
}

/// `cut` of all entries go.
pub fn anywhere(scores: &[f64], cut: usize) -> Choice {
    let mut choice = Choice::of(scores.len());
    choice.contest(&single(scores, 0..scores.len()), scores.len() - cut);
    choice
}

/// `cut` entries of each row of `cols` go.
pub fn in_each_row(scores: &[f64], cols: usize, cut: usize) -> Choice {
    let mut choice = Choice::of(scores.len());
    for start in (0..scores.len()).step_by(cols) {
        choice.contest(&single(scores, start..start + cols), cols - cut);
    }
    choice
}

/// n of every m neighbours in a row of `cols` stay.
pub fn n_of_m(scores: &[f64], cols: usize, (n, m): (usize, usize)) -> Choice {
    let mut choice = Choice::of(scores.len());
    for start in (0..scores.len()).step_by(cols) {
        for group in (0..cols).step_by(m) {
            let end = (group + m).min(cols);
            choice.contest(&single(scores, start + group..start + end), n);
        }
    }
    choice
}

/// Blocks of `height × width` of a matrix with `cols` columns, which they tile: `cut` of them go, the
/// ones whose entries have the smallest norm.
pub fn blocks(
    weight: &[f64],
    cols: usize,
    (height, width): (usize, usize),
    cut: usize,
    norm: fn(&[f64]) -> f64,
) -> Choice {
    let rows = weight.len() / cols;
    let mut units = vec![];
    for top in (0..rows).step_by(height) {
        for left in (0..cols).step_by(width) {
            let mut places = vec![];
            for row in top..top + height {
                for col in left..left + width {
                    places.push(row * cols + col);
                }
            }
            let entries: Vec<f64> = places.iter().map(|&place| weight[place]).collect();
            units.push((norm(&entries), places));
        }
    }
    let mut choice = Choice::of(weight.len());
    choice.contest(&units, units.len() - cut);
    choice
}

/// Several layers in one contest, `cut` of all their entries go: one list of bits per layer.
pub fn over_layers(scores: &[Vec<f64>], cut: usize) -> (Vec<Vec<bool>>, f64) {
    let choice = anywhere(&scores.concat(), cut);
    let mut bits = choice.kept.into_iter();
    let layers = scores.iter().map(|layer| bits.by_ref().take(layer.len()).collect()).collect();
    (layers, choice.gap)
}
