//! What operators see of a run: metrics and probes while it lasts, log lines, its report on standard output and its last words.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::binary::{Ended, Invocation, Running};
use crate::database;
use crate::delivery::{Delivery, ROWS_PER_DAY, SOURCE, from_server, into_csv, into_postgres, settings};
use crate::s3_server::S3Server;

const DAYS: [&str; 3] = ["2025-10-01", "2025-10-02", "2025-10-03"];

/// Status and body of a request; `None` while nobody listens.
pub async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

/// Series → value.
async fn scrape(port: u16) -> BTreeMap<String, f64> {
    let Some((status, text)) = get(port, "/metrics").await else { return BTreeMap::new() };
    assert_eq!(status, 200, "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    };
    samples.map(sample).collect()
}

/// Asks until the answer is as wanted.
async fn scrape_until(port: u16, is_there: impl Fn(&BTreeMap<String, f64>) -> bool) -> BTreeMap<String, f64> {
    for _ in 0..600 {
        let found = scrape(port).await;
        if is_there(&found) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the metrics never became as expected: {:?}", scrape(port).await);
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_agree_with_the_report() {
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 1.0).store(&server);
    server.set_latency(Duration::from_millis(150));
    server.fail_next(1);
    let output = tempfile::tempdir().unwrap();
    let mut settings = into_csv(from_server(settings(output.path(), DAYS[0], DAYS[2]), &server), output.path());
    settings["storage"]["concurrent_requests"] = json!(1);
    let port = free_port();
    settings["metrics"] = json!({"listen": format!("127.0.0.1:{port}")});
    let (running, pipe) = start_and_hold(&settings);

    let during =
        scrape_until(port, |found| found.get("gristmill_storage_requests_total{outcome=\"ok\"}") >= Some(&1.0));
    let during = during.await;
    assert_eq!(during["gristmill_last_success_timestamp_seconds"], 0.0);
    assert_eq!((get(port, "/livez").await.unwrap().0, get(port, "/readyz").await.unwrap().0), (200, 200));
    let after = scrape_until(port, |found| found.get("gristmill_last_success_timestamp_seconds") > Some(&0.0)).await;
    assert_eq!((get(port, "/livez").await.unwrap().0, get(port, "/readyz").await.unwrap().0), (200, 503));
    assert_eq!(get(port, "/other").await.unwrap().0, 404);

    let report = release(running, pipe).await;
    assert!(get(port, "/livez").await.is_none(), "the port is closed");
    compare(&after, &report);
}

/// Starts a run whose report nobody reads yet, so that the program waits at its end and goes on answering.
fn start_and_hold(settings: &Value) -> (Running, PathBuf) {
    let invocation = Invocation::with("run", settings);
    let pipe = invocation.working_folder().join("report.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    (invocation.start(), pipe)
}

/// Reads the report, so that the run ends.
async fn release(running: Running, pipe: PathBuf) -> Value {
    let reading = pipe.clone();
    let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(reading).unwrap()).await.unwrap();
    std::fs::remove_file(&pipe).unwrap();
    running.end().await.expect(0, &[]);
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_run_the_gauges_of_the_last_one_come_from_the_ledger() {
    let postgres = database::database().await;
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 1.0).store(&server);
    let nowhere = Path::new("/nowhere");
    let mut settings = into_postgres(from_server(settings(nowhere, DAYS[0], DAYS[2]), &server), &postgres);
    Invocation::with("init-db", &settings).run().await.expect(0, &[]);
    let began = chrono::Utc::now().timestamp() as f64;
    let first = Invocation::with("run", &settings).run().await.expect(0, &[]).report["rows_out"].as_f64().unwrap();
    let ended = chrono::Utc::now().timestamp() as f64 + 1.0;
    // What another source or another table got later says nothing about this one.
    let client = database::client(&postgres).await;
    for [table, source] in [["target_table", "gen_random_uuid()"], ["'another'", "source_uuid"]] {
        let columns = "usage_day, status, fingerprint, deleted_row_count, sums, made_from, engine_version, started_at";
        let sql = format!(
            "INSERT INTO gristmill.day_ledger (target_schema, target_table, source_uuid, run_id, row_count, finished_at, \
             {columns}) SELECT target_schema, {table}, {source}, gen_random_uuid(), 7, finished_at + interval '1 hour', \
             {columns} FROM gristmill.day_ledger WHERE source_uuid = '{SOURCE}'"
        );
        assert_eq!(client.execute(&sql, &[]).await.unwrap(), 3, "{table} {source}");
    }

    Delivery::of(&DAYS[..1], 2.0).store(&server);
    server.set_latency(Duration::from_millis(150));
    let port = free_port();
    settings["metrics"] = json!({"listen": format!("127.0.0.1:{port}")});
    let (running, pipe) = start_and_hold(&settings);
    const SUCCESS: &str = "gristmill_last_success_timestamp_seconds";
    const ROWS: &str = "gristmill_last_run_rows_written";
    let both = |found: &BTreeMap<String, f64>| found.get(SUCCESS) > Some(&0.0) && found[ROWS] > 0.0;
    let during = scrape_until(port, both).await;
    assert_eq!((during["gristmill_rows_written_total"], during[ROWS]), (0.0, first));
    assert!((began..=ended).contains(&during[SUCCESS]), "{began} to {ended}: {during:?}");
    let after = scrape_until(port, |found| found.get(SUCCESS) > Some(&during[SUCCESS]) && found[ROWS] != first).await;
    let report = release(running, pipe).await;
    let second = report["rows_out"].as_f64().unwrap();
    assert!(second > 0.0 && second < first, "one day was written: {second} of {first}");
    assert_eq!(after[ROWS], second);
}

fn compare(metrics: &BTreeMap<String, f64>, report: &Value) {
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key} in {report}"));
    let outcomes = ["ok", "retried", "failed"]
        .map(|outcome| metrics[&format!("gristmill_storage_requests_total{{outcome=\"{outcome}\"}}")]);
    assert_eq!(outcomes.iter().sum::<f64>(), number("requests"));
    assert_eq!((outcomes[1], outcomes[2]), (1.0, 0.0));
    assert_eq!(metrics["gristmill_retries_total{to=\"storage\"}"], 1.0);
    assert_eq!(metrics["gristmill_retries_total{to=\"database\"}"], 0.0);
    for (metric, key) in [
        ("gristmill_rows_read_total", "rows_in"),
        ("gristmill_bytes_read_total", "bytes_read"),
        ("gristmill_rows_written_total", "rows_out"),
        ("gristmill_last_run_rows_written", "rows_out"),
        ("gristmill_memory_budget_bytes", "memory_budget_bytes"),
        ("gristmill_memory_limit_bytes", "memory_limit_bytes"),
    ] {
        assert_eq!(metrics[metric], number(key), "{metric}");
    }
    assert_eq!(number("rows_in"), (DAYS.len() * ROWS_PER_DAY) as f64);
    assert_eq!(metrics["gristmill_memory_used_bytes"], 0.0);
    let days = ["written", "unchanged", "failed", "empty"]
        .map(|outcome| metrics[&format!("gristmill_days_total{{outcome=\"{outcome}\"}}")]);
    assert_eq!(days, [3.0, 0.0, 0.0, 0.0]);
    let labels = |key: &str| {
        let columns = report["label_columns"].as_object().unwrap().values();
        columns.map(|column| column[key].as_f64().unwrap()).sum::<f64>()
    };
    assert_eq!(metrics["gristmill_label_texts_total"], labels("text_rows"));
    assert_eq!(metrics["gristmill_label_texts_distinct_total"], labels("json_texts") + labels("operator_texts"));
    assert!(labels("json_texts") > 0.0);
    for stage in report["stage_seconds"].as_array().unwrap() {
        let (name, seconds) = (stage["stage"].as_str().unwrap(), stage["seconds"].as_f64().unwrap());
        let found = metrics[&format!("gristmill_stage_seconds_total{{stage=\"{name}\"}}")];
        assert!((found - seconds).abs() < 1e-6, "{name}: {found} and {seconds}");
    }
    let run_id = report["run_id"].as_str().unwrap();
    let info = metrics.iter().find(|(series, _)| series.starts_with("gristmill_run_info{")).unwrap();
    assert!(info.0.contains(run_id) && info.0.contains("cluster_id=\"cluster-7\"") && *info.1 == 1.0, "{info:?}");
    let now = chrono::Utc::now().timestamp() as f64;
    assert!((now - metrics["gristmill_last_success_timestamp_seconds"]).abs() < 60.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_a_problem_of_the_configuration() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    Delivery::of(&DAYS, 1.0).write(&input);
    let mut settings = into_csv(settings(&input, DAYS[0], DAYS[2]), &output);
    settings["metrics"] = json!({"listen": taken.local_addr().unwrap().to_string()});
    Invocation::with("run", &settings).run().await.expect(78, &["metrics.listen", "cannot be opened"]);
    assert!(!output.exists(), "nothing is begun");
    settings["metrics"] = json!({"listen": "everywhere:9090"});
    Invocation::with("run", &settings).run().await.expect(78, &["metrics.listen", "is no ADDRESS:PORT"]);
}

fn local(folder: &Path, days: &[&str]) -> Value {
    let (input, output) = (folder.join("in"), folder.join("out"));
    Delivery::of(days, 1.0).write(&input);
    into_csv(settings(&input, DAYS[0], DAYS[2]), &output)
}

fn json_lines(text: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_log_line_of_a_run_names_it_and_those_of_a_day_the_day() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = local(folder.path(), &DAYS);
    settings["logging"] = json!({"format": "json", "level": "info"});
    let ended = Invocation::with("run", &settings).run().await;
    ended.expect(0, &[]);
    let run_id = &ended.report["run_id"];
    let lines = json_lines(&ended.stderr);
    let spans = |line: &Value, name: &str, field: &str| {
        let spans = line["spans"].as_array().cloned().unwrap_or_default();
        spans.iter().find(|span| span["name"] == name).map(|span| span[field].clone())
    };
    let of_run = lines.iter().filter(|line| spans(line, "run", "run_id").as_ref() == Some(run_id));
    assert!(of_run.count() >= 5, "{lines:#?}");
    let written: Vec<_> = lines.iter().filter(|line| line["message"] == "day counted and dropped").collect();
    let written = if written.is_empty() {
        lines.iter().filter(|line| line["message"] == "day written").collect()
    } else {
        written
    };
    let mut days: Vec<Value> = written.iter().filter_map(|line| spans(line, "day", "day")).collect();
    days.sort_by_key(ToString::to_string);
    assert_eq!(days, DAYS.map(Value::from), "{lines:#?}");
    let limits = lines.iter().find(|line| line["message"] == "limits").unwrap();
    for field in ["cpus", "cpu_source", "workers", "memory", "memory_source", "memory_budget"] {
        assert!(!limits[field].is_null(), "{field} in {limits}");
    }
    // Machines read standard output too: it is the report and nothing else.
    assert_eq!(json_lines(&ended.stdout), std::slice::from_ref(&ended.report));

    settings["logging"] = json!({"format": "text", "level": "info"});
    let ended = Invocation::with("run", &settings).run().await;
    let run_id = ended.report["run_id"].as_str().unwrap();
    ended.expect(0, &[&format!("run{{run_id={run_id}}}"), "day{day=2025-10-02}", "rows in"]);
    let last = ended.stdout.lines().last().unwrap();
    assert_eq!(json_lines(last), std::slice::from_ref(&ended.report), "text, then the report as one line");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_stand_in_the_termination_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("termination-log");
    let mut settings = local(folder.path(), &DAYS);
    settings["logging"] = json!({"termination_log": log});
    let last_words = |ended: &Ended| {
        let text = std::fs::read_to_string(&log).unwrap_or_else(|error| panic!("{error}: {ended:#?}"));
        assert!(text.len() <= 4_096 && text.ends_with('\n') && text.lines().count() == 1, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let ended = Invocation::with("run", &settings).run().await;
    let words = last_words(ended.expect(0, &[]));
    assert_eq!((&words["run_id"], &words["exit_code"]), (&ended.report["run_id"], &json!(0)));

    settings["metrics"] = json!({"listen": "127.0.0.1:1"});
    settings["period"] = json!({"start_date": "2025-11-01", "end_date": "2025-11-02"});
    settings.as_object_mut().unwrap().remove("metrics");
    let ended = Invocation::with("run", &settings).run().await;
    let words = last_words(ended.expect(65, &[]));
    assert_eq!(words["exit_code"], 65);
    assert!(words["error"].as_str().unwrap().contains("no objects"), "{words}");

    settings["storage"]["url"] = json!("file:///nowhere/at/all");
    let ended = Invocation::with("run", &settings).run().await;
    assert_eq!(last_words(&ended)["exit_code"], ended.code);
    assert_ne!(ended.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_leaves_last_words_too() {
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 1.0).store(&server);
    server.set_latency(Duration::from_secs(20));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("termination-log");
    let mut settings = into_csv(from_server(settings(folder.path(), DAYS[0], DAYS[2]), &server), folder.path());
    settings["logging"] = json!({"termination_log": log});
    let running = Invocation::with("run", &settings).start();
    while server.counters().requests == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.terminate();
    running.end().await.expect(143, &[]);
    let words: Value = serde_json::from_str(&std::fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!(words["exit_code"], 143);
    assert!(words["error"].as_str().unwrap().contains("SIGTERM"), "{words}");
}
