//! How are weights spread before and after? One histogram a layer, dense behind, survivors in front.
//!
//! Counts are on a logarithmic axis: a layer that keeps a tenth would be a line on the floor otherwise.

use super::{
    chart::{self, BLUE, Frame, MUTED, failed},
    layers::Layer,
};
use crate::table::count;
use anyhow::Result;
use plotters::prelude::*;

const BINS: usize = 60;
/// The floor of the logarithmic axis, below one weight.
const FLOOR: f64 = 0.7;

/// A histogram for each layer.
pub fn section(layers: &[Layer<'_>]) -> Result<String> {
    let mut html = String::from(
        "<p class=\"note\"><span class=\"box grey\"></span> dense \
         <span class=\"box blue\"></span> survivors, retrained. Counts are on a logarithmic axis; \
         both have the same bins.</p>\n<div class=\"tiles\">\n",
    );
    for (at, layer) in layers.iter().enumerate() {
        html += &histogram(at, layer)?;
    }
    Ok(html + "</div>\n")
}

fn histogram(at: usize, layer: &Layer<'_>) -> Result<String> {
    let all = || layer.before.iter().chain(&layer.survivors);
    let largest = all().map(|w| f64::from(w.abs())).filter(|w| w.is_finite()).fold(0.0, f64::max);
    let edge = if largest > 0.0 { largest } else { 1.0 };
    let (before, after) = (bins(&layer.before, edge), bins(&layer.survivors, edge));
    let most = before.iter().chain(&after).copied().max().unwrap_or(1).max(2) as f64;
    let told = format!(
        "{} weights before and {} survivors after, all between -{edge:.3} and {edge:.3}",
        layer.total(),
        layer.kept()
    );
    let frame = Frame {
        id: &format!("weights-{at}"),
        title: &format!("Weights of {}", layer.name),
        description: &told,
        size: (480, 300),
    };
    let svg = frame.draw(|area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(10)
            .margin_right(14)
            .margin_bottom(4)
            .x_label_area_size(28)
            .y_label_area_size(62)
            .build_cartesian_2d(-edge..edge, (FLOOR..most * 1.5).log_scale())
            .map_err(failed)?;
        let weight = |w: &f64| format!("{}", (w * 1e6).round() / 1e6 + 0.0);
        let counted = |n: &f64| if *n < 1.0 { String::new() } else { count(*n as usize) };
        chart::mesh(&mut chart, ("", ""), &weight, &counted)?;
        let grey = Polygon::new(outline(&before, edge), MUTED.mix(0.45).filled());
        let blue = Polygon::new(outline(&after, edge), BLUE.mix(0.45).filled());
        chart.draw_series([grey, blue]).map_err(failed)?;
        let line = PathElement::new(outline(&after, edge), BLUE.stroke_width(2));
        chart.draw_series([line]).map_err(failed)?;
        Ok(())
    })?;
    let words = format!("{} before, {} after", count(layer.total()), count(layer.kept()));
    Ok(chart::figure(layer.name, &svg, &words))
}

/// Weights by bin over `-edge..edge`; what is not a number is in none.
fn bins(weights: &[f32], edge: f64) -> [usize; BINS] {
    let mut bins = [0; BINS];
    for weight in weights.iter().filter(|weight| weight.is_finite()) {
        let place = (f64::from(*weight) / edge + 1.0) / 2.0 * BINS as f64;
        bins[(place as usize).min(BINS - 1)] += 1;
    }
    bins
}

/// The steps of a histogram, from floor to floor.
fn outline(bins: &[usize; BINS], edge: f64) -> Vec<(f64, f64)> {
    let x = |bin: usize| (2.0 * bin as f64 / BINS as f64 - 1.0) * edge;
    let mut points = vec![(x(0), FLOOR)];
    for (bin, &n) in bins.iter().enumerate() {
        let height = (n as f64).max(FLOOR);
        points.extend([(x(bin), height), (x(bin + 1), height)]);
    }
    points.push((x(BINS), FLOOR));
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_is_in_one_bin() {
        let found = bins(&[-1.0, -0.99, 0.0, 0.01, 1.0, f32::NAN], 1.0);
        assert_eq!(found.iter().sum::<usize>(), 5);
        assert_eq!([found[0], found[BINS / 2], found[BINS - 1]], [2, 2, 1]);
    }
}
