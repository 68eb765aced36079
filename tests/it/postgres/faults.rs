//! What goes wrong gets its kind, its text and its fix, and leaves the old day.

use std::time::Duration;

use bytes::Bytes;
use gristmill::config::Postgres;
use gristmill::error::{ErrorKind, Failure};
use gristmill::postgres::connection::Connector;
use gristmill::postgres::copy::send;
use gristmill::postgres::shape::TargetShape;
use gristmill::postgres::sql::TableName;
use gristmill::sink::{Rows, Sink};
use secrecy::SecretString;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{OCTOBER, count, ready_database, sink, target};
use crate::database;
use crate::day_rows::{day, pod_rows};

async fn write_one_day(config: &Postgres) -> Result<(), Failure> {
    let source = Uuid::new_v4();
    let sink = sink(config, source);
    sink.prepare(&[OCTOBER]).await?;
    sink.replace(pod_rows(day("2025-10-01"), source, 2, 1, None)).await.map(|_| ())
}

async fn failure(config: &Postgres) -> Failure {
    write_one_day(config).await.expect_err("this must fail")
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    let mut config = database::database().await;
    config.password = Some(SecretString::from("hunter2-not-the-password".to_owned()));
    let failure = failure(&config).await;
    assert_eq!(failure.kind, ErrorKind::LoginRefused);
    assert!(failure.message.contains("password authentication failed"), "{}", failure.message);
    assert!(!format!("{failure:?} {}", failure.full_text()).contains("hunter2"));
    config.password = None;
    assert_eq!(self::failure(&config).await.kind, ErrorKind::LoginRefused);
}

#[tokio::test]
async fn an_unknown_database_is_a_refused_login() {
    let mut config = database::database().await;
    config.database = "no_such_database".to_owned();
    let failure = failure(&config).await;
    assert_eq!(failure.kind, ErrorKind::LoginRefused);
    assert!(failure.message.contains("no_such_database"), "{}", failure.message);
}

