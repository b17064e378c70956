//! How did it learn? Accuracy and losses over every epoch, with a line where it was pruned.

use super::chart::{self, Area, BLUE, Context2d, FONT, Frame, INK, MUTED, ORANGE, failed};
use anyhow::Result;
use plotters::{
    coord::ranged1d::{Ranged, ValueFormatter},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use secateur::train::Epoch;

const SIZE: (u32, u32) = (540, 330);
/// Room for a line's label.
const LABEL: f64 = 60.0;

/// An uninterrupted stretch of epochs.
pub struct Phase<'a> {
    /// Epochs before it.
    pub before: usize,
    pub epochs: &'a [Epoch],
    /// The place of its best epoch among `epochs`.
    pub best: usize,
}

impl Phase<'_> {
    /// The epoch whose weights were taken.
    pub fn best(&self) -> &Epoch {
        &self.epochs[self.best]
    }
}

/// The phases in order. Each has at least one epoch.
pub fn phases(epochs: &[Epoch]) -> Vec<Phase<'_>> {
    let mut before = 0;
    let mut phases = Vec::new();
    for epochs in epochs.chunk_by(|one, next| one.phase == next.phase) {
        let best = epochs.iter().rposition(|epoch| epoch.best).unwrap_or(epochs.len() - 1);
        phases.push(Phase { before, epochs, best });
        before += epochs.len();
    }
    phases
}

/// Both charts.
pub fn section(epochs: &[Epoch]) -> Result<String> {
    if epochs.is_empty() {
        return Ok("<p>No epoch was recorded.</p>\n".to_owned());
    }
    let phases = phases(epochs);
    Ok(format!("<div class=\"pair\">\n{}{}</div>\n", accuracy(&phases)?, loss(&phases)?))
}

