//! What does a mask look like? Every kept entry a pixel; large masks are averaged.
//!
//! A picture is one colour whose opacity is the share kept, so that it reads on light and dark alike.

use super::{layers::Layer, page::escape, png};
use crate::table::count;
use anyhow::Result;
use secateur::prelude::Mask;

/// Pixels of all pictures together: what keeps the page small.
const MOST_PIXELS: usize = 400_000;
/// A picture is enlarged until it would be larger than this, in pixels of a screen.
const WIDEST: usize = 800;
const HIGHEST: usize = 420;
/// A pixel is enlarged so many times, or until its picture is so wide.
const ZOOM: usize = 8;
const WIDE_ENOUGH: usize = 224;

/// Shares between 0 and 1, row by row.
struct Picture {
    width: usize,
    height: usize,
    shares: Vec<f64>,
}

/// A picture for each mask, and one of the input where it is a square.
pub fn section(layers: &[Layer<'_>]) -> Result<String> {
    let masks = || layers.iter().filter_map(|layer| Some((layer, layer.mask?)));
    let most = fair_share(&masks().map(|(layer, _)| layer.total()).collect::<Vec<_>>());
    let mut html = String::from(
        "<p class=\"note\">A row is an output, a column one of its inputs; <span class=\"box blue\">\
         </span> is kept.</p>\n<div class=\"masks\">\n",
    );
    for (at, (layer, mask)) in masks().enumerate() {
        let step = step(layer, most);
        let picture = mask_picture(layer, mask, step);
        let mut words = format!(
            "{}: {} of {} kept",
            escape(&layer.size()),
            count(layer.kept()),
            count(layer.total())
        );
        if step > 1 {
            words += &format!("; a pixel is {step}×{step} entries, the fullest keeps ");
            words += &format!("{:.0}\u{a0}%", picture.most() * 100.0);
        }
        let told = format!("The mask of {}", layer.name);
        html += &figure(layer.name, &picture, &told, &words);
        if at == 0
            && let Some(side) = square_input(layer)
        {
            let inputs = input_picture(layer, mask, side);
            let words = format!(
                "How much of each input is kept by {}, as the {side}×{side} picture it comes from: \
                 from {:.1}\u{a0}% to {:.1}\u{a0}%",
                escape(layer.name),
                inputs.least() * 100.0,
                inputs.most() * 100.0
            );
            html += &figure("What it looks at", &inputs, "Share kept of every input pixel", &words);
        }
    }
    Ok(html + "</div>\n")
}

/// As many pixels for each as lets all of them stay below the limit; small ones need less than that.
fn fair_share(totals: &[usize]) -> usize {
    let mut most = MOST_PIXELS;
    while most > 1 && totals.iter().map(|total| (*total).min(most)).sum::<usize>() > MOST_PIXELS {
        most /= 2;
    }
    most
}

/// How many entries along each side become one pixel.
fn step(layer: &Layer<'_>, most: usize) -> usize {
    let pixels = |step: usize| layer.rows.div_ceil(step) * layer.cols.div_ceil(step);
    let mut step = 1;
    while pixels(step) > most && step < layer.rows.max(layer.cols) {
        step += 1;
    }
    step
}

fn mask_picture(layer: &Layer<'_>, mask: &Mask, step: usize) -> Picture {
    let (width, height) = (layer.cols.div_ceil(step), layer.rows.div_ceil(step));
    let (mut kept, mut all) = (vec![0_u32; width * height], vec![0_u32; width * height]);
    for (at, bit) in mask.iter().enumerate() {
        let pixel = at / layer.cols / step * width + at % layer.cols / step;
        kept[pixel] += u32::from(bit);
        all[pixel] += 1;
    }
    let shares = kept.iter().zip(&all).map(|(kept, all)| f64::from(*kept) / f64::from(*all));
    Picture { width, height, shares: shares.collect() }
}

/// The side of the input picture, if a row of this first layer can be one.
fn square_input(layer: &Layer<'_>) -> Option<usize> {
    let side = layer.cols.isqrt();
    (layer.shape.len() == 2 && side > 1 && side * side == layer.cols).then_some(side)
}

/// The share of outputs that look at each input.
fn input_picture(layer: &Layer<'_>, mask: &Mask, side: usize) -> Picture {
    let mut kept = vec![0_u32; layer.cols];
    for (at, bit) in mask.iter().enumerate() {
        kept[at % layer.cols] += u32::from(bit);
    }
    let shares = kept.iter().map(|kept| f64::from(*kept) / layer.rows as f64).collect();
    Picture { width: side, height: side, shares }
}

impl Picture {
    fn most(&self) -> f64 {
        self.shares.iter().copied().fold(0.0, f64::max)
    }

    fn least(&self) -> f64 {
        self.shares.iter().copied().fold(1.0, f64::min)
    }

    /// As a file in a link, the largest share opaque.
    fn link(&self) -> String {
        let most = self.most().max(f64::MIN_POSITIVE);
        // Sixteen steps are what an eye tells apart here, and pack well.
        let levels = self.shares.iter().map(|share| (share / most * 15.0).round() as u8 * 17);
        png::link(self.width, self.height, &levels.collect::<Vec<u8>>())
    }
}

/// `words` are HTML, the rest is text.
fn figure(title: &str, picture: &Picture, told: &str, words: &str) -> String {
    let Picture { width, height, .. } = picture;
    let (across, down) = (WIDEST / width.max(&1), HIGHEST / height.max(&1));
    let zoom = across.min(down).clamp(1, ZOOM.max(WIDE_ENOUGH / width.max(height).max(&1)));
    let class = if zoom > 1 { "mask pixels" } else { "mask" };
    format!(
        "<figure><h3>{}</h3>\n<img class=\"{class}\" src=\"{}\" width=\"{}\" height=\"{}\" alt=\"{}\">\n\
         <figcaption>{words}</figcaption></figure>\n",
        escape(title),
        picture.link(),
        width * zoom,
        height * zoom,
        escape(told),
    )
}
