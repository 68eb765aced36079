//! Inputs and servers as people have reported them: each folder of `tests/cases` gives the rows that it should, or the error.

use std::path::{Path, PathBuf};

use gristmill::config::Postgres;
use gristmill::rollups::semantics::Semantics;
use serde_json::{Value, json};

use crate::binary::{Ended, Invocation};
use crate::bucket::files_below;
use crate::case::Case;
use crate::s3_server::S3Server;
use crate::s3_server::deviation::Deviation;
use crate::{case_postgres, compare, csv, database};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A case, its storage, and where its rows go.
struct Bed {
    case: Case,
    server: Option<S3Server>,
    output: tempfile::TempDir,
    settings: Value,
}

impl Bed {
    /// From a server if the case says how it deviates, else from the case's folder; into files, with everything inline.
    async fn new(name: &str) -> Self {
        let case = Case::open(&folder().join(name), "input");
        let output = tempfile::tempdir().unwrap();
        let mut settings = match case.folder.join("input").is_dir() {
            true => case.settings(Semantics::Balanced),
            false => Self::settings_without_input(&case, output.path()),
        };
        settings["source"]["report_period_id"] = case.facts["report_period_id"].clone();
        settings["reference"] = json!({
            "from": "inline", "enabled_tag_keys": case.facts["enabled_tag_keys"], "node_roles": "derive",
        });
        let mut settings = crate::delivery::into_csv(settings, &output.path().join("rows"));
        let deviation = case.folder.join("deviation.json");
        let mut server = None;
        if deviation.is_file() {
            let started = Self::serve(&case, &json_of(&deviation)).await;
            settings = crate::delivery::from_server(settings, &started);
            server = Some(started);
        }
        Self { case, server, output, settings }
    }

    fn settings_without_input(case: &Case, output: &Path) -> Value {
        json!({
            "version": 1,
            "organization": {"org_id": case.text("org")},
            "source": {
                "uuid": case.text("source_uuid"),
                "cluster_id": case.text("cluster_id"),
                "cluster_alias": case.text("cluster_alias"),
            },
            "period": {"start_date": case.text("start_date"), "end_date": case.text("end_date")},
            "storage": {"url": format!("file://{}", output.display())},
            "semantics": "balanced",
        })
    }

    async fn serve(case: &Case, deviation: &Value) -> S3Server {
        let server = S3Server::start().await;
        for (key, content) in files_below(&case.folder.join("input")) {
            server.put(&key, content);
        }
        if let Some(entries) = deviation["page"].as_u64() {
            server.set_page_size(usize::try_from(entries).unwrap());
        }
        for added in deviation["add"].as_array().into_iter().flatten() {
            let like = added["like"].as_str().unwrap();
            let neighbour = server.keys().into_iter().find(|key| key.contains(like)).expect("an object like it");
            let (folder, _) = neighbour.rsplit_once('/').unwrap();
            let key = added["key"].as_str().unwrap().replace("{folder}", folder);
            server.put(&key, added["content"].as_str().unwrap().to_owned());
        }
        server.deviate(Deviation::parse(deviation));
        server
    }

    async fn run(&self) -> Ended {
        Invocation::with("run", &self.settings).run().await
    }

    fn rows(&self) -> Vec<csv::Row> {
        self.case.csv_rows(&self.output.path().join("rows"))
    }

    fn expected(&self) -> Vec<csv::Row> {
        csv::parse(&std::fs::read_to_string(self.case.folder.join("expected.csv")).unwrap())
    }

    /// The run ends well and gives the case's rows.
    async fn gives_its_rows(&self) -> Ended {
        let ended = self.run().await;
        ended.expect(0, &[]);
        compare::same_rows(&self.expected(), &self.rows())
            .unwrap_or_else(|text| panic!("{}: {text}", self.case.name()));
        ended
    }

