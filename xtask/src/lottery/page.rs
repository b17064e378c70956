//! What does the experiment look like? One page: the claims, the curves, every round in numbers.

use super::{
    Answer,
    claims::Verdict,
    note, plot,
    seed::{Kind, ROUNDS, Trained},
};
use crate::{
    html::{
        chart::figure,
        environment,
        page::{Section, document, escape},
    },
    table,
};
use anyhow::Result;

const ABOUT: &str = "Frankle & Carbin (2019) found that a pruned network learns sooner and better than the \
                     dense one if it starts from the same initial weights, and not if it starts from others. \
                     This is their experiment again.";

/// The page as HTML.
pub fn render(answer: &Answer) -> Result<String> {
    let words = "<span class=\"line blue\"></span> from the initial weights, <span class=\"line orange\">\
                 </span> from another draw of them. Means over the seeds, with a bar from the least to the \
                 most. The axis of weights is logarithmic; the dense network is on the left.";
    let mut curves = String::from("<div class=\"pair\">\n");
    for picture in plot::pictures(answer) {
        curves += &figure(picture.title, &picture.svg()?, words);
    }
    curves += "</div>\n";
    let sections = [
        Section::new("claims", "What holds", claims(answer)),
        Section::new("curves", "Curves", curves),
        Section::new("rounds", "All rounds in numbers", rounds(answer)),
        Section::new("environment", "Environment", environment::section(&answer.environment)),
    ];
    let head = format!(
        "<p class=\"run\">{}</p>\n<h1>Lottery tickets</h1>\n<p class=\"about\">{}</p>\n",
        escape(&note(answer)),
        escape(ABOUT)
    );
    Ok(document("Lottery tickets", &head, &sections))
}

fn claims(answer: &Answer) -> String {
    let mut html = open("claims", "What holds", &super::HEADER);
    for claim in &answer.claims {
        let class = match claim.verdict {
            Verdict::Holds => " class=\"better\"",
            Verdict::Fails => " class=\"worse\"",
            Verdict::Open => "",
        };
        let [said, published, reproduced, here, interval, verdict] =
            claim.cells().map(|cell| escape(&cell));
        html += &format!(
            "<tr><th scope=\"row\">{said}</th><td>{published}</td><td>{reproduced}</td><td>{here}</td>\
             <td>{interval}</td><td{class}>{verdict}</td></tr>\n"
        );
    }
    let words = format!(
        "A number is a mean over the seeds ({}). A claim holds or fails if its whole 95 % interval (Student's t) \
         lies on one side, and is open otherwise; accuracies within {} points are equal.",
        answer.seeds.len(),
        answer.margin
    );
    format!("{html}</tbody></table></div>\n<p class=\"note\">{}</p>\n", escape(&words))
}

fn rounds(answer: &Answer) -> String {
    let header = ["weights kept", "start", "early stop", "test accuracy", "at the end, validation"];
    let mut html = open("rounds", "All rounds", &header);
    for round in 0..=ROUNDS {
        for (kind, start) in [(Kind::Ticket, "initial"), (Kind::Control, "re-initialised")] {
            let all = answer.seeds.iter().flat_map(|seed| &seed.trainings);
            let found: Vec<&Trained> =
                all.filter(|trained| (trained.kind, trained.round) == (kind, round)).collect();
            let Some(first) = found.first() else { continue };
            let mean = |of: fn(&Trained) -> f64| {
                found.iter().map(|trained| of(trained)).sum::<f64>() / found.len() as f64
            };
            html += &format!(
                "<tr><th scope=\"row\">{:.1} %</th><td>{start}</td><td>{}</td><td>{:.2} %</td>\
                 <td>{:.2} %</td></tr>\n",
                100.0 * first.kept,
                table::count(mean(|trained| trained.stop as f64).round() as usize),
                100.0 * mean(|trained| trained.test_accuracy),
                100.0 * mean(|trained| trained.end_validation_accuracy),
            );
        }
    }
    html + "</tbody></table></div>\n<p class=\"note\">Means over the seeds.</p>\n"
}

/// A table as far as its first row.
fn open(class: &str, label: &str, header: &[&str]) -> String {
    let cells: String =
        header.iter().map(|cell| format!("<th scope=\"col\">{}</th>", escape(cell))).collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"{label}\">\
         <table class=\"{class}\"><thead><tr>{cells}</tr></thead>\n<tbody>\n"
    )
}
