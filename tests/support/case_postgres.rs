//! A golden case in a PostgreSQL schema of its own: tables and reference data before the run, rows after it.

// Each test binary uses a part of this file.
#![allow(dead_code)]

use gristmill::config::Postgres;
use gristmill::init_db::{InitOptions, init_db};
use gristmill::schema::target::OCP_DAILY_SUMMARY;
use gristmill::time::BillingMonth;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::case::Case;
use crate::csv::Row;
use crate::database;

/// Makes the schema as `init-db` does and fills the small tables with what `case.yaml` says.
pub async fn prepare(case: &Case, postgres: &Postgres, month: BillingMonth) -> Client {
    let options = InitOptions { reference_schema: &postgres.schema, months: &[month], sources: &[] };
    init_db(postgres, &options, Uuid::new_v4()).await.expect("an empty schema can be prepared");
    let client = database::client(postgres).await;
    client.batch_execute(&reference_rows(case, &postgres.schema)).await.expect("reference rows");
    client
}

/// Every row of the target table in the columns that the rollup writes.
pub async fn rows(client: &Client, postgres: &Postgres) -> Vec<Row> {
    let columns: Vec<String> =
        OCP_DAILY_SUMMARY.rollup_columns().map(|column| format!("\"{0}\"::text AS \"{0}\"", column.name)).collect();
    let sql = format!("SELECT {} FROM \"{}\".\"{}\"", columns.join(", "), postgres.schema, postgres.table);
    let rows = client.query(&sql, &[]).await.expect("the rows");
    let fields = |row: &tokio_postgres::Row| {
        let columns = OCP_DAILY_SUMMARY.rollup_columns().enumerate();
        columns.map(|(at, column)| (column.name.to_owned(), row.get::<_, Option<String>>(at))).collect()
    };
    rows.iter().map(fields).collect()
}

/// SQL that fills the small tables of a schema with what `case.yaml` says.
fn reference_rows(case: &Case, schema: &str) -> String {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::Null => "NULL".to_owned(),
        serde_json::Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => other.to_string(),
    };
    let list = |key: &str| case.facts[key].as_array().cloned().unwrap_or_default();
    let table = |name: &str| format!("\"{schema}\".{name}");
    let mut sql = format!(
        "INSERT INTO {} (id, cluster_id, cluster_alias, report_period_start, report_period_end, provider_id) VALUES \
         ({}, {}, {}, '{}-{}-01T00:00:00Z', '{}-{}-01T00:00:00Z'::timestamptz + interval '1 month', {});",
        table("reporting_ocpusagereportperiod"),
        case.facts["report_period_id"],
        text(&case.facts["cluster_id"]),
        text(&case.facts["cluster_alias"]),
        case.text("year"),
        case.text("month"),
        case.text("year"),
        case.text("month"),
        text(&case.facts["source_uuid"])
    );
    for (keys, enabled) in [("enabled_tag_keys", true), ("disabled_tag_keys", false)] {
        for key in list(keys) {
            let keys = table("reporting_enabledtagkeys");
            sql +=
                &format!("INSERT INTO {keys} (key, enabled, provider_type) VALUES ({}, {enabled}, 'OCP');", text(&key));
        }
    }
    // A key of another provider must not count.
    let keys = table("reporting_enabledtagkeys");
    sql += &format!("INSERT INTO {keys} (key, enabled, provider_type) VALUES ('aws-only', true, 'AWS');");
    // The case's patterns are all there are: the defaults of a fresh installation give way.
    let patterns = table("reporting_ocp_cost_category_namespace");
    sql += &format!("DELETE FROM {patterns};");
    for category in list("cost_categories") {
        sql += &format!(
            "INSERT INTO {patterns} (namespace, cost_category_id) VALUES ({}, {});",
            text(&category["namespace"]),
            category["cost_category_id"]
        );
    }
    for role in case.given_roles().into_iter().flatten() {
        sql += &format!(
            "INSERT INTO {} (node, resource_id, node_role) VALUES ({}, {}, {});",
            table("reporting_ocp_nodes"),
            text(&role["node"]),
            text(&role["resource_id"]),
            text(&role["role"])
        );
    }
    sql
}
