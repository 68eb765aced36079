//! Listing, footers and ranged reads over HTTP, and what a server in trouble does to them.
//!
//! Tests that need no faults run against `S3_ENDPOINT` (with `S3_ACCESS_KEY`, `S3_SECRET_KEY`, `S3_BUCKET`) if it is set.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use gristmill::config::Storage;
use gristmill::discover::{Listing, ObjectInfo, discover};
use gristmill::error::{ErrorKind, Failure};
use gristmill::fetch::fetch_row_group;
use gristmill::footers::{DaySpan, Footer, column_range, read_footers};
use gristmill::runtime::memory_budget::MemoryBudget;
use gristmill::schema::source::{ReportType, SourceTable, Variant};
use gristmill::store::{ObjectRef, Store, StoreError};
use gristmill::time::BillingMonth;
use gristmill::units::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use uuid::Uuid;

use crate::bucket::{TestBucket, files_below, folder, in_process, storage};
use crate::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

const ORG_ID: &str = "org1234567";
const MONTH: BillingMonth = BillingMonth { year: 2025, month: 10 };
const SOURCE: Uuid = Uuid::from_u128(1);
const POD_FOLDER: &str =
    "data/parquet/org1234567/OCP/pod_usage/source=00000000-0000-0000-0000-000000000001/year=2025/month=10";

fn all_tables() -> Vec<SourceTable> {
    let table = |report, variant| SourceTable { report, variant };
    ReportType::ALL.into_iter().flat_map(|r| [table(r, Variant::Raw), table(r, Variant::Daily)]).collect()
}

fn pods() -> SourceTable {
    SourceTable { report: ReportType::PodUsage, variant: Variant::Raw }
}

async fn discover_all(store: &Store) -> Result<Listing, Failure> {
    Ok(discover(store, ORG_ID, SOURCE, &[MONTH], &all_tables()).await?)
}

async fn discover_pods(store: &Store) -> Result<Listing, Failure> {
    Ok(discover(store, ORG_ID, SOURCE, &[MONTH], &[pods()]).await?)
}

/// A Parquet file with so many hourly rows of October 2025.
fn parquet(row_count: i64) -> Vec<u8> {
    let hours = (0..row_count).map(|hour| 1_759_276_800_000 + hour * 3_600_000);
    let time: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(hours));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..row_count));
    let batch = RecordBatch::try_from_iter([("interval_start", time), ("value", values)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

async fn read_rows(store: &Store, footer: &Footer) -> Vec<RecordBatch> {
    let budget = MemoryBudget::new(Bytes(64 << 20));
    let metadata = footer.metadata();
    let mut rows = Vec::new();
    for row_group in &footer.row_groups {
        let permit = budget.acquire(Bytes(1 << 20)).await;
        let columns = metadata.row_group(row_group.index).columns().iter();
        let ranges: Vec<_> = columns.map(|column| column_range(column, footer.object.size).unwrap()).collect();
        let chunk = fetch_row_group(store, footer, row_group.index, &ranges, permit).await.unwrap();
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new()).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(chunk, metadata);
        let reader = builder.with_row_groups(vec![row_group.index]).build().unwrap();
        rows.extend(reader.map(Result::unwrap));
    }
    rows
}

async fn good_footers(store: &Store, listing: &Listing) -> Vec<Footer> {
    let results = read_footers(store, listing.objects.clone()).await;
    results.into_iter().map(|(_, footer)| footer.unwrap()).collect()
}

#[tokio::test]
async fn a_bucket_reads_like_the_folder_it_was_filled_from() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/01-basic-pod/input");
    let bucket = TestBucket::with(files_below(&root)).await;
    let (over_http, local) = (bucket.store(), Store::new(&folder(&root)).unwrap());
    let (http_listing, local_listing) = (discover_all(&over_http).await.unwrap(), discover_all(&local).await.unwrap());
    let facts = |object: &Arc<ObjectInfo>| {
        (object.key.clone(), object.table, object.month, object.size, object.manifest.clone())
    };
    let http_facts: Vec<_> = http_listing.objects.iter().map(facts).collect();
    assert_eq!(http_facts, local_listing.objects.iter().map(facts).collect::<Vec<_>>());
    assert_eq!(http_facts.len(), 6, "three reports, raw and daily");
    assert!(http_facts.iter().all(|(_, _, _, _, manifest)| manifest.is_some()));

    let (http_footers, local_footers) =
        (good_footers(&over_http, &http_listing).await, good_footers(&local, &local_listing).await);
    for (http_footer, local_footer) in http_footers.iter().zip(&local_footers) {
        assert_eq!(http_footer.row_groups, local_footer.row_groups);
        assert!(matches!(http_footer.row_groups[0].days, DaySpan::Known(first, last) if first == last));
        let expected = read_rows(&local, local_footer).await;
        assert_eq!(read_rows(&over_http, http_footer).await, expected, "kept whole");
        let mut ranged = http_footer.clone();
        ranged.whole = None;
        assert_eq!(read_rows(&over_http, &ranged).await, expected, "by ranges");
        assert!(expected.iter().map(RecordBatch::num_rows).sum::<usize>() > 0);
    }
}

