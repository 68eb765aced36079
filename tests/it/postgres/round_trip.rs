//! What is sent is what is stored, for every type.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array};
use gristmill::ledger::MadeFrom;
use gristmill::schema::target::OCP_DAILY_SUMMARY;
use gristmill::sink::{DayRows, Rows, Sink, Written};
use uuid::Uuid;

use super::{ready_database, sink, target};
use crate::day_rows::{UNIT, batch, day, decimals, texts};

#[tokio::test]
async fn every_type_comes_back_as_it_was_sent() {
    let (config, client) = ready_database().await;
    let source = Uuid::new_v4();
    let widest = 10_i128.pow(33) - 1;
    let amounts = [Some(widest), Some(-widest), Some(1), Some(-UNIT / 2), Some(0), None];
    let labels = [
        Some(r#"{"a": "b"}"#),
        Some(r#"{"ключ": "значение \"quoted\"", "tab": "\t", "emoji": "🦀"}"#),
        Some("{}"),
        Some(r#"{"back\\slash": "\\u0000", "nl": "\n"}"#),
        None,
        Some(r#"{"n": null, "deep": "{\"x\": [1, 2]}"}"#),
    ];
    let names = [Some("it's \"q\""), Some(""), Some("日本語"), Some("tab\tnl\nback\\slash"), None, Some("NULL\\N")];
    let long = "é".repeat(253);
    let given: Vec<(&str, ArrayRef)> = vec![
        (
            "report_period_id",
            Arc::new(Int32Array::from(vec![Some(i32::MAX), Some(i32::MIN), Some(0), None, None, None])),
        ),
        ("cost_category_id", Arc::new(Int32Array::from(vec![None, Some(1), None, None, None, None]))),
        ("namespace", texts(names.to_vec())),
        ("node", texts(vec![Some(&long), None, None, None, None, None])),
        ("pod_labels", texts(labels.to_vec())),
        ("all_labels", texts(labels.to_vec())),
        ("pod_usage_cpu_core_hours", decimals(amounts.to_vec())),
        ("persistentvolumeclaim_capacity_gigabyte", decimals(amounts.to_vec())),
    ];
    let sent = batch(day("2025-10-07"), source, 6, given);
    let rows = DayRows {
        day: day("2025-10-07"),
        rows: Rows::Batches(vec![sent.slice(0, 2), sent.slice(2, 4)]),
        input_row_count: 6,
        fingerprint: [1; 32],
        made_from: MadeFrom::default(),
        pod_sums: Vec::new(),
        basis: None,
        sums: vec![("pod_usage_cpu_core_hours", 1 - UNIT / 2)],
    };
    let written = sink(&config, source).replace(rows).await.unwrap();
    assert_eq!(written, Written::Replaced { deleted_row_count: 0, row_count: 6 });

    for index in 0..6 {
        let amount = amounts[index].map(|amount| amount.to_string());
        // The server compares in its own types; nulls are equal here.
        let sql = format!(
            "SELECT count(*) FROM {} WHERE namespace IS NOT DISTINCT FROM $1::text AND pod_labels IS NOT DISTINCT \
             FROM $2::text::jsonb AND all_labels IS NOT DISTINCT FROM $2::text::jsonb \
             AND pod_usage_cpu_core_hours * 1000000000000000::numeric IS NOT DISTINCT FROM $3::text::numeric \
             AND persistentvolumeclaim_capacity_gigabyte IS NOT DISTINCT FROM pod_usage_cpu_core_hours \
             AND source_uuid = $4 AND usage_start = '2025-10-07' AND usage_end = '2025-10-07' AND resource_id IS NULL",
            target(&config)
        );
        let found: i64 =
            client.query_one(&sql, &[&names[index], &labels[index], &amount, &source]).await.unwrap().get(0);
        assert_eq!(found, 1, "row {index}");
    }
    let sql = format!(
        "SELECT max(report_period_id), min(report_period_id), max(length(node)), count(DISTINCT uuid), \
         bool_and(substr(uuid::text, 15, 1) = '7') FROM {}",
        target(&config)
    );
    let row = client.query_one(&sql, &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), i32::MAX);
    assert_eq!(row.get::<_, i32>(1), i32::MIN);
    assert_eq!(row.get::<_, i32>(2), 253);
    assert_eq!(row.get::<_, i64>(3), 6);
    assert!(row.get::<_, bool>(4), "row ids are version 7");
}

#[tokio::test]
async fn wider_types_of_the_target_are_encoded_as_the_catalog_says() {
    let (config, client) = ready_database().await;
    let table = target(&config);
    let change = format!(
        "ALTER TABLE {table} ALTER report_period_id TYPE bigint, ALTER namespace TYPE text, \
         ALTER supplementary_usage_cost TYPE json, ALTER infrastructure_usage_cost TYPE json, \
         ALTER pod_usage_cpu_core_hours TYPE numeric"
    );
    client.batch_execute(&change).await.unwrap();
    let source = Uuid::new_v4();
    let rows = crate::day_rows::pod_rows(day("2025-10-08"), source, 3, 2, Some(5));
    sink(&config, source).for_report_period(Some(5)).replace(rows).await.unwrap();
    let sql = format!("SELECT count(*) FROM {table} WHERE report_period_id = 5 AND pod_usage_cpu_core_hours = 2");
    assert_eq!(super::count(&client, &sql).await, 3);
}

#[tokio::test]
async fn the_created_table_has_the_columns_of_the_contract() {
    let (config, client) = ready_database().await;
    let rows = client
        .query(
            "SELECT column_name::text FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 \
             ORDER BY ordinal_position",
            &[&config.schema, &config.table],
        )
        .await
        .unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let expected: Vec<&str> = OCP_DAILY_SUMMARY.columns.iter().map(|column| column.name).collect();
    assert_eq!(found, expected);
}
