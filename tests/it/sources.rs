//! Several sources in one configuration: each gives what it gives alone, and what is wrong with one leaves the others alone.

mod commands;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::binary::{Ended, Invocation};
use crate::bucket::files_below;
use crate::delivery::{Delivery, ROWS_PER_DAY, SOURCE, into_csv, pod_key, settings};
use crate::rerun::{Bed, Snapshot, snapshot};

const OTHER: &str = "00000000-0000-0000-0000-00000000beef";
const NOBODY: &str = "00000000-0000-0000-0000-00000000dead";
/// The last day of a month and the first of the next.
const DAYS: [&str; 2] = ["2025-10-31", "2025-11-01"];

/// Both clusters' reports: the second uses twice as many cores.
fn both() -> Delivery {
    Delivery::of(&DAYS, 1.0).and(Delivery::of(&DAYS, 2.0).delivered_by(OTHER))
}

fn cluster(uuid: &str, name: &str) -> Value {
    json!({"uuid": uuid, "cluster_id": name})
}

/// The settings for a list of sources instead of one.
fn listing(mut settings: Value, sources: &[Value]) -> Value {
    settings.as_object_mut().unwrap().remove("source");
    settings["sources"] = json!(sources);
    settings
}

fn of_both(settings: Value) -> Value {
    listing(settings, &[cluster(SOURCE, "cluster-7"), cluster(OTHER, "cluster-8")])
}

/// Settings for the single source that a list of two has at a position.
fn alone(settings: &Value, position: usize) -> Value {
    let mut single = settings.clone();
    single["source"] = settings["sources"][position].clone();
    single.as_object_mut().unwrap().remove("sources");
    single
}

/// Status of each day of a source in the report of a run.
fn statuses(ended: &Ended, source: &str) -> Vec<String> {
    let days = ended.report["days"].as_array().expect("days").iter();
    days.filter(|day| day["source"] == source).map(|day| day["status"].as_str().unwrap().to_owned()).collect()
}

/// A folder for reports and one for files.
struct Folders {
    input: tempfile::TempDir,
    output: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        Self { input: tempfile::tempdir().unwrap(), output: tempfile::tempdir().unwrap() }
    }

    fn settings(&self) -> Value {
        of_both(into_csv(settings(self.input.path(), DAYS[0], DAYS[1]), self.output.path()))
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        files_below(self.output.path()).into_iter().collect()
    }
}

