//! What a role or a database may be set to: no setting makes a right table wrong or changes a row, and an encoding that cannot hold every
//! text is refused.

use serde_json::{Value, json};

use crate::binary::Invocation;
use crate::database;
use crate::delivery::{Delivery, into_csv, into_postgres, settings};
use crate::rerun::{Bed, Snapshot, snapshot};

/// The last days of one month and the first of the next.
const DAYS: [&str; 4] = ["2025-10-30", "2025-10-31", "2025-11-01", "2025-11-02"];
const TARGET: &str = "tenant.reporting_ocpusagelineitem_daily_summary";

/// Settings that reach the text of catalogs or values.
const ODD_SETTINGS: [&str; 12] = [
    "quote_all_identifiers = on",
    "datestyle = 'SQL, DMY'",
    "intervalstyle = 'sql_standard'",
    "timezone = 'Asia/Kolkata'",
    "extra_float_digits = -15",
    "bytea_output = 'escape'",
    "standard_conforming_strings = off",
    "backslash_quote = off",
    "search_path = nowhere",
    "default_transaction_isolation = 'serializable'",
    "row_security = on",
    "client_encoding = 'LATIN1'",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_a_database_makes_a_right_table_wrong_or_changes_a_row() {
    let plain = Bed::over(DAYS[0], DAYS[3]).await;
    Delivery::of(&DAYS, 1.0).write(plain.folder.path());
    plain.command("init-db", &[]).await.expect(0, &[]);
    plain.command("run", &[]).await.expect(0, &[]);
    let expected = snapshot(&plain.client).await;

    let bed = Bed::over(DAYS[0], DAYS[3]).await;
    Delivery::of(&DAYS, 1.0).write(bed.folder.path());
    let database: String = bed.client.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    for setting in ODD_SETTINGS {
        let sql = format!("ALTER DATABASE {database} SET {setting}");
        bed.client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    bed.command("init-db", &[]).await.expect(0, &["created"]);
    bed.command("init-db", &[]).await.expect(0, &["the ledger is there already"]);
    // A month that a run has to add.
    bed.client.batch_execute(&format!("DROP TABLE {TARGET}_2025_11")).await.unwrap();
    bed.command("check", &[]).await.expect(0, &["the partition for 2025-11 is missing", "nothing stands in the way"]);
    bed.command("plan", &["--diff"]).await.expect(0, &["new"]);
    bed.command("run", &[]).await.expect(0, &["written"]);
    let found = snapshot(&bed.client).await;
    assert_eq!(found.rows, expected.rows);
    // Fingerprints are over the times of the files as well.
    let counts_and_sums = |of: &Snapshot| -> Vec<_> {
        of.ledger
            .iter()
            .map(|(day, _, rows, sums, status)| (day.clone(), *rows, sums.clone(), status.clone()))
            .collect()
    };
    assert_eq!(counts_and_sums(&found), counts_and_sums(&expected));
    bed.command("check", &[]).await.expect(0, &["nothing stands in the way"]);
    let again = bed.command("run", &[]).await;
    assert!(DAYS.iter().all(|day| again.expect(0, &[]).day(day)["status"] == "unchanged"), "{again:#?}");

    let files = tempfile::tempdir().unwrap();
    let mut into_files = into_csv(bed.settings.clone(), files.path());
    into_files["target"]["postgres"] = bed.settings["target"]["postgres"].clone();
    Invocation::with("run", &into_files).run().await.expect(0, &[]);
    let against = ["--against", files.path().to_str().unwrap()];
    bed.command("verify", &against).await.expect(0, &["equal: all"]);
    bed.command("verify", &["--against", TARGET]).await.expect(2, &["--against names what the target is"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_a_domain_is_a_column_of_the_type_below_it() {
    let bed = Bed::over(DAYS[0], DAYS[1]).await;
    Delivery::of(&DAYS[..2], 1.0).write(bed.folder.path());
    bed.command("init-db", &[]).await.expect(0, &[]);
    let small = "tenant.reporting_enabledtagkeys";
    let domains = format!(
        "CREATE DOMAIN tenant.name AS varchar(253); CREATE DOMAIN tenant.label AS tenant.name; \
         CREATE DOMAIN tenant.hours AS numeric(33,15); CREATE DOMAIN tenant.text AS varchar(512); \
         ALTER TABLE {TARGET} ALTER namespace TYPE tenant.label, ALTER pod_usage_cpu_core_hours TYPE tenant.hours; \
         ALTER TABLE {small} ALTER key TYPE tenant.text; \
         INSERT INTO {small} (key, enabled, provider_type) VALUES ('app', true, 'OCP')"
    );
    bed.client.batch_execute(&domains).await.unwrap();
    bed.command("check", &[]).await.expect(0, &["nothing stands in the way"]);
    bed.command("run", &[]).await.expect(0, &["written"]);
    let rows = snapshot(&bed.client).await.rows;
    assert!(rows.iter().any(|row| row["pod_labels"] == json!({"app": "a"})), "{rows:#?}");

    let narrow = format!(
        "CREATE DOMAIN tenant.short AS varchar(10); ALTER TABLE {TARGET} ALTER namespace TYPE tenant.short USING 'x'; \
         CREATE DOMAIN tenant.always AS varchar(253) NOT NULL DEFAULT ''; ALTER TABLE {TARGET} ALTER node TYPE tenant.always \
         USING coalesce(node, '')"
    );
    bed.client.batch_execute(&narrow).await.unwrap();
    let parts =
        ["column `namespace` of", "is varchar(10), needed is varchar(253)", "column `node` of", "is NOT NULL, but"];
    for command in ["check", "run"] {
        bed.command(command, &[]).await.expect(78, &parts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_key_or_partitions_of_another_sort_are_told_by_what_they_are() {
    let bed = Bed::over(DAYS[0], DAYS[1]).await;
    Delivery::of(&DAYS[..2], 1.0).write(bed.folder.path());
    bed.command("init-db", &[]).await.expect(0, &[]);
    let halves = |last: &str| {
        format!(
            "DROP TABLE IF EXISTS {TARGET}_2025_10; CREATE TABLE tenant.first PARTITION OF {TARGET} FOR VALUES FROM (MINVALUE) \
             TO ('2025-10-16'); CREATE TABLE tenant.second PARTITION OF {TARGET} FOR VALUES FROM ('2025-10-16') TO ({last})"
        )
    };
    bed.client.batch_execute(&halves("'2025-10-31'")).await.unwrap();
    for command in ["check", "run"] {
        bed.command(command, &[])
            .await
            .expect(78, &["cover 30 of the 31 days of 2025-10", "add partitions for its other"]);
    }
    let sql = format!("DROP TABLE tenant.first, tenant.second; {}", halves("MAXVALUE"));
    bed.client.batch_execute(&sql).await.unwrap();
    bed.command("check", &[]).await.expect(0, &["nothing stands in the way"]);
    bed.command("run", &[]).await.expect(0, &["written"]);

    let other_key = format!(
        "CREATE TABLE tenant.other (LIKE {TARGET}) PARTITION BY RANGE (usage_end); CREATE TABLE tenant.d PARTITION OF tenant.other \
         DEFAULT"
    );
    bed.client.batch_execute(&other_key).await.unwrap();
    let mut settings = bed.settings.clone();
    settings["target"]["postgres"]["table"] = json!("other");
    for command in ["check", "run"] {
        let parts = ["tenant.other is partitioned by RANGE (usage_end), not by RANGE (usage_start)"];
        Invocation::with(command, &settings).run().await.expect(78, &parts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_encoding_is_refused_by_every_command() {
    let mut postgres = database::database().await;
    let folder = tempfile::tempdir().unwrap();
    Delivery::of(&DAYS[..2], 1.0).write(folder.path());
    let client = database::client(&postgres).await;
    for encoding in ["SQL_ASCII", "LATIN1", "EUC_JP"] {
        postgres.database = format!("e_{}", uuid::Uuid::new_v4().simple());
        let sql = format!(
            "CREATE DATABASE {} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
            postgres.database
        );
        client.batch_execute(&sql).await.unwrap();
        let settings: Value = into_postgres(settings(folder.path(), DAYS[0], DAYS[1]), &postgres);
        let has = format!("database {} has the encoding {encoding}, needed is UTF8", postgres.database);
        for command in ["check", "run", "plan", "init-db"] {
            Invocation::with(command, &settings).run().await.expect(78, &[&has, "CREATE DATABASE"]);
        }
        let files = folder.path().to_str().unwrap();
        Invocation::with("verify", &settings).arguments(&["--against", files]).run().await.expect(78, &[&has]);
    }
}
