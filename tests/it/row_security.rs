//! Tables of which the role may see a part only: whatever hides rows is named by `check` and `run`, and nothing is written from what is
//! left of them.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::binary::Invocation;
use crate::delivery::{Delivery, into_csv};
use crate::rerun::{Bed, snapshot};

const DAYS: [&str; 2] = ["2025-10-01", "2025-10-02"];
const TARGET: &str = "tenant.reporting_ocpusagelineitem_daily_summary";
const KEYS: &str = "tenant.reporting_enabledtagkeys";
const LEDGER: &str = "gristmill.day_ledger";

/// A filled database, newer reports, and settings with a role that may read and write everything.
async fn bed() -> (Bed, String) {
    let mut bed = Bed::over(DAYS[0], DAYS[1]).await;
    bed.settings["reference"] = json!({"from": "postgres"});
    Delivery::of(&DAYS, 1.0).write(bed.folder.path());
    bed.command("init-db", &[]).await.expect(0, &[]);
    let role = format!("r_{}", Uuid::new_v4().simple());
    let sql = format!(
        "INSERT INTO {KEYS} (key, enabled, provider_type) VALUES ('app', true, 'OCP'); \
         CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA tenant, gristmill TO {role}; \
         GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA tenant TO {role}; \
         GRANT SELECT, INSERT, UPDATE ON {LEDGER} TO {role}"
    );
    bed.client.batch_execute(&sql).await.unwrap();
    bed.settings["target"]["postgres"]["user"] = json!(role);
    bed.settings["target"]["postgres"]["password"] = json!("pw");
    bed.command("run", &[]).await.expect(0, &[]);
    let labels = format!("SELECT count(*) FROM {TARGET} WHERE pod_labels::text LIKE '%app%'");
    assert!(bed.client.query_one(&labels, &[]).await.unwrap().get::<_, i64>(0) > 0, "labels depend on the small table");
    Delivery::of(&DAYS, 2.0).write(bed.folder.path());
    (bed, role)
}

