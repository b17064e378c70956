//! What does a run look like? One page that opens from disk: no network, no script, every picture in it.
//!
//! The page is drawn from what the run holds in memory and nothing else, so that the same run gives the
//! same bytes.

pub mod chart;
mod compression;
pub mod environment;
mod histogram;
mod layers;
pub mod page;
mod picture;
mod png;
mod training;

#[cfg(test)]
mod tests;

pub use environment::environment;

use crate::{
    report::Report,
    table::{self, Row},
};
use anyhow::Result;
use page::{Section, escape};
use secateur::{prelude::Checkpoint, train::Epoch};
use std::{collections::BTreeMap, fmt::Write};

/// Everything that a page shows.
pub struct Page<'a> {
    /// What the run came to.
    pub report: &'a Report,
    /// The recipe's own sentence.
    pub about: &'a str,
    /// Every epoch of every phase, in order.
    pub epochs: &'a [Epoch],
    /// The weights before pruning.
    pub dense: &'a Checkpoint,
    /// The weights after the last retraining.
    pub pruned: &'a Checkpoint,
    /// What is kept.
    pub masks: &'a Checkpoint,
    /// The recipe as TOML.
    pub recipe: &'a str,
    /// What the run ran on, by name.
    pub environment: &'a BTreeMap<String, String>,
    /// Further sections: a title as text, and HTML that is taken as it is.
    pub more: &'a [(String, String)],
}

/// The page as HTML.
pub fn render(page: &Page<'_>) -> Result<String> {
    let layers = layers::of(page)?;
    let mut sections = vec![
        Section::new("questions", "Five questions", questions(page.report)),
        Section::new("training", "Training", training::section(page.epochs)?),
        Section::new(
            "compression",
            "Quality against compression",
            compression::section(page, &layers)?,
        ),
        Section::new("layers", "Sparsity by layer", layers::section(&layers)),
        Section::new("masks", "What is kept", picture::section(&layers)?),
        Section::new("weights", "Weights before and after", histogram::section(&layers)?),
    ];
    for (at, (title, html)) in page.more.iter().enumerate() {
        sections.push(Section::new(&format!("more-{at}"), title, html.clone()));
    }
    sections.push(Section::new("recipe", "Recipe", recipe(page.recipe)));
    sections.push(Section::new(
        "environment",
        "Environment",
        environment::section(page.environment),
    ));
    Ok(page::whole(page, &sections))
}

/// The rows of the terminal's table, and the notes below it.
fn questions(report: &Report) -> String {
    let mut html = String::from(
        "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Five questions\">\
         <table class=\"questions\"><thead><tr><th scope=\"col\">question</th>\
         <th scope=\"col\">measured</th><th scope=\"col\">dense</th><th scope=\"col\">pruned</th>\
         <th scope=\"col\">what it brought</th></tr></thead>\n",
    );
    let rows = table::rows(report);
    // A question and its answers are one group of rows.
    for group in rows.chunk_by(|_, next| next.asked.is_empty()) {
        html += "<tbody>";
        for (at, row) in group.iter().enumerate() {
            let question = match at {
                0 => format!(
                    "<th scope=\"rowgroup\" rowspan=\"{}\">{}</th>",
                    group.len(),
                    escape(row.asked)
                ),
                _ => String::new(),
            };
            answer(&mut html, &question, row);
        }
        html += "</tbody>\n";
    }
    html += "</table></div>\n<p class=\"note\">";
    html += &table::notes(report).iter().map(|note| escape(note)).collect::<Vec<_>>().join(".<br>");
    html + ".</p>\n"
}

fn answer(html: &mut String, question: &str, row: &Row) {
    let class = match row.better {
        Some(true) => " class=\"better\"",
        Some(false) => " class=\"worse\"",
        None => "",
    };
    let _ = write!(
        html,
        "<tr>{question}<td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
         <td{class}>{}</td></tr>",
        escape(&row.what),
        escape(&row.dense),
        escape(&row.pruned),
        escape(&row.gain),
    );
}

fn recipe(toml: &str) -> String {
    format!(
        "<pre class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Recipe, as TOML\">{}</pre>\n",
        escape(toml.trim_end())
    )
}
