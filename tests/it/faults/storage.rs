//! Requests that are refused, cut, delayed and reset at random: the same output as without, within bounds.

use std::time::{Duration, Instant};

use gristmill::error::{ErrorKind, Failure};
use gristmill::store::{ObjectRef, Store};
use gristmill::units::Bytes;
use serde_json::{Value, json};

use super::number;
use crate::binary::Invocation;
use crate::bucket::{files_below, in_process};
use crate::delivery::{Delivery, from_server, into_csv, pod_key, pod_rows, settings};
use crate::s3_server::{Faults, Injected, S3Server};
use crate::usage;

const DAYS: [&str; 6] = ["2025-10-01", "2025-10-02", "2025-10-03", "2025-10-04", "2025-10-05", "2025-10-06"];
/// Pods of a day beside the two that every delivery has; enough that an object does not come whole with its footer.
const PODS: usize = 60;
const RETRIES: u64 = 10;

/// An object of several row groups that is read by ranges.
fn large_object(day: &str, cores: f64) -> Vec<u8> {
    let mut rows = Vec::new();
    for pod in 0..PODS {
        for mut row in pod_rows(day, cores) {
            row.pod = row.pod.map(|name| format!("{name}-{pod}"));
            row.usage = row.usage.map(|usage| usage.map(|usage| usage + rows.len() as f64 * 0.37));
            rows.push(row);
        }
    }
    usage::parquet(usage::pod_columns(&rows), rows.len() / 3)
}

fn large_delivery(cores: f64) -> Delivery {
    Delivery(DAYS.iter().map(|day| (pod_key(day), large_object(day, cores))).collect())
}

fn files(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut files = files_below(folder);
    files.sort();
    files
}

fn run_settings(server: &S3Server, output: &std::path::Path) -> Value {
    let mut settings = into_csv(from_server(settings(output, DAYS[0], DAYS[5]), server), output);
    settings["storage"]["retries"] = json!(RETRIES);
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults_change_nothing() {
    let server = S3Server::start().await;
    server.set_page_size(4);
    large_delivery(1.0).store(&server);
    let replaced = pod_key(DAYS[3]);
    server.put(&replaced, large_object(DAYS[3], 5.0));
    let undisturbed = tempfile::tempdir().unwrap();
    Invocation::with("run", &run_settings(&server, undisturbed.path())).run().await.expect(0, &[]);
    let expected = files(undisturbed.path());
    let requests_undisturbed = server.counters().requests;
    assert!(server.reads().iter().any(|read| read.start > 0 && read.key == replaced), "objects are read by ranges");

    server.repeat_entries(true);
    let (mut total, mut most_requests, mut longest) = (Injected::default(), 0, Duration::ZERO);
    let seeds = number("SOAK_SEEDS", 3);
    for seed in 0..seeds {
        server.put(&replaced, large_object(DAYS[3], 1.0));
        server.replace_after_listing(&replaced, large_object(DAYS[3], 5.0));
        let delay = Duration::from_millis(number("SOAK_DELAY_MILLIS", 100));
        server.set_faults(Faults { seed, unavailable: 50, cut: 50, delayed: 50, delay, reset: 50 });
        let (before, began) = (server.counters().requests, Instant::now());
        let output = tempfile::tempdir().unwrap();
        let run = Invocation::with("run", &run_settings(&server, output.path())).run();
        let ended = tokio::time::timeout(Duration::from_secs(120), run).await;
        ended.unwrap_or_else(|_| panic!("seed {seed} hangs")).expect(0, &["written"]);
        assert!(files(output.path()) == expected, "seed {seed}: another output");
        let requests = server.counters().requests - before;
        // Each listing and footer twice because of the replaced object, and of all that every fault once more.
        assert!(requests < 4 * requests_undisturbed + 20, "seed {seed}: {requests} of {requests_undisturbed} requests");
        let injected = server.injected();
        total.unavailable += injected.unavailable;
        total.cut += injected.cut;
        total.delayed += injected.delayed;
        total.reset += injected.reset;
        most_requests = most_requests.max(requests);
        longest = longest.max(began.elapsed());
    }
    assert!(total.unavailable > 0 && total.reset > 0 && total.delayed > 0, "{total:?}");
    println!(
        "faults: {seeds} runs, {total:?}, requests undisturbed {requests_undisturbed}, at most {most_requests}, \
         longest run {longest:?}, outputs identical {seeds}"
    );
}

#[tokio::test]
async fn slow_down_lowers_the_number_of_requests_and_it_recovers() {
    let server = S3Server::start().await;
    server.put("data/x", vec![7; 100]);
    let store = Store::new(&in_process(&server)).unwrap();
    let object = ObjectRef { key: "data/x", size: Bytes(100), etag: None, last_modified: chrono::DateTime::UNIX_EPOCH };
    assert_eq!(store.allowed_requests(), 8);
    server.fail_next(2);
    store.read_range(object, 0..100).await.unwrap();
    // Twice halved; the third attempt was good.
    assert_eq!(store.allowed_requests(), 2);
    assert_eq!(store.counters().retries, 2);
    for _ in 0..2 + 3 + 4 + 5 + 6 + 7 {
        store.read_range(object, 0..100).await.unwrap();
    }
    assert_eq!(store.allowed_requests(), 8);
    // A broken connection is no complaint about their number.
    server.reset_next(1);
    store.read_range(object, 0..100).await.unwrap();
    assert_eq!(store.allowed_requests(), 8);
}

#[tokio::test]
async fn fewer_requests_are_really_under_way_after_a_complaint() {
    let server = S3Server::start().await;
    server.put("data/x", vec![7; 100]);
    let store = Store::new(&in_process(&server)).unwrap();
    let object = ObjectRef { key: "data/x", size: Bytes(100), etag: None, last_modified: chrono::DateTime::UNIX_EPOCH };
    server.fail_next(3);
    store.read_range(object, 0..100).await.unwrap();
    // Down to one, and the good answer to that one made it two.
    assert_eq!(store.allowed_requests(), 2);
    server.set_latency(Duration::from_millis(20));
    let ranges: Vec<_> = (0..12).map(|start| start..start + 1).collect();
    let before = server.counters();
    assert!(before.peak_in_flight <= 1);
    store.read_ranges(object, &ranges).await.unwrap();
    assert!(server.counters().peak_in_flight <= 5, "{:?}: it grows by one a round", server.counters());
}

#[tokio::test]
async fn all_attempts_of_a_request_together_have_a_deadline() {
    let server = S3Server::start().await;
    server.put("data/x", vec![7; 100]);
    let mut settings = in_process(&server);
    (settings.retry_seconds, settings.retries) = (1, 20);
    let store = Store::new(&settings).unwrap();
    let object = ObjectRef { key: "data/x", size: Bytes(100), etag: None, last_modified: chrono::DateTime::UNIX_EPOCH };
    server.set_latency(Duration::from_secs(30));
    let began = Instant::now();
    let failure = Failure::from(store.read_range(object, 0..100).await.unwrap_err());
    assert_eq!(failure.kind, ErrorKind::StorageUnavailable);
    assert!(failure.full_text().contains("storage.retry_seconds"), "{}", failure.full_text());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    server.set_latency(Duration::ZERO);
    server.fail_next(1_000);
    let began = Instant::now();
    let failure = Failure::from(store.read_range(object, 0..100).await.unwrap_err());
    assert!(failure.full_text().contains("HTTP status 503"), "{}", failure.full_text());
    assert!(began.elapsed() < Duration::from_secs(5), "pauses count: {:?}", began.elapsed());
}
