//! Runs after the first one: which days are left alone, which are written again and why, what a plan says about them.

mod changes;
mod difference;
mod disappeared;
mod fewer_objects;
mod ledger_layout;
mod random_changes;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::binary::{Ended, Invocation};
use crate::database;
use crate::delivery::{self, Delivery, from_server, into_postgres, pod_key, settings};
use crate::s3_server::S3Server;
use crate::usage::{self, LabelRow, PodRow};

/// The last days of one month and the first of the next.
const DAYS: [&str; 4] = ["2025-10-30", "2025-10-31", "2025-11-01", "2025-11-02"];
const TABLE: &str = "tenant.reporting_ocpusagelineitem_daily_summary";
/// How much of an object's end is read together with its footer.
const READ_WITH_FOOTER_BYTES: u64 = 32 * 1024;

/// A database, and a bucket of its own.
struct Bed {
    server: S3Server,
    settings: Value,
    client: Client,
}

impl Bed {
    /// A database after `init-db`, and an empty bucket. Node roles come from the table.
    async fn new() -> Self {
        let server = S3Server::start().await;
        let postgres = database::database().await;
        let folder = std::path::Path::new("/nowhere");
        let settings = into_postgres(settings(folder, DAYS[0], DAYS[3]), &postgres);
        let mut settings = from_server(settings, &server);
        settings["reference"] = json!({"from": "postgres"});
        let client = database::client(&postgres).await;
        let bed = Self { server, settings, client };
        bed.command("init-db", &[]).await.expect(0, &["created"]);
        bed
    }

    /// With all days delivered and written once.
    async fn filled() -> Self {
        let bed = Self::new().await;
        Delivery::of(&DAYS, 1.0).store(&bed.server);
        bed.run(&[]).await.expect(0, &[]);
        bed
    }

    /// The same with derived node roles; every day has the label rows of its nodes.
    async fn filled_with_roles() -> Self {
        let mut bed = Self::new().await;
        bed.settings["reference"]["node_roles"] = json!("derive");
        for day in DAYS {
            bed.deliver_with_labels(day, &["node-a", "node-b"]);
        }
        bed.run(&[]).await.expect(0, &[]);
        bed
    }

    fn deliver_with_labels(&self, day: &str, nodes: &[&str]) {
        let mut rows = Vec::new();
        for node in nodes {
            for row in delivery::pod_rows(day, 1.0).into_iter().filter(|row| row.pod.as_deref() == Some("pod-a")) {
                let resource_id = Some(format!("i-{node}"));
                rows.push(PodRow { node: Some((*node).to_owned()), resource_id, ..row });
            }
        }
        let label = |node: &&str| LabelRow {
            milliseconds: delivery::milliseconds(day),
            name: Some((*node).to_owned()),
            labels: Some("{}".to_owned()),
        };
        let labels: Vec<LabelRow> = nodes.iter().map(label).collect();
        self.server.put(&pod_key(day), usage::parquet(usage::pod_columns(&rows), rows.len()));
        let object = usage::parquet(usage::label_columns("node", "node_labels", &labels), labels.len());
        self.server.put(&delivery::key("node_labels", day), object);
    }

    async fn command(&self, command: &str, extra: &[&str]) -> Ended {
        Invocation::with(command, &self.settings).arguments(extra).run().await
    }

    async fn run(&self, extra: &[&str]) -> Ended {
        self.command("run", extra).await
    }

    /// A run that succeeds; which days it wrote.
    async fn written_by_run(&self, extra: &[&str]) -> Vec<String> {
        let ended = self.run(extra).await;
        ended.expect(0, &[]);
        days_with(&ended, "status", "written")
    }

    /// What `plan` says about each day.
    async fn states(&self) -> BTreeMap<String, String> {
        let ended = self.command("plan", &[]).await;
        ended.expect(0, &[]);
        let text = |day: &&str| ended.day(day)["state"].as_str().expect("a state").to_owned();
        DAYS.iter().map(|day| ((*day).to_owned(), text(day))).collect()
    }

    /// Asserts what `plan` says about all days, and which of them a run then writes.
    async fn expect_states(&self, expected: [&str; 4]) {
        let states: Vec<String> = self.states().await.into_values().collect();
        assert_eq!(states, expected);
        let to_write = ["new", "changed", "rows differ"];
        let expected: Vec<&str> = (0..4).filter(|n| to_write.contains(&expected[*n])).map(|n| DAYS[n]).collect();
        assert_eq!(self.written_by_run(&[]).await, expected);
    }

    async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Target and ledger, with everything that a writer would change: uuids, transaction ids, times.
    async fn everything(&self) -> Vec<String> {
        let mut all = Vec::new();
        for table in [TABLE, "gristmill.day_ledger"] {
            let sql = format!("SELECT t.xmin::text || ' ' || t::text FROM {table} t ORDER BY t::text");
            let rows = self.client.query(&sql, &[]).await.expect("the rows");
            all.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        }
        all
    }

    /// Rows without their uuid, and the ledger without runs and times; sorted. What derived roles came from is left out: for a day that
    /// was left alone it may be an older state of the other days' objects.
    async fn contents(&self) -> Vec<String> {
        let rows = format!("SELECT (to_jsonb(t) - 'uuid')::text FROM {TABLE} t ORDER BY 1");
        let ledger = "SELECT usage_day::text || ' ' || encode(fingerprint, 'hex') || ' ' || row_count || ' ' || sums::text \
                      || ' ' || (made_from #- '{roles,from}' #- '{roles,of_days}')::text FROM gristmill.day_ledger ORDER BY 1";
        let mut all = Vec::new();
        for sql in [rows.as_str(), ledger] {
            let found = self.client.query(sql, &[]).await.expect("the rows");
            all.extend(found.iter().map(|row| row.get::<_, String>(0)));
        }
        all
    }

    /// Objects of which more than the end was read since the given number of reads.
    fn fetched_since(&self, reads: usize) -> Vec<String> {
        let all = self.server.reads();
        let is_of_columns = |read: &&crate::s3_server::Read| read.start + READ_WITH_FOOTER_BYTES < read.size;
        let mut keys: Vec<String> = all[reads..].iter().filter(is_of_columns).map(|read| read.key.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

/// Days of a report whose field has a value.
fn days_with(ended: &Ended, field: &str, value: &str) -> Vec<String> {
    let days = ended.report["days"].as_array().unwrap_or_else(|| panic!("{ended:#?}")).iter();
    days.filter(|day| day[field] == value).map(|day| day["day"].as_str().expect("a day").to_owned()).collect()
}

/// A pod object that is too large to be read together with its footer: numbers without a pattern.
fn large_object(day: &str, seed: u64) -> Vec<u8> {
    let mut random = usage::Random(seed + delivery::milliseconds(day).unsigned_abs());
    let template = &delivery::pod_rows(day, 1.0)[0];
    let mut rows = Vec::new();
    for hour in 0..24 {
        for pod in 0..40 {
            rows.push(PodRow {
                milliseconds: delivery::milliseconds(day) + hour * 3_600_000,
                pod: Some(format!("pod-{pod}")),
                usage: std::array::from_fn(|_| Some(random.next() as f64 / 1e15)),
                ..template.clone()
            });
        }
    }
    let object = usage::parquet(usage::pod_columns(&rows), rows.len());
    assert!(object.len() as u64 > 2 * READ_WITH_FOOTER_BYTES, "{} bytes", object.len());
    object
}
