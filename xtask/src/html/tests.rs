//! Does the page hold what it promises, whatever the run was? The browser's part is in `tests/html.rs`.

use super::{Page, layers, render};
use crate::{report::Report, table};
use secateur::{
    prelude::{Checkpoint, Mask, Pattern},
    storage::{Dense, Packed},
    train::Epoch,
};
use std::collections::{BTreeMap, BTreeSet};

const HOSTILE: &str = "<script src='http://x'>alert(\"1\")</script>&amp;</svg>";

/// What a page borrows.
struct Run {
    report: Report,
    epochs: Vec<Epoch>,
    dense: Checkpoint,
    pruned: Checkpoint,
    masks: Checkpoint,
    environment: BTreeMap<String, String>,
    more: Vec<(String, String)>,
    text: String,
}

impl Run {
    /// A run over weights of these names and shapes, every third of which is kept.
    fn new(weights: &[(&str, &[usize])]) -> Self {
        let (mut dense, mut pruned, mut masks) =
            (Checkpoint::default(), Checkpoint::default(), Checkpoint::default());
        for (name, shape) in weights {
            // A finaliser of hashes: no pattern that would pack well.
            let noise = |at: usize| {
                let at = (at as u32).wrapping_mul(0x9e37_79b9);
                let at = (at ^ at >> 15).wrapping_mul(0x85eb_ca6b);
                (at ^ at >> 13).wrapping_mul(0xc2b2_ae35) >> 8
            };
            let n = shape.iter().product();
            let values = (0..n).map(|at| noise(at) as f32 / 5e7 - 0.168).collect::<Vec<f32>>();
            let kept: Vec<bool> = (0..n).map(|at| noise(at + 7) % 3 == 0).collect();
            let mask = Mask::from_bools(&kept, shape).unwrap();
            let values = Dense::new(values, shape).unwrap();
            let packed = Packed::pack(&values, &mask, Pattern::Unstructured).unwrap();
            dense.tensors.insert((*name).to_owned(), values.into());
            pruned.tensors.insert((*name).to_owned(), packed);
            masks.masks.insert((*name).to_owned(), mask);
        }
        let bias = Dense::new(vec![0.5_f32; 4], &[4]).unwrap();
        dense.tensors.insert("fc.bias".to_owned(), bias.into());
        Self {
            report: table::tests::example(),
            epochs: ["dense", "retrain 1/2", "retrain 2/2"]
                .into_iter()
                .enumerate()
                .flat_map(|(at, phase)| (1..=4).map(move |epoch| self::epoch(phase, at, epoch)))
                .collect(),
            dense,
            pruned,
            masks,
            environment: [("processor".to_owned(), "a fast one".to_owned())].into(),
            more: vec![("One more".to_owned(), "<p>text</p>".to_owned())],
            text: "about = \"a run\"\n".to_owned(),
        }
    }

    fn small() -> Self {
        Self::new(&[("conv1.weight", &[4, 2, 3, 3]), ("fc1.weight", &[6, 16])])
    }

    fn render(&self) -> String {
        render(&Page {
            report: &self.report,
            about: &self.text,
            epochs: &self.epochs,
            dense: &self.dense,
            pruned: &self.pruned,
            masks: &self.masks,
            recipe: &self.text,
            environment: &self.environment,
            more: &self.more,
        })
        .unwrap()
    }
}

fn epoch(phase: &str, at: usize, epoch: usize) -> Epoch {
    Epoch {
        phase: phase.to_owned(),
        epoch,
        step: 10 * epoch,
        sparsity: at as f64 / 3.0,
        learning_rate: 1e-3,
        train_loss: 1.0 / (at + epoch) as f64,
        validation_loss: 1.1 / (at + epoch) as f64,
        validation_accuracy: 0.9 + 0.02 * epoch as f64 - 0.01 * at as f64,
        best: epoch != 4,
    }
}

/// What stands between each `before` and the next quotation mark.
fn attributes<'a>(html: &'a str, before: &str) -> Vec<&'a str> {
    html.split(before).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// Panics unless every element that is opened is closed in turn, and no identifier comes twice.
