//! `gristmill verify` against deliberate damage: each sort of damage gives its own class and no other, whatever the target
//! is compared with.

use std::path::{Path, PathBuf};

use futures::{StreamExt, pin_mut};
use gristmill::config::Postgres;
use gristmill::generate::{GenerateOptions, generate};
use gristmill::schema::target::{OCP_DAILY_SUMMARY, TargetType};
use gristmill::time::UsageDay;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::binary::{Ended, Invocation};
use crate::database;
use crate::delivery::into_postgres;

const TABLE: &str = "tenant.reporting_ocpusagelineitem_daily_summary";
const SHADOW: &str = "shadow.summary";
/// Over the end of a month of 31 days.
const FIRST_DAY: &str = "2025-10-30";
const LAST_DAY: &str = "2025-11-01";
const CLASSES: [&str; 11] = [
    "STALE_DATA",
    "SCHEMA_MISMATCH",
    "WRONG_CLUSTER",
    "WRONG_PERIOD",
    "KEY_MISMATCH",
    "DUPLICATES",
    "MISSING",
    "EXTRA",
    "VALUE_DRIFT",
    "NOT_CONSERVED",
    "NOTHING_TO_COMPARE",
];

/// A database that a run has filled, and the same rows as files and as a shadow table.
struct Bed {
    folder: TempDir,
    settings: Value,
    postgres: Postgres,
    client: Client,
    /// The two namespaces with the most rows.
    namespaces: [String; 2],
}

impl Bed {
    async fn new() -> Self {
        let (postgres, folder) = (database::database().await, tempfile::tempdir().unwrap());
        let mut options = GenerateOptions::new(2_000, 3, folder.path().join("input"));
        options.start = UsageDay::from_date(FIRST_DAY.parse().unwrap());
        generate(&options).unwrap();
        let settings = into_postgres(
            json!({
                "version": 1,
                "organization": {"org_id": options.org_id},
                "source": {"uuid": options.source, "cluster_id": "cluster-7", "cluster_alias": "Cluster Seven"},
                "period": {"start_date": FIRST_DAY, "end_date": LAST_DAY},
                "storage": {"url": format!("file://{}", folder.path().join("input").display())},
            }),
            &postgres,
        );
        Invocation::with("init-db", &settings).run().await.expect(0, &[]);
        let client = database::client(&postgres).await;
        let keys = "INSERT INTO tenant.reporting_enabledtagkeys (key, enabled, provider_type) \
                    SELECT key, true, 'OCP' FROM unnest(ARRAY['app', 'tier', 'environment', 'team']) AS key";
        client.batch_execute(keys).await.unwrap();
        Invocation::with("run", &settings).run().await.expect(0, &[]);

        let mut into_files = settings.clone();
        into_files["target"]["kind"] = json!("file");
        into_files["target"]["file"] = json!({"path": folder.path().join("csv"), "format": "csv"});
        Invocation::with("run", &into_files).run().await.expect(0, &[]);

        let sql = format!(
            "CREATE SCHEMA shadow; CREATE TABLE {SHADOW} AS SELECT * FROM {TABLE}; \
             CREATE TABLE shadow.saved AS SELECT * FROM {TABLE}; \
             CREATE TABLE shadow.saved_ledger AS SELECT * FROM gristmill.day_ledger"
        );
        client.batch_execute(&sql).await.unwrap();
        let sql = format!(
            "SELECT namespace FROM {TABLE} WHERE namespace NOT LIKE '%unallocated' AND data_source = 'Pod' \
             GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 2"
        );
        let rows = client.query(&sql, &[]).await.unwrap();
        let namespaces = [rows[0].get(0), rows[1].get(0)];
        Self { folder, settings, postgres, client, namespaces }
    }

    /// Puts target, ledger and shadow back.
    async fn restore(&self) {
        let sql = format!(
            "TRUNCATE {TABLE}; INSERT INTO {TABLE} SELECT * FROM shadow.saved; \
             TRUNCATE {SHADOW}; INSERT INTO {SHADOW} SELECT * FROM shadow.saved; \
             DELETE FROM gristmill.day_ledger; \
             INSERT INTO gristmill.day_ledger OVERRIDING SYSTEM VALUE SELECT * FROM shadow.saved_ledger"
        );
        self.client.batch_execute(&sql).await.unwrap();
    }