#[tokio::test]
async fn every_visible_parquet_object_below_the_folder_counts_and_nothing_else() {
    let keys =
        ["a.parquet", "deeper/still/b.parquet", "c.PARQUET", "d.csv", "e.parquet.tmp", "_f/g.parquet", ".h.parquet"];
    let mut objects: Vec<_> = keys.iter().map(|key| (format!("{POD_FOLDER}/{key}"), vec![1])).collect();
    objects.push((POD_FOLDER.replace("month=10", "month=09") + "/other-month.parquet", vec![1]));
    objects.push((format!("{POD_FOLDER}0/longer-name.parquet"), vec![1]));
    let store = TestBucket::with(objects).await;
    let listing = discover_all(&store.store()).await.unwrap();
    let keys: Vec<_> = listing.objects.iter().map(|object| object.key.strip_prefix(POD_FOLDER).unwrap()).collect();
    assert_eq!(keys, ["/a.parquet", "/c.PARQUET", "/deeper/still/b.parquet"]);
    let sentences = listing.passed_over.sentences();
    assert_eq!((listing.passed_over.count(), sentences.len()), (4, 2));
    assert!(
        sentences[0].starts_with("2 objects") && sentences[0].contains(&format!("`{POD_FOLDER}/d.csv`")),
        "{sentences:?}"
    );
    assert!(sentences[1].contains(&format!("`{POD_FOLDER}/.h.parquet`, `{POD_FOLDER}/_f/g.parquet`")), "{sentences:?}");
    assert_eq!(listing.of(pods(), MONTH).count(), 3);
    assert_eq!(listing.of(pods(), MONTH.next()).count(), 0);
}

#[tokio::test]
async fn empty_and_truncated_objects_are_named_and_others_still_read() {
    let good = parquet(30);
    let objects = [("1-empty", vec![]), ("2-cut", good[..good.len() / 2].to_vec()), ("3-good", good)];
    let objects = objects.map(|(name, content)| (format!("{POD_FOLDER}/{name}.parquet"), content));
    let bucket = TestBucket::with(objects.to_vec()).await;
    let store = bucket.store();
    let listing = discover_pods(&store).await.unwrap();
    let results = read_footers(&store, listing.objects).await;
    for (object, result) in &results[..2] {
        let error = result.as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ObjectUnreadable);
        assert!(error.to_string().contains(&object.key), "{error}");
    }
    let good = results[2].1.as_ref().unwrap();
    assert_eq!(good.row_groups[0].row_count, 30);
}

#[tokio::test]
async fn pages_that_repeat_entries_count_each_object_once() {
    let server = S3Server::start().await;
    server.set_page_size(3);
    server.repeat_entries(true);
    for index in 0..10 {
        server.put(&format!("{POD_FOLDER}/{index}.parquet"), vec![1]);
    }
    let listing = discover_pods(&Store::new(&in_process(&server)).unwrap()).await.unwrap();
    assert_eq!(listing.objects.len(), 10);
    assert!(listing.objects.is_sorted_by_key(|object| object.key.clone()));
    assert!(server.counters().list_requests > 4);
}

