//! What do the figures look like? Speed-up over tokens by shape, and a roofline: how far each kernel is from
//! what the machine could do.
//!
//! The roofline counts what is done, not what dense would do: multiplications of stored weights over bytes
//! that must be read and written at least once. What stays in a cache may lie above the memory's line.

use super::{Answer, rows::Row};
use anyhow::{Context, Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::*,
    style::{
        Color, RGBColor,
        text_anchor::{HPos, Pos, VPos},
    },
};
use secateur::storage::write_atomically;
use std::path::Path;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Okabe and Ito's colours, which differ for every eye.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];
const FONT: &str = "sans-serif";

/// Writes both panels as one SVG file.
pub fn write(answer: &Answer, path: &Path) -> Result<()> {
    let svg = draw(answer).context("cannot draw the plot")?;
    write_atomically(path, svg.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

fn draw(answer: &Answer) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (1200, 520)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (left, right) = root.split_horizontally(600);
        speedups(&answer.rows, &left)?;
        roofline(answer, &right)?;
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}

/// A kernel and everything about it but the operands' size.
fn kernel(row: &Row) -> (String, String, usize) {
    (row.what(), row.kernel.clone(), row.threads)
}

/// One line a shape, of the kernel that was measured at most sizes.
fn speedups(rows: &[Row], area: &Area<'_>) -> Result<()> {
    let compared: Vec<&Row> = rows.iter().filter(|row| row.speedup.is_some()).collect();
    let sizes = |row: &Row| compared.iter().filter(|other| kernel(other) == kernel(row)).count();
    // Of several the first.
    let Some(most) = compared.iter().rev().max_by_key(|row| sizes(row)) else {
        let caption = "No dense product to compare with";
        let style = (FONT, 16).into_text_style(area);
        return area.draw_text(caption, &style, (20, 20)).map_err(failed);
    };
    let shown: Vec<&Row> =
        compared.iter().filter(|row| kernel(row) == kernel(most)).copied().collect();
    let mut shapes: Vec<_> = Vec::new();
    for row in &shown {
        if !shapes.contains(&row.shape) {
            shapes.push(row.shape);
        }
    }
    let tokens = shown.iter().map(|row| row.tokens as f64);
    let (least, greatest) =
        (tokens.clone().fold(f64::INFINITY, f64::min), tokens.fold(1.0, f64::max));
    let highest = shown.iter().filter_map(|row| row.speedup).fold(1.0, f64::max);
    let threads =
        if most.threads > 1 { format!(", {} threads", most.threads) } else { String::new() };
    let caption =
        format!("{}, {}{threads}: speed-up over the best dense product", most.what(), most.kernel);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d(
            (least / 1.25..greatest * 1.25).log_scale().base(2.0),
            0.0..(highest * 1.25),
        )
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("tokens")
        .y_desc("times as fast")
        .x_label_formatter(&|tokens| format!("{tokens:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(failed)?;
    let even = [(least / 1.25, 1.0), (greatest * 1.25, 1.0)];
    chart.draw_series(LineSeries::new(even, BLACK.mix(0.6))).map_err(failed)?;
    for (at, shape) in shapes.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let of_shape = shown.iter().filter(|row| row.shape == *shape);
        let mut points: Vec<(f64, f64)> =
            of_shape.filter_map(|row| Some((row.tokens as f64, row.speedup?))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let line = LineSeries::new(points.clone(), colour.stroke_width(2));
        chart
            .draw_series(line)
            .map_err(failed)?
            .label(shape.to_string())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        let dots = points.into_iter().map(|point| Circle::new(point, 3, colour.filled()));
        chart.draw_series(dots).map_err(failed)?;
    }
    legend(&mut chart, SeriesLabelPosition::UpperRight)
}

/// Every kernel that ran on one thread, under the peak of each tier and the memory's line.
fn roofline(answer: &Answer, area: &Area<'_>) -> Result<()> {
    // Work that is done, in GFLOP/s, over operations a byte.
    let point = |row: &Row| {
        let flops = 2e-9 * row.shape.rows as f64 * row.shape.cols as f64 * row.tokens as f64;
        (flops * row.density * 1e9 / row.bytes, row.gflops * row.density)
    };
    let alone: Vec<&Row> = answer.rows.iter().filter(|row| row.threads == 1).collect();
    let peaks = &answer.machine.peak_gflops;
    let (memory, peak) =
        (answer.machine.bandwidth_gb_s, peaks.values().copied().fold(1.0, f64::max));
    let points: Vec<(f64, f64)> = alone.iter().map(|row| point(row)).collect();
    let least = points.iter().map(|p| p.0).fold(peak / memory, f64::min) / 2.0;
    let most = points.iter().map(|p| p.0).fold(peak / memory, f64::max) * 2.0;
    let lowest = points.iter().map(|p| p.1).fold(peak, f64::min) / 4.0;
    let highest = points.iter().map(|p| p.1).fold(peak, f64::max) * 3.0;
    let mut chart = ChartBuilder::on(area)
        .caption("Roofline of one core: multiplications done, not skipped", (FONT, 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d((least..most).log_scale(), (lowest..highest).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("operations a byte")
        .y_desc("GFLOP/s")
        .x_label_formatter(&|x| format!("{x}"))
        .y_label_formatter(&|y| format!("{y}"))
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(failed)?;
    let right = (FONT, 12).into_text_style(area).pos(Pos::new(HPos::Right, VPos::Bottom));
    let middle = (peak / memory * least).sqrt();
    let said = Text::new(format!("{memory:.0} GB/s"), (middle, middle * memory), right.clone());
    chart.draw_series([said]).map_err(failed)?;
    for (tier, peak) in peaks {
        let ridge = peak / memory;
        let roof = [(least, least * memory), (ridge.max(least), *peak), (most, *peak)];
        let roof: Vec<(f64, f64)> = roof.into_iter().filter(|p| p.1 >= lowest).collect();
        chart.draw_series(LineSeries::new(roof, BLACK.mix(0.6))).map_err(failed)?;
        let said =
            Text::new(format!("{tier}: {peak:.0} GFLOP/s"), (most, peak * 1.04), right.clone());
        chart.draw_series([said]).map_err(failed)?;
    }
    let name = |row: &Row| format!("{}, {}", row.what(), row.kernel);
    let mut names: Vec<String> = Vec::new();
    for row in &alone {
        if !names.contains(&name(row)) {
            names.push(name(row));
        }
    }
    for (at, one) in names.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let mine = alone.iter().filter(|row| name(row) == *one);
        // A second time round the colours, rings.
        let style = if at < COLOURS.len() { colour.filled() } else { colour.stroke_width(1) };
        let dots = mine.map(|row| Circle::new(point(row), 4, style));
        chart
            .draw_series(dots)
            .map_err(failed)?
            .label(one)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, style));
    }
    legend(&mut chart, SeriesLabelPosition::LowerRight)
}

fn legend<'a, 'b, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>,
    place: SeriesLabelPosition,
) -> Result<()>
where
    'b: 'a,
    X: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    chart
        .configure_series_labels()
        .position(place)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .label_font((FONT, 12))
        .draw()
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{cases::Setting, rows, suite::Machine};
    use secateur::kernels::Tier;
    use std::collections::BTreeMap;

    fn answer(rows: Vec<Row>) -> Answer {
        let peak_gflops = BTreeMap::from([("avx512".to_owned(), 250.0)]);
        let machine = Machine { peak_gflops, bandwidth_gb_s: 30.0 };
        Answer { machine, dense: vec![], compared: vec![], break_even: vec![], rows }
    }

    #[test]
    fn both_panels_name_what_they_show() {
        let row = |shape: &str, tokens| {
            let setting =
                Setting { shape: shape.parse().unwrap(), tokens, threads: 1, sparse: vec![] };
            let sparse = rows::tests::measured(crate::bench::cases::Number::F32, Tier::Avx512, 1.0);
            let mut row = rows::rows(&setting, &[], &[sparse], Tier::Avx512, |_| None).remove(0);
            row.speedup = Some(1.5);
            row
        };
        let svg = draw(&answer(vec![row("8x16", 1), row("8x16", 64), row("32x16", 4)])).unwrap();
        for said in ["<svg", "8x16", "32x16", "tokens", "Roofline", "avx512: 250", "f32 2:4"] {
            assert!(svg.contains(said), "{said} is not in the plot");
        }
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn a_run_without_dense_products_is_drawn_too() {
        assert!(draw(&answer(vec![])).unwrap().contains("No dense product"));
    }
}
