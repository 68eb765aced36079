//! A database from empty to filled by the program alone; runs again, over two months, beside rows of others.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::binary::{Ended, Invocation};
use crate::database;
use crate::delivery::{Delivery, ROWS_PER_DAY, SOURCE, into_postgres, settings};

const TABLE: &str = "tenant.reporting_ocpusagelineitem_daily_summary";
/// The last days of one month and the first of the next.
const DAYS: [&str; 4] = ["2025-10-30", "2025-10-31", "2025-11-01", "2025-11-02"];

/// Everything that a run may change.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Rows of the target without their uuid, as JSON, sorted.
    pub rows: Vec<Value>,
    /// Day, fingerprint, row count, sums and status of each ledger row.
    pub ledger: Vec<(String, String, i64, String, String)>,
}

/// Reads the target and the ledger.
pub async fn snapshot(client: &Client) -> Snapshot {
    let sql = format!("SELECT (to_jsonb(t) - 'uuid')::text FROM {TABLE} t ORDER BY 1");
    let rows = client.query(&sql, &[]).await.expect("the rows");
    let sql = "SELECT usage_day::text, encode(fingerprint, 'hex'), row_count, sums::text, status \
               FROM gristmill.day_ledger ORDER BY source_uuid, usage_day";
    let ledger = client.query(sql, &[]).await.expect("the ledger");
    Snapshot {
        rows: rows.iter().map(|row| serde_json::from_str(row.get(0)).expect("a row is JSON")).collect(),
        ledger: ledger.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect(),
    }
}

impl Snapshot {
    /// The rows of a day.
    pub fn rows_of(&self, day: &str) -> Vec<&Value> {
        self.rows.iter().filter(|row| row["usage_start"] == day).collect()
    }

    /// What the ledger says about a day.
    pub fn ledger_of(&self, day: &str) -> Vec<&(String, String, i64, String, String)> {
        self.ledger.iter().filter(|entry| entry.0 == day).collect()
    }
}

/// An empty database and a folder of reports.
pub struct Bed {
    /// The reports.
    pub folder: tempfile::TempDir,
    /// From the folder into the database.
    pub settings: Value,
    /// A connection to it.
    pub client: Client,
}

impl Bed {
    async fn new() -> Self {
        Self::over(DAYS[0], DAYS[3]).await
    }

    /// The same for a period.
    pub async fn over(first_day: &str, last_day: &str) -> Self {
        let postgres = database::database().await;
        let folder = tempfile::tempdir().unwrap();
        let settings = into_postgres(settings(folder.path(), first_day, last_day), &postgres);
        let client = database::client(&postgres).await;
        Self { folder, settings, client }
    }

    /// A command with these settings.
    pub async fn command(&self, command: &str, extra: &[&str]) -> Ended {
        Invocation::with(command, &self.settings).arguments(extra).run().await
    }