    /// The run ends so, says this, and writes these days and no other.
    async fn fails(&self, code: i32, parts: &[&str], days: &[&str]) -> Ended {
        let ended = self.run().await;
        ended.expect(code, parts);
        let written: Vec<String> = match std::fs::read_dir(self.output.path().join("rows")) {
            Ok(files) => files.map(|file| file.unwrap().file_name().to_string_lossy()[..10].to_owned()).collect(),
            Err(_) => Vec::new(),
        };
        let mut written = written;
        written.sort();
        assert_eq!(written, days, "{ended:#?}");
        ended
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_a_temporary_folder_does_not_count() {
    let bed = Bed::new("hidden-temporary-folder").await;
    let ended = bed.gives_its_rows().await;
    ended.expect(
        0,
        &["1 object is passed over", "_temporary/0/_temporary/attempt_1/pod_usage.2025-10-02.1.0_0.parquet"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_ending_is_named_by_every_command() {
    let bed = Bed::new("object-without-ending").await;
    let named = ["1 object is passed over, since its name does not end with .parquet", "20251002_101500_00012_abcde"];
    for command in ["run", "plan", "check"] {
        Invocation::with(command, &bed.settings).run().await.expect(0, &named);
    }
    let report = bed.run().await.report;
    assert!(report["warnings"].to_string().contains("20251002_101500_00012_abcde"), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_as_pairs_are_read_by_the_names_of_their_fields() {
    Bed::new("labels-pairs-value-first").await.gives_its_rows().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_no_number_names_what_the_report_holds() {
    let bed = Bed::new("nan-names-a-computed-row").await;
    let ended = bed.fails(65, &["team-0"], &[]).await;
    assert!(!ended.all_text().contains("Worker unallocated"), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_other_writers_give_their_rows() {
    for name in [
        "parquet-dictionary-offset-missing",
        "parquet-map-optional-keys",
        "parquet-uncompressed-size-zero",
        "parquet-v2-page-of-nulls",
    ] {
        Bed::new(name).await.gives_its_rows().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_with_an_empty_csv_gives_the_rows_of_the_others() {
    for name in ["convert-empty-csv-in-payload", "convert-header-only-csv-in-payload"] {
        let bed = Bed::new(name).await;
        let payload = bed.case.folder.join("payload.tar.gz");
        let arguments = ["--in", payload.to_str().unwrap(), "--manifest-id", "1"];
        Invocation::with("convert", &bed.settings).arguments(&arguments).run().await.expect(0, &[]);
        bed.gives_its_rows().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_object_fails_its_day_and_no_other() {
    let bed = Bed::new("s3-archived-object").await;
    let parts = ["archive class", "pod_usage.2025-10-02", "InvalidObjectState", "restore the object"];
    let ended = bed.fails(65, &parts, &["2025-10-01", "2025-10-03"]).await;
    assert!(!ended.all_text().contains("check the access and secret key"), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_document_is_no_empty_listing() {
    let bed = Bed::new("s3-listing-is-an-error-document").await;
    bed.fails(75, &["OCP/storage_usage", "code InternalError"], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_with_an_empty_segment_stops_nothing() {
    let bed = Bed::new("s3-marker-with-empty-segment").await;
    let ended = bed.gives_its_rows().await;
    assert!(!ended.all_text().contains("passed over"), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_the_whole_object_may_come_with_status_200() {
    Bed::new("s3-range-answered-200").await.gives_its_rows().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_is_cut_without_a_token_is_none() {
    let bed = Bed::new("s3-truncated-without-token").await;
    let parts = ["the listing is not whole", "IsTruncated", "check that storage.endpoint"];
    let ended = bed.fails(78, &parts, &[]).await;
    assert!(bed.server.is_some() && ended.all_text().contains("OCP/"), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_policy_hides_are_an_error_and_not_an_empty_table() {
    let bed = Bed::new("pg-row-security-on-small-tables").await;
    let server = database::database().await;
    let postgres = Postgres { schema: bed.case.text("schema").to_owned(), ..server.clone() };
    let config = bed.case.postgres_config(Semantics::Balanced, &postgres);
    let client = case_postgres::prepare(&bed.case, &postgres, config.period.start.month()).await;
    client.batch_execute(&std::fs::read_to_string(bed.case.folder.join("setup.sql")).unwrap()).await.unwrap();
    // Roles belong to the server, which other tests use as well.
    let role = format!("app_{}", uuid::Uuid::new_v4().simple());
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'app'; GRANT USAGE ON SCHEMA \"{0}\", gristmill TO {role}; \
         GRANT ALL ON ALL TABLES IN SCHEMA \"{0}\", gristmill TO {role}; \
         GRANT ALL ON ALL SEQUENCES IN SCHEMA gristmill TO {role};",
        postgres.schema
    );
    client.batch_execute(&grants).await.unwrap();
    let mut settings = crate::delivery::into_postgres(bed.case.settings(Semantics::Balanced), &postgres);
    settings["target"]["postgres"]["user"] = json!(role);
    settings["target"]["postgres"]["password"] = json!("app");
    for command in ["check", "run"] {
        let ended = Invocation::with(command, &settings).run().await;
        ended.expect(78, &["reporting_enabledtagkeys", "row"]);
    }
    assert!(case_postgres::rows(&client, &postgres).await.is_empty());
}

/// Cases that other tests stand for: the file and the test.
const ELSEWHERE: [(&str, &str, &str); 1] = [(
    "pg-standby-for-a-moment",
    include_str!("standby.rs"),
    "a_standby_for_a_moment_is_tried_again_and_one_that_stays_is_named",
)];

#[test]
fn every_case_has_its_test() {
    let (source, _) = include_str!("cases.rs").split_once("/// Cases that other tests stand for").unwrap();
    let names = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_elsewhere = |name: &str| ELSEWHERE.iter().any(|(case, _, _)| *case == name);
    let without: Vec<String> =
        names.filter(|name| !source.contains(&format!("\"{name}\"")) && !is_elsewhere(name)).collect();
    assert!(without.is_empty(), "{without:?}");
    assert!(ELSEWHERE.iter().all(|(_, file, test)| file.contains(&format!("async fn {test}()"))));
}
