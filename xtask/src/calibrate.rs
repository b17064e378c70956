//! `cargo xtask calibrate`: what do kernels cost on this machine? Measured once, kept, and planned by from
//! then on.

use crate::progress;
use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use secateur::kernels::{Calibration, Dispatcher};
use serde::Serialize;
use std::path::PathBuf;

const HELP: &str = "\
Which kernel multiplies a weight is planned from what kernels cost: so many nanoseconds for each
value, each run of values and each token. Costs measured on one machine are built in; this command
measures yours, in a second or two on one thread, and keeps the answer for every program that asks
Dispatcher::probe(): `inspect` and your own. Best while nothing else runs.

Reports do not change by it: `prune-finetune` plans by built-in costs, so that the same seed gives
the same bytes whatever was once measured.

The answer is kept in the user's folder for caches (XDG_CACHE_HOME, or .cache at home) as
secateur/costs-TIER.json, for this processor and this version only; whatever else lies there is
ignored with a warning. SECATEUR_CACHE names another folder, or is off: then nothing is kept or
read. SECATEUR_TIER measures a lower tier of kernels.

--json prints one object on standard output:
  {\"processor\", \"tier\", \"kept_in\": a path or null, \"costs\": [{\"of\", \"unit\", \"nanoseconds\"}]}

Examples:
  cargo xtask calibrate
  SECATEUR_TIER=avx2 cargo xtask calibrate
  SECATEUR_CACHE=off cargo xtask calibrate --json > costs.json";

/// Measure what kernels cost on this machine, for better plans.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Print the costs as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer {
    processor: String,
    tier: String,
    kept_in: Option<PathBuf>,
    costs: Vec<Cost>,
}

#[derive(Serialize)]
struct Cost {
    of: String,
    unit: &'static str,
    nanoseconds: f64,
}

pub fn run(args: Args) -> Result<()> {
    let here = Dispatcher::built_in()?;
    let measuring = progress::spinner("measuring kernels");
    let calibration = here.calibrate()?;
    drop(measuring);
    let answer = Answer::new(&calibration, &here, calibration.save()?);
    if args.json {
        return progress::answer(&serde_json::to_string(&answer)?);
    }
    progress::answer(&answer.table())
}

impl Answer {
    fn new(calibration: &Calibration, here: &Dispatcher, kept_in: Option<PathBuf>) -> Self {
        let cost = |(of, unit, nanoseconds)| Cost { of, unit, nanoseconds };
        Self {
            processor: calibration.processor().to_owned(),
            tier: here.tier().to_string(),
            kept_in,
            costs: calibration.costs().into_iter().map(cost).collect(),
        }
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(["of", "unit", "ns"]);
        for Cost { of, unit, nanoseconds } in &self.costs {
            table.add_row([of.clone(), (*unit).to_owned(), format!("{nanoseconds:.4}")]);
        }
        if let Some(column) = table.column_mut(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let kept = match &self.kept_in {
            Some(path) => format!("kept in {}", path.display()),
            None => "not kept: SECATEUR_CACHE is off, or there is no folder for caches".to_owned(),
        };
        format!("{}, {}\n{table}\n{kept}\n", self.processor, self.tier)
    }
}
