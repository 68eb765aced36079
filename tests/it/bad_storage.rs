//! A storage that refuses, is not there or is empty, and configurations that cannot run.

use serde_json::{Value, json};

use crate::binary::Invocation;
use crate::delivery::{Delivery, from_server, into_csv, into_postgres, settings};
use crate::s3_server::{S3Server, SECRET_KEY};
use crate::{database, rerun};

const DAYS: [&str; 2] = ["2025-10-01", "2025-10-02"];

/// A server with two days that were written to a folder once.
struct Bed {
    server: S3Server,
    output: tempfile::TempDir,
}

impl Bed {
    async fn new() -> Self {
        let bed = Self { server: S3Server::start().await, output: tempfile::tempdir().unwrap() };
        Delivery::of(&DAYS, 1.0).store(&bed.server);
        Invocation::with("run", &bed.settings()).run().await.expect(0, &[]);
        Delivery::of(&DAYS, 2.0).store(&bed.server);
        bed
    }

    fn settings(&self) -> Value {
        let settings = settings(self.output.path(), DAYS[0], DAYS[1]);
        into_csv(from_server(settings, &self.server), self.output.path())
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = crate::bucket::files_below(self.output.path());
        files.sort();
        files
    }

    /// Fails with this exit code and these parts, and changes no file.
    async fn fails(&self, settings: &Value, code: i32, parts: &[&str]) {
        let before = self.files();
        let ended = Invocation::with("run", settings).run().await;
        ended.expect(code, parts);
        assert_eq!(ended.report["exit_code"], code, "{ended:#?}");
        assert_eq!(self.files(), before);
        assert!(!ended.all_text().contains(SECRET_KEY), "{ended:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_denied() {
    let bed = Bed::new().await;
    let mut settings = bed.settings();
    settings["storage"]["secret_key"] = json!("mistyped-secret");
    bed.fails(&settings, 78, &["access denied", "usage-reports", "check the access and secret key"]).await;
    let ended = Invocation::with("run", &settings).run().await;
    assert!(!ended.all_text().contains("mistyped-secret"), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_such_bucket() {
    let bed = Bed::new().await;
    let mut settings = bed.settings();
    settings["storage"]["url"] = json!("s3://another-bucket");
    bed.fails(&settings, 78, &["s3://another-bucket", "no such bucket", "check storage.url"]).await;
    settings["storage"] = json!({"url": "file:///no/such/folder"});
    bed.fails(&settings, 78, &["/no/such/folder", "no such bucket or folder", "check storage.url"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_is_down_or_in_trouble() {
    let bed = Bed::new().await;
    let mut settings = bed.settings();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    settings["storage"]["endpoint"] = json!(format!("http://{address}"));
    bed.fails(&settings, 75, &["cannot be reached", "check storage.endpoint and the network"]).await;
    bed.server.fail_next(1_000);
    bed.fails(&bed.settings(), 75, &["HTTP status 503", "check storage.endpoint and the network"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_after_the_listing_is_no_fault_of_the_data() {
    let bed = Bed::new().await;
    // One object cannot be had, whatever the reason: a retry may help, or the rights have to be mended.
    bed.server.fail_next_reads(1_000);
    bed.fails(&bed.settings(), 75, &["HTTP status 503", "check storage.endpoint and the network"]).await;
    bed.server.fail_next_reads(0);
    bed.server.refuse_reads(true);
    bed.fails(&bed.settings(), 78, &["access denied", "data/parquet/", "check the access and secret key"]).await;
    bed.server.refuse_reads(false);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_objects_for_the_period() {
    let bed = Bed::new().await;
    let mut settings = bed.settings();
    settings["organization"]["org_id"] = json!("another");
    let parts = ["no objects", "data/parquet/another/OCP/", "2025-10", "--allow-empty"];
    bed.fails(&settings, 65, &parts).await;

    let before = bed.files();
    for extra in [&["--allow-empty"][..], &["--allow-empty", "--delete-empty-days"]] {
        let ended = Invocation::with("run", &settings).arguments(extra).run().await;
        ended.expect(0, &["left as it was"]);
        assert_eq!(bed.files(), before, "{extra:?} deletes nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_empty_period_deletes_nothing_from_postgresql() {
    let postgres = database::database().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = into_postgres(settings(folder.path(), DAYS[0], DAYS[1]), &postgres);
    Invocation::with("init-db", &settings).run().await.expect(0, &[]);
    Delivery::of(&DAYS, 1.0).write(folder.path());
    Invocation::with("run", &settings).run().await.expect(0, &[]);
    let client = database::client(&postgres).await;
    let before = rerun::snapshot(&client).await;
    assert!(!before.rows.is_empty());

    Delivery::default().write(folder.path());
    Invocation::with("run", &settings).run().await.expect(65, &["no objects"]);
    assert_eq!(rerun::snapshot(&client).await, before);
    for extra in [&["--allow-empty"][..], &["--allow-empty", "--delete-empty-days"]] {
        let ended = Invocation::with("run", &settings).arguments(extra).run().await;
        ended.expect(0, &["left as it was"]);
        assert_eq!(rerun::snapshot(&client).await, before, "{extra:?} deletes nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_that_cannot_run_are_refused_before_anything_is_touched() {
    let bed = Bed::new().await;
    let before = bed.files();
    let mut settings = bed.settings();
    settings["period"] = json!({"start_date": "2025-10-02", "end_date": "2025-10-01"});
    settings["storage"]["secrt_key"] = json!("x");
    settings["on_bad_day"] = json!("maybe");
    let requests = bed.server.counters().requests;
    for command in ["run", "plan", "check", "config", "init-db"] {
        let ended = Invocation::with(command, &settings).run().await;
        ended.expect(
            78,
            &[
                "period.end_date: 2025-10-01 lies before start_date 2025-10-02",
                "unknown key; did you mean storage.secret_key?",
                "on_bad_day",
                "config.yaml:1:",
            ],
        );
    }
    assert_eq!(bed.server.counters().requests, requests);
    assert_eq!(bed.files(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_command_lines() {
    let bed = Bed::new().await;
    Invocation::with("run", &bed.settings()).arguments(&["--no-such-option"]).run().await.expect(64, &["--help"]);
    Invocation::with("grind", &bed.settings()).run().await.expect(64, &["--help"]);
    let ended = Invocation::with("run", &bed.settings()).arguments(&["--help"]).run().await;
    ended.expect(0, &["--delete-empty-days", "--report"]);
    let set = &["--set", "storage.secret_key=visible"];
    let ended = Invocation::with("run", &bed.settings()).arguments(set).run().await;
    ended.expect(78, &["a secret does not belong on the command line"]);
    assert!(!ended.all_text().contains("visible"));
}
