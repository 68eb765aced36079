//! Little memory: fewer days at once and the same rows, or a stop that says what is needed, what grows and what the limit is.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::binary::Invocation;
use crate::delivery::{Delivery, into_csv, milliseconds, pod_key, settings};
use crate::usage::{PodRow, parquet, pod_columns};

const DAYS: [&str; 4] = ["2025-10-01", "2025-10-02", "2025-10-03", "2025-10-04"];

/// A day on which every row has labels of its own.
fn hostile_rows(day: &str, row_count: usize) -> Vec<PodRow> {
    let row = |index: usize| PodRow {
        milliseconds: milliseconds(day) + (index as i64 % 24) * 3_600_000,
        namespace: Some(format!("namespace-{}", index % 50)),
        node: Some(format!("node-{}", index % 20)),
        pod: Some(format!("pod-{index}")),
        resource_id: Some(format!("i-{}", index % 20)),
        labels: Some(format!("{{\"app\": \"application-{index:08}\", \"tier\": \"web\"}}")),
        usage: [Some(3_600.0); 8],
        capacity: [Some(8.0), Some(8.0 * 3_600.0), Some(64.0), Some(64.0 * 3_600.0)],
    };
    (0..row_count).map(row).collect()
}

/// Days of so many distinct label sets, as a folder of reports and settings to run them with.
fn hostile(folder: &Path, days: &[&str], row_count: usize, performance: Value) -> Value {
    let object = |day: &&str| (pod_key(day), parquet(pod_columns(&hostile_rows(day, row_count)), row_count));
    let input = folder.join("in");
    Delivery(days.iter().map(object).collect()).write(&input);
    with(folder, days, performance)
}

fn with(folder: &Path, days: &[&str], performance: Value) -> Value {
    let mut settings = into_csv(settings(&folder.join("in"), days[0], days[days.len() - 1]), &folder.join("out"));
    settings["performance"] = performance;
    settings
}