    /// Runs SQL that names the table as `T` and the namespaces as `'A'` and `'B'`.
    async fn damage(&self, sql: &str, table: &str) {
        let [a, b] = &self.namespaces;
        let sql = sql.replace("'A'", &format!("'{a}'")).replace("'B'", &format!("'{b}'"));
        let sql = sql.replace(" T ", &format!(" {table} "));
        self.client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    fn csv(&self) -> PathBuf {
        self.folder.path().join("csv")
    }

    /// What `psql`'s `\copy … csv header` makes of a table: every column, nulls as nothing.
    async fn psql_csv(&self, table: &str) -> PathBuf {
        let stream = self.client.copy_out(&format!("COPY {table} TO STDOUT CSV HEADER")).await.unwrap();
        pin_mut!(stream);
        let mut content = Vec::new();
        while let Some(frame) = stream.next().await {
            content.extend_from_slice(&frame.unwrap());
        }
        let path = self.folder.path().join("from_psql.csv");
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn verify(&self, against: &str, arguments: &[&str]) -> Ended {
        verify(&self.settings, against, arguments).await
    }
}

async fn verify(settings: &Value, against: &str, arguments: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("found.json");
    let invocation = Invocation::with("verify", settings).arguments(&["--against", against]).arguments(arguments);
    let mut ended = invocation.arguments(&["--report", report.to_str().unwrap()]).run().await;
    if let Ok(text) = std::fs::read_to_string(&report) {
        ended.report = serde_json::from_str(&text).unwrap();
    }
    ended
}

/// The classes that have a line of their own in the output, which must be those of the report.
fn classes(ended: &Ended) -> Vec<String> {
    let of_line = |line: &str| CLASSES.iter().find(|class| line.starts_with(&format!("{class}  "))).copied();
    let printed: Vec<String> = ended.stdout.lines().filter_map(of_line).map(str::to_owned).collect();
    let findings = ended.report["findings"].as_array().unwrap_or_else(|| panic!("a report: {ended:#?}"));
    let reported: Vec<&str> = findings.iter().map(|finding| finding["class"].as_str().unwrap()).collect();
    assert_eq!(printed, reported, "{ended:#?}");
    assert_eq!(ended.report["exit_code"], ended.code, "{ended:#?}");
    printed
}

fn expect(what: &str, ended: &Ended, expected: &[&str], parts: &[String]) {
    let code = match expected {
        [] => 0,
        ["NOTHING_TO_COMPARE"] => 2,
        _ => 1,
    };
    assert_eq!(classes(ended), expected, "{what}: {ended:#?}");
    assert_eq!(ended.code, code, "{what}: {ended:#?}");
    for part in parts {
        assert!(ended.stdout.contains(part), "{what}: {part} is not in {}", ended.stdout);
    }
}

/// One sort of damage to the target.
struct Damage {
    sql: &'static str,
    class: &'static str,
    /// Parts of the output; `A` and `B` stand for the namespaces.
    parts: &'static [&'static str],
}

const POD: &str = "(SELECT uuid FROM T WHERE data_source = 'Pod' AND pod_labels IS NOT NULL ORDER BY uuid LIMIT 1)";

const fn damage(sql: &'static str, class: &'static str, parts: &'static [&'static str]) -> Damage {
    Damage { sql, class, parts }
}

