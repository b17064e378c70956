//! What does a person see while it works? A bar for every long phase, through tracing.

use anyhow::Result;
use indicatif::ProgressStyle;
use secateur::{
    storage::write_atomically,
    train::{Epoch, Observer, Phase},
};
use std::{
    io::{self, Write},
    path::PathBuf,
};
use tracing::{Span, info, info_span};
use tracing_indicatif::{IndicatifLayer, span_ext::IndicatifSpanExt};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

const TEMPLATE: &str =
    "{span_child_prefix}{msg:<16} {wide_bar} {pos:>6}/{len} {elapsed:>4}, {eta} left";

/// Sends log lines and progress bars to standard error. `RUST_LOG` decides how many lines.
pub fn init() {
    let bars = IndicatifLayer::new();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(bars.get_stderr_writer())
        .with_target(false)
        .with_level(false)
        .without_time()
        .with_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")));
    tracing_subscriber::registry().with(lines).with(bars).init();
}

/// Prints for people, on standard error. If nobody listens any more, nothing is lost.
pub fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints what programs read, on standard output. A closed pipe is no error.
pub fn answer(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A bar of `length` steps, shown until it is dropped.
pub fn bar(message: &str, length: usize) -> Span {
    let span = info_span!("progress");
    let style = ProgressStyle::with_template(TEMPLATE);
    span.pb_set_style(&style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    span.pb_set_length(length as u64);
    span.pb_set_message(message);
    span.pb_start();
    span
}

/// A bar of so many bytes, shown until it is dropped.
pub fn bytes_bar(message: &str, bytes: u64) -> Span {
    let span = info_span!("progress");
    let style = ProgressStyle::with_template(
        "{span_child_prefix}{msg:<16} {wide_bar} {bytes:>10}/{total_bytes} {bytes_per_sec}, {eta} left",
    );
    span.pb_set_style(&style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    span.pb_set_length(bytes);
    span.pb_set_message(message);
    span.pb_start();
    span
}

/// A sign of life for work whose steps cannot be counted, shown until it is dropped.
pub fn spinner(message: &str) -> Span {
    let span = info_span!("progress");
    let style = ProgressStyle::with_template("{span_child_prefix}{spinner} {msg} {elapsed}");
    span.pb_set_style(&style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    span.pb_set_message(message);
    span.pb_start();
    span
}

/// Shows the phases of a run as bars and keeps `metrics.jsonl` up to date.
pub struct Watcher {
    bar: Span,
    metrics: PathBuf,
    lines: String,
    epochs: Vec<Epoch>,
    best: Option<Epoch>,
    failed: Option<anyhow::Error>,
}

impl Watcher {
    /// A watcher that writes its metrics to `metrics`.
    pub fn new(metrics: PathBuf) -> Self {
        Self {
            bar: Span::none(),
            metrics,
            lines: String::new(),
            epochs: Vec::new(),
            best: None,
            failed: None,
        }
    }

    /// Ends the last phase and hands out every epoch; errors when metrics could not be written.
    pub fn finish(mut self) -> Result<Vec<Epoch>> {
        self.end_phase();
        self.failed.map_or(Ok(self.epochs), Err)
    }

    fn end_phase(&mut self) {
        self.bar = Span::none();
        if let Some(best) = self.best.take() {
            info!(
                "{}: {:.2} % sparse, best epoch {}, validation accuracy {:.2} %",
                best.phase,
                best.sparsity * 100.0,
                best.epoch,
                best.validation_accuracy * 100.0
            );
        }
    }

    fn append(&mut self, epoch: &Epoch) -> Result<()> {
        self.lines += &serde_json::to_string(epoch)?;
        self.lines.push('\n');
        Ok(())
    }

    /// The whole file each time, so that it is never half a line.
    fn write(&self) -> Result<()> {
        Ok(write_atomically(&self.metrics, self.lines.as_bytes())?)
    }
}

impl Observer for Watcher {
    fn phase(&mut self, phase: &Phase) {
        self.end_phase();
        self.bar = bar(&phase.name, phase.steps);
        self.bar.pb_set_position(phase.done as u64);
    }

    fn resumed(&mut self, epochs: &[Epoch]) {
        info!("going on after {} evaluations", epochs.len());
        self.epochs = epochs.to_vec();
        let kept = epochs.iter().try_for_each(|epoch| self.append(epoch));
        if let Err(error) = kept.and_then(|()| self.write()) {
            self.failed.get_or_insert(error);
        }
        let phase = epochs.last().map(|last| last.phase.clone());
        let best = epochs.iter().rfind(|epoch| epoch.best && Some(&epoch.phase) == phase.as_ref());
        self.best = best.cloned();
    }

    fn step(&mut self) {
        self.bar.pb_inc(1);
    }

    fn epoch(&mut self, epoch: &Epoch) {
        if let Err(error) = self.append(epoch).and_then(|()| self.write()) {
            self.failed.get_or_insert(error);
        }
        self.epochs.push(epoch.clone());
        if epoch.best {
            self.best = Some(epoch.clone());
        }
    }
}
