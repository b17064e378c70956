//! How does a person read the figures? One line a kernel, the best dense product beside it.

use super::{Answer, break_even, compare};
use crate::table::STYLE;
use comfy_table::{CellAlignment, ContentArrangement, Table};

/// The columns, and whether they are numbers.
const COLUMNS: [(&str, bool); 11] = [
    ("shape", false),
    ("tokens", true),
    ("threads", true),
    ("weight", false),
    ("kernel", false),
    ("GFLOP/s", true),
    ("best dense", true),
    ("which", false),
    ("speed-up", true),
    ("at minima", true),
    ("of peak", true),
];

/// Everything that was found.
pub fn render(answer: &Answer) -> String {
    let with_candle = answer.rows.iter().any(|row| row.speedup_candle.is_some());
    let mut columns: Vec<(&str, bool)> = COLUMNS.to_vec();
    if with_candle {
        columns.push(("over candle", true));
    }
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(name, _)| *name));
    for row in &answer.rows {
        let times =
            |times: Option<f64>| times.map_or("-".to_owned(), |times| format!("{times:.2}x"));
        let mut cells = vec![
            row.shape.to_string(),
            row.tokens.to_string(),
            row.threads.to_string(),
            row.what(),
            row.kernel.clone(),
            format!("{:.0}", row.gflops),
            row.dense_best.map_or("-".to_owned(), |gflops| format!("{gflops:.0}")),
            row.dense_best_name.clone().unwrap_or_else(|| "-".to_owned()),
            times(row.speedup),
            times(row.speedup_at_min),
            row.share_of_peak.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0)),
        ];
        if with_candle {
            cells.push(times(row.speedup_candle));
        }
        table.add_row(cells);
    }
    for (column, (_, is_number)) in table.column_iter_mut().zip(columns) {
        if is_number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!("{table}\n\n{}", machine(answer));
    text += "GFLOP/s as if dense: 2 · rows · columns · tokens / time, medians of alternating rounds\n\n";
    text += &compare::explain(&answer.compared);
    text += &break_even::explain(&answer.break_even);
    text.trim_end().to_owned()
}

/// The roof that everything runs under.
fn machine(answer: &Answer) -> String {
    let peak = |(tier, gflops): (&String, &f64)| format!("{gflops:.0} GFLOP/s {tier}");
    let peaks: Vec<String> = answer.machine.peak_gflops.iter().map(peak).collect();
    let bandwidth = answer.machine.bandwidth_gb_s;
    format!("one core here: {}, {bandwidth:.0} GB/s from memory\n", peaks.join(", "))
}
