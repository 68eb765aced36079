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
#[path = "support/odd_columns.rs"]
mod odd_columns;
#[path = "support/usage.rs"]
mod usage;

use std::path::Path;

use both_engines::{EngineDays, native, reference_sql, same_days};
use case::{Case, Expected, PROFILES};
use csv::Row;
use gristmill::config::Config;
use gristmill::generate::{GenerateOptions, generate};
use gristmill::rollups::semantics::Semantics;
use gristmill::schema::target::{OCP_DAILY_SUMMARY, TargetType};
use odd_columns::Oddity;
use serde_json::{Value, json};
use usage::{Random, Usage};

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

/// Random runs that are compared. Each takes a second or two without optimisation.
const RANDOM_RUNS: u64 = 12;

fn random_config(random: &mut Random, folder: &Path, profile: Semantics) -> Config {
    let keys: &[&str] = random.pick(&[&["app", "env", "n"][..], &["other", "App"], &["env"], &[]]);
    let patterns =
        ["%", "openshift-%", r"open\shift-_", r"open_____-%", "a", "", r"\a", r"%\_%", "é,%", "Worker %", "_"];
    let categories: Vec<Value> = (0..random.below(5))
        .map(|id| json!({"namespace": random.pick(&patterns), "cost_category_id": id + 1}))
        .collect();
    let role = |random: &mut Random| {
        let roles = [Value::from("master"), "worker".into(), "infra".into(), "".into(), Value::Null];
        let ids = [Value::from("i-1"), "i-2".into(), "".into(), Value::Null];
        json!({"node": random.pick(&["n1", "n2", "n3", " "]), "resource_id": random.pick(&ids), "role": random.pick(&roles)})
    };
    let roles = match random.below(2) {
        0 => Value::from("derive"),
        _ => (0..random.below(8)).map(|_| role(random)).collect(),
    };
    let mut settings = json!({
        "version": 1,
        "organization": {"org_id": usage::ORG},
        "source": {"uuid": usage::SOURCE, "cluster_id": "c'1", "cluster_alias": "$day", "report_period_id": 1},
        "period": {"start_date": usage::FIRST_DATE, "end_date": "2025-03-01"},
        "storage": {"url": format!("file://{}", folder.display())},
        "target": {"kind": "none"},
        "semantics": profile.name(),
        "reference": {
            "from": "inline", "enabled_tag_keys": keys, "cost_categories": categories, "node_roles": roles,
        },
        "performance": {"max_workers": 2},
    });
    if profile == Semantics::Balanced && random.below(3) == 0 {
        settings["labels"] = json!({"on_malformed": "empty"});
    }
    case::parse(&settings)
}

