//! How does a person read what a card did? Four tables, and what is wrong last, where it is seen.

use super::Answer;
use crate::table::STYLE;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use std::fmt::Write;

pub fn text(answer: &Answer) -> String {
    let card = &answer.device;
    let mut text = format!(
        "{}: sm_{}, {} multiprocessors, {:.1} GB",
        card.name,
        card.sm,
        card.multiprocessors,
        card.memory_bytes as f64 / 1e9
    );
    if card.bytes_per_second > 0.0 {
        let (terabytes, driver) = (card.bytes_per_second / 1e12, card.driver);
        let _ =
            write!(text, " at {terabytes:.2} TB/s, CUDA {}.{}", driver / 1000, driver % 1000 / 10);
    }
    let mut part = |title: &str, header: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            let _ = write!(text, "\n\n{title}\n{}", table(header, rows));
        }
    };
    let rows = answer
        .self_test
        .iter()
        .map(|test| vec![test.name.to_owned(), test.compared.to_string(), test.wrong.to_string()]);
    part("the instruction against its model", &["", "sums", "wrong"], rows.collect());
    let rows = answer.checks.iter().map(|check| {
        let (run, failed) = (check.run.to_string(), check.failed.len().to_string());
        let worst =
            if check.worst == 0.0 { "to the bit".into() } else { format!("{:.2}", check.worst) };
        vec![check.name.clone(), run, check.compared.to_string(), worst, failed]
    });
    let header = ["", "shapes", "numbers", "worst error of its bound", "failed"];
    part("every kernel against the CPU", &header, rows.collect());
    let rows = answer
        .rates
        .iter()
        .map(|rate| vec![rate.name.to_owned(), format!("{:.0}", rate.operations / 1e12)]);
    part("the instruction alone", &["", "T operations/s"], rows.collect());
    let rows = answer.timings.iter().map(|timing| {
        let of = &timing.measurement;
        let (us, none) = (|ns: f64| format!("{:.1}", ns / 1e3), || "-".to_owned());
        vec![
            format!("{} {}", of.kernel, of.dtype),
            format!("{}x{}", of.rows, of.cols),
            of.tokens.to_string(),
            us(of.nanoseconds),
            of.dense_nanoseconds.map_or_else(none, us),
            of.speedup().map_or_else(none, |speedup| format!("{speedup:.2}x")),
            us(timing.floor_nanoseconds),
            timing.limiter.to_owned(),
            format!("{:.0} %", 100.0 * timing.share_of_floor()),
        ]
    });
    let header = ["", "weight", "tokens", "us", "dense", "", "floor", "limiter", "of the floor"];
    part("against dense, medians", &header, rows.collect());
    if let Some(dense) = &answer.dense {
        let _ = write!(text, "\ndense: {dense}");
    }
    if let Some(path) = &answer.kept_in {
        let _ = write!(text, "\nkept for plans in {}", path.display());
    }
    for failed in answer.checks.iter().flat_map(|check| &check.failed) {
        let _ = write!(text, "\nWRONG: {failed}");
    }
    text += if answer.passed { "\n\nall right" } else { "\n\nNOT RIGHT" };
    text
}

/// Names to the left, numbers to the right.
fn table(header: &[&str], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};
    use secateur::kernels::cuda::{CudaKernel, Measurement};

    #[test]
    fn a_card_is_shown() {
        let measurement = Measurement {
            kernel: CudaKernel::SmallBatch,
            dtype: "bf16".into(),
            rows: 4096,
            cols: 4096,
            tokens: 8,
            nanoseconds: 9000.0,
            dense_nanoseconds: Some(15_300.0),
        };
        let timing = Timing { measurement, floor_nanoseconds: 5700.0, limiter: "memory" };
        let check = |name: &str, worst, failed| Checked {
            name: name.into(),
            run: 72,
            compared: 12_345,
            worst,
            failed,
        };
        let answer = Answer {
            device: Card {
                name: "A card".into(),
                sm: 90,
                multiprocessors: 132,
                memory_bytes: 85_000_000_000,
                bytes_per_second: 3.35e12,
                driver: 13_000,
            },
            self_test: vec![Instruction { name: "probe_f16_0", compared: 2048, wrong: 0 }],
            checks: vec![
                check("pack i8", 0.0, Vec::new()),
                check("mma.sp gemm f16", 1.5, vec!["1x1: far off".into()]),
            ],
            rates: vec![Rate { name: "rate_sparse_f16", operations: 1.2e15 }],
            dense: Some("cuBLAS 13.0".into()),
            timings: vec![timing],
            kept_in: Some("somewhere/gpu-a-card.json".into()),
            passed: false,
        };
        insta::assert_snapshot!(text(&answer));
    }
}