fn accuracy(phases: &[Phase<'_>]) -> Result<String> {
    let (bottom, top, cut_off) = window(phases);
    let told: Vec<String> = phases
        .iter()
        .map(|phase| {
            let Epoch { phase: name, validation_accuracy, epoch, .. } = phase.best();
            format!("{name}: best {:.2} % in epoch {epoch}", validation_accuracy * 100.0)
        })
        .collect();
    let frame = Frame {
        id: "accuracy",
        title: "Validation accuracy by epoch",
        description: &told.join("; "),
        size: SIZE,
    };
    let digits = usize::from(top - bottom < 0.1) + usize::from(top - bottom < 0.01);
    let svg = frame.draw(|area| {
        let mut chart =
            builder(area).build_cartesian_2d(span(phases), bottom..top).map_err(failed)?;
        let percent = |share: &f64| format!("{:.digits$} %", share * 100.0);
        chart::mesh(&mut chart, ("epoch", ""), &whole, &percent)?;
        cuts(&mut chart, phases, bottom, top)?;
        let seen = |epoch: &Epoch| epoch.validation_accuracy.max(bottom);
        line(&mut chart, phases, &seen, BLUE, 2)?;
        best(&mut chart, phases, &seen)
    })?;
    let cut_off = match cut_off {
        0 => String::new(),
        1 => " One epoch lies below the chart; it is drawn at its edge.".to_owned(),
        n => format!(" {n} epochs lie below the chart; they are drawn at its edge."),
    };
    let words = format!(
        "<span class=\"dot blue\"></span> best epoch of each phase, whose weights are taken. \
         Upright lines: pruned, to the sparsity above them.{cut_off}"
    );
    Ok(chart::figure("Validation accuracy", &svg, &words))
}

/// From where to where accuracy is shown: the first epochs of a phase may be so bad that everything after
/// them would be a flat line. Also how many lie below.
fn window(phases: &[Phase<'_>]) -> (f64, f64, usize) {
    let all = || phases.iter().flat_map(|phase| phase.epochs);
    let mut sorted: Vec<f64> = all().map(|epoch| epoch.validation_accuracy).collect();
    sorted.sort_by(f64::total_cmp);
    let (worst, top) = (sorted[sorted.len() / 10], sorted[sorted.len() - 1]);
    let margin = ((top - worst) * 0.15).max(0.001);
    let bottom = (worst - margin).max(0.0);
    let below = sorted.iter().filter(|accuracy| **accuracy < bottom).count();
    (bottom, top + margin, below)
}

fn loss(phases: &[Phase<'_>]) -> Result<String> {
    let all = || phases.iter().flat_map(|phase| phase.epochs);
    let losses = || all().flat_map(|epoch| [epoch.train_loss, epoch.validation_loss]);
    // A loss of zero has no place on a logarithmic axis.
    let least = losses().filter(|loss| *loss > 0.0).fold(f64::INFINITY, f64::min);
    let least = if least.is_finite() { least } else { 1e-3 };
    let (bottom, top) = (least / 1.2, losses().fold(least, f64::max) * 1.2);
    let told = format!(
        "from {:.4} to {:.4} nats over {} epochs",
        least,
        losses().fold(least, f64::max),
        all().count()
    );
    let frame = Frame { id: "loss", title: "Losses by epoch", description: &told, size: SIZE };
    let svg = frame.draw(|area| {
        let mut chart = builder(area)
            .build_cartesian_2d(
                span(phases),
                (bottom..top).log_scale().with_key_points(chart::decades(&(bottom..top))),
            )
            .map_err(failed)?;
        let plain = |loss: &f64| format!("{loss}");
        chart::mesh(&mut chart, ("epoch", ""), &whole, &plain)?;
        cuts(&mut chart, phases, bottom, top)?;
        line(&mut chart, phases, &|epoch| epoch.train_loss.max(bottom), ORANGE, 2)?;
        let seen = |epoch: &Epoch| epoch.validation_loss.max(bottom);
        line(&mut chart, phases, &seen, BLUE, 2)?;
        best(&mut chart, phases, &seen)
    })?;
    let words = "<span class=\"line blue\"></span> validation, <span class=\"line orange\"></span> \
                 training with dropout on. Mean cross-entropy in nats; the axis is logarithmic.";
    Ok(chart::figure("Loss", &svg, words))
}

fn builder<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder
        .margin_top(30)
        .margin_right(18)
        .margin_bottom(4)
        .x_label_area_size(46)
        .y_label_area_size(66);
    builder
}

fn span(phases: &[Phase<'_>]) -> std::ops::Range<f64> {
    let epochs: usize = phases.iter().map(|phase| phase.epochs.len()).sum();
    0.5..epochs as f64 + 0.5
}

fn whole(epoch: &f64) -> String {
    if epoch.fract() == 0.0 { format!("{epoch}") } else { String::new() }
}

fn line<Y>(
    chart: &mut Context2d<'_, '_, plotters::coord::types::RangedCoordf64, Y>,
    phases: &[Phase<'_>],
    of: &dyn Fn(&Epoch) -> f64,
    colour: RGBColor,
    width: u32,
) -> Result<()>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    for phase in phases {
        let points: Vec<(f64, f64)> = phase
            .epochs
            .iter()
            .enumerate()
            .map(|(at, epoch)| ((phase.before + at + 1) as f64, of(epoch)))
            .collect();
        chart.draw_series(LineSeries::new(points, colour.stroke_width(width))).map_err(failed)?;
    }
    Ok(())
}

/// A dot on the best epoch of each phase.
fn best<Y>(
    chart: &mut Context2d<'_, '_, plotters::coord::types::RangedCoordf64, Y>,
    phases: &[Phase<'_>],
    of: &dyn Fn(&Epoch) -> f64,
) -> Result<()>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let dots = phases.iter().map(|phase| {
        let at = ((phase.before + phase.best + 1) as f64, of(phase.best()));
        Circle::new(at, 5, BLUE.filled())
    });
    chart.draw_series(dots).map_err(failed)?;
    Ok(())
}

/// An upright line before each phase that follows a pruning, the sparsity above it where there is room: the
/// last one has it.
fn cuts<Y>(
    chart: &mut Context2d<'_, '_, plotters::coord::types::RangedCoordf64, Y>,
    phases: &[Phase<'_>],
    bottom: f64,
    top: f64,
) -> Result<()>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let text = FONT.into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Bottom));
    let unit = f64::from(SIZE.0 - 84) / span(phases).end;
    let mut free = f64::INFINITY;
    for phase in phases.iter().skip(1).rev() {
        let x = phase.before as f64 + 0.5;
        let upright = PathElement::new([(x, bottom), (x, top)], MUTED.stroke_width(1));
        chart.draw_series([upright]).map_err(failed)?;
        if x * unit <= free {
            free = x * unit - LABEL;
            let percent = format!("{}", (phase.best().sparsity * 1000.0).round() / 10.0);
            let label = Text::new(format!("{percent} %"), (x, top), text.clone());
            chart.draw_series([label]).map_err(failed)?;
        }
    }
    Ok(())
}
