//! SIGTERM during the other commands, while they wait for a database, a storage or a file: they end soon with the exit code that
//! Kubernetes expects, and nothing is half-written.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gristmill::config::Postgres;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::binary::{Ended, Invocation, Running};
use crate::bucket::files_below;
use crate::convert::Bed;
use crate::database;
use crate::delivery::{Delivery, from_server, into_postgres, settings};
use crate::s3_server::S3Server;
use crate::stopping::{count, stops_soon, wait_for};

const DAYS: [&str; 2] = ["2025-10-01", "2025-10-02"];
const TABLE: &str = "tenant.reporting_ocpusagelineitem_daily_summary";
/// Sessions of the program; a `Client` of the test has no such name.
const SESSIONS: &str =
    "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'gristmill/%'";

/// Settings to read from the folder and write into the database.
fn into_database(folder: &Path, postgres: &Postgres) -> Value {
    into_postgres(settings(folder, DAYS[0], DAYS[1]), postgres)
}

async fn waits_for_a_lock(client: &Client) {
    wait_for(client, &format!("SELECT count(*) {SESSIONS} AND wait_event_type = 'Lock'")).await;
}

/// Starts init-db, which then waits for a lock, and stops it. The server gives up as well, although the lock is not free.
async fn stop_init_db(settings: &Value, client: &Client) {
    let running = Invocation::with("init-db", settings).start();
    waits_for_a_lock(client).await;
    stops_soon(running).await;
    nobody_is_left(client).await;
}

