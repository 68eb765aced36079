//! A day is replaced as a whole, its scope is exact, and nobody sees it half-done.

use gristmill::config::Replace;
use gristmill::error::ErrorKind;
use gristmill::ledger;
use gristmill::postgres::connection::Connector;
use gristmill::postgres::sql::TableName;
use gristmill::sink::{Sink, Written};
use uuid::Uuid;

use super::{count, ready_database, sink, sink_with, target};
use crate::day_rows::{MEASURE, UNIT, day, pod_rows};

#[tokio::test]
async fn a_rerun_gives_the_same_table_and_one_ledger_row() {
    let (config, client) = ready_database().await;
    let source = Uuid::new_v4();
    let sink = sink(&config, source);
    let first = sink.replace(pod_rows(day("2025-10-01"), source, 10, 3, None)).await.unwrap();
    assert_eq!(first, Written::Replaced { deleted_row_count: 0, row_count: 10 });
    let second = sink.replace(pod_rows(day("2025-10-01"), source, 10, 3, None)).await.unwrap();
    assert_eq!(second, Written::Replaced { deleted_row_count: 10, row_count: 10 });
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {}", target(&config))).await, 10);
    let connection = Connector::new(&config, Uuid::nil()).unwrap().connect().await.unwrap();
    let key = ledger::DayKey {
        target: TableName::new(&config.schema, &config.table),
        source_uuid: source,
        day: day("2025-10-01"),
    };
    let recorded = ledger::read(&connection, &key).await.unwrap().expect("a ledger row");
    assert_eq!(recorded.fingerprint, [7; 32]);
    assert_eq!(recorded.row_count, 10);
    assert_eq!(recorded.engine_version, ledger::ENGINE_VERSION);
    assert_eq!(count(&client, "SELECT count(*) FROM gristmill.day_ledger").await, 1);
}

#[tokio::test]
async fn foreign_rows_survive_under_own_and_priced_rows_under_reference() {
    let (mut config, client) = ready_database().await;
    let (source, other_source) = (Uuid::new_v4(), Uuid::new_v4());
    let table = target(&config);
    let insert = |source: Uuid, period: i32, date: &str, column: &str, value: &str| {
        format!(
            "INSERT INTO {table} (uuid, source_uuid, report_period_id, usage_start, usage_end, {column}) \
             VALUES (gen_random_uuid(), '{source}', {period}, '{date}', '{date}', {value});"
        )
    };
    let foreign = [
        insert(other_source, 2, "2025-10-01", "node", "'other source'"),
        insert(source, 1, "2025-10-02", "node", "'other day'"),
        insert(source, 1, "2025-10-01", "cost_model_rate_type", "'Infrastructure'"),
        insert(source, 1, "2025-10-01", "monthly_cost_type", "'Node'"),
        insert(source, 1, "2025-10-01", "distributed_cost", "0"),
        insert(source, 1, "2025-10-01", "infrastructure_raw_cost", "5"),
    ];
    let own = insert(source, 1, "2025-10-01", "infrastructure_raw_cost", "0");
    client.batch_execute(&(foreign.concat() + &own)).await.unwrap();

    let written = sink(&config, source)
        .for_report_period(Some(1))
        .replace(pod_rows(day("2025-10-01"), source, 4, 1, Some(1)))
        .await
        .unwrap();
    assert_eq!(written, Written::Replaced { deleted_row_count: 1, row_count: 4 });
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {table}")).await, 6 + 4);

    config.replace = Replace::Reference;
    let written = sink(&config, source)
        .for_report_period(Some(1))
        .replace(pod_rows(day("2025-10-01"), source, 4, 1, Some(1)))
        .await
        .unwrap();
    assert_eq!(written, Written::Replaced { deleted_row_count: 4 + 3, row_count: 4 });
    let left = format!("SELECT count(*) FROM {table} WHERE infrastructure_raw_cost = 5 OR node IS NOT NULL");
    assert_eq!(count(&client, &left).await, 3, "the other source, the other day and the cloud's row");
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {table}")).await, 3 + 4);
}

