//! Does a browser show the page of a run, whole, in light and dark, on a phone and on a desk?
//!
//! A page around it holds it in frames of two widths and measures what the browser made of it. Without a
//! browser (Chromium's family, in PATH or named by `SECATEUR_BROWSER`) the test says that it was skipped.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use serde_json::Value;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const BROWSERS: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome-headless-shell",
];
const WIDTHS: [u32; 2] = [400, 1400];

/// Three phases in a second.
const RECIPE: &str = r#"
about = "a <b>short</b> run"
model = "digits-mlp"
data = "digits"
validation = 200

[training]
epochs = 3
batch_size = 64
learning_rate = 5e-3

[pruning]
criterion = "magnitude"
pattern = "unstructured"
sparsity = 0.8
rounds = 2
"#;

/// Reports, for each frame, what a reader would see go wrong.
const PROBE: &str = r##"
const found = [];
function luminance(colour) {
  const parts = colour.match(/[\d.]+/g).slice(0, 3).map(x => x / 255)
    .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
}
function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}
function measure(frame) {
  const page = frame.contentDocument, view = frame.contentWindow;
  const all = selector => [...page.querySelectorAll(selector)];
  const width = page.documentElement.clientWidth;
  const ground = view.getComputedStyle(page.body).backgroundColor;
  const problems = [];
  if (page.documentElement.scrollWidth > width) problems.push("the page scrolls sideways");
  for (const element of all("body *")) {
    if (element.closest(".scroll") && !element.matches(".scroll")) continue;
    if (element.getBoundingClientRect().right > width + 1) problems.push("too wide: " + element.outerHTML.slice(0, 80));
  }
  for (const svg of all("svg")) {
    const box = svg.getBoundingClientRect();
    if (box.width < 100 || box.height < 50) problems.push("an svg without a size");
    for (const text of svg.querySelectorAll("text")) {
      const at = text.getBoundingClientRect(), said = text.textContent.trim();
      if (!said) continue;
      if (at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1 || at.bottom > box.bottom + 1)
        problems.push("cut off in " + svg.querySelector("title").textContent + ": " + said);
      if (contrast(view.getComputedStyle(text).fill, ground) < 4.5) problems.push("hard to read: " + said);
    }
  }
  for (const img of all("img"))
    if (!img.complete || img.naturalWidth === 0 || img.getBoundingClientRect().height < 20) problems.push("no picture: " + img.alt);
  for (const text of all("p, td, th, dd, dt, figcaption, a, h1, h2, h3"))
    if (text.textContent.trim() && contrast(view.getComputedStyle(text).color, ground) < 4.5)
      problems.push("hard to read: " + text.textContent.slice(0, 40));
  found.push({
    width, problems, dark: luminance(ground) < 0.2,
    sections: all("main > section").map(section => section.id),
    svgs: all("svg").length, pictures: all("img").length,
    bold: all(".about b").length, about: page.querySelector(".about").textContent,
  });
}
onload = () => {
  document.querySelectorAll("iframe").forEach(measure);
  document.getElementById("found").textContent = JSON.stringify(found);
};
"##;

#[test]
fn a_browser_shows_the_page_whole() {
    let Some(browser) = browser() else {
        eprintln!("skipped: a_browser_shows_the_page_whole (no Chromium in PATH)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("short.toml"), RECIPE).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["prune-finetune", "--recipe", "short.toml", "--out", "run"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let html = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(html.len() < 600_000, "{} bytes", html.len());

    let quoted = html.replace('&', "&amp;").replace('"', "&quot;");
    let frame = |width| format!("<iframe width={width} height=900 srcdoc=\"{quoted}\"></iframe>");
    let frames: String = WIDTHS.into_iter().map(frame).collect();
    let page = format!(
        "<!DOCTYPE html><meta name=color-scheme content='light dark'><pre id=found></pre>\
         <script>{PROBE}</script>{frames}"
    );
    let probe = folder.path().join("probe.html");
    fs::write(&probe, page).unwrap();
    for dark in [false, true] {
        let dom = dump(&browser, folder.path(), &probe, dark);
        let (_, rest) = dom.split_once("<pre id=\"found\">").expect("the probe's place");
        let (found, _) = rest.split_once("</pre>").unwrap();
        let unescaped = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let found: Vec<Value> = serde_json::from_str(&unescaped)
            .unwrap_or_else(|error| panic!("{error}: the probe said {found:?}"));
        assert_eq!(found.len(), WIDTHS.len());
        for (seen, width) in found.iter().zip(WIDTHS) {
            assert_eq!(seen["problems"], serde_json::json!([]), "{width} wide, dark: {dark}");
            assert_eq!(seen["dark"], dark, "{width} wide");
            assert!(seen["width"].as_u64().unwrap().abs_diff(width.into()) < 20);
            let sections = [
                "questions",
                "training",
                "compression",
                "layers",
                "masks",
                "weights",
                "recipe",
                "environment",
            ];
            assert_eq!(seen["sections"], serde_json::json!(sections));
            // Accuracy, loss, compression and three histograms; three masks and the input.
            assert_eq!((seen["svgs"].as_u64(), seen["pictures"].as_u64()), (Some(6), Some(4)));
            assert_eq!(seen["bold"], 0, "the recipe's words became markup");
            assert_eq!(seen["about"], "a <b>short</b> run");
        }
    }
}

/// Chromium, by name or path.
fn browser() -> Option<PathBuf> {
    if let Some(named) = env::var_os("SECATEUR_BROWSER") {
        return Some(named.into());
    }
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    BROWSERS
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
}

/// The document as the browser has it when the page has loaded.
fn dump(browser: &Path, folder: &Path, page: &Path, dark: bool) -> String {
    let (scheme, said) = (u8::from(!dark), folder.join("dom.html"));
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--window-size=1500,1000", "--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(page)
        .stdout(fs::File::create(&said).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("{} did not end", browser.display());
        }
        thread::sleep(Duration::from_millis(50));
    }
    fs::read_to_string(said).unwrap()
}
