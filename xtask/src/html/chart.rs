//! How is a chart drawn into a page? With plotters, on a few colours that the style sheet knows, so that it
//! follows light and dark.
//!
//! The style sheet finds each colour by the attribute that plotters writes; a colour that is not listed here
//! stays as it is in both schemes.

use super::page::escape;
use anyhow::{Context, Result, anyhow};
use plotters::{
    coord::{
        Shift,
        ranged1d::{Ranged, ValueFormatter},
    },
    prelude::*,
    style::RGBColor,
};

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub type Context2d<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

/// Text.
pub const INK: RGBColor = RGBColor(0, 0, 0);
/// Axes, what is only for comparison.
pub const MUTED: RGBColor = RGBColor(120, 120, 120);
/// Lines of the grid.
pub const GRID: RGBColor = RGBColor(225, 225, 225);
/// What is kept, what is validated. This and the next are of Okabe and Ito's, which differ for every eye.
pub const BLUE: RGBColor = RGBColor(0, 114, 178);
/// The second line of a chart.
pub const ORANGE: RGBColor = RGBColor(213, 94, 0);

pub const FONT: (&str, i32) = ("sans-serif", 17);

/// What a chart is called and how large it is, in units of its own.
pub struct Frame<'a> {
    pub id: &'a str,
    pub title: &'a str,
    /// What a person who does not see it is told.
    pub description: &'a str,
    pub size: (u32, u32),
}

impl Frame<'_> {
    /// An `svg` element that is as wide as its place.
    pub fn draw(&self, draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, self.size).into_drawing_area();
            draw(&root)?;
            root.present().map_err(failed)?;
        }
        let (_, inside) = svg.split_once('>').context("plotters wrote no svg")?;
        let ((width, height), id) = (self.size, self.id);
        let (title, description) = (escape(self.title), escape(self.description));
        Ok(format!(
            "<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-labelledby=\"{id}-title {id}-description\">\n<title id=\"{id}-title\">{title}</title>\n\
             <desc id=\"{id}-description\">{description}</desc>{inside}"
        ))
    }
}

/// Axes and grid, the same in every chart.
pub fn mesh<X, Y>(
    chart: &mut Context2d<'_, '_, X, Y>,
    (x, y): (&str, &str),
    x_label: &dyn Fn(&f64) -> String,
    y_label: &dyn Fn(&f64) -> String,
) -> Result<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let text = FONT.into_font().color(&INK);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(MUTED)
        .label_style(text.clone())
        .axis_desc_style(text)
        .x_labels(8)
        .y_labels(6)
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&x_label)
        .y_label_formatter(&y_label)
        .draw()
        .map_err(failed)
}

/// Where a logarithmic axis has its labels: 1, 2 and 5 of each decade, or only 1 if those are many.
pub fn decades(range: &std::ops::Range<f64>) -> Vec<f64> {
    let exponents = || range.start.log10().floor() as i32..=range.end.log10().floor() as i32;
    let labels = |digits: &[u8]| -> Vec<f64> {
        // Parsed, not multiplied: 0.2 is to be the nearest to 0.2.
        let label = |exponent, digit| format!("{digit}e{exponent}").parse::<f64>().ok();
        exponents()
            .flat_map(|exponent| digits.iter().filter_map(move |digit| label(exponent, digit)))
            .filter(|label| range.contains(label))
            .collect()
    };
    let fine = labels(&[1, 2, 5]);
    if fine.len() <= 8 { fine } else { labels(&[1]) }
}

pub fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw a chart: {error}")
}

/// A chart with its words, in a box of its own that scrolls where the page is narrower. `words` are HTML.
pub fn figure(title: &str, svg: &str, words: &str) -> String {
    format!(
        "<figure><h3>{title}</h3>\n<div class=\"scroll\" tabindex=\"0\" role=\"group\" \
         aria-label=\"{title}\">{svg}</div>\n<figcaption>{words}</figcaption></figure>\n",
        title = escape(title)
    )
}
