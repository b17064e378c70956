//! What did each cut cost? Validation accuracy after every phase against compression.

use super::{
    Page,
    chart::{self, BLUE, FONT, Frame, INK, MUTED, failed},
    layers::Layer,
    training,
};
use anyhow::Result;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

const SIZE: (u32, u32) = (600, 310);
/// Room for a label, in the frame's units.
const LABEL: f64 = 64.0;

/// The chart: a point for the best epoch of each phase.
pub fn section(page: &Page<'_>, layers: &[Layer<'_>]) -> Result<String> {
    let parameters = page.report.pruned.side.parameters as f64;
    let masked = layers.iter().filter(|layer| layer.mask.is_some());
    let masked: f64 = masked.map(|layer| layer.total() as f64).sum();
    let points: Vec<(f64, f64)> = training::phases(page.epochs)
        .iter()
        .map(|phase| {
            let best = phase.best();
            (parameters / (parameters - masked * best.sparsity).max(1.0), best.validation_accuracy)
        })
        .collect();
    let Some(&(_, dense)) = points.first() else {
        return Ok("<p>No epoch was recorded.</p>\n".to_owned());
    };
    let most = points.iter().map(|point| point.0).fold(2.0, f64::max);
    let lowest = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let highest = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let margin = ((highest - lowest) * 0.3).max(0.002);
    let (bottom, top) = ((lowest - margin).max(0.0), highest + margin);
    let digits = usize::from(top - bottom < 0.1) + usize::from(top - bottom < 0.01);
    let said = |(compression, accuracy): &(f64, f64)| {
        format!("{:.1}×: {:.2} %", compression, accuracy * 100.0)
    };
    let told = points.iter().map(said).collect::<Vec<_>>().join("; ");
    let frame = Frame {
        id: "trade",
        title: "Validation accuracy against compression",
        description: &told,
        size: SIZE,
    };
    let svg = frame.draw(|area| {
        // The last label stands to the right of its point.
        let across = 0.92..most.powf(1.2);
        let mut chart = ChartBuilder::on(area)
            .margin_top(12)
            .margin_right(18)
            .margin_bottom(4)
            .x_label_area_size(46)
            .y_label_area_size(72)
            .build_cartesian_2d(across.clone().log_scale().base(2.0), bottom..top)
            .map_err(failed)?;
        let times = |compression: &f64| format!("{compression}×");
        let percent = |share: &f64| format!("{:.digits$} %", share * 100.0);
        chart::mesh(&mut chart, ("parameters over parameters left", ""), &times, &percent)?;
        let level = [(across.start, dense), (across.end, dense)];
        chart.draw_series([PathElement::new(level, MUTED.stroke_width(1))]).map_err(failed)?;
        let line = LineSeries::new(points.iter().copied(), BLUE.stroke_width(2));
        chart.draw_series(line).map_err(failed)?;
        let dots = points.iter().map(|point| Circle::new(*point, 5, BLUE.filled()));
        chart.draw_series(dots).map_err(failed)?;
        let unit = f64::from(SIZE.0 - 90) / (across.end / across.start).log2();
        let mut free = f64::INFINITY;
        // The last point is the one that counts: it has its label in any case.
        for (at, point) in points.iter().enumerate().rev() {
            let place = point.0.log2() * unit;
            if place > free {
                continue;
            }
            free = place - LABEL;
            // Where the line is not: on its upper side, or below a first point that it rises from.
            let rises =
                |from: usize| points.get(from + 1).is_some_and(|next| next.1 > points[from].1);
            let (across, side, offset) = match at {
                0 if rises(0) => (HPos::Left, VPos::Top, (0, 10)),
                0 => (HPos::Left, VPos::Bottom, (0, -10)),
                _ if rises(at - 1) => (HPos::Center, VPos::Bottom, (-8, -10)),
                _ => (HPos::Left, VPos::Bottom, (6, -6)),
            };
            let style = FONT.into_font().color(&INK).pos(Pos::new(across, side));
            let label = EmptyElement::at(*point)
                + Text::new(format!("{:.2} %", point.1 * 100.0), offset, style);
            chart.draw_series([label]).map_err(failed)?;
        }
        Ok(())
    })?;
    let words = "A point for the best epoch of each phase, from dense on the left to the last \
                 retraining; the level line is the dense network. The axis of compression is \
                 logarithmic and counts every parameter, biases too. What the test set says is in \
                 the first table: it was looked at once.";
    Ok(chart::figure("Validation accuracy after each phase", &svg, words))
}
