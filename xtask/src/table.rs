//! How does a person read a report? A table: five questions, two networks, and what it brought.

use crate::report::{Report, Side};
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

/// A line below the header, nothing else.
pub const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// The report as a table for a terminal.
pub fn render(report: &Report) -> String {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["", "", "dense", "pruned", ""]);
    for row in rows(report) {
        table.add_row([row.asked.to_owned(), row.what, row.dense, row.pruned, row.gain]);
    }
    for column in 2..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n{}", notes(report).join("\n"))
}

/// One line of the table.
pub struct Row {
    /// The question, empty below its first answer.
    pub asked: &'static str,
    /// What answers it.
    pub what: String,
    pub dense: String,
    pub pruned: String,
    /// What pruning brought, in words.
    pub gain: String,
    /// Whether that is good; nothing where there is nothing to compare.
    pub better: Option<bool>,
}

/// The five questions and their answers.
pub fn rows(report: &Report) -> Vec<Row> {
    let (dense, pruned) = (&report.dense, &report.pruned.side);
    let mut rows = Vec::new();
    let mut question = |asked, what: &str, show: &dyn Fn(&Side) -> String, gain| {
        let (gain, better) = gain;
        let (dense, pruned) = (show(dense), show(pruned));
        rows.push(Row { asked, what: what.to_owned(), dense, pruned, gain, better });
    };
    let gain = |of: &dyn Fn(&Side) -> f64, [better, worse]: [&str; 2]| {
        let (dense, pruned) = (of(dense), of(pruned));
        let word = if dense >= pruned { better } else { worse };
        (format!("{:.2}x {word}", dense.max(pruned) / dense.min(pruned)), Some(dense >= pruned))
    };
    let smaller = |of: &dyn Fn(&Side) -> f64| gain(of, ["smaller", "larger"]);
    let faster = |of: &dyn Fn(&Side) -> f64| gain(of, ["faster", "slower"]);
    let large = format!("batch {}", report.batch_large);

    question("Is it small?", "bytes on disk", &|s| bytes(s.bytes), smaller(&|s| s.bytes as f64));
    question(
        "Is it fast?",
        "batch 1, median",
        &|s| ms(s.latency_ms.batch1),
        faster(&|s| s.latency_ms.batch1),
    );
    question(
        "",
        "batch 1, p99",
        &|s| ms(s.latency_ms.batch1_p99),
        faster(&|s| s.latency_ms.batch1_p99),
    );
    question(
        "",
        &format!("{large}, median"),
        &|s| ms(s.latency_ms.batch_large),
        faster(&|s| s.latency_ms.batch_large),
    );
    question(
        "",
        &format!("{large}, p99"),
        &|s| ms(s.latency_ms.batch_large_p99),
        faster(&|s| s.latency_ms.batch_large_p99),
    );
    question("How many parameters?", "total", &|s| count(s.parameters), (String::new(), None));
    let kept = |s: &Side| {
        count(if std::ptr::eq(s, pruned) { report.pruned.nonzero } else { s.parameters })
    };
    let compression = report.pruned.compression;
    let gained = (format!("{compression:.2}x compression"), Some(compression >= 1.0));
    question("", "not zero", &kept, gained);
    question(
        "How much RAM?",
        "weights",
        &|s| bytes(s.weight_bytes as u64),
        smaller(&|s| s.weight_bytes as f64),
    );
    question("", "process, resident", &|s| bytes(s.rss_bytes), smaller(&|s| s.rss_bytes as f64));
    let points = (pruned.accuracy - dense.accuracy) * 100.0;
    question(
        "How good?",
        "test accuracy",
        &|s| format!("{:.2} %", s.accuracy * 100.0),
        (format!("{points:+.2} points"), Some(points >= 0.0)),
    );
    rows
}

/// What the numbers are of, and what was proved.
pub fn notes(report: &Report) -> Vec<String> {
    let mut notes = vec![
        format!(
            "{} seed {}: {} on {}, {} test samples; kernel: {}",
            report.recipe,
            report.seed,
            report.pruned.pattern,
            report.data,
            report.test_samples,
            report.pruned.kernel,
        ),
        format!(
            "{}: every layer {}; packed and masked logits differ by {:.1e} at most, {} predictions do",
            if report.pruned.verified { "proved" } else { "NOT PROVED" },
            report.pruned.pattern,
            report.proof.difference,
            report.proof.disagreements,
        ),
        format!(
            "dense is the faster of candle's layers (here {} and {}) and the gemm crate",
            ms(report.candle_latency_ms.batch1),
            ms(report.candle_latency_ms.batch_large),
        ),
    ];
    if let Some(shrunk) = &report.shrunk {
        let (before, after) = (shrunk.latency_ms.dense, shrunk.latency_ms.shrunk);
        notes.push(format!(
            "shrunk.safetensors is the same network, dense, without the units that are gone: {} parameters, \
             {}, batch 1 in {} ({:.2}x as fast as dense on the same kernels), batch {} in {} ({:.2}x); logits \
             differ by {:.1e} at most, {} predictions do",
            count(shrunk.parameters),
            bytes(shrunk.bytes),
            ms(after.batch1),
            before.batch1 / after.batch1,
            report.batch_large,
            ms(after.batch_large),
            before.batch_large / after.batch_large,
            shrunk.proof.difference,
            shrunk.proof.disagreements,
        ));
    }
    notes
}

fn bytes(n: u64) -> String {
    match n as f64 {
        n if n < 1e3 => format!("{n} B"),
        n if n < 1e6 => format!("{:.1} kB", n / 1e3),
        n => format!("{:.2} MB", n / 1e6),
    }
}

fn ms(time: f64) -> String {
    if time < 1.0 { format!("{:.1} us", time * 1e3) } else { format!("{time:.2} ms") }
}

/// With thin spaces between thousands.
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::{measure::Latency, report::Pruned};
    use secateur::train::{Proof, data::Normalisation};
    use std::collections::BTreeMap;

    /// A run of MNIST, made up.
    pub fn example() -> Report {
        let side = |bytes, scale| Side {
            accuracy: 0.9844 - 0.0003 * scale,
            error: 0.0156 + 0.0003 * scale,
            parameters: 266_610,
            bytes,
            weight_bytes: bytes as usize - 900,
            latency_ms: Latency {
                batch1: 0.03 / scale,
                batch1_p99: 0.05,
                batch_large: 1.5 / scale,
                batch_large_p99: 1.9 / scale,
            },
            rss_bytes: 10_000_000 + bytes,
        };
        Report {
            recipe: "lenet-300-100-2of4".into(),
            seed: 7,
            data: "mnist".into(),
            test_samples: 10_000,
            normalisation: Normalisation { scale: 255.0, mean: 0.1307, std: 0.3081 },
            batch_large: 256,
            dense: side(1_067_000, 1.0),
            pruned: Pruned {
                side: side(567_900, 1.6),
                nonzero: 133_510,
                compression: 1.997,
                pattern: "2:4".into(),
                verified: true,
                kernel: "2:4 avx512".into(),
            },
            candle_latency_ms: side(1_067_000, 0.5).latency_ms,
            shrunk: None,
            proof: Proof { difference: 4.1e-7, samples: 10_000, disagreements: 0 },
            rounds: Vec::new(),
            chosen: 0,
            seconds: 12.5,
            environment: BTreeMap::new(),
        }
    }

    #[test]
    fn the_five_questions_are_answered() {
        insta::assert_snapshot!(render(&example()));
    }
}
