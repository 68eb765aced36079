//! `gristmill generate` into a bucket: the objects of a folder, where the same configuration's `run` finds them.

use std::path::Path;

use gristmill::generate::{GenerateError, GenerateOptions, GenerateReport, Output, generate};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::binary::Invocation;
use crate::bucket::{TestBucket, files_below};
use crate::s3_server::S3Server;

const SOURCE: &str = "00000000-0000-4000-8000-00000000000a";

fn settings(bucket: &TestBucket, output: &Path) -> Value {
    let (access_key, secret_key) = bucket.keys();
    json!({
        "version": 1,
        "organization": {"org_id": "acct55"},
        "source": {"uuid": SOURCE, "cluster_id": "made-up", "report_period_id": 1},
        "period": {"start_date": "2025-03-10", "end_date": "2025-03-12"},
        "storage": {
            "url": bucket.url(), "endpoint": bucket.endpoint(), "allow_http": true,
            "access_key": access_key, "secret_key": secret_key,
        },
        "target": {"kind": "file", "file": {"path": output, "format": "csv"}},
        "reference": {"from": "inline", "enabled_tag_keys": ["app"], "node_roles": "derive"},
    })
}

async fn generate_on_a_thread(options: GenerateOptions) -> GenerateReport {
    tokio::task::spawn_blocking(move || generate(&options).unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_generated_for_a_configuration_is_what_its_run_reads() {
    let bucket = TestBucket::with(Vec::new()).await;
    let output = tempfile::tempdir().unwrap();
    let settings = settings(&bucket, output.path());
    let generated = ["--rows", "7200", "--storage"];
    let ended = Invocation::with("generate", &settings).arguments(&generated).run().await;
    ended.expect(
        0,
        &["12 objects", "generated/55/source=00000000-0000-4000-8000-00000000000a/2025-03-10_2025-03-12/manifest.json"],
    );

    let ended = Invocation::with("run", &settings).run().await;
    ended.expect(0, &["rows in"]);
    let days = ended.report["days"].as_array().unwrap();
    assert_eq!(days.len(), 3, "{ended:#?}");
    assert!(days.iter().all(|day| day["rows_in"].as_u64() > Some(2_400)), "pods, volumes and labels: {ended:#?}");

    // A second call would double every row.
    let again = Invocation::with("generate", &settings).arguments(&generated).run().await;
    again.expect(64, &["already exists", "--source-uuid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_gets_the_objects_of_a_folder() {
    let bucket = TestBucket::with(Vec::new()).await;
    let folder = tempfile::tempdir().unwrap();
    let into_folder = GenerateOptions { daily: true, ..GenerateOptions::new(2_000, 2, folder.path()) };
    let output = Output::Store { store: bucket.store(), runtime: Handle::current() };
    let into_bucket = GenerateOptions { out: output, ..into_folder.clone() };
    let (expected, got) = (generate_on_a_thread(into_folder).await, generate_on_a_thread(into_bucket).await);
    assert_eq!(got.objects, expected.objects, "keys, row counts and checksums");
    assert!(got.manifest.starts_with("s3://"), "{}", got.manifest);

    let mut sizes = Vec::new();
    for entry in bucket.store().list("data/").await.unwrap() {
        sizes.push((entry.key, entry.size.0));
    }
    sizes.sort();
    let mut files: Vec<_> =
        files_below(folder.path()).into_iter().map(|(key, content)| (key, content.len() as u64)).collect();
    files.retain(|(key, _)| key != "manifest.json");
    files.sort();
    assert_eq!(sizes, files);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_named_before_anything_is_made() {
    let bucket = TestBucket::with(Vec::new()).await;
    let output = tempfile::tempdir().unwrap();
    let mut settings = settings(&bucket, output.path());
    settings["storage"]["url"] = "s3://no-such-bucket".into();
    let ended = Invocation::with("generate", &settings).arguments(&["--rows", "100"]).run().await;
    ended.expect(78, &["no-such-bucket", "no such bucket or folder"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_and_configuration_exclude_each_other() {
    let bucket = TestBucket::with(Vec::new()).await;
    let output = tempfile::tempdir().unwrap();
    let ended =
        Invocation::with("generate", &settings(&bucket, output.path())).arguments(&["--out", "somewhere"]).run().await;
    ended.expect(64, &["--out"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_a_folder_lists_reads_and_keeps_objects() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("data/a")).unwrap();
    std::fs::write(folder.path().join("data/a/one"), "0123456789").unwrap();
    let server = S3Server::start_on(folder.path()).await.unwrap();
    let store = gristmill::store::Store::new(&crate::bucket::in_process(&server)).unwrap();
    store.put("data/a/two", "abc".into(), &[]).await.unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("data/a/two")).unwrap(), "abc");
    let entries = store.list("data/").await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["data/a/one", "data/a/two"]);
    let object = gristmill::store::ObjectRef {
        key: &entries[0].key,
        size: entries[0].size,
        etag: entries[0].etag.as_deref(),
        last_modified: entries[0].last_modified,
    };
    assert_eq!(store.read_range(object, 2..5).await.unwrap(), "234");
    let gone = ["data/a/one", "data/a/never", "data/a/two"].map(str::to_owned);
    store.delete(&gone).await.unwrap();
    assert!(store.list("data/").await.unwrap().is_empty() && !folder.path().join("data/a/two").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_leaves_nothing_in_the_way_of_the_next_call() {
    let server = S3Server::start().await;
    let store = gristmill::store::Store::new(&crate::bucket::in_process(&server)).unwrap();
    let out = Output::Store { store, runtime: Handle::current() };
    let options = GenerateOptions { out, daily: true, ..GenerateOptions::new(2_000, 2, "") };
    let failing = || {
        let options = options.clone();
        tokio::task::spawn_blocking(move || generate(&options).unwrap_err())
    };
    server.refuse_writes_after(Some(5));
    assert!(matches!(failing().await.unwrap(), GenerateError::Storage(_)));
    assert_eq!(server.keys(), [""; 0]);

    server.refuse_deletes(true);
    server.refuse_writes_after(Some(5));
    let text = failing().await.unwrap().to_string();
    assert!(text.contains("could not be removed") && text.contains("data/parquet/"), "{text}");
    for key in server.keys() {
        server.remove(&key);
    }
    server.refuse_writes_after(None);
    let start = options.start;
    let report = generate_on_a_thread(options).await;
    assert_eq!(report.objects.len() + 1, server.keys().len());
    for object in &report.objects {
        let number = object.day.0 - start.0 + 1;
        let expected = [
            ("manifestid", number.to_string()),
            ("reportdatestart", object.day.to_string()),
            ("reportnumhours", "24".to_owned()),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(server.metadata(&object.key), expected.into(), "{}", object.key);
    }
}
