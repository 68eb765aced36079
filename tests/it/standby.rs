//! An address that leads to a hot standby: for a moment it is like a restart, for good it is named, and every command does the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::binary::{Ended, Invocation};
use crate::delivery::{Delivery, into_csv, into_postgres, settings};
use crate::rerun::{Snapshot, snapshot};
use crate::{database, rerun};

const DAYS: [&str; 2] = ["2025-10-01", "2025-10-02"];

/// A port whose connections lead to the standby or to the primary, as their number says.
struct Door {
    port: u16,
    count: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Door {
    async fn open(primary: u16, standby: u16, leads_astray: impl Fn(usize) -> bool + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let serving = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Ordering::Relaxed);
                let to = if leads_astray(number) { standby } else { primary };
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", to)).await.expect("the server listens");
                    // Either side may leave without a word.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, count, serving }
    }

    fn connection_count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A primary with two days, its standby, newer reports, and the same rows as files.
struct Bed {
    primary: database::Server,
    standby: database::Server,
    client: tokio_postgres::Client,
    settings: Value,
    folder: tempfile::TempDir,
    files: tempfile::TempDir,
}

impl Bed {
    async fn new() -> Self {
        let primary = tokio::task::spawn_blocking(database::server_of_its_own).await.unwrap();
        let postgres = database::database_on(&primary).await;
        let (folder, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = into_postgres(settings(folder.path(), DAYS[0], DAYS[1]), &postgres);
        Invocation::with("init-db", &settings).run().await.expect(0, &[]);
        Delivery::of(&DAYS, 1.0).write(folder.path());
        Invocation::with("run", &settings).run().await.expect(0, &[]);
        let mut into_files = into_csv(settings.clone(), files.path());
        into_files["target"]["postgres"] = settings["target"]["postgres"].clone();
        Invocation::with("run", &into_files).run().await.expect(0, &[]);
        let (primary, standby) = tokio::task::spawn_blocking(move || {
            let standby = database::standby_of(&primary);
            (primary, standby)
        })
        .await
        .unwrap();
        let client = database::client(&postgres).await;
        Self { primary, standby, client, settings, folder, files }
    }

    /// A command by way of a door.
    async fn through(&self, door: &Door, command: &str, extra: &[&str], retries: u32) -> Ended {
        let mut settings = self.settings.clone();
        settings["target"]["postgres"]["port"] = json!(door.port);
        settings["target"]["postgres"]["retries"] = json!(retries);
        Invocation::with(command, &settings).arguments(extra).run().await
    }

    async fn door(&self, leads_astray: impl Fn(usize) -> bool + Send + 'static) -> Door {
        Door::open(self.primary.port(), self.standby.port(), leads_astray).await
    }

    /// Every command with its arguments.
    fn commands(&self) -> Vec<(&'static str, Vec<String>)> {
        let against = vec!["--against".to_owned(), self.files.path().display().to_string()];
        vec![
            ("verify", against),
            ("check", vec![]),
            ("plan", vec![]),
            ("plan", vec!["--diff".to_owned()]),
            ("init-db", vec![]),
            ("run", vec!["--force".to_owned()]),
            ("run", vec!["--force".to_owned(), "--shard".to_owned(), "0/2".to_owned()]),
        ]
    }

    async fn rows(&self) -> Snapshot {
        snapshot(&self.client).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_for_a_moment_is_tried_again_and_one_that_stays_is_named() {
    let bed = Bed::new().await;
    let before = bed.rows().await;
    for (command, extra) in bed.commands() {
        let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
        // Always.
        let door = bed.door(|_| true).await;
        let ended = bed.through(&door, command, &extra, 1).await;
        let place = format!("127.0.0.1:{} is a hot standby", door.port);
        ended.expect(75, &[&place, "target.postgres.host and port lead to the primary", "then run again"]);
        assert!(door.connection_count() >= 2, "{command} {extra:?}: one attempt and one more, each anew");
        // For the first two connections.
        let door = bed.door(|number| number < 2).await;
        bed.through(&door, command, &extra, 3).await.expect(0, &[]);
        assert!(door.connection_count() > 2);
    }
    assert_eq!(bed.rows().await.rows, before.rows, "the same objects, the same rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_connection_meets_a_standby_the_run_ends_well() {
    let bed = Bed::new().await;
    Delivery::of(&DAYS, 2.0).write(bed.folder.path());
    let door = bed.door(|_| false).await;
    bed.through(&door, "run", &["--force"], 6).await.expect(0, &["written"]);
    let (straight, expected) = (door.connection_count(), bed.rows().await);
    assert!(straight > 2, "a run makes several connections");
    for astray in 0..straight {
        let door = bed.door(move |number| number == astray).await;
        bed.through(&door, "run", &["--force"], 6).await.expect(0, &["written"]);
        // The look before it, its preparation and the small tables have a connection each; days share some.
        assert!(astray >= 3 || door.connection_count() > astray + 1, "connection {astray} was made anew");
        assert_eq!(bed.rows().await.rows, expected.rows, "connection {astray}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_good_enough_to_be_compared_with() {
    let bed = Bed::new().await;
    let mut other = bed.settings.clone();
    other["target"]["postgres"]["port"] = json!(bed.standby.port());
    let file = bed.folder.path().join("other.yaml");
    std::fs::write(&file, other.to_string()).unwrap();
    bed.client
        .batch_execute("CREATE TABLE tenant.copy AS SELECT * FROM tenant.reporting_ocpusagelineitem_daily_summary")
        .await
        .unwrap();
    let arguments = ["--against", "tenant.copy", "--against-config", file.to_str().unwrap()];
    let mut ended = Invocation::with("verify", &bed.settings).arguments(&arguments).run().await;
    for _ in 0..100 {
        // Until the copy has arrived there.
        if ended.code == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        ended = Invocation::with("verify", &bed.settings).arguments(&arguments).run().await;
    }
    ended.expect(0, &["equal: all"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_set_to_read_only_is_refused_at_once_with_the_setting_named() {
    let bed = rerun::Bed::over(DAYS[0], DAYS[1]).await;
    Delivery::of(&DAYS, 1.0).write(bed.folder.path());
    bed.command("init-db", &[]).await.expect(0, &[]);
    bed.command("run", &[]).await.expect(0, &[]);
    Delivery::of(&DAYS, 2.0).write(bed.folder.path());
    let before = snapshot(&bed.client).await;
    let database: String = bed.client.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    let role = format!("r_{}", Uuid::new_v4().simple());
    let as_role = |settings: &Value| {
        let mut settings = settings.clone();
        settings["target"]["postgres"]["user"] = json!(role);
        settings["target"]["postgres"]["password"] = json!("pw");
        settings
    };
    let sql = format!("CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'pw'");
    bed.client.batch_execute(&sql).await.unwrap();
    let read_only = ["default_transaction_read_only is on", "RESET default_transaction_read_only"];
    for (sql, settings) in [
        (format!("ALTER ROLE {role} SET default_transaction_read_only = on"), as_role(&bed.settings)),
        (format!("ALTER DATABASE {database} SET default_transaction_read_only = on"), bed.settings.clone()),
    ] {
        bed.client.batch_execute(&sql).await.unwrap();
        for command in ["check", "run", "init-db"] {
            Invocation::with(command, &settings).run().await.expect(78, &read_only);
        }
        // Looking is no writing.
        Invocation::with("plan", &settings).run().await.expect(0, &["changed"]);
        bed.client.batch_execute(&sql.replace(" SET ", " RESET ").replace(" = on", "")).await.unwrap();
    }
    assert_eq!(snapshot(&bed.client).await, before);
    bed.command("run", &[]).await.expect(0, &["written"]);
}