#[tokio::test]
async fn a_listing_that_does_not_advance_ends_with_an_error() {
    let server = S3Server::start().await;
    server.set_page_size(1);
    server.repeat_entries(true);
    server.put(&format!("{POD_FOLDER}/1.parquet"), vec![1]);
    server.put(&format!("{POD_FOLDER}/2.parquet"), vec![1]);
    let failure = discover_pods(&Store::new(&in_process(&server)).unwrap()).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::StorageAnswerUnusable, "{}", failure.full_text());
}

#[tokio::test]
async fn wrong_keys_are_access_denied_and_stay_secret() {
    let server = S3Server::start().await;
    for (access_key, secret_key) in [(ACCESS_KEY, "not-the-secret"), ("nobody", SECRET_KEY)] {
        let storage = storage(server.endpoint(), BUCKET, "", access_key, secret_key);
        let store = Store::new(&storage).unwrap();
        let failure = discover_pods(&store).await.unwrap_err();
        let text = failure.full_text();
        assert_eq!(failure.kind, ErrorKind::AccessDenied, "{text}");
        assert!(text.contains("HTTP status 403"), "{text}");
        assert!(!text.contains(secret_key) && !format!("{failure:?}{store:?}").contains(secret_key));
        let object =
            ObjectRef { key: "data/x", size: Bytes(1), etag: None, last_modified: chrono::DateTime::UNIX_EPOCH };
        assert_eq!(store.read_range(object, 0..1).await.unwrap_err().kind(), ErrorKind::AccessDenied);
    }
    assert_eq!(server.counters().requests, 4, "a refusal is not repeated");
}

#[tokio::test]
async fn an_unknown_bucket_is_named() {
    let server = S3Server::start().await;
    let storage = storage(server.endpoint(), "no-such-bucket", "some/where", ACCESS_KEY, SECRET_KEY);
    let failure = discover_pods(&Store::new(&storage).unwrap()).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::BucketMissing, "{}", failure.full_text());
    assert!(failure.message.contains("s3://no-such-bucket/some/where/data/parquet"), "{}", failure.message);
}

#[tokio::test]
async fn a_missing_folder_is_like_a_missing_bucket() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for path in [parent.path().join("missing"), file] {
        let error = Store::new(&folder(&path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BucketMissing, "{error}");
    }
    let empty = discover_all(&Store::new(&folder(parent.path())).unwrap()).await.unwrap();
    assert!(empty.objects.is_empty());
}

#[tokio::test]
async fn a_refused_connection_ends_soon() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let start = Instant::now();
    let store = Store::new(&storage(endpoint, BUCKET, "", ACCESS_KEY, SECRET_KEY)).unwrap();
    let failure = discover_pods(&store).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::StorageUnavailable, "{}", failure.full_text());
    assert!(failure.full_text().contains("refused"), "{}", failure.full_text());
    assert_eq!(store.counters().requests, 4, "one try and three repetitions");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_silent_server_ends_with_the_request_timeout() {
    let server = S3Server::start().await;
    server.set_latency(Duration::from_secs(30));
    let storage = Storage { request_timeout_seconds: 1, retries: 1, ..in_process(&server) };
    let start = Instant::now();
    let failure = discover_pods(&Store::new(&storage).unwrap()).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::StorageUnavailable, "{}", failure.full_text());
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_body_that_trickles_ends_with_the_request_timeout() {
    let server = S3Server::start().await;
    let content = vec![7; 3 << 20];
    server.put(&format!("{POD_FOLDER}/1.parquet"), content.clone());
    let storage = Storage { request_timeout_seconds: 1, retries: 1, ..in_process(&server) };
    let store = Store::new(&storage).unwrap();
    let listing = discover_pods(&store).await.unwrap();
    let object = listing.objects[0].reference();
    server.set_frame_pause(Duration::from_millis(100));
    assert_eq!(store.read_range(object, 0..3 << 20).await.unwrap(), content, "slow, but in time");
    server.set_frame_pause(Duration::from_secs(5));
    let start = Instant::now();
    let error = store.read_range(object, 0..3 << 20).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageUnavailable, "{error}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again() {
    let server = S3Server::start().await;
    let content = parquet(100);
    server.put(&format!("{POD_FOLDER}/1.parquet"), content.clone());
    let store = Store::new(&in_process(&server)).unwrap();
    server.fail_next(2);
    let listing = discover_pods(&store).await.unwrap();
    assert_eq!(store.counters().requests, 3, "repetitions are counted");
    let object = listing.objects[0].reference();
    let whole = 0..content.len() as u64;
    server.reset_next(1);
    assert_eq!(store.read_range(object, whole.clone()).await.unwrap(), content);
    server.cut_next(2);
    assert_eq!(store.read_range(object, whole.clone()).await.unwrap(), content, "the rest of a cut body is read");
    server.fail_next(10);
    let error = store.read_range(object, whole).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageUnavailable);
    let text = Failure::from(error).full_text();
    assert!(text.contains("HTTP status 503, code SlowDown") && text.contains("1.parquet"), "{text}");
    assert_eq!(store.counters().requests, server.counters().requests);
}

