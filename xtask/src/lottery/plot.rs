//! How do the curves look? Early-stopping iteration and test accuracy over the share of weights that is
//! kept, tickets beside their controls: figures 3 and 4 of Frankle & Carbin (2019).

use super::{
    Answer,
    seed::{Kind, ROUNDS, Trained},
};
use crate::{
    html::chart::{self, Area, BLUE, FONT, Frame, INK, ORANGE, failed},
    table,
};
use anyhow::Result;
use plotters::prelude::*;

const SIZE: (u32, u32) = (640, 360);

/// One of the two pictures.
pub struct Picture {
    id: &'static str,
    pub title: &'static str,
    unit: &'static str,
    series: [Series; 2],
}

/// What all seeds came to with one kind of weights.
struct Series {
    name: &'static str,
    colour: RGBColor,
    points: Vec<Point>,
}

/// One round: over the seeds, the mean and from where to where.
struct Point {
    kept: f64,
    mean: f64,
    least: f64,
    most: f64,
}

impl Point {
    fn compression(&self) -> f64 {
        1.0 / self.kept
    }
}

/// Both pictures.
pub fn pictures(answer: &Answer) -> [Picture; 2] {
    let picture = |id, title, unit, of: fn(&Trained) -> f64| Picture {
        id,
        title,
        unit,
        series: [(Kind::Ticket, "ticket", BLUE), (Kind::Control, "re-initialised", ORANGE)]
            .map(|(kind, name, colour)| Series { name, colour, points: points(answer, kind, of) }),
    };
    [
        picture("stops", "Early-stopping iteration", "", |trained| trained.stop as f64),
        picture("accuracy", "Test accuracy at that iteration", " %", |trained| {
            trained.test_accuracy * 100.0
        }),
    ]
}

fn points(answer: &Answer, kind: Kind, of: fn(&Trained) -> f64) -> Vec<Point> {
    let point = |round| {
        let all = || answer.seeds.iter().flat_map(|seed| &seed.trainings);
        let found: Vec<&Trained> =
            all().filter(|trained| (trained.kind, trained.round) == (kind, round)).collect();
        let values = || found.iter().map(|trained| of(trained));
        Some(Point {
            kept: found.first()?.kept,
            mean: values().sum::<f64>() / found.len() as f64,
            least: values().fold(f64::INFINITY, f64::min),
            most: values().fold(f64::NEG_INFINITY, f64::max),
        })
    };
    (0..=ROUNDS).filter_map(point).collect()
}

/// Both beside each other, as a file of its own.
pub fn svg(answer: &Answer) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (2 * SIZE.0, SIZE.1)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (left, right) = root.split_horizontally(SIZE.0);
        for (area, picture) in [left, right].iter().zip(pictures(answer)) {
            picture.draw(area, Some(picture.title))?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

impl Picture {
    /// For a page, which says in words what the colours are.
    pub fn svg(&self) -> Result<String> {
        let said = |series: &Series| -> Vec<String> {
            let points = series.points.iter();
            points
                .map(|p| {
                    format!("{} at {:.1} %: {}", series.name, 100.0 * p.kept, self.show(p.mean))
                })
                .collect()
        };
        let description = self.series.iter().flat_map(said).collect::<Vec<_>>().join("; ");
        let frame = Frame { id: self.id, title: self.title, description: &description, size: SIZE };
        frame.draw(|area| self.draw(area, None))
    }

    fn show(&self, value: f64) -> String {
        match self.unit {
            "" => table::count(value.round() as usize),
            unit => format!("{value:.2}{unit}"),
        }
    }

    /// With a caption, colours are explained in the picture.
    fn draw(&self, area: &Area<'_>, caption: Option<&str>) -> Result<()> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let least = points().map(|point| point.least).fold(f64::INFINITY, f64::min);
        let most = points().map(|point| point.most).fold(f64::NEG_INFINITY, f64::max);
        let margin = ((most - least) * 0.1).max(if self.unit.is_empty() { 1.0 } else { 0.01 });
        // The words on colours stand below all lines.
        let below = if caption.is_some() { 3.5 * margin } else { margin };
        // The axis is that of compression, so that the dense network is on the left as in the paper.
        let end = points().map(Point::compression).fold(1.0, f64::max);
        let labels = self.series[0].points.iter().enumerate();
        let labels = labels.filter(|(round, _)| *round == 0 || *round > 1 && round % 2 == 1);
        let labels = labels.map(|(_, point)| point.compression()).collect();
        let mut builder = ChartBuilder::on(area);
        builder.margin(12).x_label_area_size(46).y_label_area_size(66);
        if let Some(caption) = caption {
            builder.caption(caption, FONT);
        }
        let mut chart = builder
            .build_cartesian_2d(
                (0.9..end * 1.1).log_scale().with_key_points(labels),
                (least - below).max(0.0)..most + margin,
            )
            .map_err(failed)?;
        let percent = |compression: &f64| format!("{:.1}", 100.0 / compression);
        let value = |value: &f64| match (self.unit, most - least > 2.0) {
            ("", _) => table::count(value.round() as usize),
            (unit, true) => format!("{value:.1}{unit}"),
            (unit, false) => format!("{value:.2}{unit}"),
        };
        chart::mesh(&mut chart, ("weights kept, %", ""), &percent, &value)?;
        for Series { name, colour, points } in &self.series {
            let colour = *colour;
            let means = points.iter().map(|point| (point.compression(), point.mean));
            chart
                .draw_series(LineSeries::new(means.clone(), colour.stroke_width(2)))
                .map_err(failed)?
                .label(*name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
                });
            chart
                .draw_series(means.map(|mean| Circle::new(mean, 4, colour.filled())))
                .map_err(failed)?;
            let bars = points.iter().map(|point| {
                let x = point.compression();
                PathElement::new([(x, point.least), (x, point.most)], colour.stroke_width(1))
            });
            chart.draw_series(bars).map_err(failed)?;
        }
        if caption.is_some() {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerLeft)
                .background_style(WHITE.mix(0.8))
                .label_font(FONT.into_font().color(&INK))
                .draw()
                .map_err(failed)?;
        }
        Ok(())
    }
}