async fn nobody_is_left(client: &Client) {
    wait_for(client, &format!("SELECT 1 - least(count(*), 1) {SESSIONS}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_rolls_init_db_back_wherever_it_waits_and_a_second_one_succeeds() {
    let postgres = database::database().await;
    let folder = tempfile::tempdir().unwrap();
    Delivery::of(&DAYS, 1.0).write(folder.path());
    let settings = into_database(folder.path(), &postgres);
    let (client, gate) = (database::client(&postgres).await, database::client(&postgres).await);
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('tenant', 'gristmill')";
    // Before anything is done, at the first schema, and at the ledger: then all tables but that one were created.
    for statement in [
        "SELECT pg_advisory_xact_lock(hashtext('gristmill init-db'))",
        "CREATE SCHEMA tenant",
        "CREATE SCHEMA gristmill",
    ] {
        gate.batch_execute(&format!("BEGIN; {statement}")).await.unwrap();
        stop_init_db(&settings, &client).await;
        gate.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(count(&client, schemas).await, 0, "{statement}");
    }
    Invocation::with("init-db", &settings).run().await.expect(0, &["created with the ledger", "_2025_10: created"]);

    // A partition is made in a transaction of its own, after the others were committed.
    let mut longer = settings.clone();
    longer["period"]["end_date"] = json!("2025-11-30");
    gate.batch_execute(&format!("BEGIN; LOCK TABLE {TABLE} IN SHARE MODE")).await.unwrap();
    stop_init_db(&longer, &client).await;
    gate.batch_execute("ROLLBACK").await.unwrap();
    let partitions = format!("SELECT count(*) FROM pg_inherits WHERE inhparent = '{TABLE}'::regclass");
    assert_eq!(count(&client, &partitions).await, 2, "the default one and October");
    Invocation::with("init-db", &longer).run().await.expect(0, &["_2025_11: created"]);
    Invocation::with("run", &settings).run().await.expect(0, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_verify_whatever_it_waits_for() {
    let postgres = database::database().await;
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 1.0).store(&server);
    let folder = tempfile::tempdir().unwrap();
    let settings = from_server(into_database(folder.path(), &postgres), &server);
    let files = folder.path().join("csv");
    Invocation::with("init-db", &settings).run().await.expect(0, &[]);
    Invocation::with("run", &settings).run().await.expect(0, &[]);
    let mut into_files = settings.clone();
    into_files["target"]["kind"] = json!("file");
    into_files["target"]["file"] = json!({"path": files, "format": "csv"});
    Invocation::with("run", &into_files).run().await.expect(0, &[]);
    let report = folder.path().join("report.json");
    let arguments = ["--against", files.to_str().unwrap(), "--report", report.to_str().unwrap()];
    let start = || Invocation::with("verify", &settings).arguments(&arguments).start();
    let rows = format!("SELECT count(*) FROM {TABLE}");
    let (client, gate) = (database::client(&postgres).await, database::client(&postgres).await);
    let before = count(&client, &rows).await;

    gate.batch_execute(&format!("BEGIN; LOCK TABLE {TABLE}")).await.unwrap();
    let running = start();
    waits_for_a_lock(&client).await;
    stops_soon(running).await;
    gate.batch_execute("ROLLBACK").await.unwrap();

    server.set_latency(Duration::from_secs(20));
    let asked = server.counters().requests;
    let running = start();
    while server.counters().requests == asked {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stops_soon(running).await;
    server.set_latency(Duration::ZERO);

    // A file whose bytes never come, as on a file system that hangs.
    let day = files.join(format!("{}.csv", DAYS[0]));
    std::fs::rename(&day, folder.path().join("day")).unwrap();
    assert!(Command::new("mkfifo").arg(&day).status().unwrap().success());
    let _silent = File::options().read(true).write(true).open(&day).unwrap();
    let running = start();
    while !running.has_open(&day) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stops_soon(running).await;
    std::fs::rename(folder.path().join("day"), &day).unwrap();

    assert!(!report.exists(), "there is no report of what was not compared");
    assert_eq!(count(&client, &rows).await, before);
    start().end().await.expect(0, &[]);
    assert!(report.exists());
}

/// Tells the process to stop and waits until it did; how long that took comes with it.
async fn stopped(running: Running) -> (Ended, Duration) {
    let told = Instant::now();
    running.terminate();
    (running.end().await, told.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_leaves_no_file_of_a_conversion() {
    let bed = Bed::with_pods(60_000);
    let running = bed.start_converting(&["--rows-per-file", "200", "--workers", "1"]);
    let written = || files_below(bed.output.path()).iter().any(|(key, _)| key.ends_with(".part"));
    while !written() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (ended, took) = stopped(running).await;
    ended.expect(143, &["stopped by SIGTERM"]);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(bed.objects().is_empty(), "{:?}", bed.objects().iter().map(|(key, _)| key).collect::<Vec<_>>());
}

/// A conversion of so many pods that has written its first object into the bucket.
async fn converting_into(server: &S3Server, pods: u32) -> (Bed, Running) {
    let mut bed = Bed::with_pods(pods);
    bed.settings = from_server(bed.settings, server);
    server.set_latency(Duration::from_millis(50));
    let running = bed.start_converting(&["--rows-per-file", "20", "--workers", "2"]);
    while server.keys().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (bed, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_takes_the_objects_of_a_conversion_back() {
    let server = S3Server::start().await;
    let (_bed, running) = converting_into(&server, 2_000).await;
    server.set_latency(Duration::from_secs(1));
    let (ended, took) = stopped(running).await;
    ended.expect(143, &["stopped by SIGTERM", "the objects written so far were removed"]);
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(server.keys(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversion_does_not_wait_for_a_storage_that_hangs_and_says_what_may_be_left() {
    let server = S3Server::start().await;
    let (bed, running) = converting_into(&server, 400).await;
    server.set_latency(Duration::from_secs(120));
    let asked = server.counters().requests;
    while server.counters().requests == asked {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (ended, took) = stopped(running).await;
    ended.expect(143, &["stopped by SIGTERM", "the storage is slow to remove", "may still appear", "`--replace`"]);
    assert!(took < Duration::from_secs(28), "a pod has half a minute: {took:?}");

    // As the message says.
    server.set_latency(Duration::ZERO);
    bed.convert(&["--replace"]).await.expect(0, &["2 objects"]);
    assert_eq!(server.keys().len(), 2, "{:?}", server.keys());
}
