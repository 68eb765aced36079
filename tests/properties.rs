//! Laws that hold for any usage: how the work was cut does not show in the result, and what went in comes out.

#[path = "support/csv.rs"]
mod csv;
#[path = "support/usage.rs"]
mod usage;

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{TimeZone, Utc};
use gristmill::config::{self, Config};
use gristmill::run::{RunOptions, run};
use gristmill::telemetry::progress::Progress;
use proptest::prelude::*;
use serde_json::json;
use usage::{FIRST_DAY_MILLISECONDS, Random, SOURCE, Usage};

const DAYS: usize = 3;
const MILLISECONDS_PER_DAY: i64 = 86_400_000;

fn config(input: &Path, output: &Path, semantics: &str, workers: usize) -> Config {
    let settings = json!({
        "version": 1,
        "organization": {"org_id": usage::ORG},
        "source": {"uuid": SOURCE, "cluster_id": "c", "cluster_alias": "C", "report_period_id": 1},
        "period": {"start_date": usage::FIRST_DATE, "end_date": "2025-03-01"},
        "storage": {"url": format!("file://{}", input.display())},
        "target": {"kind": "file", "file": {"path": output, "format": "csv"}},
        "semantics": semantics,
        "reference": {
            "from": "inline",
            "enabled_tag_keys": ["app", "env", "n"],
            "cost_categories": [
                {"namespace": "openshift-%", "cost_category_id": 2},
                {"namespace": "%", "cost_category_id": 1},
                {"namespace": "open_____-%", "cost_category_id": 3},
            ],
            "node_roles": "derive",
        },
        "performance": {"max_workers": workers, "memory_budget": "64MiB"},
    });
    let text = settings.to_string();
    let input = config::Input {
        text: &text,
        file_name: "property",
        overrides: &[],
        environment: &|_| None,
        secret_file: &|_| Err(std::io::Error::other("no secrets")),
        now: Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).single().expect("a time"),
    };
    config::parse(&input).unwrap_or_else(|problems| panic!("{problems}"))
}

/// File name → bytes.
type Files = BTreeMap<String, Vec<u8>>;

/// One way to cut the work.
#[derive(Debug, Clone)]
struct Way {
    workers: usize,
    batch_rows: usize,
    file_count: usize,
    row_group_rows: usize,
    shuffle: Option<u64>,
}

const SIMPLE: Way = Way { workers: 1, batch_rows: 4_096, file_count: 1, row_group_rows: 1_000_000, shuffle: None };

fn grind(usage: &Usage, semantics: &str, way: &Way) -> Result<Files, String> {
    let (input, output) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut usage = usage.clone();
    if let Some(seed) = way.shuffle {
        usage.shuffle(&mut Random(seed));
    }
    usage.write(input.path(), way.file_count, way.row_group_rows);
    let config = config(input.path(), output.path(), semantics, way.workers);
    let options = RunOptions { batch_rows: Some(way.batch_rows), ..RunOptions::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let report = runtime.block_on(async { run(&config, &options, &Progress::hidden()).await });
    if report.exit_code != 0 {
        let days: Vec<String> = report.days.into_iter().filter_map(|day| day.error).collect();
        return Err(format!("{:?} {days:?}", report.error));
    }
    let entries = std::fs::read_dir(output.path()).expect("the target folder");
    let read = |entry: std::fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("a file"))
    };
    Ok(entries.map(|entry| read(entry.expect("an entry"))).collect())
}

fn ways() -> impl Strategy<Value = Way> {
    (1_usize..=8, 1_usize..40, 1_usize..6, 1_usize..50, any::<u64>()).prop_map(
        |(workers, batch_rows, file_count, row_group_rows, seed)| Way {
            workers,
            batch_rows,
            file_count,
            row_group_rows,
            shuffle: Some(seed),
        },
    )
}

/// Sums of the eight usage measures per day over rows with a named node, in seconds, with the sums of absolute values.
fn totals_in(usage: &Usage) -> BTreeMap<i64, [(f64, f64); 8]> {
    let mut totals: BTreeMap<i64, [(f64, f64); 8]> = BTreeMap::new();
    for row in usage.pods.iter().filter(|row| row.node.as_deref().is_some_and(|node| !node.is_empty())) {
        let day = totals.entry((row.milliseconds - FIRST_DAY_MILLISECONDS) / MILLISECONDS_PER_DAY).or_default();
        for (position, total) in day.iter_mut().enumerate() {
            // Effective usage falls back to the greater of usage and request, hour by hour.
            let fallback = || row.usage[position - 2].into_iter().chain(row.usage[position - 1]).reduce(f64::max);
            let is_effective = position % 4 == 2;
            let value = row.usage[position].or_else(|| if is_effective { fallback() } else { None }).unwrap_or(0.0);
            total.0 += value;
            total.1 += value.abs();
        }
    }
    totals
}

const UNALLOCATED: [&str; 2] = ["Worker unallocated", "Platform unallocated"];

