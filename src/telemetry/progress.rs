//! Counts of a running pipeline → a progress line on a terminal, or a log line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tracing::info;

use super::health::Health;
use crate::units::Bytes;

/// Without a terminal, one line at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Progress of a run.
pub struct Progress {
    bar: Option<ProgressBar>,
    rows: AtomicU64,
    bytes: AtomicU64,
    days: AtomicU64,
    day_count: AtomicU64,
    started: Instant,
    last_log: Mutex<Instant>,
    health: Arc<Health>,
}

impl Progress {
    /// A bar if standard error is a terminal, log lines otherwise.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(0).with_style(style()));
        Self::with_bar(bar)
    }

    /// Counts and shows nothing but log lines.
    pub fn hidden() -> Self {
        Self::with_bar(None)
    }

    fn with_bar(bar: Option<ProgressBar>) -> Self {
        let now = Instant::now();
        Self {
            bar,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            days: AtomicU64::new(0),
            day_count: AtomicU64::new(0),
            started: now,
            last_log: Mutex::new(now),
            health: Arc::new(Health::new()),
        }
    }

    /// What probes ask about.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Names the stage that begins.
    pub fn stage(&self, stage: &'static str) {
        self.health.moved();
        match &self.bar {
            Some(bar) => bar.set_prefix(stage),
            None => info!(stage, "stage begins"),
        }
    }

    /// Announces the rows and days that are to come.
    pub fn expect(&self, row_count: u64, day_count: u64) {
        self.day_count.fetch_add(day_count, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc_length(row_count);
        }
    }

    /// A chunk was decoded and aggregated.
    pub fn chunk_done(&self, row_count: u64, bytes: Bytes) {
        self.health.moved();
        self.rows.fetch_add(row_count, Ordering::Relaxed);
        self.bytes.fetch_add(bytes.0, Ordering::Relaxed);
        match &self.bar {
            Some(bar) => {
                bar.inc(row_count);
                bar.set_message(self.details());
            }
            None => self.log_now_and_then(),
        }
    }

    /// A day left the pipeline.
    pub fn day_done(&self) {
        self.health.moved();
        self.days.fetch_add(1, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_message(self.details());
        }
    }

    /// Rows decoded so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Takes the bar off the screen.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn details(&self) -> String {
        let (days, day_count) = (self.days.load(Ordering::Relaxed), self.day_count.load(Ordering::Relaxed));
        format!("{}/s, {days} of {day_count} days", self.bytes_per_second())
    }

    fn bytes_per_second(&self) -> Bytes {
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        Bytes(self.bytes.load(Ordering::Relaxed).saturating_mul(1_000) / milliseconds)
    }

    fn log_now_and_then(&self) {
        let mut last = self.last_log.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() < LOG_INTERVAL {
            return;
        }
        *last = Instant::now();
        let days = self.days.load(Ordering::Relaxed);
        info!(rows = self.rows(), bytes = self.bytes.load(Ordering::Relaxed), days, "progress");
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

fn style() -> ProgressStyle {
    let template = "{prefix} {wide_bar} {human_pos}/{human_len} rows, {per_sec}, {msg}, ETA {eta}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
