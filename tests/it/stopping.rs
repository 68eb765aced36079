//! SIGTERM while a day is being written: the exit code that Kubernetes expects, and nothing half-written.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio_postgres::Client;

use crate::binary::Invocation;
use crate::database;
use crate::delivery::{Delivery, from_server, into_csv, into_postgres, settings};
use crate::s3_server::S3Server;

const DAYS: [&str; 4] = ["2025-10-01", "2025-10-02", "2025-10-03", "2025-10-04"];

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect("a count").get(0)
}

async fn wait_for(client: &Client, sql: &str) {
    for _ in 0..400 {
        if count(client, sql).await > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to: {sql}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_leaves_the_day_in_flight_as_it_was() {
    let postgres = database::database().await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = into_postgres(settings(folder.path(), DAYS[0], DAYS[3]), &postgres);
    settings["target"]["postgres"]["connections"] = json!(1);
    Delivery::of(&DAYS, 1.0).write(folder.path());
    Invocation::with("init-db", &settings).run().await.expect(0, &[]);
    Invocation::with("run", &settings).run().await.expect(0, &[]);

    // From now on writing the third day takes longer than anybody waits.
    let client = database::client(&postgres).await;
    client
        .batch_execute(
            "CREATE FUNCTION tenant.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.usage_start = '2025-10-03' THEN PERFORM pg_sleep(20); END IF; RETURN NEW; END $$; \
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
    let told = Instant::now();
    running.terminate();
    running.end().await.expect(143, &["stopped by SIGTERM"]);
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    assert_eq!(std::fs::read_dir(output.path()).unwrap().count(), 0);
}