#[tokio::test]
async fn a_reader_never_sees_a_part_of_a_day() {
    let (config, client) = ready_database().await;
    let source = Uuid::new_v4();
    let sink = sink(&config, source);
    sink.replace(pod_rows(day("2025-10-03"), source, 2_000, 1, None)).await.unwrap();
    let sql = format!("SELECT count(*), sum({MEASURE})::bigint FROM {}", target(&config));
    let writing = async {
        for usage in 2..8 {
            sink.replace(pod_rows(day("2025-10-03"), source, 2_000, usage, None)).await.unwrap();
        }
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    let reading = async {
        let mut seen = std::collections::BTreeSet::new();
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let row = client.query_one(&sql, &[]).await.unwrap();
            let (row_count, sum): (i64, i64) = (row.get(0), row.get(1));
            assert_eq!(row_count, 2_000);
            assert_eq!(sum % 2_000, 0, "rows of two versions of the day");
            seen.insert(sum);
        }
        seen
    };
    let writing = async {
        writing.await;
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let ((), seen) = tokio::join!(writing, reading);
    assert!(seen.len() > 1, "the reader looked while the days changed");
}

#[tokio::test]
async fn days_without_input_are_left_unless_their_rows_are_to_go() {
    let (config, client) = ready_database().await;
    let source = Uuid::new_v4();
    sink(&config, source).replace(pod_rows(day("2025-10-04"), source, 5, 1, None)).await.unwrap();
    let empty = pod_rows(day("2025-10-04"), source, 0, 0, None);
    let written = sink(&config, source).replace(empty.clone()).await.unwrap();
    assert_eq!(written, Written::LeftAsItWas);
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {}", target(&config))).await, 5);
    let written = sink_with(&config, source, true).replace(empty).await.unwrap();
    assert_eq!(written, Written::Replaced { deleted_row_count: 5, row_count: 0 });
}

#[tokio::test]
async fn wrong_sums_and_rows_outside_the_scope_roll_back() {
    let (config, client) = ready_database().await;
    let source = Uuid::new_v4();
    let sink = sink(&config, source);
    sink.replace(pod_rows(day("2025-10-05"), source, 3, 1, None)).await.unwrap();

    let mut wrong_sum = pod_rows(day("2025-10-05"), source, 4, 1, None);
    wrong_sum.sums = vec![(MEASURE, 4 * UNIT + 1)];
    let failure = sink.replace(wrong_sum).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::NotConserved);
    assert!(failure.message.contains(MEASURE), "{}", failure.message);

    let mut other_day = pod_rows(day("2025-10-06"), source, 4, 1, None);
    other_day.day = day("2025-10-05");
    let failure = sink.replace(other_day).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::NotConserved);

    let sql = format!("SELECT count(*) FROM {} WHERE usage_start = '2025-10-05'", target(&config));
    assert_eq!(count(&client, &sql).await, 3, "the old day is there");
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {}", target(&config))).await, 3);
    assert_eq!(count(&client, "SELECT row_count FROM gristmill.day_ledger").await, 3);
}

#[tokio::test]
async fn days_are_written_in_parallel_over_a_bounded_number_of_connections() {
    let (config, client) = ready_database().await;
    let source = Uuid::new_v4();
    let sink = sink(&config, source);
    assert_eq!((sink.parallel_days(), sink.days_ahead(8), sink.enough_days()), (2, 1, 1));
    let days: Vec<_> = (1..=8).map(|date| day(&format!("2025-10-{date:02}"))).collect();
    let written = days.iter().map(|day| sink.replace(pod_rows(*day, source, 50, 1, None)));
    for result in futures::future::join_all(written).await {
        assert_eq!(result.unwrap(), Written::Replaced { deleted_row_count: 0, row_count: 50 });
    }
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {}", target(&config))).await, 400);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND application_name LIKE 'gristmill/%'";
    assert!(count(&client, sessions).await <= 2);
}