/// Each is done to the whole target, the ledger staying as it is unless the damage is to it. `POD` is one row of a pod.
const DAMAGES: &[Damage] = &[
    damage(
        "UPDATE T SET namespace = CASE namespace WHEN 'A' THEN 'B' ELSE 'A' END WHERE namespace IN ('A', 'B')",
        "KEY_MISMATCH",
        &["namespace: A in the target is B", "namespace: B in the target is A"],
    ),
    damage("DELETE FROM T WHERE uuid = POD", "MISSING", &["1 rows", "Pod namespace=", "changed after the run"]),
    damage(
        "CREATE TEMP TABLE one AS SELECT * FROM T WHERE uuid = POD; \
         UPDATE one SET uuid = gen_random_uuid(), namespace = 'intruder'; \
         INSERT INTO T SELECT * FROM one; DROP TABLE one",
        "EXTRA",
        &["1 rows", "namespace=intruder", "namespace only in the target: intruder"],
    ),
    damage(
        "CREATE TEMP TABLE one AS SELECT * FROM T WHERE uuid = POD; UPDATE one SET uuid = gen_random_uuid(); \
         INSERT INTO T SELECT * FROM one; DROP TABLE one",
        "DUPLICATES",
        &["1 in the target", "Pod namespace="],
    ),
    damage(
        "CREATE TEMP TABLE one AS SELECT * FROM T WHERE data_source = 'Storage' ORDER BY uuid LIMIT 1; \
         UPDATE one SET uuid = gen_random_uuid(); INSERT INTO T SELECT * FROM one; DROP TABLE one",
        "DUPLICATES",
        &["1 in the target", "Storage namespace="],
    ),
    damage(
        "UPDATE T SET pod_request_cpu_core_hours = pod_request_cpu_core_hours * 1.0001",
        "VALUE_DRIFT",
        &["pod_request_cpu_core_hours", "constant factor 1.0001 (units?)"],
    ),
    damage(
        "UPDATE T SET pod_usage_memory_gigabyte_hours = pod_usage_memory_gigabyte_hours * 1.073741824 \
         WHERE pod_labels IS NOT NULL",
        "VALUE_DRIFT",
        &["constant factor 1.07374182 (units: GiB for GB?)"],
    ),
    damage(
        "UPDATE T SET persistentvolumeclaim_usage_gigabyte_months = persistentvolumeclaim_usage_gigabyte_months \
         * CASE WHEN usage_start < '2025-11-01' THEN 31.0 / 30 ELSE 30.0 / 31 END",
        "VALUE_DRIFT",
        &["persistentvolumeclaim_usage_gigabyte_months", "a factor per month, 2025-10: 1.03333333", "month length?"],
    ),
    damage(
        "UPDATE T SET volume_request_storage_gigabyte_months = volume_request_storage_gigabyte_months * 31 / 30",
        "VALUE_DRIFT",
        &["(month length: 31/30?)"],
    ),
    damage(
        "UPDATE T SET pod_limit_cpu_core_hours = pod_limit_cpu_core_hours + 1 WHERE namespace = 'A'",
        "VALUE_DRIFT",
        &["pod_limit_cpu_core_hours", "only in 1 of", "a join?): A ("],
    ),
    damage("UPDATE T SET usage_start = usage_start + 1, usage_end = usage_end + 1", "WRONG_PERIOD", &[FIRST_DAY]),
    damage("UPDATE T SET cluster_id = 'cluster-8'", "WRONG_CLUSTER", &["the target: cluster cluster-8"]),
    damage(
        "UPDATE T SET source_uuid = '00000000-0000-0000-0000-00000000beef'",
        "WRONG_CLUSTER",
        &["source 00000000-0000-0000-0000-00000000beef"],
    ),
    damage(
        "CREATE TEMP TABLE old AS SELECT * FROM T WHERE namespace = 'A' AND pod_labels IS NOT NULL; \
         UPDATE old SET uuid = gen_random_uuid(), pod_usage_cpu_core_hours = pod_usage_cpu_core_hours * 2 + 1; \
         INSERT INTO T SELECT * FROM old; DROP TABLE old",
        "STALE_DATA",
        &["lie beside those that the ledger counted", "namespace=A"],
    ),
    damage("UPDATE gristmill.day_ledger SET row_count = row_count + 1", "STALE_DATA", &["the ledger has", FIRST_DAY]),
    damage(
        "UPDATE gristmill.day_ledger SET fingerprint = decode(repeat('07', 32), 'hex') WHERE usage_day = '2025-11-01'",
        "STALE_DATA",
        &["2025-11-01: objects, settings or reference data are others"],
    ),
    damage("UPDATE gristmill.day_ledger SET engine_version = 0", "STALE_DATA", &["written by engine version 0"]),
    damage("DELETE FROM gristmill.day_ledger", "STALE_DATA", &["the ledger knows no run that wrote the day"]),
    damage("ALTER TABLE T RENAME COLUMN storageclass TO storage_class", "SCHEMA_MISMATCH", &["`storageclass`"]),
    damage("DELETE FROM T ", "NOTHING_TO_COMPARE", &["no rows of the source in the period: the target"]),
    damage(
        "UPDATE T SET pod_limit_memory_gigabyte_hours = NULL WHERE uuid = POD",
        "VALUE_DRIFT",
        &["pod_limit_memory_gigabyte_hours: 1 of", "1 null only in the target"],
    ),
    damage(
        "UPDATE T SET persistentvolumeclaim_capacity_gigabyte = 0 WHERE uuid = POD",
        "VALUE_DRIFT",
        &["persistentvolumeclaim_capacity_gigabyte: 1 of", "1 null only on the other side"],
    ),
    damage(
        "UPDATE T SET pod_labels = pod_labels || '{\"changed\": \"yes\"}', all_labels = all_labels || '{\"changed\": \"yes\"}' \
         WHERE uuid = POD",
        "KEY_MISMATCH",
        &["pod_labels: ", "\"changed\":\"yes\""],
    ),
    damage(
        "UPDATE T SET all_labels = all_labels || '{\"changed\": \"yes\"}' WHERE uuid = POD",
        "VALUE_DRIFT",
        &["all_labels: 1 of"],
    ),
    damage(
        "UPDATE T SET infrastructure_usage_cost = '{\"cpu\": 1, \"memory\": 0, \"storage\": 0}' WHERE uuid = POD",
        "VALUE_DRIFT",
        &["infrastructure_usage_cost: 1 of"],
    ),
    damage("UPDATE T SET cluster_alias = 'Alias'", "VALUE_DRIFT", &["cluster_alias: "]),
    damage("UPDATE T SET usage_end = usage_end + 1 WHERE uuid = POD", "VALUE_DRIFT", &["usage_end: 1 of"]),
    damage(
        "UPDATE T SET node_capacity_cpu_cores = 'NaN' WHERE uuid = POD",
        "VALUE_DRIFT",
        &["node_capacity_cpu_cores: 1 of", "1 zero or no number"],
    ),
    damage("UPDATE T SET node = 'other-' || node", "KEY_MISMATCH", &["node: other-"]),
];

/// Changes of the spelling only: still equal.
const SAME_VALUES: &[&str] = &[
    "UPDATE T SET infrastructure_usage_cost = '{\"storage\": 0.0, \"cpu\": 0, \"memory\": 0}' \
     WHERE infrastructure_usage_cost IS NOT NULL",
    "UPDATE T SET uuid = gen_random_uuid()",
    "UPDATE T SET pod_usage_cpu_core_hours = pod_usage_cpu_core_hours + 0.000000000000001 WHERE uuid = POD",
];

/// The part of a line with the namespaces of the bed in place of `A` and `B`.
fn with_names(part: &str, [a, b]: &[String; 2]) -> String {
    let names = [("=A", "=", a), (": A ", ": ", a), (": B ", ": ", b), ("is A", "is ", a), ("is B", "is ", b)];
    names.into_iter().fold(part.to_owned(), |part, (placeholder, before, name)| {
        let after = if placeholder.ends_with(' ') { " " } else { "" };
        part.replace(placeholder, &format!("{before}{name}{after}"))
    })
}

