//! Days that several pods share: who holds which, what becomes of those of a pod that is slow or gone, and that each day is written
//! once per fingerprint whatever happens.

mod ledger;
mod pods;
mod waiting;
mod writers;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::binary::{Ended, Invocation};
use crate::database;
use crate::delivery::{Delivery, into_postgres, settings};
use crate::rerun::{Snapshot, snapshot};

const TABLE: &str = "tenant.reporting_ocpusagelineitem_daily_summary";
const DAYS: [&str; 8] =
    ["2025-10-01", "2025-10-02", "2025-10-03", "2025-10-04", "2025-10-05", "2025-10-06", "2025-10-07", "2025-10-08"];

/// A database after `init-db`, reports of all days, and somebody who notes every time that a day is written.
struct Bed {
    folder: TempDir,
    settings: Value,
    client: Client,
}

impl Bed {
    async fn new() -> Self {
        let postgres = database::database().await;
        let folder = tempfile::tempdir().unwrap();
        let mut settings = into_postgres(settings(folder.path(), DAYS[0], DAYS[7]), &postgres);
        settings["reference"] = json!({"from": "postgres"});
        settings["performance"] = json!({"max_workers": 1});
        settings["claims"] = json!({"lease_seconds": 30, "wait_seconds": 60});
        Delivery::of(&DAYS, 1.0).write(folder.path());
        Invocation::with("init-db", &settings).run().await.expect(0, &[]);
        let client = database::client(&postgres).await;
        note_writes(&client).await;
        Self { folder, settings, client }
    }

    fn pod(&self, shard: &str) -> Invocation {
        Invocation::with("run", &self.settings).arguments(&["--shard", shard])
    }

    /// Writing any of some days takes so many seconds from now on.
    async fn dawdle(&self, seconds: f64, condition: &str) {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION tenant.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF EXISTS (SELECT FROM new_rows WHERE {condition}) THEN PERFORM pg_sleep({seconds}); END IF; RETURN NULL; \
             END $$; DROP TRIGGER IF EXISTS dawdle ON {TABLE}; CREATE TRIGGER dawdle AFTER INSERT ON {TABLE} \
             REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tenant.dawdle()"
        );
        self.client.batch_execute(&sql).await.unwrap();
    }

    async fn hurry(&self) {
        self.client.batch_execute(&format!("DROP TRIGGER dawdle ON {TABLE}")).await.unwrap();
    }

    async fn count(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
    }

    async fn wait_for(&self, sql: &str) {
        for _ in 0..400 {
            if self.count(sql).await > 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("it never came to: {sql}");
    }

    /// Every day was written so many times, each time with a fingerprint of its own, and is nobody's any more.
    async fn expect_each_day_written(&self, times: i64) {
        let rows = self.client.query(WRITES, &[]).await.unwrap();
        let writes: BTreeMap<String, (i64, i64)> =
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        assert_eq!(writes.len(), DAYS.len(), "{writes:?}");
        assert!(writes.values().all(|found| *found == (times, times)), "{writes:?}");
        assert_eq!(self.count("SELECT count(*) FROM gristmill.day_ledger WHERE claimed_by IS NOT NULL").await, 0);
    }

    async fn snapshot(&self) -> Snapshot {
        snapshot(&self.client).await
    }

    /// The same rows as a run by itself leaves, in a database of its own.
    async fn expect_undisturbed_rows(&self) {
        let alone = Self::new().await;
        Delivery::of(&DAYS, 1.0).write(alone.folder.path());
        Invocation::with("run", &alone.settings).run().await.expect(0, &[]);
        let (mut expected, mut found) = (alone.snapshot().await, self.snapshot().await);
        for snapshot in [&mut expected, &mut found] {
            snapshot.rows.iter_mut().for_each(|row| row["report_period_id"] = Value::Null);
        }
        assert_eq!(found.rows, expected.rows);
    }
}

/// Days and how often each was written; a statement of the ledger's own that is rolled back leaves no note.
const WRITES: &str =
    "SELECT usage_day::text, count(*), count(DISTINCT fingerprint) FROM tenant.writes GROUP BY 1 ORDER BY 1";

async fn note_writes(client: &Client) {
    client
        .batch_execute(
            "CREATE TABLE tenant.writes (number serial, usage_day date, fingerprint bytea, run_id uuid); \
             CREATE FUNCTION tenant.note_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO tenant.writes (usage_day, fingerprint, run_id) VALUES (NEW.usage_day, NEW.fingerprint, NEW.run_id); RETURN NULL; END $$; \
             CREATE TRIGGER note_write AFTER INSERT OR UPDATE OF fingerprint ON gristmill.day_ledger \
             FOR EACH ROW WHEN (NEW.status = 'written') EXECUTE FUNCTION tenant.note_write()",
        )
        .await
        .unwrap();
}

/// Days with a status in the report of a run.
fn with_status(ended: &Ended, status: &str) -> Vec<String> {
    let days = ended.report["days"].as_array().unwrap_or_else(|| panic!("{ended:#?}")).iter();
    days.filter(|day| day["status"] == status).map(|day| day["day"].as_str().unwrap().to_owned()).collect()
}