/// The eight usage columns of the summary.
const HOURS: [&str; 8] = [
    "pod_usage_cpu_core_hours",
    "pod_request_cpu_core_hours",
    "pod_effective_usage_cpu_core_hours",
    "pod_limit_cpu_core_hours",
    "pod_usage_memory_gigabyte_hours",
    "pod_request_memory_gigabyte_hours",
    "pod_effective_usage_memory_gigabyte_hours",
    "pod_limit_memory_gigabyte_hours",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Semantics, invariant 5: any thread count, chunk size, file split and order gives byte-identical files.
    #[test]
    fn the_cut_does_not_show(seed in any::<u64>(), rows in 1_usize..150, way in ways(), profile in 0_usize..3) {
        let semantics = ["balanced", "self_hosted", "trino"][profile];
        let usage = Usage::random(&mut Random(seed), rows, DAYS, semantics != "trino");
        match (grind(&usage, semantics, &SIMPLE), grind(&usage, semantics, &way)) {
            (Ok(simple), Ok(cut)) => {
                prop_assert_eq!(simple.len(), DAYS);
                for (name, bytes) in &simple {
                    let (simple, cut) = (String::from_utf8_lossy(bytes), String::from_utf8_lossy(&cut[name]));
                    prop_assert_eq!(simple, cut, "{} under {:?}", name, way);
                }
            }
            // The parity profiles refuse a volume whose pods all lack a node, however the work is cut.
            (Err(simple), Err(cut)) => {
                prop_assert!(simple.contains("division by zero"), "{}", simple);
                prop_assert!(cut.contains("division by zero"), "{}", cut);
            }
            (simple, cut) => prop_assert!(false, "one way fails: {:?} {:?}", simple.err(), cut.err()),
        }
    }

    /// Semantics, "`balanced` conserves": what went in on named nodes comes out in Pod rows.
    #[test]
    fn balanced_conserves_usage(seed in any::<u64>(), rows in 1_usize..200) {
        let usage = Usage::random(&mut Random(seed), rows, DAYS, true);
        let files = grind(&usage, "balanced", &SIMPLE).expect("balanced takes any of this");
        let totals = totals_in(&usage);
        for (day, bytes) in files.values().enumerate() {
            let written = csv::parse(&String::from_utf8_lossy(bytes));
            let expected = totals.get(&(day as i64)).copied().unwrap_or_default();
            for (position, column) in HOURS.into_iter().enumerate() {
                let factor = if position < 4 { 3_600.0 } else { 3_600.0 * 1_073_741_824.0 };
                let is_usage = |row: &&csv::Row| {
                    let is_input_namespace = row["pod_labels"].is_some();
                    row["data_source"].as_deref() == Some("Pod") && is_input_namespace
                };
                let values = written.iter().filter(is_usage).filter_map(|row| row[column].as_deref());
                let numbers: Vec<f64> = values.map(|text| text.parse().expect("a decimal")).collect();
                let found: f64 = numbers.iter().sum();
                let (sum, absolute) = (expected[position].0 / factor, expected[position].1 / factor);
                // Each written decimal may be half a unit of the fifteenth place away.
                let rounding = numbers.len() as f64 * 5e-16;
                prop_assert!(
                    (sum - found).abs() <= 1e-9 * absolute + 1e-12 + rounding,
                    "day {} {}: {} in, {} out", day, column, sum, found
                );
            }
        }
    }

    /// Semantics, "`balanced` conserves": on every node with an unallocated row, usage plus the rest is the capacity.
    #[test]
    fn balanced_fills_every_node(seed in any::<u64>(), rows in 1_usize..200) {
        let usage = Usage::random(&mut Random(seed), rows, DAYS, true);
        let files = grind(&usage, "balanced", &SIMPLE).expect("balanced takes any of this");
        for bytes in files.values() {
            let written = csv::parse(&String::from_utf8_lossy(bytes));
            let number = |row: &csv::Row, column: &str| -> Option<f64> {
                row[column].as_deref().map(|text| text.parse().expect("a decimal"))
            };
            let is_rest = |row: &csv::Row| row["data_source"].as_deref() == Some("Pod") && row["pod_labels"].is_none();
            for rest in written.iter().filter(|row| is_rest(row)) {
                for (column, capacity) in [
                    ("pod_usage_cpu_core_hours", "node_capacity_cpu_core_hours"),
                    ("pod_request_memory_gigabyte_hours", "node_capacity_memory_gigabyte_hours"),
                ] {
                    let (Some(left), Some(capacity)) = (number(rest, column), number(rest, capacity)) else { continue };
                    let on_node = written.iter().filter(|row| {
                        let namespace = row["namespace"].as_deref();
                        row["pod_labels"].is_some()
                            && row["data_source"].as_deref() == Some("Pod")
                            && row["node"] == rest["node"]
                            && namespace.is_some_and(|name| !UNALLOCATED.contains(&name))
                    });
                    let values: Vec<f64> = on_node.filter_map(|row| number(row, column)).collect();
                    let used: f64 = values.iter().sum();
                    let scale: f64 = values.iter().map(|value| value.abs()).sum::<f64>() + capacity.abs() + left.abs();
                    prop_assert!(
                        (used + left - capacity).abs() <= 1e-9 * scale + 1e-12 + values.len() as f64 * 1e-15,
                        "{}: {} used, {} left, capacity {}", column, used, left, capacity
                    );
                }
            }
        }
    }
}
