//! Every golden case, for every profile: what the reference system wrote must come out.
//!
//! Cases lie in `tests/golden`, or in the folder that `GRISTMILL_GOLDEN_DIR` names.

#[path = "support/case.rs"]
mod case;
#[path = "support/case_postgres.rs"]
mod case_postgres;
#[path = "support/compare.rs"]
mod compare;
#[path = "support/csv.rs"]
mod csv;
#[path = "support/postgres.rs"]
mod database;

use std::path::{Path, PathBuf};

use case::{Case, Expected, PROFILES};
use csv::Row;
use gristmill::config::{Config, Postgres};
use gristmill::rollups::semantics::Semantics;
use gristmill::run::{RunOptions, run};
use gristmill::telemetry::progress::Progress;

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
    let client = case_postgres::prepare(case, &postgres, config.period.start.month()).await;
    run_config(&config).await?;
    Ok(case_postgres::rows(&client, &postgres).await)
}

async fn all_cases_into_postgres(profile: Semantics, cases: Vec<Case>) {
    let server = database::database().await;
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

/// Where a case gives both the usage and the roles that the reference derived from it, deriving them gives the same rows.
#[tokio::test(flavor = "multi_thread")]
async fn derived_roles_give_the_same_rows() {
    let mut compared = 0;
    for case in Case::all(&golden_folder()).iter().filter(|case| case.facts["node_roles"] == "derive") {
        for profile in PROFILES {
            let folder = tempfile::tempdir().expect("a folder");
            let config = case.csv_config_with_roles(profile, folder.path(), &"derive".into());
            let found = run_config(&config).await.map(|()| case.csv_rows(folder.path()));
            let judged = judge(&case.expected(profile), found);
            assert!(judged.is_ok(), "{} ({profile}): {}", case.name(), judged.unwrap_err());
            compared += 1;
        }
    }
    assert!(compared > 0 || std::env::var_os("GRISTMILL_GOLDEN_DIR").is_some(), "no case derives roles");
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
