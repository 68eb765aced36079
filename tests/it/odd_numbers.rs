//! NaN, infinity and numbers out of range in a report: the message names the report's own row, whichever row they spoil.

use std::path::Path;
use std::sync::Arc;

use arrow_array::Float64Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use gristmill::rollups::semantics::Semantics;
use gristmill::run::{RunOptions, run};
use gristmill::telemetry::progress::Progress;
use serde_json::{Value, json};

use crate::bucket::files_below;
use crate::case::{PROFILES, parse};
use crate::delivery::{Delivery, ROWS_PER_DAY, into_csv, key, milliseconds, pod_rows, settings};
use crate::usage::{Column, USAGE_COLUMNS, VolumeRow, parquet, pod_columns, volume_columns};

const DAYS: [&str; 3] = ["2025-10-01", "2025-10-02", "2025-10-03"];
const BAD_DAY: &str = DAYS[1];
/// Not the first row: the second pod's at seven o'clock.
const BAD_ROW: usize = 15;
const CAPACITY_COLUMNS: [&str; 4] = [
    "node_capacity_cpu_cores",
    "node_capacity_cpu_core_seconds",
    "node_capacity_memory_bytes",
    "node_capacity_memory_byte_seconds",
];
const VOLUME_COLUMNS: [&str; 4] = [
    "persistentvolumeclaim_capacity_bytes",
    "persistentvolumeclaim_capacity_byte_seconds",
    "volume_request_storage_byte_seconds",
    "persistentvolumeclaim_usage_byte_seconds",
];
const ODD: [(f64, &str); 4] = [
    (f64::NAN, "is NaN"),
    (f64::INFINITY, "is infinite"),
    (f64::NEG_INFINITY, "is infinite"),
    (1e300, "is out of range"),
];

fn volume_rows(day: &str) -> Vec<VolumeRow> {
    let row = |hour: i64, pod: &str| VolumeRow {
        milliseconds: milliseconds(day) + hour * 3_600_000,
        names: [format!("namespace-{pod}"), format!("pod-{pod}"), format!("claim-{pod}"), format!("volume-{pod}")]
            .into_iter()
            .chain(["fast".to_owned(), "handle".to_owned()])
            .map(Some)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap(),
        labels: [None, None],
        amounts: [Some(1e9), Some(3.6e12), Some(3.6e12), Some(1.8e12)],
    };
    (0..24).flat_map(|hour| [row(hour, "a"), row(hour, "b")]).collect()
}

/// Pods and volumes of three days, raw and daily; on the second day the named columns of some rows are changed.
fn delivery(changes: &[(&str, usize, f64)]) -> Delivery {
    let mut delivery = Delivery::default();
    for day in DAYS {
        let changed = |mut columns: Vec<Column>| {
            for (name, row, number) in changes.iter().filter(|_| day == BAD_DAY) {
                let Some(column) = columns.iter_mut().find(|(known, _)| known == name) else { continue };
                let numbers = column.1.as_primitive::<Float64Type>();
                let numbers = numbers.iter().enumerate().map(|(at, old)| if at == *row { Some(*number) } else { old });
                column.1 = Arc::new(numbers.collect::<Float64Array>());
            }
            parquet(columns, ROWS_PER_DAY)
        };
        for (report, object) in [
            ("pod_usage", changed(pod_columns(&pod_rows(day, 1.0)))),
            ("storage_usage", changed(volume_columns(&volume_rows(day)))),
        ] {
            let raw = key(report, day);
            let daily = raw.replace("data/parquet/", "data/parquet/daily/");
            delivery = delivery.with(raw, object.clone()).with(daily, object);
        }
    }
    delivery
}

/// Both nodes are workers, so each has a row of unallocated capacity, which is sorted before those of the pods.
fn settings_of(input: &Path, profile: Semantics) -> Value {
    let mut settings = settings(input, DAYS[0], DAYS[2]);
    settings["semantics"] = json!(profile.name());
    let role = |pod: &str| json!({"node": format!("node-{pod}"), "resource_id": format!("i-{pod}"), "role": "worker"});
    settings["reference"]["node_roles"] = json!([role("a"), role("b")]);
    settings["source"]["report_period_id"] = json!(1);
    settings
}

