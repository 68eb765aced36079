//! A day leaves while later ones are still to be fetched, the first days are read while node roles are derived, and the bytes in
//! flight stay within their budget.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use gristmill::config::Config;
use gristmill::error::Failure;
use gristmill::run::{RunOptions, run_into};
use gristmill::sink::{DayRows, Sink, Written};
use gristmill::telemetry::progress::Progress;
use gristmill::telemetry::report::RunReport;
use serde_json::{Value, json};

use crate::delivery::{self, from_server, pod_key};
use crate::s3_server::{Read, S3Server};
use crate::usage::{PodRow, parquet, pod_columns};
use crate::{case, usage};

const DAY_COUNT: usize = 12;
const PODS: usize = 100;
/// So many that two days are not small beside the memory that the test gives.
const MANY_PODS: usize = 400;
/// The object is larger than what is read together with a footer, so its columns are fetched when their turn comes.
const READ_WITH_FOOTER_BYTES: u64 = 64 * 1024;

/// A target that takes its time and notes when each day was committed.
struct SlowSink {
    takes: Duration,
    days_ahead: usize,
    days: Mutex<Vec<Committed>>,
}

#[derive(Clone)]
struct Committed {
    day: String,
    sums: Vec<(&'static str, i128)>,
    ended: Instant,
}

impl SlowSink {
    fn new(takes: Duration) -> Arc<Self> {
        Self::with_days_ahead(takes, 2)
    }

    fn with_days_ahead(takes: Duration, days_ahead: usize) -> Arc<Self> {
        Arc::new(Self { takes, days_ahead, days: Mutex::new(Vec::new()) })
    }

    fn committed(&self) -> Vec<Committed> {
        let mut days = self.days.lock().unwrap().clone();
        days.sort_by(|a, b| a.day.cmp(&b.day));
        days
    }
}

impl Sink for SlowSink {
    fn replace(&self, rows: DayRows) -> BoxFuture<'_, Result<Written, Failure>> {
        async move {
            tokio::time::sleep(self.takes).await;
            let row_count = rows.row_count();
            let day = rows.day.to_string();
            self.days.lock().unwrap().push(Committed { day, sums: rows.sums, ended: Instant::now() });
            Ok(Written::Replaced { deleted_row_count: 0, row_count })
        }
        .boxed()
    }

    fn parallel_days(&self) -> usize {
        1
    }

    fn days_ahead(&self, _worker_count: usize) -> usize {
        self.days_ahead
    }
}

fn days() -> Vec<String> {
    (1..=DAY_COUNT).map(|day| format!("2025-10-{day:02}")).collect()
}

/// Numbers without a pattern, so that they do not compress away.
fn rows(day: &str, pods: usize) -> Vec<PodRow> {
    let mut random = usage::Random(delivery::milliseconds(day).unsigned_abs());
    let mut number = || Some(random.next() as f64 / 1e15);
    let template = &delivery::pod_rows(day, 1.0)[0];
    let mut rows = Vec::new();
    for hour in 0..24 {
        for pod in 0..pods {
            rows.push(PodRow {
                milliseconds: delivery::milliseconds(day) + hour * 3_600_000,
                pod: Some(format!("pod-{pod}")),
                usage: std::array::from_fn(|_| number()),
                ..template.clone()
            });
        }
    }
    rows
}

async fn server_with_days(pods: usize, row_group_rows: usize) -> S3Server {
    let server = S3Server::start().await;
    for day in days() {
        let object = parquet(pod_columns(&rows(&day, pods)), row_group_rows);
        assert!(object.len() as u64 > 2 * READ_WITH_FOOTER_BYTES, "{} bytes", object.len());
        server.put(&pod_key(&day), object);
    }
    server
}

fn config(server: &S3Server, memory_budget: &str) -> Config {
    let roles = json!([{"node": "node-a", "resource_id": "i-a", "role": "worker"}]);
    config_with_roles(server, memory_budget, &roles)
}

fn config_with_roles(server: &S3Server, memory_budget: &str, node_roles: &Value) -> Config {
    let folder = std::path::Path::new("/nowhere");
    let mut settings = from_server(delivery::settings(folder, "2025-10-01", &days()[DAY_COUNT - 1]), server);
    settings["target"] = json!({"kind": "none"});
    settings["reference"]["node_roles"] = node_roles.clone();
    settings["performance"] = json!({"max_workers": 2, "memory_budget": memory_budget});
    case::parse(&settings)
}

async fn run_slowly(server: &S3Server, pods: usize, memory_budget: &str, sink: &Arc<SlowSink>) -> RunReport {
    run_config(&config(server, memory_budget), pods, sink).await
}

async fn run_config(config: &Config, pods: usize, sink: &Arc<SlowSink>) -> RunReport {
    let target = Arc::clone(sink) as Arc<dyn Sink>;
    let report = run_into(config, &RunOptions::default(), &Progress::hidden(), target).await;
    assert_eq!(report.exit_code, 0, "{report:#?}");
    assert!(report.days.iter().all(|day| day.status == "written" && day.rows_in == 24 * pods as u64), "{report:#?}");
    report
}

/// When columns of a day's object were asked for, in order; its footer was read before.
fn fetches(reads: &[Read], day: &str) -> Vec<Instant> {
    let is_of_columns = |read: &&Read| read.key == pod_key(day) && read.start < read.size - READ_WITH_FOOTER_BYTES;
    let fetches: Vec<Instant> = reads.iter().filter(is_of_columns).map(|read| read.at).collect();
    assert!(!fetches.is_empty(), "{day} was fetched");
    fetches
}

