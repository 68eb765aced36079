//! A PostgreSQL that is down, refuses or is not as it should be, met by a whole run: exit code, message, nothing written.

use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::binary::Invocation;
use crate::delivery::{Delivery, into_postgres, settings};
use crate::{database, rerun};

const DAYS: [&str; 2] = ["2025-10-01", "2025-10-02"];
const TABLE: &str = "tenant.reporting_ocpusagelineitem_daily_summary";

/// A database with two days, and a folder with newer reports of them.
struct Bed {
    _folder: tempfile::TempDir,
    settings: Value,
    client: Client,
    before: rerun::Snapshot,
}

impl Bed {
    async fn new() -> Self {
        let postgres = database::database().await;
        let folder = tempfile::tempdir().unwrap();
        let settings = into_postgres(settings(folder.path(), DAYS[0], DAYS[1]), &postgres);
        Invocation::with("init-db", &settings).run().await.expect(0, &["created"]);
        Delivery::of(&DAYS, 1.0).write(folder.path());
        Invocation::with("run", &settings).run().await.expect(0, &[]);
        Delivery::of(&DAYS, 2.0).write(folder.path());
        let client = database::client(&postgres).await;
        let before = rerun::snapshot(&client).await;
        Self { _folder: folder, settings, client, before }
    }

    fn with(&self, key: &str, value: Value) -> Value {
        let mut settings = self.settings.clone();
        settings["target"]["postgres"][key] = value;
        settings
    }

    async fn fails(&self, settings: &Value, code: i32, parts: &[&str]) {
        let ended = Invocation::with("run", settings).run().await;
        ended.expect(code, parts);
        assert_eq!(ended.report["exit_code"], code, "{ended:#?}");
        assert!(ended.day(DAYS[0])["status"] != "written", "{ended:#?}");
    }

    async fn is_as_before(&self) {
        assert_eq!(rerun::snapshot(&self.client).await, self.before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_down() {
    let bed = Bed::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let parts = ["cannot reach PostgreSQL at", &port.to_string(), "check that PostgreSQL runs"];
    bed.fails(&bed.with("port", json!(port)), 75, &parts).await;
    bed.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_or_database() {
    let bed = Bed::new().await;
    let parts = ["password authentication failed", "check target.postgres.user, password and database"];
    bed.fails(&bed.with("password", json!("mistyped-password")), 78, &parts).await;
    let ended = Invocation::with("run", &bed.with("password", json!("mistyped-password"))).run().await;
    assert!(!ended.all_text().contains("mistyped-password"), "{ended:#?}");
    bed.fails(&bed.with("database", json!("no_such_database")), 78, &["no_such_database", "check target"]).await;
    bed.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table() {
    let bed = Bed::new().await;
    let parts = ["tenant.elsewhere does not exist", "gristmill init-db"];
    bed.fails(&bed.with("table", json!("elsewhere")), 78, &parts).await;
    bed.is_as_before().await;
    // The small tables matter as well.
    bed.client.batch_execute("DROP TABLE tenant.reporting_enabledtagkeys").await.unwrap();
    bed.fails(&bed.settings, 78, &["tenant.reporting_enabledtagkeys does not exist", "reference.schema"]).await;
    bed.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn narrower_columns_are_listed_before_anything_is_written() {
    let bed = Bed::new().await;
    bed.client
        .batch_execute(&format!(
            "ALTER TABLE {TABLE} ALTER node TYPE varchar(20), ALTER pod_usage_cpu_core_hours TYPE numeric(20,5), \
             DROP COLUMN storageclass"
        ))
        .await
        .unwrap();
    let parts = [
        "column `node` of tenant.reporting_ocpusagelineitem_daily_summary is varchar(20), needed is varchar(253)",
        "numeric(20,5), needed is numeric(33,15)",
        "no column `storageclass`",
        "ALTER TABLE",
    ];
    let hours = format!("SELECT sum(pod_usage_cpu_core_hours)::text FROM {TABLE}");
    let before: String = bed.client.query_one(&hours, &[]).await.unwrap().get(0);
    bed.fails(&bed.settings, 78, &parts).await;
    assert_eq!(bed.client.query_one(&hours, &[]).await.unwrap().get::<_, String>(0), before);
    let ended = Invocation::with("check", &bed.settings).run().await;
    ended.expect(78, &parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_privilege() {
    let bed = Bed::new().await;
    let role = format!("r_{}", Uuid::new_v4().simple());
    bed.client
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA tenant, gristmill TO {role}; \
             GRANT SELECT ON ALL TABLES IN SCHEMA tenant TO {role}; GRANT INSERT ON {TABLE} TO {role}; \
             GRANT ALL ON ALL TABLES IN SCHEMA gristmill TO {role}"
        ))
        .await
        .unwrap();
    let mut settings = bed.with("user", json!(role));
    settings["target"]["postgres"]["password"] = json!("pw");
    // Said before anything is read, and not only when the first day is written.
    let lacks_delete = format!("role `{role}` lacks DELETE on table {TABLE}");
    bed.fails(&settings, 78, &[&lacks_delete, "GRANT DELETE ON", "grant the privilege"]).await;
    bed.is_as_before().await;
    let ended = Invocation::with("check", &settings).run().await;
    ended.expect(78, &[&lacks_delete, "GRANT DELETE ON"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_reports_problems_of_storage_and_database_together() {
    let bed = Bed::new().await;
    bed.client.batch_execute(&format!("ALTER TABLE {TABLE} DROP COLUMN storageclass")).await.unwrap();
    let mut settings = bed.settings.clone();
    let folder = tempfile::tempdir().unwrap();
    settings["storage"]["url"] = json!(format!("file://{}", folder.path().display()));
    let ended = Invocation::with("check", &settings).run().await;
    ended.expect(65, &["no objects", "no column `storageclass`", "2 problems", "fix:"]);

    // A bad object, a wrong password and a missing folder: each beside the other.
    let bad = crate::delivery::pod_key(DAYS[0]);
    Delivery::of(&DAYS, 1.0).with(bad.clone(), Vec::new()).write(folder.path());
    settings["target"]["postgres"]["password"] = json!("mistyped-password");
    let ended = Invocation::with("check", &settings).run().await;
    ended.expect(65, &["zero bytes", &bad, "password authentication failed", "2 problems"]);
    assert!(!ended.all_text().contains("mistyped-password"));
    settings["storage"]["url"] = json!("file:///no/such/folder");
    let ended = Invocation::with("check", &settings).run().await;
    ended.expect(78, &["no such bucket or folder", "password authentication failed"]);

    let ended = Invocation::with("check", &bed.settings).run().await;
    ended.expect(78, &["1 problem"]);
}
