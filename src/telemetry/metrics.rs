//! What happens in a run → counters and gauges for Prometheus. Every name stands here and nowhere else.
//!
//! Without [`install`] nothing is counted, and the calls cost next to nothing.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::units::Bytes;

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, with the unit at its end.
    pub name: &'static str,
    /// `counter` only grows while the process lives, `gauge` goes up and down.
    pub kind: MetricKind,
    /// Its labels, each with its values where these are known beforehand.
    pub labels: &'static str,
    /// What it counts.
    pub help: &'static str,
}

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
}

const ROWS_READ: &str = "gristmill_rows_read_total";
const BYTES_READ: &str = "gristmill_bytes_read_total";
const STORAGE_REQUESTS: &str = "gristmill_storage_requests_total";
const RETRIES: &str = "gristmill_retries_total";
const STAGE_SECONDS: &str = "gristmill_stage_seconds_total";
const DAYS: &str = "gristmill_days_total";
const ROWS_WRITTEN: &str = "gristmill_rows_written_total";
const LABEL_TEXTS: &str = "gristmill_label_texts_total";
const LABEL_TEXTS_DISTINCT: &str = "gristmill_label_texts_distinct_total";
const MEMORY_USED: &str = "gristmill_memory_used_bytes";
const MEMORY_BUDGET: &str = "gristmill_memory_budget_bytes";
const MEMORY_LIMIT: &str = "gristmill_memory_limit_bytes";
const LAST_SUCCESS: &str = "gristmill_last_success_timestamp_seconds";
const LAST_RUN_ROWS: &str = "gristmill_last_run_rows_written";
const RUN_INFO: &str = "gristmill_run_info";

/// All metrics, in the order of the docs.
pub const METRICS: &[Metric] = &[
    counter(ROWS_READ, "", "Rows of reports that were decoded and summed"),
    counter(BYTES_READ, "", "Bytes of objects that arrived from the storage"),
    counter(
        STORAGE_REQUESTS,
        "outcome: ok, retried, failed",
        "Requests to the object store by their answer: ok, retried (no answer, 429 or 5xx), failed (any other refusal)",
    ),
    counter(RETRIES, "to: storage, database", "Attempts after the first one"),
    counter(
        STAGE_SECONDS,
        "stage",
        "Seconds per stage as in the report of a run; stages overlap, and several chunks or days count at once",
    ),
    counter(
        DAYS,
        "outcome: written, unchanged, failed, empty",
        "Days that left the pipeline; empty ones had no input rows and were left as they were",
    ),
    counter(ROWS_WRITTEN, "", "Rows that the target took"),
    counter(LABEL_TEXTS, "", "Rows whose labels came as text"),
    counter(LABEL_TEXTS_DISTINCT, "", "Distinct label texts, summed over columns and days"),
    gauge(MEMORY_USED, "", "Bytes of chunks in flight and of the state of days, as the run accounts for them"),
    gauge(MEMORY_BUDGET, "", "What performance.memory_budget allows for them"),
    gauge(MEMORY_LIMIT, "", "What the process may use in all"),
    gauge(
        LAST_SUCCESS,
        "",
        "When this run ended with exit code 0; before that, when the ledger says that a run last wrote a day of the same sources into the same table, 0 if it does not know",
    ),
    gauge(
        LAST_RUN_ROWS,
        "",
        "Rows that this run wrote, once it has ended; before that, those of the run that wrote last, as the ledger has them",
    ),
    gauge(RUN_INFO, "version, run_id, cluster_id", "1 for each cluster of the run under way"),
];

/// How a request to the storage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Answered.
    Ok,
    /// Not answered, or refused for a reason that may pass: it is sent again, unless the attempts are used up.
    Retried,
    /// Refused for good.
    Failed,
}

/// Whom a repeated attempt goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryTo {
    /// The object store.
    Storage,
    /// PostgreSQL.
    Database,
}

/// How a day ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayOutcome {
    /// The target took its rows, or they were counted and dropped.
    Written,
    /// It was not built since nothing changed.
    Unchanged,
    /// It failed.
    Failed,
    /// It has no input rows and was left as it was.
    Empty,
}

/// Counts from now on, every metric beginning at 0. A second call gives the same page.
pub fn install() -> MetricsPage {
    static PAGE: OnceLock<PrometheusHandle> = OnceLock::new();
    let page = PAGE.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Only this line sets a recorder, and it runs once.
        let _nobody_else_counts = metrics::set_global_recorder(recorder);
        describe();
        handle
    });
    MetricsPage(page.clone())
}

/// The page that Prometheus reads.
#[derive(Clone)]
pub struct MetricsPage(PrometheusHandle);

impl MetricsPage {
    /// The metrics in the text format.
    pub fn text(&self) -> String {
        self.0.run_upkeep();
        // The library's counters are whole numbers, so seconds are added to a gauge; what is told is what they are.
        let as_gauge = format!("# TYPE {STAGE_SECONDS} gauge");
        self.0.render().replace(&as_gauge, &format!("# TYPE {STAGE_SECONDS} counter"))
    }
}