/// One random usage under one profile: the same rows, or an error of both.
async fn random_problem(seed: u64, profile: Semantics) -> (bool, Option<String>) {
    let mut random = Random(seed);
    let oddity = Oddity {
        // Nothing that the profile refuses, except now and then.
        label_level: match profile {
            Semantics::Balanced => 1 + random.below(4),
            Semantics::SelfHosted => random.pick(&[1, 2, 2, 3]),
            Semantics::Trino => random.pick(&[1, 2, 2, 2, 2, 3]),
        },
        has_bad_labels: random.below(8) == 0,
        has_odd_types: random.below(3) > 0,
    };
    let row_count = 1 + random.below(250);
    let mut usage = Usage::random(&mut random, row_count, 3, false);
    odd_columns::relabel(&mut random, &mut usage, &oddity);
    let folder = tempfile::tempdir().expect("a folder");
    odd_columns::write_oddly(&mut random, &usage, folder.path(), &oddity);
    let config = random_config(&mut random, folder.path(), profile);
    let (native, sql) = (native(&config).await, reference_sql(&config).await);
    let is_compared = native.is_ok();
    let problem = match (native, sql) {
        (Ok(native), Ok(sql)) => same_days(&native, &sql).err(),
        (Err(_), Err(_)) => None,
        (Ok(_), Err(error)) => Some(format!("only the SQL fails: {error}")),
        (Err(error), Ok(_)) => Some(format!("only the native engine fails: {error}")),
    };
    (is_compared, problem.map(|problem| format!("seed {seed} ({profile}): {problem}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn random_usage_gives_the_same_rows() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = variable("SECOND_ENGINE_FIRST_SEED").unwrap_or(0);
    let count = variable("SECOND_ENGINE_SEEDS").unwrap_or(RANDOM_RUNS);
    let (mut compared, mut problems) = (0, Vec::new());
    for seed in first..first + count {
        for profile in PROFILES {
            let (is_compared, problem) = random_problem(seed, profile).await;
            compared += u64::from(is_compared);
            problems.extend(problem);
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    assert!(compared > count, "only {compared} of {} runs gave rows", 3 * count);
}

/// The row of unallocated capacity is spoilt as well, and comes first; neither engine names it.
#[tokio::test(flavor = "multi_thread")]
async fn both_engines_name_the_row_of_the_report_that_cannot_be_stored() {
    let row = |namespace: &str, used: f64, capacity: f64| usage::PodRow {
        milliseconds: usage::FIRST_DAY_MILLISECONDS,
        namespace: Some(namespace.to_owned()),
        node: Some("n1".to_owned()),
        pod: Some("p1".to_owned()),
        resource_id: Some("i-1".to_owned()),
        labels: Some("{}".to_owned()),
        usage: [Some(used); 8],
        capacity: [Some(capacity); 4],
    };
    for (used, capacity) in [(f64::NAN, 9.0), (f64::INFINITY, 9.0), (1.0, f64::NAN)] {
        let folder = tempfile::tempdir().expect("a folder");
        let pods = vec![row("team", 1.0, 9.0), row("team-0", used, capacity)];
        Usage { pods, ..Usage::default() }.write(folder.path(), 1, 10);
        for profile in PROFILES {
            let config = case::parse(&json!({
                "version": 1,
                "organization": {"org_id": usage::ORG},
                "source": {"uuid": usage::SOURCE, "cluster_id": "c", "report_period_id": 1},
                "period": {"start_date": usage::FIRST_DATE, "end_date": usage::FIRST_DATE},
                "storage": {"url": format!("file://{}", folder.path().display())},
                "target": {"kind": "none"},
                "semantics": profile.name(),
                "reference": {
                    "from": "inline",
                    "enabled_tag_keys": ["app"],
                    "node_roles": [{"node": "n1", "resource_id": "i-1", "role": "worker"}],
                },
            }));
            let errors =
                [native(&config).await.expect_err("it fails"), reference_sql(&config).await.expect_err("it fails")];
            for error in errors {
                let names_it = if used == 1.0 { error.contains("`n1`") } else { error.contains("`team-0`") };
                assert!(names_it && !error.contains("nallocated"), "{profile}, {used}, {capacity}: {error}");
            }
        }
    }
}

/// A day of several thousand groups leaves in several batches, is rounded in pieces on all workers, and is merged from tables
/// of several workers: none of it may show.
#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_many_batches_is_the_same_for_one_worker_for_many_and_by_sql() {
    let folder = tempfile::tempdir().expect("a folder");
    let options =
        GenerateOptions { rows_per_file: 30_000, ..GenerateOptions::new(160_000, 1, folder.path().join("in")) };
    let day = options.start.to_string();
    let (org_id, source, cluster_id) = (options.org_id.clone(), options.source, options.cluster_id.clone());
    generate(&options).expect("data are made");
    let settings = |workers: usize| {
        json!({
            "version": 1,
            "organization": {"org_id": org_id},
            "source": {"uuid": source, "cluster_id": cluster_id},
            "period": {"start_date": day, "end_date": day},
            "storage": {"url": format!("file://{}", folder.path().join("in").display())},
            "target": {"kind": "none"},
            "reference": {
                "from": "inline",
                "enabled_tag_keys": ["app", "component", "team", "tier", "version"],
                "node_roles": [],
            },
            "performance": {"max_workers": workers},
        })
    };
    let config = |workers: usize| case::parse(&settings(workers));
    let one = native(&config(1)).await.expect("one worker runs");
    let several = native(&config(4)).await.expect("four workers run");
    assert_eq!(one.len(), 1);
    assert!(one.values().all(|day| day.rows.len() > 2 * 2_048), "several batches");
    assert!(
        one.values().zip(several.values()).all(|(one, several)| one.rows == several.rows),
        "same rows in the same order"
    );
    let sql = reference_sql(&config(2)).await.expect("the SQL runs");
    same_days(&one, &sql).unwrap_or_else(|problem| panic!("{problem}"));

    // Its memory is bounded: what does not fit is written to temporary files, and what must fit is said to be too much.
    let with_memory = |bytes: &str| {
        let mut settings = settings(2);
        settings["performance"]["memory_budget"] = json!(bytes);
        case::parse(&settings)
    };
    let sql = reference_sql(&with_memory("48MiB")).await.expect("the SQL runs in less memory");
    same_days(&one, &sql).unwrap_or_else(|problem| panic!("{problem}"));
    let too_little = reference_sql(&with_memory("1MiB")).await.expect_err("a pool of nothing");
    assert!(too_little.contains("the second engine needs more memory than it may take"), "{too_little}");
}
