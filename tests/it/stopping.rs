//! SIGTERM while a day is being written: the exit code that Kubernetes expects, and nothing half-written.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::binary::{Invocation, Running};
use crate::bucket::files_below;
use crate::database;
use crate::delivery::{Delivery, from_server, into_csv, into_postgres, settings};
use crate::observed::{free_port, get};
use crate::s3_server::S3Server;

const DAYS: [&str; 4] = ["2025-10-01", "2025-10-02", "2025-10-03", "2025-10-04"];

pub async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect("a count").get(0)
}

pub async fn wait_for(client: &Client, sql: &str) {
    for _ in 0..400 {
        if count(client, sql).await > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to: {sql}");
}

/// One day after the other; the last two may still be finished side by side.
fn in_order(settings: &mut Value) {
    settings["target"]["postgres"]["connections"] = json!(1);
    settings["storage"]["concurrent_requests"] = json!(1);
    settings["performance"] = json!({"max_workers": 1});
}

/// Ends without waiting for what it waits for.
pub async fn stops_soon(running: Running) {
    let told = Instant::now();
    running.terminate();
    running.end().await.expect(143, &["stopped by SIGTERM"]);
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_leaves_the_day_in_flight_as_it_was() {
    let postgres = database::database().await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = into_postgres(settings(folder.path(), DAYS[0], DAYS[3]), &postgres);
    in_order(&mut settings);
    settings["stopping"] = json!({"grace_seconds": 1});
    Delivery::of(&DAYS, 1.0).write(folder.path());
    Invocation::with("init-db", &settings).run().await.expect(0, &[]);
    Invocation::with("run", &settings).run().await.expect(0, &[]);

    // From now on writing the third day, or the fourth, takes longer than anybody waits.
    let client = database::client(&postgres).await;
    client
        .batch_execute(
            "CREATE FUNCTION tenant.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.usage_start >= '2025-10-03' THEN PERFORM pg_sleep(20); END IF; RETURN NEW; END $$; \
             CREATE TRIGGER dawdle BEFORE INSERT ON tenant.reporting_ocpusagelineitem_daily_summary \
             FOR EACH ROW EXECUTE FUNCTION tenant.dawdle()",
        )
        .await
        .unwrap();
    Delivery::of(&DAYS, 2.0).write(folder.path());
    let running = Invocation::with("run", &settings).start();
    wait_for(
        &client,
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()",
    )
    .await;
    running.terminate();
    let ended = running.end().await;
    ended.expect(143, &["SIGTERM", "nothing is half-written"]);
    let told = ended.report["days"].as_array().unwrap().iter().map(|day| day["status"].as_str().unwrap());
    assert_eq!(told.collect::<Vec<_>>(), ["written", "written", "skipped", "skipped"], "{ended:#?}");
    // The server was told to give up as well, it does not sleep on and hold the day's lock.
    let awake = "SELECT 1 - least(count(*), 1) FROM pg_stat_activity WHERE wait_event = 'PgSleep' \
                 AND datname = current_database()";
    wait_for(&client, awake).await;

    let hours = |day: &str| {
        format!(
            "SELECT coalesce(sum(pod_usage_cpu_core_hours), 0)::bigint \
             FROM tenant.reporting_ocpusagelineitem_daily_summary WHERE usage_start = '{day}' AND data_source = 'Pod' \
             AND namespace LIKE 'namespace-%'"
        )
    };
    let mut found = Vec::new();
    for day in DAYS {
        found.push(count(&client, &hours(day)).await);
    }
    assert_eq!(found, [96, 96, 48, 48], "two days are new, the one in flight and the one after it are old");
    let runs = "SELECT count(DISTINCT run_id) FROM gristmill.day_ledger WHERE usage_day >= '2025-10-03'";
    assert_eq!(count(&client, runs).await, 1, "the ledger knows nothing of the day in flight");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_does_not_wait_for_a_slow_storage() {
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 1.0).store(&server);
    server.set_latency(Duration::from_secs(20));
    let output = tempfile::tempdir().unwrap();
    let settings = into_csv(from_server(settings(output.path(), DAYS[0], DAYS[3]), &server), output.path());
    let running = Invocation::with("run", &settings).start();
    while server.counters().requests == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stops_soon(running).await;
    assert_eq!(std::fs::read_dir(output.path()).unwrap().count(), 0);
}

/// A bed whose COPY of the third day, or the fourth, waits until the test gives up advisory lock 77.
struct Gated {
    _folder: tempfile::TempDir,
    settings: Value,
    client: Client,
    gate: Client,
}

impl Gated {
    async fn new() -> Self {
        let postgres = database::database().await;
        let folder = tempfile::tempdir().unwrap();
        let mut settings = into_postgres(settings(folder.path(), DAYS[0], DAYS[3]), &postgres);
        in_order(&mut settings);
        Delivery::of(&DAYS, 1.0).write(folder.path());
        Invocation::with("init-db", &settings).run().await.expect(0, &[]);
        Invocation::with("run", &settings).run().await.expect(0, &[]);
        let (client, gate) = (database::client(&postgres).await, database::client(&postgres).await);
        client
            .batch_execute(
                "CREATE FUNCTION tenant.gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF NEW.usage_start >= '2025-10-03' THEN PERFORM pg_advisory_xact_lock_shared(77); END IF; \
                 RETURN NEW; END $$; \
                 CREATE TRIGGER gate BEFORE INSERT ON tenant.reporting_ocpusagelineitem_daily_summary \
                 FOR EACH ROW EXECUTE FUNCTION tenant.gate()",
            )
            .await
            .unwrap();
        gate.batch_execute("SELECT pg_advisory_lock(77)").await.unwrap();
        Delivery::of(&DAYS, 2.0).write(folder.path());
        Self { _folder: folder, settings, client, gate }
    }

    async fn waits_in(&self, statement: &str) {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND application_name LIKE 'gristmill/%' AND wait_event_type = 'Lock' AND query LIKE '{statement}%'"
        );
        wait_for(&self.client, &sql).await;
    }

    /// Core hours of each day's pods: 48 are old, 96 are new.
    async fn hours(&self) -> Vec<i64> {
        let mut found = Vec::new();
        for day in DAYS {
            let sql = format!(
                "SELECT coalesce(sum(pod_usage_cpu_core_hours), 0)::bigint \
                 FROM tenant.reporting_ocpusagelineitem_daily_summary WHERE usage_start = '{day}' \
                 AND data_source = 'Pod' AND namespace LIKE 'namespace-%'"
            );
            found.push(count(&self.client, &sql).await);
        }
        found
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_ends_within_the_grace_period_is_committed() {
    let mut bed = Gated::new().await;
    let port = free_port();
    bed.settings["metrics"] = json!({"listen": format!("127.0.0.1:{port}")});
    let running = Invocation::with("run", &bed.settings).start();
    bed.waits_in("COPY").await;
    assert_eq!((get(port, "/livez").await.unwrap().0, get(port, "/readyz").await.unwrap().0), (200, 200));
    running.terminate();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let told = (get(port, "/livez").await.unwrap().0, get(port, "/readyz").await.unwrap().0);
    assert_eq!(told, (200, 503), "it takes no further work, and is not stuck");
    bed.gate.batch_execute("SELECT pg_advisory_unlock(77)").await.unwrap();
    let ended = running.end().await;
    ended.expect(143, &["stopped by SIGTERM", "nothing is half-written"]);
    let mut hours = bed.hours().await;
    let statuses = DAYS.map(|day| (ended.day(day)["status"] == "written", ended.day(day)["status"] == "skipped"));
    assert_eq!(statuses.map(|(written, _)| if written { 96 } else { 48 }).to_vec(), hours, "{ended:#?}");
    assert!(statuses.iter().all(|(written, skipped)| written != skipped), "{ended:#?}");
    hours.sort_unstable();
    assert_eq!(hours, [48, 96, 96, 96], "the one in flight is new, the one after it was not begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_process_at_once() {
    let bed = Gated::new().await;
    let running = Invocation::with("run", &bed.settings).start();
    bed.waits_in("COPY").await;
    running.terminate();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let told = Instant::now();
    running.terminate();
    let ended = running.end().await;
    assert_eq!(ended.code, 143, "{ended:#?}");
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
    bed.gate.batch_execute("SELECT pg_advisory_unlock(77)").await.unwrap();
    // The server notices that its client is gone and rolls back.
    let busy = "SELECT 1 - least(count(*), 1) FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name LIKE 'gristmill/%' AND query LIKE 'COPY%'";
    wait_for(&bed.client, busy).await;
    assert_eq!(bed.hours().await, [96, 96, 48, 48]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_does_not_wait_for_a_lock() {
    let bed = Gated::new().await;
    bed.gate
        .batch_execute("BEGIN; SELECT 1 FROM tenant.reporting_ocpusagelineitem_daily_summary FOR UPDATE")
        .await
        .unwrap();
    let running = Invocation::with("run", &bed.settings).start();
    bed.waits_in("DELETE").await;
    stops_soon(running).await;
    assert_eq!(bed.hours().await, [48, 48, 48, 48]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_waits_for_the_storage_stops() {
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 1.0).store(&server);
    let output = tempfile::tempdir().unwrap();
    let settings = into_csv(from_server(settings(output.path(), DAYS[0], DAYS[3]), &server), output.path());
    server.set_latency(Duration::from_secs(20));
    for command in ["plan", "check", "run"] {
        let before = server.counters().requests;
        let running = Invocation::with(command, &settings).start();
        while server.counters().requests == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stops_soon(running).await;
    }
    // Between the footers and the rows.
    server.set_latency(Duration::ZERO);
    server.set_frame_pause(Duration::from_secs(20));
    let reads = server.reads().len();
    let running = Invocation::with("run", &settings).start();
    while server.reads().len() == reads {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stops_soon(running).await;
    assert_eq!(std::fs::read_dir(output.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_generate() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let arguments = ["--rows", "50000000", "--out", out.to_str().unwrap()];
    let running = Invocation::bare("generate").arguments(&arguments).start();
    while !out.join("data").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = Instant::now();
    running.terminate();
    let ended = running.end().await;
    ended.expect(143, &["stopped by SIGTERM", "there is no manifest yet"]);
    assert!(told.elapsed() < Duration::from_secs(30), "an object that was begun is ended: {:?}", told.elapsed());
    assert!(!out.join("manifest.json").exists());
    assert!(files_below(&out).iter().all(|(key, _)| !key.ends_with(".part")));
}
