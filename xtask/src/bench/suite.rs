//! How does one run go? Setting by setting: weights are drawn once a shape, pools and children started once
//! a number of threads, and everybody of a setting alternates.

use super::{
    Answer, break_even,
    cases::{self, Number, Setting, Shape},
    compare,
    contenders::Ours,
    csv, peers, rounds,
    rows::{self, Dense},
};
use crate::progress;
use anyhow::{Context, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use secateur::kernels::{self, Dispatcher, Tier};
use serde::Serialize;
use std::{
    cell::RefCell,
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
};
use tracing_indicatif::span_ext::IndicatifSpanExt;

/// Everything that stays the same over all settings.
pub struct Bench {
    pub here: Dispatcher,
    pub rounds: usize,
    /// The program of stock candle; without it, no child is started.
    pub candle: Option<PathBuf>,
    /// What other programs measured.
    pub others: Vec<csv::Peer>,
}

impl Bench {
    /// Measures all settings, which come ordered by shape.
    pub fn run(&self, settings: &[Setting]) -> Result<Answer> {
        let machine_tier = self.machine();
        let mut machine = Machine { peak_gflops: BTreeMap::new(), bandwidth_gb_s: 0.0 };
        machine.bandwidth_gb_s = kernels::bandwidth();
        for tier in settings.iter().flat_map(|s| &s.sparse).map(|sparse| sparse.tier) {
            if !machine.peak_gflops.contains_key(tier.to_string().as_str()) {
                machine.peak_gflops.insert(tier.to_string(), kernels::peak(tier)?);
            }
        }
        let peak = |tier: Tier| machine.peak_gflops.get(&tier.to_string()).copied();

        let bar =
            progress::bar("bench", settings.iter().map(Self::cost).sum::<usize>() * self.rounds);
        let (mut rows, mut dense_rows) = (Vec::new(), Vec::new());
        let mut teams: BTreeMap<usize, Team> = BTreeMap::new();
        let mut ours: Option<Ours> = None;
        for setting in settings {
            bar.pb_set_message(&setting.shape.to_string());
            if ours.as_ref().is_none_or(|ours| ours.shape() != setting.shape) {
                // The old weights go before the new ones come.
                drop(ours.take());
                ours = Some(Ours::new(setting.shape, Dispatcher::with_tier(machine_tier)?)?);
            }
            let ours = ours.as_mut().context("weights were drawn")?;
            ours.prepare(&setting.sparse)?;
            let team = match teams.entry(setting.threads) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    place.insert(Team::new(setting.threads, self.candle.as_deref())?)
                }
            };
            let mut contenders = ours.contenders(setting, &team.pool)?;
            for peer in &team.peers {
                contenders.extend(peers::contenders(peer, setting)?);
            }
            let (mut dense, measured) = rounds::alternate(contenders, self.rounds, || {
                bar.pb_inc(Self::cost(setting) as u64)
            })?;
            let fitting = self.others.iter().filter(|peer| peer.fits(setting));
            dense.extend(fitting.map(|peer| peer.dense().clone()));
            rows.extend(rows::rows(setting, &dense, &measured, machine_tier, peak));
            dense_rows.extend(dense.iter().map(|dense| DenseRow::new(setting, dense)));
        }
        drop(bar);
        self.tell_what_is_missing(settings);
        let (compared, break_even) = (compare::find(&rows), break_even::find(&rows));
        Ok(Answer { machine, dense: dense_rows, compared, break_even, rows })
    }

    /// The best tier of this machine, whatever tier is forced.
    fn machine(&self) -> Tier {
        let all = [Tier::Avx512, Tier::Avx2];
        let found = all.into_iter().find(|tier| Dispatcher::with_tier(*tier).is_ok());
        found.unwrap_or(self.here.tier())
    }

    /// About how long a round takes, in milliseconds: for the bar.
    fn cost(setting: &Setting) -> usize {
        let contenders = 5 + setting.sparse.len();
        contenders * (10 + (setting.flops() / 5e7) as usize)
    }

    fn tell_what_is_missing(&self, settings: &[Setting]) {
        let fits = |peer: &&csv::Peer| settings.iter().any(|setting| peer.fits(setting));
        if !self.others.is_empty() && self.others.iter().filter(fits).count() == 0 {
            progress::tell(
                "--peers: no line has a shape, tokens and threads that were measured here",
            );
        }
    }
}

/// What one core can do at most.
#[derive(Serialize)]
pub struct Machine {
    /// By tier, multiply-adds on f32.
    pub peak_gflops: BTreeMap<String, f64>,
    pub bandwidth_gb_s: f64,
}

/// A dense product in one setting.
#[derive(Serialize)]
pub struct DenseRow {
    #[serde(serialize_with = "cases::as_text")]
    shape: Shape,
    tokens: usize,
    threads: usize,
    name: String,
    dtype: Number,
    gflops: f64,
    gflops_at_min: f64,
}

/// Who works with a number of threads: a pool of ours, and children.
struct Team {
    pool: ThreadPool,
    peers: Vec<RefCell<peers::Peer>>,
}

impl Team {
    fn new(threads: usize, candle: Option<&Path>) -> Result<Self> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let peers = match candle {
            Some(program) => {
                vec![peers::Peer::stock(program, threads)?, peers::Peer::avx512(threads)?]
            }
            None => Vec::new(),
        };
        Ok(Self { pool, peers: peers.into_iter().map(RefCell::new).collect() })
    }
}

impl DenseRow {
    fn new(setting: &Setting, dense: &Dense) -> Self {
        let gflops = |seconds: f64| setting.flops() / seconds / 1e9;
        Self {
            shape: setting.shape,
            tokens: setting.tokens,
            threads: setting.threads,
            name: dense.name.clone(),
            dtype: dense.number,
            gflops: gflops(dense.figures.median),
            gflops_at_min: gflops(dense.figures.min),
        }
    }
}