/// Compares with every side at once; each must give the class and the parts.
async fn expect_of_all(bed: &Bed, sides: &[String], what: &str, expected: &[&str], parts: &[&str]) {
    let parts: Vec<String> = parts.iter().map(|part| with_names(part, &bed.namespaces)).collect();
    let ended = futures::future::join_all(sides.iter().map(|against| bed.verify(against, &[]))).await;
    for (against, ended) in sides.iter().zip(&ended) {
        expect(&format!("{what} against {against}"), ended, expected, &parts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_has_its_class_whatever_the_target_is_compared_with() {
    let bed = Bed::new().await;
    let from_psql = bed.psql_csv(SHADOW).await;
    let mut sides: Vec<String> = [bed.csv(), from_psql].iter().map(|path| path.display().to_string()).collect();
    sides.push(SHADOW.to_owned());
    if cfg!(feature = "sql") {
        sides.push("recompute".to_owned());
    }
    expect_of_all(&bed, &sides, "untouched", &[], &["equal: all", "1e-12 relative and 1e-15 absolute"]).await;
    for damage in DAMAGES {
        bed.damage(&damage.sql.replace("POD", POD), TABLE).await;
        expect_of_all(&bed, &sides, damage.sql, &[damage.class], damage.parts).await;
        if damage.sql.contains("RENAME COLUMN") {
            bed.damage("ALTER TABLE T RENAME COLUMN storage_class TO storageclass", TABLE).await;
        }
        bed.restore().await;
    }
    for sql in SAME_VALUES {
        bed.damage(&sql.replace("POD", POD), TABLE).await;
        expect_of_all(&bed, &sides, sql, &[], &["equal: all"]).await;
        bed.restore().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_no_other_key_explains_are_missing_all_the_same() {
    let bed = Bed::new().await;
    let swapped =
        "UPDATE T SET namespace = CASE namespace WHEN 'A' THEN 'B' ELSE 'A' END WHERE namespace IN ('A', 'B')";
    let dropped =
        "DELETE FROM T WHERE uuid IN (SELECT uuid FROM T WHERE namespace NOT IN ('A', 'B') ORDER BY uuid LIMIT 5)";
    bed.damage(swapped, TABLE).await;
    bed.damage(dropped, TABLE).await;
    let sides = [SHADOW.to_owned()];
    let parts = ["namespace: A in the target is B", "5 rows of the other side are not in the target"];
    expect_of_all(&bed, &sides, "swapped and few dropped", &["KEY_MISMATCH", "MISSING"], &parts).await;
    // Another key explains too few of them now: all are named alike, as many as fit.
    bed.damage("DELETE FROM T WHERE namespace NOT IN ('A', 'B')", TABLE).await;
    let parts = ["rows of the other side are not in the target", "… ", " more", "9 rows of the target are not"];
    expect_of_all(&bed, &sides, "swapped and many dropped", &["MISSING", "EXTRA"], &parts).await;
}

/// An assignment that gives a column another value of its type.
fn changed(column: &str, target_type: TargetType) -> String {
    match (column, target_type) {
        ("source_uuid", _) => "'00000000-0000-0000-0000-00000000beef'".to_owned(),
        (_, TargetType::Integer) => format!("coalesce({column}, 0) + 1"),
        (_, TargetType::Decimal) => format!("coalesce({column}, 0) + 1"),
        (_, TargetType::Date) => format!("{column} + 40"),
        (_, TargetType::Json) => format!("coalesce({column}, '{{}}') || '{{\"changed\": 1}}'"),
        (_, TargetType::Uuid) => "gen_random_uuid()".to_owned(),
        (_, TargetType::Varchar(_) | TargetType::Text) => format!("'other-' || coalesce({column}, '')"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_other_value_in_any_column_is_a_difference() {
    let bed = Bed::new().await;
    // Without the table's own constraints, which would refuse some of the values.
    let mut settings = bed.settings.clone();
    settings["target"]["postgres"]["table"] = json!("free");
    let free = "tenant.free";
    let sql = format!(
        "CREATE TABLE {free} AS SELECT * FROM shadow.saved; \
         INSERT INTO gristmill.day_ledger (target_schema, target_table, source_uuid, usage_day, status, fingerprint, \
         row_count, sums, run_id, engine_version) SELECT target_schema, 'free', source_uuid, usage_day, status, \
         fingerprint, row_count, sums, run_id, engine_version FROM gristmill.day_ledger"
    );
    bed.client.batch_execute(&sql).await.unwrap();
    let is_equal = verify(&settings, SHADOW, &[]).await;
    expect("untouched", &is_equal, &[], &[]);
    let rows = [
        POD,
        "(SELECT uuid FROM T WHERE data_source = 'Storage' ORDER BY uuid LIMIT 1)",
        "(SELECT uuid FROM T WHERE namespace = 'Worker unallocated' ORDER BY uuid LIMIT 1)",
    ];
    let mut tried = 0;
    for (number, column) in OCP_DAILY_SUMMARY.rollup_columns().enumerate() {
        let name = column.name;
        // What decides the sort of a row is tried on all sorts, the rest on one after the other.
        let chosen = if name == "data_source" { &rows[..] } else { &rows[number % 3..=number % 3] };
        for row in chosen {
            for value in [changed(name, column.target_type), "NULL".to_owned()] {
                let sql =
                    format!("UPDATE T SET {name} = {value} WHERE uuid = {row} AND {name} IS DISTINCT FROM {value}");
                bed.damage(&sql, free).await;
                let sql = format!(
                    "SELECT count(*) FROM {free} a JOIN shadow.saved b USING (uuid) WHERE a.{name} IS DISTINCT FROM b.{name}"
                );
                let count: i64 = bed.client.query_one(&sql, &[]).await.unwrap().get(0);
                assert!(count == 1 || value == "NULL", "{name} of {row}: nothing changed");
                if count == 1 {
                    let ended = verify(&settings, SHADOW, &[]).await;
                    assert_eq!(ended.code, 1, "{name} = {value} of {row}: {ended:#?}");
                    assert_eq!(classes(&ended).len().min(1), 1, "{name} = {value} of {row}");
                    tried += 1;
                }
                bed.damage("TRUNCATE T ; INSERT INTO T SELECT * FROM shadow.saved", free).await;
            }
        }
    }
    assert!(tried > 40, "{tried} changes");
    bed.damage("UPDATE T SET data_source = NULL WHERE data_source = 'Pod'", free).await;
    let parts = ["data_source: ".to_owned()];
    expect("all pods", &verify(&settings, SHADOW, &[]).await, &["VALUE_DRIFT"], &parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_is_not_compared_with_itself() {
    let bed = Bed::new().await;
    let part = "--against names what the target is";
    bed.verify(TABLE, &[]).await.expect(2, &[part, TABLE]);
    let folder = tempfile::tempdir().unwrap();
    let mut settings = bed.settings.clone();
    // The same server by another name.
    let host = settings["target"]["postgres"]["host"].as_str().unwrap().to_owned();
    settings["target"]["postgres"]["host"] = json!(if host == "localhost" { "127.0.0.1" } else { &host });
    let config = written(folder.path(), &settings);
    bed.verify(TABLE, &["--against-config", config.to_str().unwrap()]).await.expect(2, &[part]);

    let mut settings = bed.settings.clone();
    settings["target"]["kind"] = json!("file");
    settings["target"]["file"] = json!({"path": bed.csv(), "format": "csv"});
    let detour = bed.csv().join("..").join("csv");
    let one_file = bed.csv().join(format!("{FIRST_DAY}.csv"));
    let link = bed.folder.path().join("link");
    std::os::unix::fs::symlink(bed.csv(), &link).unwrap();
    for path in [bed.csv(), detour, one_file, link] {
        verify(&settings, path.to_str().unwrap(), &[]).await.expect(2, &[part]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_ledger_cannot_tell_is_not_taken_as_right() {
    let bed = Bed::new().await;
    let damages = [
        ("sums = '{}'", "2025-10-31: the ledger's sums are missing or unreadable, so not compared: pod_usage_cpu"),
        ("sums = NULL", "the ledger's sums are missing or unreadable"),
        ("sums = sums - 'pod_limit_cpu_core_hours'", "so not compared: pod_limit_cpu_core_hours"),
        ("sums = jsonb_set(sums, '{pod_limit_cpu_core_hours}', '\"many\"')", "not compared: pod_limit_cpu_core_hours"),
        ("sums = jsonb_set(sums, '{pod_limit_cpu_core_hours}', '7')", "the ledger's sums are missing or unreadable"),
        ("sums = '[1]'", "the ledger's sums are missing or unreadable"),
    ];
    for (damage, part) in damages {
        bed.damage(&format!("UPDATE gristmill.day_ledger SET {damage} WHERE usage_day = '2025-10-31'"), TABLE).await;
        expect(damage, &bed.verify(SHADOW, &[]).await, &["NOT_CONSERVED"], &[part.to_owned()]);
        bed.restore().await;
    }
    // Objects that expired: of what the rows were made is no longer to be seen.
    let input = bed.folder.path().join("input");
    let away = bed.folder.path().join("away");
    std::fs::rename(&input, &away).unwrap();
    std::fs::create_dir(&input).unwrap();
    let parts = ["2025-10-31: its month has no objects any more".to_owned()];
    expect("expired", &bed.verify(SHADOW, &[]).await, &["STALE_DATA"], &parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_without_rows_are_named() {
    let bed = Bed::new().await;
    for table in [TABLE, SHADOW] {
        bed.damage("DELETE FROM T WHERE usage_start = '2025-10-31'", table).await;
    }
    bed.damage("DELETE FROM gristmill.day_ledger WHERE usage_day = '2025-10-31'", TABLE).await;
    let ended = bed.verify(SHADOW, &[]).await;
    expect("a day", &ended, &[], &["not compared: no rows: 2025-10-31\n".to_owned()]);
    assert_eq!(ended.report["days_without_rows"], json!(["2025-10-31"]));
    bed.restore().await;
    assert_eq!(bed.verify(SHADOW, &[]).await.report["days_without_rows"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_must_have_every_column_of_the_contract() {
    let bed = Bed::new().await;
    for name in ["infrastructure_raw_cost", "cost_model_rate_type", "uuid", "raw_currency"] {
        bed.damage(&format!("ALTER TABLE T DROP COLUMN {name}"), SHADOW).await;
        expect(name, &bed.verify(SHADOW, &[]).await, &[], &[]);
        bed.damage(&format!("ALTER TABLE T RENAME COLUMN {name} TO away"), TABLE).await;
        let parts = [format!("{TABLE} has no column `{name}`")];
        expect(name, &bed.verify(SHADOW, &[]).await, &["SCHEMA_MISMATCH"], &parts);
        bed.damage(&format!("ALTER TABLE T RENAME COLUMN away TO {name}"), TABLE).await;
    }
}

#[cfg(not(feature = "sql"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_binary_without_the_second_engine_says_how_to_get_it() {
    let bed = Bed::new().await;
    bed.verify("recompute", &[]).await.expect(2, &["feature `sql`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_the_other_side_has_the_same_classes() {
    let bed = Bed::new().await;
    let cases: [(&str, &[&str]); 9] = [
        ("DELETE FROM T WHERE uuid = POD", &["EXTRA"]),
        (
            "INSERT INTO T SELECT (r).* FROM (SELECT jsonb_populate_record(s, '{\"namespace\": \"intruder\"}') AS r \
             FROM T s WHERE s.uuid = POD) x",
            &["MISSING"],
        ),
        ("INSERT INTO T SELECT * FROM T WHERE uuid = POD", &["DUPLICATES"]),
        ("UPDATE T SET pod_usage_cpu_core_hours = pod_usage_cpu_core_hours * 2", &["VALUE_DRIFT"]),
        ("UPDATE T SET usage_start = usage_start + 1", &["WRONG_PERIOD"]),
        ("UPDATE T SET cluster_id = 'cluster-8'", &["WRONG_CLUSTER"]),
        ("UPDATE T SET pod_limit_cpu_core_hours = 0 WHERE pod_limit_cpu_core_hours IS NULL", &["VALUE_DRIFT"]),
        ("DELETE FROM T ", &["NOTHING_TO_COMPARE"]),
        (
            "DELETE FROM T WHERE uuid = POD; INSERT INTO T SELECT (r).* FROM (SELECT jsonb_populate_record(s, \
             '{\"namespace\": \"intruder\", \"node\": \"elsewhere\"}') AS r FROM T s WHERE s.uuid = POD) x",
            &["MISSING", "EXTRA"],
        ),
    ];
    for (sql, expected) in cases {
        bed.damage(&sql.replace("POD", POD), SHADOW).await;
        expect(sql, &bed.verify(SHADOW, &[]).await, expected, &[]);
        let path = bed.psql_csv(SHADOW).await;
        expect(sql, &bed.verify(path.to_str().unwrap(), &[]).await, expected, &[]);
        bed.restore().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_on_both_sides_alike_is_not_conserved() {
    let bed = Bed::new().await;
    // One pod used more than it did; its node's books no longer close, nor does the total that the run noted.
    let sql = "UPDATE T SET pod_usage_cpu_core_hours = pod_usage_cpu_core_hours + 3 WHERE uuid = POD";
    for table in [TABLE, SHADOW] {
        bed.damage(&sql.replace("POD", POD), table).await;
    }
    let parts = ["pod_usage_cpu_core_hours adds up to", "the run noted"].map(str::to_owned);
    expect("table", &bed.verify(SHADOW, &[]).await, &["NOT_CONSERVED"], &parts);
    let path = bed.psql_csv(SHADOW).await;
    expect("file", &bed.verify(path.to_str().unwrap(), &[]).await, &["NOT_CONSERVED"], &parts);
    bed.restore().await;

    // A limit has no capacity beside it: only the run's own total tells.
    for table in [TABLE, SHADOW] {
        bed.damage("UPDATE T SET pod_limit_cpu_core_hours = pod_limit_cpu_core_hours * 2", table).await;
    }
    let parts = ["pod_limit_cpu_core_hours: the rows sum to".to_owned()];
    expect("limit", &bed.verify(SHADOW, &[]).await, &["NOT_CONSERVED"], &parts);

    for table in [TABLE, SHADOW] {
        bed.damage("DELETE FROM T ", table).await;
    }
    let parts = ["the target and the other side".to_owned()];
    expect("empty", &bed.verify(SHADOW, &[]).await, &["NOTHING_TO_COMPARE"], &parts);
    bed.restore().await;
    // The same row twice on both sides: the key is unique, whoever repeats it.
    for table in [TABLE, SHADOW] {
        let sql = "CREATE TEMP TABLE one AS SELECT * FROM T WHERE (namespace, node, pod_labels, usage_start) = \
                   (SELECT namespace, node, pod_labels, usage_start FROM shadow.saved WHERE pod_labels IS NOT NULL \
                   ORDER BY uuid LIMIT 1); UPDATE one SET uuid = gen_random_uuid(); \
                   INSERT INTO T SELECT * FROM one; DROP TABLE one";
        bed.damage(sql, table).await;
    }
    bed.damage(
        "UPDATE gristmill.day_ledger l SET row_count = (SELECT count(*) FROM T WHERE usage_start = l.usage_day)",
        TABLE,
    )
    .await;
    expect("repeated", &bed.verify(SHADOW, &[]).await, &["DUPLICATES"], &["1 in both sides".to_owned()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_compared_with_the_contract_before_rows() {
    let bed = Bed::new().await;
    let cases = [
        ("DROP COLUMN all_labels", "ADD COLUMN all_labels jsonb", "shadow.summary has no column `all_labels` (jsonb)"),
        (
            "ALTER COLUMN node_capacity_cpu_cores TYPE double precision",
            "ALTER COLUMN node_capacity_cpu_cores TYPE numeric(33,15)",
            "column `node_capacity_cpu_cores` is double precision, the contract says numeric(33,15)",
        ),
        (
            "ALTER COLUMN pod_usage_cpu_core_hours TYPE numeric(33,9)",
            "ALTER COLUMN pod_usage_cpu_core_hours TYPE numeric(33,15)",
            "is numeric(33,9), the contract says numeric(33,15)",
        ),
        ("ALTER COLUMN pod_labels TYPE text", "ALTER COLUMN pod_labels TYPE jsonb USING pod_labels::jsonb", "is text"),
    ];
    for (there, back, part) in cases {
        bed.damage(&format!("ALTER TABLE T {there}"), SHADOW).await;
        expect(there, &bed.verify(SHADOW, &[]).await, &["SCHEMA_MISMATCH"], &[part.to_owned()]);
        if there.starts_with("DROP") {
            let path = bed.psql_csv(SHADOW).await;
            let parts = ["has no column `all_labels`".to_owned()];
            expect(there, &bed.verify(path.to_str().unwrap(), &[]).await, &["SCHEMA_MISMATCH"], &parts);
        }
        bed.damage(&format!("ALTER TABLE T {back}"), SHADOW).await;
    }
    // A file has no types, but its values have.
    let path = bed.psql_csv("(SELECT * FROM shadow.saved)").await;
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("2025-10-31,2025-10-31", "2025-10-31,soon")).unwrap();
    let parts = ["column `usage_end`, row 1 of day 2025-10-31: not of type date".to_owned()];
    expect("a value", &bed.verify(path.to_str().unwrap(), &[]).await, &["SCHEMA_MISMATCH"], &parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn tolerance_is_stated_and_can_be_none() {
    let bed = Bed::new().await;
    let sql = "UPDATE T SET node_capacity_cpu_cores = node_capacity_cpu_cores + 0.000000000000001 WHERE uuid = POD";
    bed.damage(&sql.replace("POD", POD), SHADOW).await;
    let stated = ["1e-12 relative and 1e-15 absolute".to_owned()];
    expect("default", &bed.verify(SHADOW, &[]).await, &[], &stated);
    let parts = ["0e0 relative and 0e0 absolute", "node_capacity_cpu_cores: 1 of"].map(str::to_owned);
    expect("none", &bed.verify(SHADOW, &["--tolerance", "0"]).await, &["VALUE_DRIFT"], &parts);
    bed.verify(SHADOW, &["--tolerance", "1"]).await.expect(64, &["--tolerance is a ratio"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_inputs_or_settings_than_those_of_the_run_are_stale() {
    let bed = Bed::new().await;
    // A later delivery of the same days.
    let folder = bed.folder.path().join("input");
    let object = files_below(&folder).into_iter().find(|path| path.to_string_lossy().contains("pod_usage")).unwrap();
    let copy = object.with_file_name(format!("again-{}", object.file_name().unwrap().to_string_lossy()));
    std::fs::copy(&object, &copy).unwrap();
    let ended = bed.verify(SHADOW, &[]).await;
    expect("another object", &ended, &["STALE_DATA"], &["are others than those of run".to_owned()]);
    std::fs::remove_file(copy).unwrap();
    expect("as before", &bed.verify(SHADOW, &[]).await, &[], &[]);
    // Another label key reaches the rows.
    let sql = "UPDATE tenant.reporting_enabledtagkeys SET enabled = false WHERE key = 'app'";
    bed.client.batch_execute(sql).await.unwrap();
    expect("another key", &bed.verify(SHADOW, &[]).await, &["STALE_DATA"], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_has_other_numbers_for_the_same_things() {
    let bed = Bed::new().await;
    let elsewhere = database::database().await;
    let client = database::client(&elsewhere).await;
    let columns = "SELECT column_name, format_type(a.atttypid, a.atttypmod) FROM information_schema.columns c \
                   JOIN pg_attribute a ON a.attrelid = 'shadow.summary'::regclass AND a.attname = c.column_name \
                   WHERE table_schema = 'shadow' AND table_name = 'summary' ORDER BY ordinal_position";
    let columns: Vec<String> = bed
        .client
        .query(columns, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| format!("{} {}", row.get::<_, String>(0), row.get::<_, String>(1)))
        .collect();
    let sql = format!("CREATE SCHEMA shadow; CREATE TABLE {SHADOW} ({})", columns.join(", "));
    client.batch_execute(&sql).await.unwrap();
    let rows = bed.client.query(&format!("SELECT to_jsonb(t)::text FROM {SHADOW} t"), &[]).await.unwrap();
    for row in rows {
        let sql = format!("INSERT INTO {SHADOW} SELECT * FROM jsonb_populate_record(NULL::{SHADOW}, $1::text::jsonb)");
        client.execute(&sql, &[&row.get::<_, String>(0)]).await.unwrap();
    }
    client.batch_execute(&format!("UPDATE {SHADOW} SET report_period_id = report_period_id + 40")).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let mut settings = bed.settings.clone();
    settings["target"]["postgres"]["database"] = json!(elsewhere.database);
    let config = written(folder.path(), &settings);
    let arguments = ["--against-config", config.to_str().unwrap()];
    let parts = ["report_period_id and cost_category_id are numbers of one database".to_owned()];
    expect("elsewhere", &bed.verify(SHADOW, &arguments).await, &[], &parts);
    client.batch_execute(&format!("UPDATE {SHADOW} SET report_period_id = NULL")).await.unwrap();
    let parts = ["report_period_id: ".to_owned()];
    expect("null", &bed.verify(SHADOW, &arguments).await, &["VALUE_DRIFT"], &parts);
    // In the same database the numbers must be the same.
    bed.damage("UPDATE T SET report_period_id = report_period_id + 40", SHADOW).await;
    expect("same database", &bed.verify(SHADOW, &[]).await, &["VALUE_DRIFT"], &parts);
    assert_ne!(bed.postgres.database, elsewhere.database);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_run_can_be_the_target() {
    let bed = Bed::new().await;
    let mut settings = bed.settings.clone();
    settings["target"]["kind"] = json!("file");
    settings["target"]["file"] = json!({"path": bed.csv(), "format": "csv"});
    let skipped =
        format!("totals not compared with those of a run, for want of a ledger: {FIRST_DAY}, 2025-10-31, {LAST_DAY}");
    let parts = ["the target has no ledger".to_owned(), skipped];
    expect("files", &verify(&settings, SHADOW, &[]).await, &[], &parts);
    bed.damage(&"DELETE FROM T WHERE uuid = POD".replace("POD", POD), SHADOW).await;
    expect("files", &verify(&settings, SHADOW, &[]).await, &["EXTRA"], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_is_said() {
    let bed = Bed::new().await;
    bed.verify("nowhere.csv", &[]).await.expect(64, &["nowhere.csv", "neither `recompute`, nor a CSV file"]);
    bed.verify("shadow.nothing", &[]).await.expect(2, &["table shadow.nothing does not exist"]);
    bed.verify("recompute", &["--against-config", "x.yaml"]).await.expect(64, &["--against-config goes with"]);
    let folder = bed.folder.path();
    let broken = folder.join("broken.csv");
    let path = bed.psql_csv(SHADOW).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    std::fs::write(&broken, format!("{header}\n{}\n{rows}", "2025,too,few")).unwrap();
    bed.verify(broken.to_str().unwrap(), &[]).await.expect(2, &["broken.csv`, record 2: has 3 fields"]);
    std::fs::write(&broken, format!("{header}\n\"{rows}")).unwrap();
    bed.verify(broken.to_str().unwrap(), &[]).await.expect(2, &["broken.csv`, record 2"]);
    std::fs::write(&broken, "").unwrap();
    let ended = bed.verify(broken.to_str().unwrap(), &[]).await;
    expect("an empty file", &ended, &["SCHEMA_MISMATCH"], &["has no header".to_owned()]);
    let twice: String = text.lines().map(|line| format!("{line},{}\n", line.split(',').next().unwrap())).collect();
    std::fs::write(&broken, twice.replacen(&format!("{header},uuid"), &format!("{header},namespace"), 1)).unwrap();
    let ended = bed.verify(broken.to_str().unwrap(), &[]).await;
    expect("a column twice", &ended, &["SCHEMA_MISMATCH"], &["has column `namespace` more than once".to_owned()]);
    std::fs::write(&broken, text.replace("2025-10-31,2025-10-31", "2025-10-31 noon,2025-10-31")).unwrap();
    let ended = bed.verify(broken.to_str().unwrap(), &[]).await;
    expect("no date", &ended, &["SCHEMA_MISMATCH"], &["`usage_start` is no date".to_owned()]);
    let empty = folder.join("empty");
    std::fs::create_dir(&empty).unwrap();
    let ended = bed.verify(empty.to_str().unwrap(), &[]).await;
    expect("an empty folder", &ended, &["NOTHING_TO_COMPARE"], &[]);
    let mut settings = bed.settings.clone();
    settings["target"]["kind"] = json!("none");
    verify(&settings, SHADOW, &[]).await.expect(2, &["target.kind none keeps no rows"]);
}

fn written(folder: &Path, settings: &Value) -> PathBuf {
    let path = folder.join("other.yaml");
    std::fs::write(&path, settings.to_string()).unwrap();
    path
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let files = crate::bucket::files_below(folder).into_iter();
    let mut paths: Vec<PathBuf> = files.map(|(key, _)| folder.join(key)).collect();
    paths.sort();
    paths
}