#[tokio::test]
async fn nobody_at_the_port_is_transient() {
    let mut config = database::database().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.port = free.local_addr().unwrap().port();
    drop(free);
    let connector = Connector::new(&config, Uuid::nil()).unwrap();
    let error = connector.connect().await.err().expect("nobody listens");
    assert_eq!(error.kind(), ErrorKind::DatabaseUnavailable);
    assert!(error.is_worth_retrying());
    assert!(error.to_string().contains(&config.port.to_string()), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_meets_the_connect_timeout() {
    let mut config = database::database().await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.port = silent.local_addr().unwrap().port();
    config.connect_timeout_seconds = 1;
    let connector = Connector::new(&config, Uuid::nil()).unwrap();
    let error = connector.connect().await.err().expect("nobody answers");
    assert_eq!(error.kind(), ErrorKind::DatabaseUnavailable);
    assert!(error.to_string().contains("within 1 s"), "{error}");
}

#[tokio::test]
async fn a_missing_table_is_named() {
    let (mut config, _client) = ready_database().await;
    config.table = "elsewhere".to_owned();
    let failure = failure(&config).await;
    assert_eq!(failure.kind, ErrorKind::TargetShape);
    assert!(failure.message.contains("tenant.elsewhere does not exist"), "{}", failure.message);
}

#[tokio::test]
async fn all_problems_of_the_shape_are_reported_at_once() {
    let (config, client) = ready_database().await;
    let table = target(&config);
    client
        .batch_execute(&format!(
            "ALTER TABLE {table} DROP COLUMN storageclass, DROP COLUMN monthly_cost_type, ALTER node TYPE varchar(20), \
             ALTER pod_usage_cpu_core_hours TYPE numeric(20,5), ALTER cluster_alias SET NOT NULL, \
             ADD COLUMN must integer NOT NULL, ADD COLUMN may integer NOT NULL DEFAULT 1, \
             ALTER persistentvolume TYPE jsonb USING null"
        ))
        .await
        .unwrap();
    let failure = failure(&config).await;
    assert_eq!(failure.kind, ErrorKind::TargetShape);
    for part in [
        "no column `storageclass`",
        "no column `monthly_cost_type`",
        "column `node` of tenant.reporting_ocpusagelineitem_daily_summary is varchar(20), needed is varchar(253)",
        "numeric(20,5), needed is numeric(33,15)",
        "`cluster_alias` of tenant.reporting_ocpusagelineitem_daily_summary is NOT NULL, but",
        "column `must` of",
        "column `persistentvolume` of tenant.reporting_ocpusagelineitem_daily_summary is jsonb",
        "ADD COLUMN \"storageclass\" varchar(253)",
    ] {
        assert!(failure.message.contains(part), "{part} is not in {}", failure.message);
    }
    assert!(!failure.message.contains("`may`"), "{}", failure.message);
}

#[tokio::test]
async fn a_value_that_does_not_fit_stops_before_the_transaction() {
    let (config, client) = ready_database().await;
    let source = Uuid::new_v4();
    let sink = sink(&config, source);
    sink.replace(pod_rows(day("2025-10-01"), source, 2, 1, None)).await.unwrap();
    let mut rows = pod_rows(day("2025-10-01"), source, 2, 1, None);
    let nul = crate::day_rows::texts(vec![Some("fine"), Some("secret\0value")]);
    rows.rows = Rows::Batches(vec![crate::day_rows::batch(rows.day, source, 2, vec![("namespace", nul)])]);
    let failure = sink.replace(rows).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::ValueUnusable);
    assert!(failure.message.contains("column `namespace`, row 1"), "{}", failure.message);
    assert!(!failure.full_text().contains("secret"), "{}", failure.full_text());
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {}", target(&config))).await, 2);
}

#[tokio::test]
async fn a_value_late_in_a_large_day_is_found_before_the_old_rows_are_touched() {
    let (config, client) = ready_database().await;
    let source = Uuid::new_v4();
    let sink = sink(&config, source);
    sink.replace(pod_rows(day("2025-10-01"), source, 2, 1, None)).await.unwrap();
    // Whoever deletes the old rows has to wait for this session.
    client.batch_execute(&format!("BEGIN; SELECT 1 FROM {} FOR UPDATE", target(&config))).await.unwrap();
    let mut rows = pod_rows(day("2025-10-01"), source, 2, 1, None);
    let batch = |name| crate::day_rows::batch(rows.day, source, 2, vec![("namespace", crate::day_rows::texts(name))]);
    let mut batches = vec![batch(vec![Some("fine"), Some("fine")]); 6];
    batches.push(batch(vec![Some("fine"), Some("secret\0value")]));
    rows.rows = Rows::Batches(batches);
    let answer = tokio::time::timeout(Duration::from_secs(30), sink.replace(rows)).await;
    let failure = answer.expect("nothing waits for a lock").unwrap_err();
    assert_eq!(failure.kind, ErrorKind::ValueUnusable);
    assert!(failure.message.contains("column `namespace`, row 13"), "{}", failure.message);
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {}", target(&config))).await, 2);
}

#[tokio::test]
async fn a_day_of_many_batches_arrives_whole() {
    let (config, client) = ready_database().await;
    let source = Uuid::new_v4();
    let mut rows = pod_rows(day("2025-10-01"), source, 14, 1, None);
    let whole = pod_rows(day("2025-10-01"), source, 2, 1, None).rows;
    let Rows::Batches(pair) = whole else { panic!("batches that are there") };
    rows.rows = Rows::Batches(vec![pair[0].clone(); 7]);
    sink(&config, source).replace(rows).await.unwrap();
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {}", target(&config))).await, 14);
    assert_eq!(count(&client, &format!("SELECT count(DISTINCT uuid) FROM {}", target(&config))).await, 14);
}

#[tokio::test]
async fn json_that_postgresql_refuses_is_reported_without_the_value() {
    let (config, client) = ready_database().await;
    let source = Uuid::new_v4();
    let mut rows = pod_rows(day("2025-10-01"), source, 1, 1, None);
    let broken = crate::day_rows::texts(vec![Some("{\"topsecret\": oops")]);
    rows.rows = Rows::Batches(vec![crate::day_rows::batch(rows.day, source, 1, vec![("pod_labels", broken)])]);
    let failure = sink(&config, source).replace(rows).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::DatabaseRefused);
    assert!(failure.message.contains("22P02"), "{}", failure.message);
    assert!(failure.message.contains("column pod_labels"), "{}", failure.message);
    assert!(!failure.full_text().contains("topsecret"), "{}", failure.full_text());
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {}", target(&config))).await, 0);
}