fn first_fetch(reads: &[Read], day: &str) -> Instant {
    fetches(reads, day)[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_day_is_committed_before_the_last_is_fetched() {
    let pods = 2 * MANY_PODS;
    let server = server_with_days(pods, 24 * 100).await;
    let sink = SlowSink::new(Duration::from_millis(60));
    // So little that days are not small.
    let report = run_slowly(&server, pods, "2MiB", &sink).await;
    let (reads, committed, days) = (server.reads(), sink.committed(), days());
    assert_eq!(committed.iter().map(|day| day.day.clone()).collect::<Vec<_>>(), days);

    assert!(committed[0].ended < first_fetch(&reads, &days[DAY_COUNT - 1]), "the last day waits for the first");
    // No day is fetched long before its turn: when one begins, at most as many of those before it are still in memory as take
    // turns (one per worker, here two).
    for (number, day) in days.iter().enumerate() {
        let begins = first_fetch(&reads, day);
        let gone = committed.iter().filter(|day| day.ended < begins).count();
        assert!(gone + 2 >= number, "{day} is fetched when {gone} days are committed");
    }
    // And it is an overlap, not a queue: the next day is fetched while a day is still being written.
    let overlapping = (1..DAY_COUNT).filter(|number| first_fetch(&reads, &days[*number]) < committed[number - 1].ended);
    assert!(overlapping.count() >= DAY_COUNT / 2, "days are fetched while the target works");
    assert!(report.peak_chunk_bytes <= 1 << 20, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_days_are_read_ahead_than_the_target_wants() {
    let pods = 2 * MANY_PODS;
    let server = server_with_days(pods, 24 * 100).await;
    for days_ahead in [1, 2] {
        let sink = SlowSink::with_days_ahead(Duration::from_millis(100), days_ahead);
        let reads_before = server.reads().len();
        // Room for all of these, but not so much that days are small beside it.
        run_slowly(&server, pods, "2MiB", &sink).await;
        let (reads, committed) = (server.reads().split_off(reads_before), sink.committed());
        let held = days().into_iter().enumerate().map(|(number, day)| {
            let begins = first_fetch(&reads, &day);
            number - committed.iter().filter(|day| day.ended < begins).count()
        });
        // The last of those ahead begins beside the one that is written and the others that were read before.
        assert_eq!(held.max(), Some(days_ahead));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_days_wait_for_the_storage_together() {
    let server = server_with_days(PODS, 24 * PODS).await;
    let latency = Duration::from_millis(200);
    server.set_latency(latency);
    let sink = SlowSink::new(Duration::ZERO);
    run_slowly(&server, PODS, "256MiB", &sink).await;
    let (reads, days) = (server.reads(), days());
    let fetches: Vec<Instant> = days.iter().map(|day| first_fetch(&reads, day)).collect();
    let (first, last) = (fetches.iter().min().unwrap(), fetches.iter().max().unwrap());
    assert!(*last - *first < latency, "the last day is asked for before the first has come: {:?}", *last - *first);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_days_are_read_while_roles_are_derived_and_wait_for_them() {
    let server = server_with_days(PODS, 480).await;
    server.set_latency(Duration::from_millis(5));
    let days = days();
    let last_day = &days[DAY_COUNT - 1];
    for memory_budget in ["64MiB", "2MiB"] {
        let reads_before = server.reads().len();
        let sink = SlowSink::new(Duration::ZERO);
        run_config(&config_with_roles(&server, memory_budget, &json!("derive")), PODS, &sink).await;
        let (reads, committed) = (server.reads().split_off(reads_before), sink.committed());
        // Read one after the other, the last day would be met for its roles before the first one for its rows.
        let first_day = fetches(&reads, &days[0]);
        assert!(first_day[first_day.len() - 1] < first_fetch(&reads, last_day), "{memory_budget}: nothing overlaps");
        let early = committed.iter().filter(|day| day.ended < first_fetch(&reads, last_day));
        assert_eq!(early.count(), 0, "{memory_budget}: a day is closed before the roles of the last are read");
        assert_eq!(committed.len(), DAY_COUNT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_in_flight_stay_within_the_budget() {
    // Small row groups, so that several of them fit into the tight budget at once.
    let server = server_with_days(PODS, 480).await;
    let (roomy, tight) = (SlowSink::new(Duration::ZERO), SlowSink::new(Duration::ZERO));
    let mut peaks = Vec::new();
    for (memory_budget, half, sink) in [("64MiB", 32 << 20, &roomy), ("2MiB", 1 << 20, &tight)] {
        let report = run_slowly(&server, PODS, memory_budget, sink).await;
        assert!(report.peak_chunk_bytes > 0 && report.peak_chunk_bytes <= half, "{memory_budget}: {report:#?}");
        assert!(report.peak_state_bytes <= half, "{memory_budget}: {report:#?}");
        peaks.push(report.peak_chunk_bytes);
    }
    assert!(peaks[1] <= peaks[0], "{peaks:?}");
    let sums = |sink: &SlowSink| sink.committed().into_iter().map(|day| (day.day, day.sums)).collect::<Vec<_>>();
    assert_eq!(sums(&roomy), sums(&tight), "the budget changes no number");
}
