//! The reference SQL against what the reference system wrote, and against the native engine: two engines that share only
//! names of columns, the plan and the facts must give the same rows.
#![cfg(feature = "sql")]

#[path = "support/both_engines.rs"]
mod both_engines;
#[path = "support/case.rs"]
mod case;
#[path = "support/compare.rs"]
mod compare;
#[path = "support/csv.rs"]
mod csv;

use std::path::Path;

use both_engines::{EngineDays, native, reference_sql, same_days};
use case::{Case, Expected, PROFILES};
use csv::Row;
use gristmill::rollups::semantics::Semantics;
use gristmill::schema::target::{OCP_DAILY_SUMMARY, TargetType};

fn cases(folder: &str) -> Vec<Case> {
    Case::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
}

/// Rows as the golden cases have them.
fn as_csv(days: &EngineDays) -> Vec<Row> {
    let named = |(texts, numbers): &(Vec<Option<String>>, Vec<Option<f64>>)| {
        let (mut texts, mut numbers) = (texts.iter(), numbers.iter());
        let columns = OCP_DAILY_SUMMARY.rollup_columns().map(|column| {
            let value = match column.target_type {
                TargetType::Decimal => numbers.next().expect("a number per column").map(|number| number.to_string()),
                _ => texts.next().expect("a text per column").clone(),
            };
            (column.name.to_owned(), value)
        });
        columns.collect::<Row>()
    };
    days.values().flat_map(|day| &day.rows).map(named).collect()
}

/// The case by SQL: against the expected rows, and, where rows are expected, against the native engine.
async fn problem_of(case: &Case, profile: Semantics) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let config = case.csv_config(profile, folder.path());
    let sql = reference_sql(&config).await;
    let judged = match (case.expected(profile), &sql) {
        (Expected::Rows(expected), Ok(days)) => match compare::same_rows(&expected, &as_csv(days)) {
            Ok(()) => match native(&config).await {
                Ok(native) => same_days(&native, days),
                Err(error) => Err(format!("only the native engine fails: {error}")),
            },
            Err(problem) => Err(format!("not what the reference wrote: {problem}")),
        },
        (Expected::Rows(_), Err(error)) => Err(format!("failed: {error}")),
        (Expected::Error(_), Ok(_)) => Err("an error was expected".to_owned()),
        (Expected::Error(Some(text)), Err(error)) if !error.contains(&text) => Err(format!("`{error}` lacks `{text}`")),
        (Expected::Error(_), Err(_)) => Ok(()),
    };
    judged.err().map(|problem| format!("{} ({profile}): {problem}", case.name()))
}

async fn all_cases(profile: Semantics) {
    let mut problems = Vec::new();
    for case in cases("tests/golden") {
        problems.extend(problem_of(&case, profile).await);
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_cases_balanced() {
    all_cases(Semantics::Balanced).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_cases_self_hosted() {
    all_cases(Semantics::SelfHosted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_cases_trino() {
    all_cases(Semantics::Trino).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_large_case_in_every_profile() {
    for case in cases("tests/golden-large") {
        for profile in PROFILES {
            assert_eq!(problem_of(&case, profile).await, None);
        }
    }
}