#[tokio::test]
async fn a_missing_privilege_names_the_object() {
    let (mut config, client) = ready_database().await;
    let role = format!("r_{}", Uuid::new_v4().simple());
    let table = target(&config);
    client
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA tenant TO {role}; \
             GRANT SELECT, INSERT ON {table} TO {role}; GRANT USAGE ON SCHEMA gristmill TO {role}; \
             GRANT ALL ON ALL TABLES IN SCHEMA gristmill TO {role}"
        ))
        .await
        .unwrap();
    config.user = role;
    config.password = Some(SecretString::from("pw".to_owned()));
    let failure = failure(&config).await;
    assert_eq!(failure.kind, ErrorKind::PrivilegeMissing);
    assert!(failure.message.contains("permission denied for table"), "{}", failure.message);
    assert!(failure.message.contains("deleting the old rows"), "{}", failure.message);
}

#[tokio::test]
async fn a_day_locked_by_another_session_is_busy() {
    let (mut config, client) = ready_database().await;
    config.lock_timeout_seconds = 1;
    let source = Uuid::new_v4();
    // The other session holds the provider lock of the reference, which this run is told to respect.
    config.reference_locks = true;
    client.query("SELECT pg_advisory_lock(hashtext($1))", &[&source.to_string()]).await.unwrap();
    let failure = sink(&config, source).replace(pod_rows(day("2025-10-01"), source, 1, 1, None)).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::LockBusy);
    assert!(failure.message.contains("waited 1 s"), "{}", failure.message);

    config.reference_locks = false;
    sink(&config, source).replace(pod_rows(day("2025-10-01"), source, 1, 1, None)).await.unwrap();
}

#[tokio::test]
async fn two_writers_of_one_day_take_turns() {
    let (mut config, client) = ready_database().await;
    config.lock_timeout_seconds = 1;
    let source = Uuid::new_v4();
    sink(&config, source).replace(pod_rows(day("2025-10-01"), source, 1, 1, None)).await.unwrap();
    // A writer that is stuck in the middle of its transaction: it waits for this row lock, holding the day's lock.
    let blocker = database::client(&config).await;
    blocker.batch_execute(&format!("BEGIN; SELECT 1 FROM {} FOR UPDATE", target(&config))).await.unwrap();
    let mut patient = config.clone();
    patient.lock_timeout_seconds = 30;
    let first = tokio::spawn({
        let sink = sink(&patient, source);
        async move { sink.replace(pod_rows(day("2025-10-01"), source, 2, 1, None)).await }
    });
    wait_for_session(&client, "wait_event_type = 'Lock'").await;
    let failure = sink(&config, source).replace(pod_rows(day("2025-10-01"), source, 3, 1, None)).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::LockBusy);
    assert!(failure.message.contains("locking day 2025-10-01"), "{}", failure.message);
    // Another day of the same source does not wait.
    sink(&config, source).replace(pod_rows(day("2025-10-02"), source, 3, 1, None)).await.unwrap();
    blocker.batch_execute("ROLLBACK").await.unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {}", target(&config))).await, 2 + 3);
}

#[tokio::test]
async fn a_backend_that_is_terminated_leaves_the_old_day_and_the_day_is_tried_again() {
    let (config, client) = ready_database().await;
    let source = Uuid::new_v4();
    let sink = sink(&config, source);
    sink.replace(pod_rows(day("2025-10-01"), source, 5, 1, None)).await.unwrap();
    let blocker = database::client(&config).await;
    // Holds up the ledger row, the last statement of the day, with everything else done.
    blocker.batch_execute("BEGIN; SELECT 1 FROM gristmill.day_ledger FOR UPDATE").await.unwrap();
    let writing = tokio::spawn(async move { sink.replace(pod_rows(day("2025-10-01"), source, 9, 1, None)).await });
    wait_for_session(&client, "wait_event_type = 'Lock' AND query LIKE '%day_ledger%'").await;
    let total = format!("SELECT count(*) FROM {}", target(&config));
    let killed = count(
        &client,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name LIKE 'gristmill/%'",
    )
    .await;
    assert!(killed >= 1);
    assert_eq!(count(&client, &total).await, 5, "the old day is whole");
    blocker.batch_execute("ROLLBACK").await.unwrap();
    writing.await.unwrap().expect("the second attempt writes the day");
    assert_eq!(count(&client, &total).await, 9);
}