#[tokio::test]
async fn a_replaced_or_removed_object_is_noticed() {
    let server = S3Server::start().await;
    let key = format!("{POD_FOLDER}/1.parquet");
    let store = Store::new(&in_process(&server)).unwrap();
    for ignores_if_match in [false, true] {
        server.ignore_if_match(ignores_if_match);
        server.put(&key, parquet(100));
        server.replace_after_listing(&key, parquet(101));
        let listing = discover_pods(&store).await.unwrap();
        let results = read_footers(&store, listing.objects.clone()).await;
        let error = results[0].1.as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ObjectChanged, "{error}");
        assert!(error.to_string().contains(&key), "{error}");
    }
    let listing = discover_pods(&store).await.unwrap();
    let mut footer = good_footers(&store, &listing).await.remove(0);
    server.remove(&key);
    footer.whole = None;
    let permit = MemoryBudget::new(Bytes(1 << 20)).acquire(Bytes(1)).await;
    let error = fetch_row_group(&store, &footer, 0, &[4..50, 50..100], permit).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ObjectChanged);
    let text = Failure::from(error).full_text();
    assert!(text.contains("row group 0") && text.contains(&key), "{text}");
}

#[tokio::test]
async fn a_replaced_file_of_a_folder_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join(POD_FOLDER).join("1.parquet");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, parquet(100)).unwrap();
    let store = Store::new(&folder(root.path())).unwrap();
    let listing = discover_pods(&store).await.unwrap();
    std::fs::write(&file, parquet(200)).unwrap();
    let error = store.read_range(listing.objects[0].reference(), 0..4).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed { .. }), "{error}");
    std::fs::remove_file(&file).unwrap();
    let error = store.read_range(listing.objects[0].reference(), 0..4).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed { .. }), "{error}");
}

#[tokio::test]
async fn no_more_requests_at_once_than_configured() {
    let server = S3Server::start().await;
    for index in 0..30 {
        server.put(&format!("{POD_FOLDER}/{index}.parquet"), parquet(10));
    }
    server.set_latency(Duration::from_millis(10));
    let store = Store::new(&Storage { concurrent_requests: 3, ..in_process(&server) }).unwrap();
    let listing = discover_all(&store).await.unwrap();
    assert_eq!(good_footers(&store, &listing).await.len(), 30);
    assert_eq!(server.counters().peak_in_flight, 3);
    assert_eq!(store.counters().bytes_read.0, server.counters().bytes_sent);
}

#[test]
fn of_a_folder_only_so_many_files_are_read_at_once() {
    let root = tempfile::tempdir().unwrap();
    let most = |concurrent_requests| {
        Store::new(&Storage { concurrent_requests, ..folder(root.path()) }).unwrap().concurrent_requests()
    };
    assert_eq!([most(3), most(256)], [3, 16]);
}

#[test]
fn settings_that_cannot_work_are_refused_before_any_request() {
    let base = storage("http://127.0.0.1:1".to_owned(), BUCKET, "", ACCESS_KEY, SECRET_KEY);
    let folder = tempfile::tempdir().unwrap();
    let no_certificate = folder.path().join("ca.pem");
    std::fs::write(&no_certificate, "nothing").unwrap();
    let broken = [
        Storage { allow_http: false, ..base.clone() },
        Storage { secret_key: None, ..base.clone() },
        Storage { ca_file: Some(folder.path().join("missing.pem")), ..base.clone() },
        Storage { ca_file: Some(no_certificate), ..base },
    ];
    for storage in broken {
        let error = Store::new(&storage).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(!Failure::from(error).full_text().contains(SECRET_KEY));
    }
}