/// A database after `init-db` for both sources, and a folder with the reports of both.
async fn bed() -> Bed {
    let mut bed = Bed::over(DAYS[0], DAYS[1]).await;
    bed.settings = of_both(bed.settings);
    let periods = ["report period 2025-10 of cluster cluster-7: added", "2025-11 of cluster cluster-8: added"];
    bed.command("init-db", &[]).await.expect(0, &periods);
    both().write(bed.folder.path());
    bed
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_each_source_are_those_that_it_gives_alone() {
    let folders = Folders::new();
    both().write(folders.input.path());
    let ended = Invocation::with("run", &folders.settings()).run().await;
    ended.expect(0, &[]);
    let together = folders.files();
    let names: Vec<&str> = together.keys().map(String::as_str).collect();
    let name = |source: &str, day: &str| format!("source={source}/{day}.csv");
    let expected = [name(SOURCE, DAYS[0]), name(SOURCE, DAYS[1]), name(OTHER, DAYS[0]), name(OTHER, DAYS[1])];
    assert_eq!(names, expected);
    for (position, source) in [SOURCE, OTHER].into_iter().enumerate() {
        let own = tempfile::tempdir().unwrap();
        let single = alone(&into_csv(folders.settings(), own.path()), position);
        let ended = Invocation::with("run", &single).run().await;
        assert_eq!(statuses(ended.expect(0, &[]), source), ["written", "written"], "the source is named here too");
        assert!(!ended.stdout.contains(&format!("{source}: ")), "{ended:#?}");
        for day in DAYS {
            let file = std::fs::read(own.path().join(format!("{day}.csv"))).unwrap();
            assert_eq!(file, together[&name(source, day)], "{source}, {day}");
        }
    }
    assert_ne!(together[&name(SOURCE, DAYS[0])], together[&name(OTHER, DAYS[0])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_and_the_log_name_the_source() {
    let folders = Folders::new();
    both().write(folders.input.path());
    let ended = Invocation::with("run", &folders.settings()).run().await;
    ended.expect(0, &[]);
    let days = ended.report["days"].as_array().unwrap();
    let named: Vec<[&str; 2]> =
        days.iter().map(|day| [day["source"].as_str().unwrap(), day["day"].as_str().unwrap()]).collect();
    assert_eq!(named, [[SOURCE, DAYS[0]], [SOURCE, DAYS[1]], [OTHER, DAYS[0]], [OTHER, DAYS[1]]]);
    let rows: u64 = days.iter().map(|day| day["rows_in"].as_u64().unwrap()).sum();
    assert_eq!((rows, &ended.report["rows_in"]), (4 * ROWS_PER_DAY as u64, &json!(rows)));
    for source in [SOURCE, OTHER] {
        let in_table = |line: &&str| line.trim_start().starts_with(source) && line.contains(DAYS[0]);
        assert_eq!(ended.stdout.lines().filter(in_table).count(), 1, "{}", ended.stdout);
        let in_log = |line: &&str| line.contains(source) && line.contains("day written") && line.contains(DAYS[1]);
        assert_eq!(ended.stderr.lines().filter(in_log).count(), 1, "{}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_each_source_are_those_that_it_gives_alone() {
    let (together, apart) = (bed().await, bed().await);
    let ended = together.command("run", &[]).await;
    assert_eq!(statuses(ended.expect(0, &[]), SOURCE), ["written", "written"]);
    for position in [0, 1] {
        Invocation::with("run", &alone(&apart.settings, position)).run().await.expect(0, &[]);
    }
    let (found, expected) = (snapshot(&together.client).await, snapshot(&apart.client).await);
    assert_eq!(found.rows, expected.rows);
    assert_eq!(found.rows.len(), 2 * 2 * 4, "two pods and two nodes of each source and day: {found:#?}");
    assert_eq!(found.ledger.len(), 4);
    let fingerprints = |snapshot: &Snapshot| {
        snapshot.ledger.iter().map(|entry| (entry.0.clone(), entry.2, entry.3.clone())).collect::<Vec<_>>()
    };
    assert_eq!(fingerprints(&found), fingerprints(&expected));

    // Alone or together: what is there already stands.
    let again = together.command("run", &[]).await;
    for source in [SOURCE, OTHER] {
        assert_eq!(statuses(again.expect(0, &[]), source), ["unchanged", "unchanged"]);
    }
    let single = Invocation::with("run", &alone(&together.settings, 1)).run().await;
    assert_eq!(statuses(single.expect(0, &[]), OTHER), ["unchanged", "unchanged"]);
    assert_eq!(snapshot(&together.client).await, found);

    // A file that is written again is another object: only this one is.
    for (key, content) in Delivery::of(&DAYS[..1], 3.0).delivered_by(OTHER).0 {
        std::fs::write(together.folder.path().join(key), content).unwrap();
    }
    let changed = together.command("run", &[]).await;
    assert_eq!(statuses(changed.expect(0, &[]), SOURCE), ["unchanged", "unchanged"]);
    assert_eq!(statuses(&changed, OTHER), ["written", "unchanged"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_objects_fails_alone() {
    let folders = Folders::new();
    both().write(folders.input.path());
    let list = [cluster(NOBODY, "nobody"), cluster(OTHER, "cluster-8")];
    let settings = listing(folders.settings(), &list);
    let none = [&format!("source {NOBODY}: period")[..], "no objects", &format!("source={NOBODY}"), "--allow-empty"];
    let ended = Invocation::with("run", &settings).run().await;
    ended.expect(65, &none);
    assert_eq!(statuses(&ended, NOBODY), ["no input rows, left as it was"; 2]);
    assert_eq!(statuses(&ended, OTHER), ["written", "written"]);
    assert_eq!(folders.files().len(), 2, "{:?}", folders.files().keys());
    Invocation::with("run", &settings).arguments(&["--allow-empty"]).run().await.expect(0, &[]);

    let plan = Invocation::with("plan", &settings).run().await;
    plan.expect(65, &none).expect(65, &[&format!("source {OTHER}\n")]);
    assert_eq!(plan.report["windows"].as_array().unwrap().len(), 4);
    Invocation::with("check", &settings).run().await.expect(65, &none).expect(65, &["1 problem\n"]);

    // Without any object at all there is nothing to go on with.
    let nobody = listing(settings, &[cluster(NOBODY, "nobody"), cluster(SOURCE, "no objects now")]);
    Delivery::default().write(folders.input.path());
    for command in ["run", "plan"] {
        let ended = Invocation::with(command, &nobody).run().await;
        ended.expect(65, &none).expect(65, &[&format!("source {SOURCE}: period")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_object_of_one_source_fails_its_day_alone() {
    let folders = Folders::new();
    let broken = Delivery::default().with(pod_key(DAYS[0]), b"no Parquet".to_vec());
    both().and(broken).write(folders.input.path());
    let ended = Invocation::with("run", &folders.settings()).run().await;
    ended.expect(65, &[&format!("{} of source {SOURCE} failed: ", DAYS[0]), "1 of 4 days failed"]);
    assert_eq!(statuses(&ended, SOURCE), ["failed", "written"]);
    assert_eq!(statuses(&ended, OTHER), ["written", "written"]);
    assert_eq!(folders.files().len(), 3);

    let stopping = tempfile::tempdir().unwrap();
    let mut settings = into_csv(folders.settings(), stopping.path());
    settings["on_bad_day"] = json!("stop");
    let ended = Invocation::with("run", &settings).run().await;
    ended.expect(65, &["1 of 4 days failed"]);
    assert_eq!(statuses(&ended, OTHER), ["skipped", "skipped"], "no further day is begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_report_period_fails_alone() {
    let bed = bed().await;
    let delete = "DELETE FROM tenant.reporting_ocpusagereportperiod WHERE cluster_id = 'cluster-7'";
    bed.client.batch_execute(delete).await.unwrap();
    let ended = bed.command("run", &[]).await;
    ended.expect(78, &[&format!("source {SOURCE} failed"), "cluster_id `cluster-7`", "create the report period"]);
    assert_eq!(statuses(&ended, SOURCE), ["failed", "failed"]);
    assert_eq!(statuses(&ended, OTHER), ["written", "written"]);
    let rows = snapshot(&bed.client).await.rows;
    assert!(!rows.is_empty() && rows.iter().all(|row| row["source_uuid"] == OTHER), "{rows:#?}");
    let plan = bed.command("plan", &[]).await;
    plan.expect(78, &[&format!("failed: source {SOURCE}: "), "cluster_id `cluster-7`"]);
    assert!(plan.stdout.contains("unchanged"), "{plan:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_concerns_all_sources_stops_the_run() {
    let bed = bed().await;
    bed.client.batch_execute("DROP TABLE gristmill.day_ledger").await.unwrap();
    let ended = bed.command("run", &[]).await;
    ended.expect(78, &["the ledger gristmill.day_ledger does not exist"]);
    for source in [SOURCE, OTHER] {
        assert_eq!(statuses(&ended, source), ["skipped", "skipped"]);
    }
    let mut settings = bed.settings.clone();
    settings["storage"]["url"] = json!("file:///no/such/folder");
    Invocation::with("check", &settings).run().await.expect(78, &["no such bucket or folder", "2 problems"]);
}

fn data_below(folder: &Path) -> Vec<String> {
    files_below(folder).into_iter().map(|(key, _)| key).filter(|key| key.starts_with("data/")).collect()
}
