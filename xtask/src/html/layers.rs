//! What became of each layer? How much of it is kept, as a table that is its own picture.

use super::{Page, page::escape};
use crate::table::count;
use anyhow::{Context, Result};
use secateur::prelude::Mask;
use std::fmt::Write;

/// A weight with its values and what is kept of it.
pub struct Layer<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    /// Outputs, and weights of each: a convolution's row is `in * kh * kw`.
    pub rows: usize,
    pub cols: usize,
    pub before: Vec<f32>,
    /// The weights that are kept, with their last values.
    pub survivors: Vec<f32>,
    /// None for a weight that was never pruned.
    pub mask: Option<&'a Mask>,
}

impl Layer<'_> {
    pub fn total(&self) -> usize {
        self.before.len()
    }

    pub fn kept(&self) -> usize {
        self.survivors.len()
    }

    /// The shape in words.
    pub fn size(&self) -> String {
        self.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
    }
}

/// Every weight of at least two dimensions, by name; vectors are biases and never pruned.
pub fn of<'a>(page: &Page<'a>) -> Result<Vec<Layer<'a>>> {
    let weights = page.dense.tensors.iter().filter(|(_, weight)| weight.shape().len() >= 2);
    weights
        .map(|(name, weight)| {
            let before = weight.unpack().to_f32()?.into_owned();
            let after = page.pruned.tensors.get(name);
            let after =
                after.with_context(|| format!("{name} is missing in the pruned network"))?;
            let after = after.unpack().to_f32()?.into_owned();
            let mask = page.masks.masks.get(name);
            let survivors = match mask {
                Some(mask) => after
                    .iter()
                    .zip(mask.iter())
                    .filter(|(_, kept)| *kept)
                    .map(|(w, _)| *w)
                    .collect(),
                None => after,
            };
            let shape = weight.shape();
            let rows = shape.first().copied().unwrap_or_default();
            let cols = before.len().checked_div(rows).unwrap_or_default();
            Ok(Layer { name, shape, rows, cols, before, survivors, mask })
        })
        .collect()
}

/// A row for each layer, and one for all of them.
pub fn section(layers: &[Layer<'_>]) -> String {
    let mut html = String::from(
        "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Sparsity by layer\">\
         <table class=\"layers\"><thead><tr><th scope=\"col\">layer</th><th scope=\"col\">shape</th>\
         <th scope=\"col\" class=\"number\">kept</th><th scope=\"col\" class=\"number\">of</th>\
         <th scope=\"col\" class=\"number\">sparsity</th>\
         <th scope=\"col\" class=\"wide\"><span class=\"box blue\"></span> kept \
         <span class=\"box grey\"></span> cut</th></tr></thead>\n<tbody>",
    );
    for layer in layers {
        row(&mut html, layer.name, &layer.size(), layer.kept(), layer.total());
    }
    html += "</tbody>\n<tfoot>";
    let (kept, total) = sums(layers);
    row(&mut html, "all", "", kept, total);
    html + "</tfoot></table></div>\n"
}

/// Weights kept, and weights, over all layers.
pub fn sums(layers: &[Layer<'_>]) -> (usize, usize) {
    (layers.iter().map(Layer::kept).sum(), layers.iter().map(Layer::total).sum())
}

fn row(html: &mut String, name: &str, shape: &str, kept: usize, total: usize) {
    let share = 100.0 * kept as f64 / total.max(1) as f64;
    let _ = write!(
        html,
        "<tr><th scope=\"row\">{}</th><td>{shape}</td><td class=\"number\">{}</td>\
         <td class=\"number\">{}</td><td class=\"number\">{:.1} %</td>\
         <td><span class=\"bar\"><span style=\"width:{share:.2}%\"></span></span></td></tr>",
        escape(name),
        count(kept),
        count(total),
        100.0 - share,
    );
}