/// A chunk was decoded and summed.
pub fn rows_read(row_count: u64) {
    counter!(ROWS_READ).increment(row_count);
}

/// Bytes of an object arrived.
pub fn bytes_read(bytes: Bytes) {
    counter!(BYTES_READ).increment(bytes.0);
}

/// A request to the storage was answered, or was not.
pub fn storage_request(outcome: RequestOutcome) {
    counter!(STORAGE_REQUESTS, "outcome" => outcome.name()).increment(1);
}

/// An attempt failed and another one may follow.
pub fn retry(to: RetryTo) {
    counter!(RETRIES, "to" => to.name()).increment(1);
}

/// A stage took its time.
pub fn stage_seconds(stage: &'static str, seconds: f64) {
    gauge!(STAGE_SECONDS, "stage" => stage).increment(seconds);
}

/// Days left the pipeline.
pub fn days(outcome: DayOutcome, day_count: u64) {
    counter!(DAYS, "outcome" => outcome.name()).increment(day_count);
}

/// The target took rows.
pub fn rows_written(row_count: u64) {
    counter!(ROWS_WRITTEN).increment(row_count);
}

/// Label texts of one column and day: rows, and texts that differ.
pub fn label_texts(row_count: u64, distinct_count: u64) {
    counter!(LABEL_TEXTS).increment(row_count);
    counter!(LABEL_TEXTS_DISTINCT).increment(distinct_count);
}

/// Memory that is accounted for now.
#[allow(clippy::cast_precision_loss)] // gauges are doubles; nobody misses single bytes of petabytes
pub fn memory_used(used: Bytes) {
    gauge!(MEMORY_USED).set(used.0 as f64);
}

/// A run begins: who it is, for which clusters, and what it may use.
#[allow(clippy::cast_precision_loss)] // as above
pub fn run_begins<'a>(
    run_id: &str,
    cluster_ids: impl IntoIterator<Item = &'a str>,
    memory_budget: Bytes,
    memory_limit: Bytes,
) {
    gauge!(MEMORY_BUDGET).set(memory_budget.0 as f64);
    gauge!(MEMORY_LIMIT).set(memory_limit.0 as f64);
    for cluster_id in cluster_ids {
        let (run_id, cluster_id) = (run_id.to_owned(), cluster_id.to_owned());
        gauge!(RUN_INFO, "version" => env!("CARGO_PKG_VERSION"), "run_id" => run_id, "cluster_id" => cluster_id).set(1);
    }
}

/// What is known of the run before this one, until this one ends.
#[allow(clippy::cast_precision_loss)] // as above
pub fn previous_run(finished_at_seconds: f64, rows_written: u64) {
    gauge!(LAST_SUCCESS).set(finished_at_seconds);
    gauge!(LAST_RUN_ROWS).set(rows_written as f64);
}

/// A run ended.
#[allow(clippy::cast_precision_loss)] // as above
pub fn run_ended(exit_code: u8, rows_written: u64) {
    memory_used(Bytes(0));
    gauge!(LAST_RUN_ROWS).set(rows_written as f64);
    if exit_code == 0 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        gauge!(LAST_SUCCESS).set(now.as_secs_f64());
    }
}

impl RequestOutcome {
    fn name(self) -> &'static str {
        match self {
            RequestOutcome::Ok => "ok",
            RequestOutcome::Retried => "retried",
            RequestOutcome::Failed => "failed",
        }
    }
}

impl RetryTo {
    fn name(self) -> &'static str {
        match self {
            RetryTo::Storage => "storage",
            RetryTo::Database => "database",
        }
    }
}

impl DayOutcome {
    fn name(self) -> &'static str {
        match self {
            DayOutcome::Written => "written",
            DayOutcome::Unchanged => "unchanged",
            DayOutcome::Failed => "failed",
            DayOutcome::Empty => "empty",
        }
    }
}

const fn counter(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, labels, help }
}

/// Tells the help texts, and brings every series whose labels are known into being: one that appears late has no beginning.
fn describe() {
    for metric in METRICS {
        let is_gauge_inside = metric.kind == MetricKind::Gauge || metric.name == STAGE_SECONDS;
        if is_gauge_inside {
            describe_gauge!(metric.name, metric.help);
        } else {
            describe_counter!(metric.name, metric.help);
        }
        match (metric.labels.is_empty(), metric.kind) {
            (true, MetricKind::Counter) => counter!(metric.name).increment(0),
            (true, MetricKind::Gauge) => gauge!(metric.name).set(0),
            (false, _) => {}
        }
    }
    for outcome in [RequestOutcome::Ok, RequestOutcome::Retried, RequestOutcome::Failed] {
        counter!(STORAGE_REQUESTS, "outcome" => outcome.name()).increment(0);
    }
    for to in [RetryTo::Storage, RetryTo::Database] {
        counter!(RETRIES, "to" => to.name()).increment(0);
    }
    for outcome in [DayOutcome::Written, DayOutcome::Unchanged, DayOutcome::Failed, DayOutcome::Empty] {
        days(outcome, 0);
    }
}