async fn execute(bed: &Bed, sql: &str) {
    bed.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// `check` and `run` refuse with these words, `plan` refuses as well, and nothing is written.
async fn is_refused(bed: &Bed, parts: &[&str]) {
    let before = snapshot(&bed.client).await;
    bed.command("check", &[]).await.expect(78, parts);
    bed.command("run", &[]).await.expect(78, parts);
    bed.command("plan", &["--diff"]).await.expect(78, &[]);
    assert_eq!(snapshot(&bed.client).await, before, "{parts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_with_row_security_is_named_with_the_ways_to_read_it_whole() {
    let (bed, role) = bed().await;
    let tables = [
        KEYS,
        "tenant.reporting_ocp_cost_category_namespace",
        "tenant.reporting_ocpusagereportperiod",
        "tenant.reporting_ocp_nodes",
        TARGET,
        LEDGER,
    ];
    for table in tables {
        execute(&bed, &format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")).await;
        let hides = format!("row-level security on table {table} may hide rows from role `{role}`");
        let fix = format!("ALTER ROLE \"{role}\" BYPASSRLS");
        is_refused(&bed, &[&hides, &fix, "FORCE ROW LEVEL SECURITY", "a policy does not do"]).await;
        // A policy makes it no better, be it as wide as it may.
        execute(&bed, &format!("CREATE POLICY wide ON {table} TO {role} USING (true)")).await;
        is_refused(&bed, &[&hides]).await;
        execute(&bed, &format!("DROP POLICY wide ON {table}; ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")).await;
    }
    bed.command("check", &[]).await.expect(0, &["nothing stands in the way of a run"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_sees_every_row_all_the_same_is_not_stopped() {
    let (bed, role) = bed().await;
    let before = snapshot(&bed.client).await;
    // Policies of partitions do not apply to whoever goes by way of the table.
    let partition = format!("{TARGET}_2025_10");
    execute(&bed, &format!("ALTER TABLE {KEYS} ENABLE ROW LEVEL SECURITY; ALTER ROLE {role} BYPASSRLS")).await;
    execute(&bed, &format!("ALTER TABLE {partition} ENABLE ROW LEVEL SECURITY")).await;
    bed.command("check", &[]).await.expect(0, &["nothing stands in the way of a run"]);
    bed.command("run", &[]).await.expect(0, &["written"]);
    let after = snapshot(&bed.client).await;
    assert_eq!(after.rows.len(), before.rows.len());
    assert_ne!(after.rows, before.rows);

    execute(&bed, &format!("ALTER ROLE {role} NOBYPASSRLS; ALTER TABLE {KEYS} OWNER TO {role}")).await;
    bed.command("run", &["--force"]).await.expect(0, &["written"]);
    assert_eq!(snapshot(&bed.client).await.rows, after.rows);
    execute(&bed, &format!("ALTER TABLE {KEYS} FORCE ROW LEVEL SECURITY")).await;
    is_refused(&bed, &["row-level security on table tenant.reporting_enabledtagkeys"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_security_that_comes_while_nobody_looks_is_an_answer_of_postgresql() {
    let (bed, role) = bed().await;
    let files = tempfile::tempdir().unwrap();
    let mut into_files = into_csv(bed.settings.clone(), files.path());
    into_files["target"]["postgres"] = bed.settings["target"]["postgres"].clone();
    Invocation::with("run", &into_files).run().await.expect(0, &[]);
    let against = files.path().to_str().unwrap();
    for table in [TARGET, LEDGER, KEYS] {
        execute(&bed, &format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")).await;
        let parts = ["would be affected by row-level security policy", &format!("ALTER ROLE \"{role}\" BYPASSRLS")];
        bed.command("plan", &["--diff"]).await.expect(78, &parts);
        bed.command("verify", &["--against", against]).await.expect(78, &parts);
        execute(&bed, &format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")).await;
    }
    bed.command("run", &[]).await.expect(0, &[]);
    // The other side of a comparison may not be a part of it either.
    execute(
        &bed,
        &format!("CREATE TABLE tenant.copy AS SELECT * FROM {TARGET}; GRANT SELECT ON tenant.copy TO {role}"),
    )
    .await;
    bed.command("verify", &["--against", "tenant.copy"]).await.expect(0, &["equal: "]);
    execute(&bed, "ALTER TABLE tenant.copy ENABLE ROW LEVEL SECURITY").await;
    let parts = ["would be affected by row-level security policy"];
    bed.command("verify", &["--against", "tenant.copy"]).await.expect(78, &parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_in_the_place_of_a_table_is_refused_since_it_may_leave_rows_out() {
    let (bed, role) = bed().await;
    let small = ["reporting_enabledtagkeys", "reporting_ocp_nodes", "reporting_ocpusagereportperiod"];
    for table in small {
        let view = format!(
            "ALTER TABLE tenant.{table} RENAME TO behind; CREATE VIEW tenant.{table} AS SELECT * FROM tenant.behind WHERE \
             false; GRANT SELECT ON tenant.{table} TO {role}"
        );
        execute(&bed, &view).await;
        is_refused(&bed, &[&format!("tenant.{table} is not a table, but a view or the like")]).await;
        execute(&bed, &format!("DROP VIEW tenant.{table}; ALTER TABLE tenant.behind RENAME TO {table}")).await;
    }
    let name = TARGET.split_once('.').unwrap().1;
    let view = format!(
        "ALTER TABLE {TARGET} RENAME TO behind; CREATE VIEW {TARGET} AS SELECT * FROM tenant.behind WHERE usage_start > \
         '2025-10-01'; GRANT SELECT, INSERT, DELETE ON {TARGET} TO {role}"
    );
    execute(&bed, &view).await;
    for command in ["check", "run"] {
        bed.command(command, &[]).await.expect(78, &[&format!("{TARGET} is not a table, but a view or the like")]);
    }
    execute(&bed, &format!("DROP VIEW {TARGET}; ALTER TABLE tenant.behind RENAME TO {name}")).await;
    let view = format!(
        "ALTER TABLE {LEDGER} RENAME TO behind; CREATE VIEW {LEDGER} AS SELECT * FROM gristmill.behind WHERE false; GRANT \
         SELECT, INSERT, UPDATE ON {LEDGER} TO {role}"
    );
    execute(&bed, &view).await;
    for command in ["check", "run", "plan"] {
        bed.command(command, &[]).await.expect(78, &["gristmill.day_ledger is not the table that `gristmill init-db`"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_tables_that_are_partitioned_or_have_children_are_read_whole() {
    let (bed, role) = bed().await;
    bed.command("run", &[]).await.expect(0, &[]);
    let before = snapshot(&bed.client).await;
    let partitioned = format!(
        "ALTER TABLE {KEYS} RENAME TO first; CREATE TABLE {KEYS} (LIKE tenant.first) PARTITION BY LIST (provider_type); \
         ALTER TABLE {KEYS} ATTACH PARTITION tenant.first FOR VALUES IN ('OCP'); GRANT SELECT ON {KEYS} TO {role}; \
         REVOKE ALL ON tenant.first FROM {role}"
    );
    execute(&bed, &partitioned).await;
    let heirs = format!(
        "CREATE TABLE tenant.heir () INHERITS (tenant.reporting_ocp_cost_category_namespace); \
         WITH moved AS (DELETE FROM ONLY tenant.reporting_ocp_cost_category_namespace RETURNING *) \
         INSERT INTO tenant.heir SELECT * FROM moved; REVOKE ALL ON tenant.heir FROM {role}"
    );
    execute(&bed, &heirs).await;
    bed.command("check", &[]).await.expect(0, &[]);
    let ended = bed.command("run", &[]).await;
    assert_eq!(ended.expect(0, &[]).day(DAYS[0])["status"], Value::from("unchanged"), "the same reference data");
    assert_eq!(snapshot(&bed.client).await, before);
}