/// Why the second day fails; the others must not.
async fn error_of(profile: Semantics, changes: &[(&str, usize, f64)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    delivery(changes).write(folder.path());
    let mut settings = settings_of(folder.path(), profile);
    settings["target"] = json!({"kind": "none"});
    let report = run(&parse(&settings), &RunOptions::default(), &Progress::hidden()).await;
    assert_eq!(report.exit_code, 65, "{profile}, {changes:?}: {report:#?}");
    for day in &report.days {
        assert_eq!(day.error.is_some(), day.day == BAD_DAY, "{profile}, {changes:?}: {day:#?}");
        assert_eq!(day.status == "failed", day.day == BAD_DAY, "{profile}, {changes:?}: {day:#?}");
    }
    report.days[1].error.clone().unwrap()
}

fn expect(error: &str, parts: &[&str]) {
    for part in parts.iter().chain([&BAD_DAY, &"the value there cannot be stored"]) {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    for part in ["nallocated", "1e300", "1000000"] {
        assert!(!error.contains(part), "`{part}` is in: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_number_of_any_measure_names_its_own_row_and_object() {
    let columns = USAGE_COLUMNS.into_iter().chain(CAPACITY_COLUMNS).map(|column| (column, "pod_usage", "pod `pod-b`"));
    let volumes = VOLUME_COLUMNS.into_iter().map(|column| (column, "storage_usage", "claim `claim-b`"));
    for (number, (column, report, whose)) in columns.chain(volumes).enumerate() {
        for (turn, profile) in PROFILES.into_iter().enumerate() {
            let (odd, what) = ODD[(number + turn) % ODD.len()];
            // The least of all numbers is no maximum, and spoils none.
            let is_maximum = ["_cores", "_bytes"].iter().any(|ending| column.ends_with(ending));
            let odd = if is_maximum { odd.abs() } else { odd };
            let error = error_of(profile, &[(column, BAD_ROW, odd)]).await;
            let is_capacity = column.ends_with("core_seconds") || column.ends_with("memory_byte_seconds");
            let is_raw_only = column.starts_with("node_") && is_capacity;
            let place = format!("column `{column}` of namespace `namespace-b`");
            let at = format!("{report}.{BAD_DAY}.1.0_0.parquet`, row group 0, row {BAD_ROW})");
            // The scan of capacities alone, where usage is read from the daily objects, knows nodes only.
            match is_raw_only && profile != Semantics::Balanced {
                true => expect(&error, &[column, "node `node-b`", what, &at]),
                false => expect(&error, &[&place, whose, what, &at]),
            }
        }
    }
}

/// Each number alone can be stored; their sum or the like cannot, and no single row is to blame.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_becomes_too_large_by_summing_names_namespace_and_node() {
    for profile in PROFILES {
        let many = |column, number| {
            let rows = (0..ROWS_PER_DAY).filter(|row| row % 2 == 1);
            rows.map(|row| (column, row, number)).collect::<Vec<_>>()
        };
        let error = error_of(profile, &many("pod_usage_cpu_core_seconds", 9e20)).await;
        expect(
            &error,
            &["pod_usage_cpu_core_hours of namespace `namespace-b` on node `node-b` has more than 18 digits"],
        );
        let error = error_of(profile, &many("node_capacity_cpu_core_seconds", 9e20)).await;
        expect(&error, &["node_capacity_cpu_core_hours of namespace `namespace-b` on node `node-b` has more"]);
        let error = error_of(profile, &[("node_capacity_cpu_cores", BAD_ROW, 5e18)]).await;
        expect(&error, &["node_capacity_cpu_cores of namespace `namespace-b` on node `node-b` has more"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_odd_number_of_a_column_is_told_whatever_the_order() {
    let changes = [
        ("pod_usage_cpu_core_seconds", 40, f64::INFINITY),
        ("pod_usage_cpu_core_seconds", 22, f64::NAN),
        ("pod_usage_cpu_core_seconds", 30, f64::NAN),
        ("pod_limit_memory_byte_seconds", 1, f64::NAN),
    ];
    let error = error_of(Semantics::Balanced, &changes).await;
    expect(&error, &["column `pod_usage_cpu_core_seconds`", "`pod-a`", "is NaN", "row 22)"]);
}

/// Pods without a node give no row, so their numbers spoil nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_odd_number_that_reaches_no_row_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = pod_rows(BAD_DAY, 1.0);
    rows[BAD_ROW].node = Some(String::new());
    rows[BAD_ROW].usage = [Some(f64::NAN); 8];
    Delivery::default().with(key("pod_usage", BAD_DAY), parquet(pod_columns(&rows), ROWS_PER_DAY)).write(folder.path());
    let mut settings = settings_of(folder.path(), Semantics::Balanced);
    settings["target"] = json!({"kind": "none"});
    let report = run(&parse(&settings), &RunOptions::default(), &Progress::hidden()).await;
    assert_eq!(report.exit_code, 0, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_rows_of_the_day_stay_and_the_other_days_are_written() {
    let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = parse(&into_csv(settings_of(input.path(), Semantics::Balanced), output.path()));
    let files = || {
        let mut files = files_below(output.path());
        files.sort();
        files
    };
    let all = (0..ROWS_PER_DAY).map(|row| ("pod_request_cpu_core_seconds", row, 1.0)).collect::<Vec<_>>();
    delivery(&all).write(input.path());
    let report = run(&config, &RunOptions::default(), &Progress::hidden()).await;
    assert_eq!(report.exit_code, 0, "{report:#?}");
    let before = files();
    delivery(&[("pod_usage_memory_byte_seconds", BAD_ROW, f64::NAN)]).write(input.path());
    std::fs::remove_file(output.path().join(format!("{}.csv", DAYS[2]))).unwrap();
    let report = run(&config, &RunOptions::default(), &Progress::hidden()).await;
    assert_eq!(report.exit_code, 65, "{report:#?}");
    assert_eq!(files(), before, "the bad day keeps its rows, and the third is written again");
}
