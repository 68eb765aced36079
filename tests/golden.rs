//! Every golden case, for every profile: what the reference system wrote must come out.
//!
//! Cases lie in `tests/golden`, or in the folder that `GRISTMILL_GOLDEN_DIR` names.

#[path = "support/case.rs"]
mod case;
#[path = "support/compare.rs"]
mod compare;
#[path = "support/csv.rs"]
mod csv;
#[path = "support/postgres.rs"]
mod postgres;

use std::path::{Path, PathBuf};

use case::{Case, Expected, PROFILES};
use csv::Row;
use gristmill::config::{Config, Postgres};
use gristmill::init_db::{InitOptions, init_db};
use gristmill::rollups::semantics::Semantics;
use gristmill::run::{RunOptions, run};
use gristmill::schema::target::OCP_DAILY_SUMMARY;
use gristmill::telemetry::progress::Progress;
use uuid::Uuid;

fn golden_folder() -> PathBuf {
    std::env::var_os("GRISTMILL_GOLDEN_DIR").map_or_else(|| repository().join("tests/golden"), PathBuf::from)
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

async fn run_config(config: &Config) -> Result<(), String> {
    let report = run(config, &RunOptions::default(), &Progress::hidden()).await;
    if report.exit_code == 0 {
        return Ok(());
    }
    let day_errors = report.days.iter().filter_map(|day| day.error.clone());
    Err(report.error.into_iter().chain(day_errors).collect::<Vec<_>>().join("\n"))
}

fn judge(expected: &Expected, found: Result<Vec<Row>, String>) -> Result<(), String> {
    match (expected, found) {
        (Expected::Rows(expected), Ok(found)) => compare::same_rows(expected, &found),
        (Expected::Rows(_), Err(error)) => Err(format!("failed: {error}")),
        (Expected::Error(_), Ok(_)) => Err("an error was expected".to_owned()),
        (Expected::Error(text), Err(error)) => match text {
            Some(text) if !error.contains(text) => Err(format!("the error `{error}` does not name `{text}`")),
            _ => Ok(()),
        },
    }
}

async fn into_csv(case: &Case, profile: Semantics) -> Result<Vec<Row>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let config = case.csv_config(profile, folder.path());
    run_config(&config).await?;
    let files = std::fs::read_dir(folder.path()).expect("the target folder").count();
    let days = config.period.end.0 - config.period.start.0 + 1;
    assert_eq!(files as i64, i64::from(days), "{}: one file per day", case.name());
    Ok(case.csv_rows(folder.path()))
}

/// A schema of its own for the case, as `init-db` makes it, filled with the case's reference data.
async fn into_postgres(case: &Case, profile: Semantics, server: &Postgres) -> Result<Vec<Row>, String> {
    let name = case.name().replace(['/', '-'], "_");
    let postgres = Postgres { schema: format!("{name}_{profile}"), ..server.clone() };
    let config = case.postgres_config(profile, &postgres);
    let options =
        InitOptions { reference_schema: &postgres.schema, months: &[config.period.start.month()], source: None };
    init_db(&postgres, &options, Uuid::new_v4()).await.expect("an empty schema can be prepared");
    let client = postgres::client(&postgres).await;
    client.batch_execute(&reference_rows(case, &postgres.schema)).await.expect("reference rows");
    run_config(&config).await?;
    let columns: Vec<String> =
        OCP_DAILY_SUMMARY.rollup_columns().map(|column| format!("\"{0}\"::text AS \"{0}\"", column.name)).collect();
    let sql = format!("SELECT {} FROM \"{}\".\"{}\"", columns.join(", "), postgres.schema, postgres.table);
    let rows = client.query(&sql, &[]).await.expect("the rows");
    let fields = |row: &tokio_postgres::Row| {
        let columns = OCP_DAILY_SUMMARY.rollup_columns().enumerate();
        columns.map(|(at, column)| (column.name.to_owned(), row.get::<_, Option<String>>(at))).collect()
    };
    Ok(rows.iter().map(fields).collect())
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
    for role in list("node_roles_used") {
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

async fn all_cases_into_postgres(profile: Semantics, cases: Vec<Case>) {
    let server = postgres::database().await;
    let mut problems = Vec::new();
    for case in &cases {
        if let Err(problem) = judge(&case.expected(profile), into_postgres(case, profile, &server).await) {
            problems.push(format!("{} ({profile}): {problem}", case.name()));
        }
    }
    assert!(problems.is_empty(), "{} of {} cases:\n{}", problems.len(), cases.len(), problems.join("\n"));
}

async fn all_cases(profile: Semantics, cases: Vec<Case>) {
    let mut problems = Vec::new();
    for case in &cases {
        if let Err(problem) = judge(&case.expected(profile), into_csv(case, profile).await) {
            problems.push(format!("{} ({profile}): {problem}", case.name()));
        }
    }
    assert!(problems.is_empty(), "{} of {} cases:\n{}", problems.len(), cases.len(), problems.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn balanced_into_csv() {
    all_cases(Semantics::Balanced, Case::all(&golden_folder())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn self_hosted_into_csv() {
    all_cases(Semantics::SelfHosted, Case::all(&golden_folder())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trino_into_csv() {
    all_cases(Semantics::Trino, Case::all(&golden_folder())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn balanced_into_postgres() {
    all_cases_into_postgres(Semantics::Balanced, Case::all(&golden_folder())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn self_hosted_into_postgres() {
    all_cases_into_postgres(Semantics::SelfHosted, Case::all(&golden_folder())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trino_into_postgres() {
    all_cases_into_postgres(Semantics::Trino, Case::all(&golden_folder())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_large_case_in_every_profile() {
    for profile in PROFILES {
        let cases = || Case::all(&repository().join("tests/golden-large"));
        all_cases(profile, cases()).await;
        all_cases_into_postgres(profile, cases()).await;
    }
}