fn check_markup(html: &str) {
    let mut open = Vec::new();
    for piece in html.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap_or_else(|| panic!("no end: {piece}"));
        let name = tag.split_whitespace().next().unwrap();
        let never_closed = ["!DOCTYPE", "meta", "img", "br"].contains(&name);
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "before {piece:.80}"),
            None if never_closed || tag.ends_with('/') => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    let ids = attributes(html, " id=\"");
    let once: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), once.len(), "an id comes twice: {ids:?}");
    for named in attributes(html, "aria-labelledby=\"") {
        assert!(named.split(' ').all(|id| once.contains(id)), "{named} names nothing");
    }
    for link in attributes(html, "href=\"#") {
        assert!(once.contains(link), "{link} leads nowhere");
    }
}

/// Panics if a browser would fetch or run anything.
fn check_quiet(html: &str) {
    assert!(
        html.contains("content=\"default-src 'none'; "),
        "the browser is not told to load nothing"
    );
    for word in ["http:", "https:", "<script", "<link", "<iframe", "@import", "url("] {
        assert!(!html.contains(word), "the page has {word}");
    }
    assert!(attributes(html, "src=\"").iter().all(|to| to.starts_with("data:image/png;base64,")));
    assert!(attributes(html, "href=\"").iter().all(|to| to.starts_with('#')));
}

#[test]
fn the_page_has_every_section_and_says_it_in_words() {
    let html = Run::small().render();
    check_markup(&html);
    check_quiet(&html);
    let mut outline = String::new();
    for piece in html.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap();
        match tag.split_whitespace().next().unwrap() {
            "h1" => outline += &format!("# {text}\n"),
            "h2" => outline += &format!("## {text}\n"),
            "h3" => outline += &format!("### {text}\n"),
            "strong" | "dt" | "dd" | "td" | "th" if !text.is_empty() => {
                outline += &format!("{text} | ");
            }
            "/tr" | "/div" if outline.ends_with("| ") => outline += "\n",
            "svg" => outline += "(a chart)\n",
            "img" => outline += &format!("(a picture: {})\n", attributes(tag, "alt=\"")[0]),
            _ => {}
        }
    }
    insta::assert_snapshot!(outline);
}

#[test]
fn the_same_run_gives_the_same_page() {
    assert!(Run::small().render() == Run::small().render());
}

#[test]
fn hostile_names_stay_text() {
    let mut run = Run::new(&[(HOSTILE, &[3, 9])]);
    run.report.recipe = HOSTILE.to_owned();
    run.report.data = HOSTILE.to_owned();
    run.report.pruned.kernel = HOSTILE.to_owned();
    run.text = HOSTILE.to_owned();
    run.environment = [(HOSTILE.to_owned(), HOSTILE.to_owned())].into();
    run.more = vec![(HOSTILE.to_owned(), String::new())];
    for epoch in &mut run.epochs {
        epoch.phase = HOSTILE.to_owned();
    }
    let html = run.render();
    check_markup(&html);
    // `http:` stands there, as text that nothing follows.
    check_quiet(&html.replace("http:", ""));
    assert!(html.matches("&lt;script").count() > 10);
    assert!(html.contains("&amp;amp;&lt;/svg&gt;"));
}

#[test]
fn large_masks_stay_small_and_small_ones_whole() {
    let html = Run::new(&[
        ("a.weight", &[3000, 1000]),
        ("b.weight", &[1500, 500]),
        ("c.weight", &[10, 100]),
    ])
    .render();
    assert!(html.len() < 600_000, "{} bytes", html.len());
    assert!(html.contains("entries, the fullest keeps"));
    assert!(html.contains("width=\"800\" height=\"80\""), "10 x 100 is shown entry by entry");
}

#[test]
fn a_convolution_is_rows_of_its_taps() {
    let run = Run::small();
    let page = Page {
        report: &run.report,
        about: "",
        epochs: &[],
        dense: &run.dense,
        pruned: &run.pruned,
        masks: &run.masks,
        recipe: "",
        environment: &BTreeMap::new(),
        more: &[],
    };
    let layers = layers::of(&page).unwrap();
    assert_eq!(layers.len(), 2, "biases are no layers");
    assert_eq!((layers[0].rows, layers[0].cols, layers[0].total()), (4, 18, 72));
    let kept = run.masks.masks["conv1.weight"].count_kept();
    assert_eq!(layers[0].kept(), kept);
    // Without epochs there is a page still.
    check_markup(&render(&page).unwrap());
}