#[tokio::test]
async fn a_day_that_no_partition_takes_is_a_problem_of_the_target() {
    let (config, client) = ready_database().await;
    client.batch_execute("DROP TABLE tenant.reporting_ocpusagelineitem_daily_summary_default").await.unwrap();
    let source = Uuid::new_v4();
    let failure = sink(&config, source).replace(pod_rows(day("2025-11-01"), source, 1, 1, None)).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::TargetShape);
    assert!(failure.message.contains("no partition of relation"), "{}", failure.message);
}

#[tokio::test]
async fn a_copy_may_take_longer_than_a_statement_as_long_as_it_goes_on() {
    let (mut config, client) = ready_database().await;
    config.statement_timeout_seconds = 2;
    client
        .batch_execute(
            "CREATE FUNCTION tenant.dawdle() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_sleep(0.004); RETURN new; END'; CREATE TRIGGER dawdle BEFORE INSERT ON \
             tenant.reporting_ocpusagelineitem_daily_summary_2025_10 FOR EACH ROW EXECUTE FUNCTION tenant.dawdle()",
        )
        .await
        .unwrap();
    let source = Uuid::new_v4();
    let mut rows = pod_rows(day("2025-10-01"), source, 1_000, 1, None);
    // Large rows, so that the buffers on the way hold little of the work.
    let label = format!("{{\"a\": \"{}\"}}", "x".repeat(40_000));
    let labels = crate::day_rows::texts(vec![Some(&label); 1_000]);
    rows.rows = Rows::Batches(vec![crate::day_rows::batch(
        rows.day,
        source,
        1_000,
        vec![("infrastructure_usage_cost", labels)],
    )]);
    rows.sums = Vec::new();
    let started = std::time::Instant::now();
    sink(&config, source).replace(rows).await.unwrap();
    assert!(started.elapsed() > Duration::from_secs(3), "the trigger made it slow");
}

#[tokio::test]
async fn a_copy_that_stops_moving_ends_at_our_own_deadline() {
    let (mut config, _client) = ready_database().await;
    let real_port = config.port;
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    config.port = proxy.local_addr().unwrap().port();
    // Passes bytes on in both directions, the client's only up to a mebibyte; then it neither reads nor closes.
    let proxying = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, copy};
        let (client_side, _) = proxy.accept().await.unwrap();
        let server_side = tokio::net::TcpStream::connect(("127.0.0.1", real_port)).await.unwrap();
        let (client_read, mut client_write) = client_side.into_split();
        let (mut server_read, mut server_write) = server_side.into_split();
        let mut limited = client_read.take(1 << 20);
        tokio::select! {
            _ = async { copy(&mut limited, &mut server_write).await.unwrap(); std::future::pending::<()>().await } => {}
            _ = copy(&mut server_read, &mut client_write) => {}
        }
    });
    let connector = Connector::new(&config, Uuid::nil()).unwrap();
    let connection = connector.connect().await.unwrap();
    connection.begin("test").await.unwrap();
    let name = TableName::new(&config.schema, &config.table);
    let shape = TargetShape::read(&connection, &name).await.unwrap();
    let frames = futures::stream::iter(vec![Bytes::from(vec![0; 4 << 20]); 16]);
    let patience = Duration::from_secs(1);
    let error = send(&connection, &shape, frames, patience, "COPY of the test").await.unwrap_err();
    assert_eq!(error.to_string(), "COPY of the test: no progress for 1 s");
    assert_eq!(error.kind(), ErrorKind::DatabaseUnavailable);
    assert!(error.is_worth_retrying());
    proxying.abort();
}

/// Waits until a session of ours is in the given state.
pub(super) async fn wait_for_session(client: &Client, state: &str) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name LIKE 'gristmill/%' AND {state}"
    );
    let mut found = 0;
    for _ in 0..200 {
        found = count(client, &sql).await;
        if found > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(found > 0, "no session came to: {state}");
}
