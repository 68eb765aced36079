//! A role with exactly the privileges that docs/operations.md lists: everything works, and without any one nothing is
//! written and the message names it.

use std::path::Path;

use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::binary::Invocation;
use crate::delivery::{Delivery, into_csv, into_postgres, settings};
use crate::{database, rerun};

const DAYS: [&str; 2] = ["2025-10-01", "2025-10-02"];
const TARGET: &str = "reporting_ocpusagelineitem_daily_summary";

/// One privilege on one object, as messages and as SQL name it.
#[derive(Debug, Clone, PartialEq)]
struct Grant {
    privilege: String,
    /// `table tenant.x`, `schema tenant` or `database d`.
    object: String,
}

/// The first table of the section, row by row.
fn documented(database: &str) -> Vec<Grant> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("## What the role in PostgreSQL needs").expect("the section");
    let rows =
        section.lines().skip_while(|line| !line.starts_with('|')).skip(2).take_while(|line| line.starts_with('|'));
    let mut grants = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, on, privileges, _, _] = cells[..] else { panic!("three columns: {row}") };
        let names = quoted(on);
        let objects: Vec<String> = match on {
            "the database" => vec![format!("database {database}")],
            "the target schema" => vec!["schema tenant".to_owned()],
            "the target table" => vec![format!("table tenant.{TARGET}")],
            _ if on.starts_with("schema ") => vec![format!("schema {}", names[0])],
            _ => names.iter().map(|name| table(name)).collect(),
        };
        assert!(!objects.is_empty(), "an object that this test knows: {row}");
        for object in objects {
            for privilege in quoted(privileges) {
                grants.push(Grant { privilege: privilege.to_owned(), object: object.clone() });
            }
        }
    }
    grants
}

fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn table(name: &str) -> String {
    if name.contains('.') { format!("table {name}") } else { format!("table tenant.{name}") }
}

/// A filled database in which nobody but its owner has any privilege, and newer reports.
struct Bed {
    _folder: tempfile::TempDir,
    client: Client,
    settings: Value,
    grants: Vec<Grant>,
}

impl Bed {
    async fn new() -> Self {
        let postgres = database::database().await;
        let folder = tempfile::tempdir().unwrap();
        let mut settings = into_postgres(settings(folder.path(), DAYS[0], DAYS[1]), &postgres);
        settings["reference"] = json!({"from": "postgres"});
        Delivery::of(&DAYS, 1.0).write(folder.path());
        Invocation::with("init-db", &settings).run().await.expect(0, &[]);
        Invocation::with("run", &settings).run().await.expect(0, &[]);
        Delivery::of(&DAYS, 2.0).write(folder.path());
        let client = database::client(&postgres).await;
        let database = &postgres.database;
        let sql = format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC");
        client.batch_execute(&sql).await.unwrap();
        let grants = documented(database);
        Self { _folder: folder, client, settings, grants }
    }

    /// A new role with all documented privileges but one, and settings with that role.
    async fn role_without(&self, missing: Option<&Grant>) -> (String, Value) {
        let role = format!("r_{}", Uuid::new_v4().simple());
        self.client.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'")).await.unwrap();
        for grant in self.grants.iter().filter(|grant| Some(*grant) != missing) {
            let sql = format!("GRANT {} ON {} TO {role}", grant.privilege, grant.object);
            self.client.batch_execute(&sql).await.unwrap();
        }
        let mut settings = self.settings.clone();
        settings["target"]["postgres"]["user"] = json!(role);
        settings["target"]["postgres"]["password"] = json!("pw");
        (role, settings)
    }

    async fn is_refused_without(&self, missing: &Grant) {
        let (role, settings) = self.role_without(Some(missing)).await;
        let lacks = format!("role `{role}` lacks {} on {}", missing.privilege, missing.object);
        let fix = format!("GRANT {} ON", missing.privilege);
        Invocation::with("check", &settings).run().await.expect(78, &[&lacks, &fix]);
        let run = Invocation::with("run", &settings).run().await;
        run.expect(78, &[&lacks, &fix, "grant the privilege that the message names"]);
        assert_eq!(run.report["exit_code"], 78);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_one_of_them_nothing_is_written_and_it_is_named() {
    let bed = Bed::new().await;
    assert_eq!(bed.grants.len(), 13, "{:#?}", bed.grants);
    let before = rerun::snapshot(&bed.client).await;
    let refusals = bed.grants.iter().map(|grant| bed.is_refused_without(grant));
    futures::future::join_all(refusals).await;
    assert_eq!(rerun::snapshot(&bed.client).await, before, "nothing is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_of_them_everything_works() {
    let bed = Bed::new().await;
    let (_, settings) = bed.role_without(None).await;
    let before = rerun::snapshot(&bed.client).await;
    Invocation::with("check", &settings).run().await.expect(0, &["nothing stands in the way of a run"]);
    Invocation::with("run", &settings).run().await.expect(0, &["written"]);
    let written = rerun::snapshot(&bed.client).await;
    assert_ne!(written.rows, before.rows);
    Invocation::with("run", &settings).run().await.expect(0, &[]);
    assert_eq!(rerun::snapshot(&bed.client).await.rows, written.rows);

    let files = tempfile::tempdir().unwrap();
    let mut into_files = into_csv(settings.clone(), files.path());
    into_files["target"]["postgres"] = settings["target"]["postgres"].clone();
    Invocation::with("run", &into_files).run().await.expect(0, &[]);
    let against = files.path().to_str().unwrap();
    let verified = Invocation::with("verify", &settings).arguments(&["--against", against]).run().await;
    verified.expect(0, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_share_days_also_need_the_sequence_of_their_tokens() {
    let bed = Bed::new().await;
    let (role, settings) = bed.role_without(None).await;
    let before = rerun::snapshot(&bed.client).await;
    let pod = || Invocation::with("run", &settings).arguments(&["--shard", "0/2"]);
    pod().run().await.expect(78, &["permission denied for sequence claim_token", "grant the privilege"]);
    assert_eq!(rerun::snapshot(&bed.client).await.rows, before.rows, "nothing is written");
    let sql = format!("GRANT USAGE ON SEQUENCE gristmill.claim_token TO {role}");
    bed.client.batch_execute(&sql).await.unwrap();
    pod().run().await.expect(0, &["written"]);
    assert_ne!(rerun::snapshot(&bed.client).await.rows, before.rows);
}
