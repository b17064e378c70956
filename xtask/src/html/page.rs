//! What holds the sections together? A head that says what the run came to, links, and one style sheet.

use super::Page;
use crate::report::Report;

/// A part of the page, with a heading of its own.
pub struct Section {
    id: String,
    title: String,
    html: String,
}

impl Section {
    /// A section whose `html` is taken as it is; the title is text.
    pub fn new(id: &str, title: &str, html: String) -> Self {
        Self { id: id.to_owned(), title: title.to_owned(), html }
    }
}

/// Light and dark, screen and paper.
const STYLE: &str = include_str!("style.css");

/// Tells the browser what the page promises: nothing is loaded, nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The page of a run around its sections.
pub fn whole(page: &Page<'_>, sections: &[Section]) -> String {
    let report = page.report;
    let title = format!("{}, seed {}, on {}", report.recipe, report.seed, report.data);
    let head = format!(
        "<p class=\"run\">{seed} · {pattern} · {data}</p>\n<h1>{recipe}</h1>\n\
         <p class=\"about\">{about}</p>\n{figures}",
        seed = format_args!("seed {}", report.seed),
        pattern = escape(&report.pruned.pattern),
        data = escape(&report.data),
        recipe = escape(&report.recipe),
        about = escape(page.about),
        figures = figures(report),
    );
    document(&title, &head, sections)
}

/// A page of any sections below a `head` that is taken as it is; the title is text.
pub fn document(title: &str, head: &str, sections: &[Section]) -> String {
    let links: String = sections
        .iter()
        .map(|section| format!("<a href=\"#{}\">{}</a>\n", section.id, escape(&section.title)))
        .collect();
    let body: String = sections
        .iter()
        .map(|Section { id, title, html }| {
            let title = escape(title);
            format!(
                "<section id=\"{id}\" aria-labelledby=\"{id}-heading\">\n\
                 <h2 id=\"{id}-heading\">{title}</h2>\n{html}</section>\n"
            )
        })
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n\
         {head}</header>\n\
         <nav aria-label=\"Sections\">\n{links}</nav>\n<main>\n{body}</main>\n\
         <footer>secateur {version}</footer>\n</body>\n</html>\n",
        title = escape(title),
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// What the run came to, in four figures.
fn figures(report: &Report) -> String {
    let (dense, pruned) = (&report.dense, &report.pruned.side);
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let (proof, said) = match report.pruned.verified {
        true => ("proved", "every layer has its pattern; packing changed nothing"),
        false => ("not proved", "the packed network is not what it should be"),
    };
    let one = |name: &str, figure: &str, below: &str| {
        format!(
            "<div><dt>{name}</dt><dd><strong>{}</strong><span>{}</span></dd></div>\n",
            escape(figure),
            escape(below)
        )
    };
    let figures = [
        one(
            "Compression",
            &format!("{:.2}×", report.pruned.compression),
            &format!(
                "{} of {} parameters left",
                crate::table::count(report.pruned.nonzero),
                crate::table::count(pruned.parameters)
            ),
        ),
        one(
            "Test error",
            &format!("{:.2} → {}", dense.error * 100.0, percent(pruned.error)),
            &format!("dense → pruned, on {} samples", crate::table::count(report.test_samples)),
        ),
        one(
            "File",
            &format!("{:.2}×", dense.bytes as f64 / pruned.bytes.max(1) as f64),
            "smaller on disk, masks and all",
        ),
        one("Pattern", proof, said),
    ];
    format!("<dl class=\"figures\">\n{}</dl>\n", figures.concat())
}

/// Text that cannot be markup, in an element or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            _ => safe.push(letter),
        }
    }
    safe
}