/// Name → content of the files that were written.
fn written(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let out = folder.join("out");
    let Ok(files) = std::fs::read_dir(&out) else { return BTreeMap::new() };
    let files = files.map(|file| file.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_does_not_fit_says_what_it_needs_and_what_it_needs_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let tight = json!({"max_workers": 1, "memory_budget": "4MiB"});
    let settings = hostile(folder.path(), &DAYS[..1], 30_000, tight);
    let ended = Invocation::with("run", &settings).run().await;
    ended.expect(
        78,
        &[
            "2025-10-01 needs",
            "of at most 30000 rows",
            "the limit of state is 2.00 MiB, its share of performance.memory_budget",
            "it grows by",
            "label sets: ",
            "in pod_labels",
            "label key `app` varies most",
            "groups with the rows that they become",
            "at this rate a memory_budget of",
            "would do, and less where further rows repeat pods and labels of these",
        ],
    );
    assert!(written(folder.path()).values().all(Vec::is_empty), "nothing is written");
    assert_eq!(ended.day("2025-10-01")["rows_out"], 0);
    let error = ended.report["error"].as_str().unwrap();
    let (_, rest) = error.split_once("a memory_budget of ").unwrap();
    let (number, rest) = rest.split_once(' ').unwrap();
    let (unit, _) = rest.split_once(' ').unwrap();
    let needed: f64 = number.parse().unwrap();
    assert_eq!(unit, "MiB", "{error}");
    assert!((8.0..200.0).contains(&needed), "{error}");

    let enough = json!({"max_workers": 1, "memory_budget": format!("{}MiB", needed.ceil())});
    let ended = Invocation::with("run", &with(folder.path(), &DAYS[..1], enough)).run().await;
    ended.expect(0, &[]);
    assert_eq!(ended.day("2025-10-01")["rows_out"], 30_000 + 20, "{:#?}", ended.report);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_room_for_one_day_only_one_day_is_open_and_the_rows_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let roomy = hostile(folder.path(), &DAYS, 4_000, json!({"max_workers": 2, "memory_budget": "1GiB"}));
    let ended = Invocation::with("run", &roomy).run().await;
    ended.expect(0, &[]);
    let expected = written(folder.path());
    assert_eq!(expected.len(), DAYS.len());
    let at_once = ended.report["peak_state_bytes"].as_u64().unwrap();
    let alone = Invocation::with("run", &with(folder.path(), &DAYS[..1], json!({"memory_budget": "1GiB"}))).run().await;
    let one_day = alone.expect(0, &[]).report["peak_state_bytes"].as_u64().unwrap();
    assert!(at_once > one_day, "several days were open: {at_once} and {one_day}");

    // State gets half of the budget: there is room for a day and a half.
    let tight = json!({"max_workers": 2, "memory_budget": one_day * 3});
    let ended = Invocation::with("run", &with(folder.path(), &DAYS, tight)).run().await;
    ended.expect(0, &[]);
    assert!(written(folder.path()) == expected, "the rows are the same");
    let peak = ended.report["peak_state_bytes"].as_u64().unwrap();
    assert!(peak <= one_day * 3 / 2, "{peak} where one day takes {one_day}");
}

#[tokio::test(flavor = "multi_thread")]
async fn footers_count_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let settings = hostile(folder.path(), &DAYS, 10, json!({"memory_budget": "16KiB"}));
    let ended = Invocation::with("run", &settings).run().await;
    ended.expect(78, &["the footers of 4 objects", "the limit of state is 8.00 KiB", "fewer and larger objects"]);
    assert!(written(folder.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_process_stops_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    // No process lives in so little, whatever its budget says.
    let performance = json!({"max_workers": 1, "memory_limit": "4MiB", "memory_budget": "1GiB"});
    let settings = hostile(folder.path(), &DAYS, 2_000, performance);
    let ended = Invocation::with("run", &settings).run().await;
    let parts =
        ["the process holds", "of the 4.00 MiB that it may (performance.memory_limit)", "memory is nearly used up"];
    ended.expect(78, &parts);
    assert_eq!(
        (&ended.report["memory_limit_bytes"], &ended.report["memory_source"]),
        (&json!(4 << 20), &json!("configuration"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_in_which_the_kernel_would_be_quicker_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = hostile(folder.path(), &DAYS[..1], 10, json!({}));
    for command in ["run", "plan", "check"] {
        let invocation = Invocation::with(command, &settings).variable("GRISTMILL_MEMORY_LIMIT", "25165824");
        let ended = invocation.run().await;
        ended.expect(78, &["the memory limit is 24.0 MiB (downward API), at least 32.0 MiB are needed"]);
    }
    assert!(written(folder.path()).is_empty());
    let invocation = Invocation::with("run", &settings).variable("GRISTMILL_MEMORY_LIMIT", "300000000");
    invocation.run().await.expect(0, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_shown_where_one_looks_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let settings = hostile(folder.path(), &DAYS[..1], 10, json!({"memory_limit": "512MiB"}));
    let limits = "512 MiB of memory (configuration)";
    Invocation::with("plan", &settings).run().await.expect(0, &["limits: ", limits, "budget 256 MiB"]);
    Invocation::with("config", &settings).run().await.expect(0, &["# here: ", limits, "memory_limit: 512MiB"]);
    // The fraction has no upper end: a large machine is there for large days.
    let large = with(folder.path(), &DAYS[..1], json!({"memory_limit": "64GiB"}));
    Invocation::with("plan", &large).run().await.expect(0, &["64.0 GiB of memory (configuration)", "budget 32.0 GiB"]);
    let mut of_pod = settings;
    of_pod["performance"] = json!({});
    let invocation = Invocation::with("plan", &of_pod);
    let invocation =
        invocation.variable("GRISTMILL_MEMORY_LIMIT", "300000000").variable("GRISTMILL_CPU_REQUEST", "100");
    let ended = invocation.run().await;
    ended.expect(0, &["limits: "]);
    // A machine whose own limit is lower keeps to that.
    assert!(ended.stdout.contains("(downward API)") || ended.stdout.contains("(cgroup v"), "{}", ended.stdout);
}