    /// `init-db` and a first run.
    async fn filled() -> Self {
        let bed = Self::new().await;
        Delivery::of(&DAYS, 1.0).write(bed.folder.path());
        bed.command("init-db", &[]).await.expect(0, &["schema tenant: created", "ledger", "partition tenant."]);
        bed.command("run", &[]).await.expect(0, &["written"]);
        bed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_has_the_same_sums_whatever_the_target() {
    let bed = Bed::filled().await;
    let mut none = bed.settings.clone();
    none["target"]["kind"] = json!("none");
    let written = bed.command("run", &["--force"]).await;
    let counted = Invocation::with("run", &none).run().await;
    for day in DAYS {
        let sums = written.expect(0, &[]).day(day)["sums"].as_object().expect("sums by name");
        assert_eq!(sums.len(), 8, "{sums:?}");
        for (column, sum) in sums {
            let sql = format!("SELECT sum({column})::text FROM {TABLE} WHERE usage_start = '{day}'");
            let in_table: String = bed.client.query_one(&sql, &[]).await.expect("a sum").get(0);
            assert_eq!(*sum, in_table, "{day}: {column}");
        }
        assert_eq!(
            counted.expect(0, &[]).day(day)["sums"],
            written.day(day)["sums"],
            "{day}: rows that are only counted"
        );
    }
    // As many rows with other values.
    Delivery::of(&DAYS, 2.0).write(bed.folder.path());
    let other = Invocation::with("run", &none).run().await;
    for day in DAYS {
        assert_eq!(other.expect(0, &[]).day(day)["rows_out"], counted.day(day)["rows_out"]);
        assert_ne!(other.day(day)["sums"], counted.day(day)["sums"], "{day}: the values show");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_prepared_and_filled() {
    let bed = Bed::new().await;
    Delivery::of(&DAYS, 1.0).write(bed.folder.path());
    // Before init-db everything that is missing is said, and run refuses.
    bed.command("check", &[]).await.expect(78, &[TABLE, "gristmill init-db"]);
    bed.command("run", &[]).await.expect(78, &["does not exist", "gristmill init-db"]);

    bed.command("init-db", &[]).await.expect(0, &["created"]);
    bed.command("init-db", &[]).await.expect(0, &["is there already", "the ledger is there already"]);
    bed.command("check", &[]).await.expect(0, &["nothing stands in the way of a run"]);
    let ended = bed.command("run", &[]).await;
    ended.expect(0, &[]);
    assert_eq!(ended.report["windows"].as_array().map(Vec::len), Some(2), "a window per month");

    let found = snapshot(&bed.client).await;
    assert_eq!(ended.report["rows_out"], found.rows.len());
    // Two pods, and what is left of their two nodes.
    for day in DAYS {
        let rows = found.rows_of(day);
        assert_eq!(rows.len(), 4, "{day}: {rows:#?}");
        let pods = rows.iter().filter(|row| row["namespace"].as_str().is_some_and(|n| n.starts_with("namespace-")));
        assert!(pods.clone().all(|row| row["pod_usage_cpu_core_hours"].as_f64() == Some(24.0)), "{rows:#?}");
        assert_eq!(pods.count(), 2);
        let ledger = found.ledger_of(day);
        let [(_, fingerprint, row_count, sums, status)] = &ledger[..] else { panic!("{day}: {ledger:?}") };
        assert_eq!((fingerprint.len(), *row_count, status.as_str()), (64, 4, "written"));
        let sums: Value = serde_json::from_str(sums).unwrap();
        // In units of 1e-15, over the pods: those of unallocated capacity have none of their own beside them.
        let sum: f64 = sums["pod_usage_cpu_core_hours"].as_str().unwrap().parse().unwrap();
        let in_table: f64 = rows.iter().filter_map(|row| row["pod_usage_cpu_core_hours"].as_f64()).sum();
        assert!((sum / 1e15 - in_table).abs() < 1e-9, "{sums} against {in_table}");
    }
    // Each month has its own report period.
    let period = |day: &str| found.rows_of(day)[0]["report_period_id"].clone();
    assert!(period(DAYS[0]).is_number() && period(DAYS[2]).is_number());
    assert_eq!(period(DAYS[0]), period(DAYS[1]));
    assert_ne!(period(DAYS[1]), period(DAYS[2]));
    // And its own partition.
    let sql = format!("SELECT count(DISTINCT tableoid) FROM {TABLE}");
    assert_eq!(bed.client.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0), 2);
    let sql = "SELECT count(*) FROM ONLY tenant.reporting_ocpusagelineitem_daily_summary_default";
    assert_eq!(bed.client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn running_twice_equals_running_once() {
    let bed = Bed::filled().await;
    let once = snapshot(&bed.client).await;
    bed.command("run", &["--force"]).await.expect(0, &["written"]);
    assert_eq!(snapshot(&bed.client).await, once);

    // Other input, then the first again: what counts is the last.
    Delivery::of(&DAYS, 2.0).write(bed.folder.path());
    bed.command("run", &[]).await.expect(0, &[]);
    let other = snapshot(&bed.client).await;
    for (old, new) in once.ledger.iter().zip(&other.ledger) {
        assert_ne!(old.1, new.1, "{}: other objects, another fingerprint", old.0);
        assert_ne!(old.3, new.3, "{}: other sums", old.0);
    }
    Delivery::of(&DAYS, 1.0).write(bed.folder.path());
    bed.command("run", &[]).await.expect(0, &[]);
    assert_eq!(snapshot(&bed.client).await.rows, once.rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_others_survive() {
    let bed = Bed::filled().await;
    let ours = snapshot(&bed.client).await;
    // Copies of our own rows, made foreign in one respect each.
    let foreign = [
        ("cost_model_rate_type", "'Supplementary'"),
        ("monthly_cost_type", "'Node'"),
        ("distributed_cost", "12.5"),
        ("infrastructure_raw_cost", "3.25"),
        ("report_period_id", "999"),
        ("usage_start", "'2025-10-29'"),
    ];
    bed.client.batch_execute(&format!("CREATE TEMP TABLE copy AS SELECT * FROM {TABLE}")).await.unwrap();
    for (column, value) in foreign {
        let sql = format!(
            "CREATE TEMP TABLE changed AS SELECT * FROM copy; \
             UPDATE changed SET uuid = gen_random_uuid(), {column} = {value}; \
             INSERT INTO {TABLE} SELECT * FROM changed; DROP TABLE changed"
        );
        bed.client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{column}: {error:?}"));
    }
    let with_foreign = snapshot(&bed.client).await;
    assert_eq!(with_foreign.rows.len(), ours.rows.len() * (foreign.len() + 1));

    let ended = bed.command("run", &["--force"]).await;
    ended.expect(0, &[]);
    assert_eq!(snapshot(&bed.client).await.rows, with_foreign.rows);
    let deleted: u64 =
        ended.report["days"].as_array().unwrap().iter().map(|day| day["rows_deleted"].as_u64().unwrap()).sum();
    assert_eq!(deleted as usize, ours.rows.len(), "just its own rows were replaced");

    // A part of the period leaves the rest alone.
    let narrow = ["--set", "period.end_date=2025-10-30"];
    Delivery::of(&DAYS, 2.0).write(bed.folder.path());
    bed.command("run", &narrow).await.expect(0, &[]);
    let after = snapshot(&bed.client).await;
    assert_ne!(after.rows_of(DAYS[0]), with_foreign.rows_of(DAYS[0]));
    for day in &DAYS[1..] {
        assert_eq!(after.rows_of(day), with_foreign.rows_of(day));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_source_in_the_same_table_survives() {
    let bed = Bed::filled().await;
    let other_source = SOURCE.replace("abcd", "ef01");
    let mut other = bed.settings.clone();
    other["source"] = json!({"uuid": other_source, "cluster_id": "cluster-8"});
    let folder = tempfile::tempdir().unwrap();
    let delivery = Delivery::of(&DAYS, 4.0);
    Delivery(delivery.0.into_iter().map(|(key, content)| (key.replace(SOURCE, &other_source), content)).collect())
        .write(folder.path());
    other["storage"]["url"] = json!(format!("file://{}", folder.path().display()));
    // The other source has no report period yet.
    Invocation::with("run", &other).run().await.expect(78, &["cluster-8", "2025-10", "create the report period"]);
    Invocation::with("init-db", &other).run().await.expect(0, &["cluster cluster-8: added"]);
    Invocation::with("run", &other).run().await.expect(0, &[]);
    let both = snapshot(&bed.client).await;
    assert_eq!(both.ledger.len(), 2 * DAYS.len());
    bed.command("run", &["--force"]).await.expect(0, &["written"]);
    assert_eq!(snapshot(&bed.client).await, both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_without_input_is_left_as_it_was_unless_told_otherwise() {
    let bed = Bed::filled().await;
    let before = snapshot(&bed.client).await;
    let gap = DAYS[1];
    let days: Vec<&str> = DAYS.into_iter().filter(|day| *day != gap).collect();
    Delivery::of(&days, 2.0).write(bed.folder.path());
    let accept = ["--set", "input.on_disappeared=accept"];
    let ended = bed.command("run", &accept).await;
    ended.expect(0, &["day has no input rows and stays as it was", "no input rows, left as it was"]);
    assert_eq!(ended.day(gap)["status"], "no input rows, left as it was");
    let after = snapshot(&bed.client).await;
    for day in DAYS {
        assert_eq!(before.rows_of(day) == after.rows_of(day), day == gap, "{day}");
    }

    let ended = bed.command("run", &["--delete-empty-days", accept[0], accept[1]]).await;
    ended.expect(0, &[]);
    assert_eq!(ended.day(gap)["status"], "written");
    assert_eq!(ended.day(gap)["rows_deleted"], 4);
    let emptied = snapshot(&bed.client).await;
    assert!(emptied.rows_of(gap).is_empty());
    assert_eq!(emptied.ledger_of(gap)[0].2, 0, "the ledger knows that the day is empty");
    assert_eq!(emptied.rows_of(DAYS[2]), after.rows_of(DAYS[2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_says_what_a_run_would_read_and_writes_nothing() {
    let bed = Bed::filled().await;
    let before = snapshot(&bed.client).await;
    Delivery::of(&DAYS[..3], 2.0).write(bed.folder.path());
    let ended = bed.command("plan", &[]).await;
    ended.expect(0, &["window 2025-10-30", "window 2025-11-01", "row groups", "estimated peak memory"]);
    for (number, day) in DAYS.into_iter().enumerate() {
        let line = ended.stdout.lines().find(|line| line.starts_with(day)).unwrap_or_else(|| panic!("{ended:#?}"));
        let fields: Vec<&str> = line.split_whitespace().collect();
        let rows = ROWS_PER_DAY.to_string();
        let expected = if number < 3 { ["1", "1", rows.as_str()] } else { ["0", "0", "0"] };
        assert_eq!(fields[1..4], expected, "{line}");
    }
    assert_eq!(snapshot(&bed.client).await, before);
    let missed = ["has 2 objects", "has 1 objects", "none of their objects is there any more"];
    bed.command("check", &[]).await.expect(65, &missed);
    assert_eq!(snapshot(&bed.client).await, before, "check writes nothing either");
}
