//! Objects that go straight into a bucket.

use std::time::Duration;

use bytes::Bytes;
use gristmill::convert::{ConvertOptions, ConvertTarget, convert_until};
use gristmill::error::{ErrorKind, Failure};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Bed, DAY, NODE_HEADER, POD_HEADER, csv, pod_row, reports, times};
use crate::binary::Invocation;
use crate::delivery::{ORG, SOURCE, from_server, into_csv};
use crate::s3_server::S3Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_takes_the_objects_and_a_run_reads_them() {
    let server = S3Server::start().await;
    let mut bed = Bed::new();
    bed.settings = from_server(bed.settings, &server);
    for (name, text) in reports() {
        bed.write(name, text);
    }
    bed.convert(&[]).await.expect(0, &["8 objects"]);
    let target = tempfile::tempdir().unwrap();
    let settings = into_csv(bed.settings.clone(), target.path());
    Invocation::with("run", &settings).run().await.expect(0, &["written"]);
    let rows = crate::csv::parse(&std::fs::read_to_string(target.path().join(format!("{DAY}.csv"))).unwrap());
    assert!(rows.iter().any(|row| row["namespace"].as_deref() == Some("shop")), "{rows:#?}");

    bed.convert(&[]).await.expect(64, &["is already there"]);
    bed.convert(&["--replace", "--rows-per-file", "4"]).await.expect(0, &["10 objects"]);
    assert_eq!(server.keys().len(), 10);
    bed.convert(&["--replace"]).await.expect(0, &["8 objects", "removed, of an earlier conversion"]);
    assert_eq!(server.keys().len(), 8, "of the pods only the new piece is left");
}

/// A bed whose objects go to a server, with some reports.
fn bed_with_reports(server: &S3Server) -> Bed {
    let mut bed = Bed::new();
    bed.settings = from_server(bed.settings, server);
    bed.settings["storage"]["retries"] = 0.into();
    for (name, text) in reports() {
        bed.write(name, text);
    }
    bed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_in_the_third_file_leaves_the_bucket_as_it_was() {
    let server = S3Server::start().await;
    let bed = bed_with_reports(&server);
    let bad = csv(NODE_HEADER, &[format!("{},n,label_a:1", times(DAY, 0)), "short".to_owned()]);
    bed.write("u_report.2.csv", &bad);
    bed.convert(&["--rows-per-file", "1"]).await.expect(65, &["`u_report.2.csv`", "line 3", "1 fields"]);
    assert_eq!(server.keys(), [""; 0]);

    // Nor does it harm what an earlier conversion wrote.
    bed.write("u_report.2.csv", csv(NODE_HEADER, &[]));
    bed.convert(&[]).await.expect(0, &["6 objects"]);
    let before = server.keys();
    bed.write("u_report.2.csv", &bad);
    bed.convert(&["--replace", "--rows-per-file", "1"]).await.expect(65, &["line 3"]);
    assert_eq!(server.keys(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_the_storage_failed_is_removed() {
    let server = S3Server::start().await;
    let bed = bed_with_reports(&server);
    server.refuse_writes_after(Some(5));
    let ended = bed.convert(&["--workers", "1"]).await;
    ended.expect(78, &["access denied", "the objects written so far were removed"]);
    assert_eq!(server.keys(), [""; 0]);

    server.refuse_writes_after(Some(5));
    server.refuse_deletes(true);
    let ended = bed.convert(&["--workers", "1"]).await;
    ended.expect(78, &["could not be removed", "`data/parquet/", "code AccessDenied", "--replace"]);
    assert_eq!(server.keys().len(), 5);

    server.refuse_writes_after(None);
    server.refuse_deletes(false);
    bed.convert(&["--replace"]).await.expect(0, &["8 objects"]);
    assert_eq!(server.keys().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_fails_keeps_older_objects_and_says_so() {
    let server = S3Server::start().await;
    let bed = bed_with_reports(&server);
    bed.convert(&[]).await.expect(0, &["8 objects"]);
    let before = server.keys();
    server.refuse_writes_after(Some(3));
    let ended = bed.convert(&["--replace", "--rows-per-file", "4", "--workers", "1"]).await;
    ended.expect(78, &["access denied", "older objects are overwritten", "convert again with `--replace`"]);
    assert_eq!(server.keys(), before, "new pieces are gone, old ones are not");
}

#[tokio::test(flavor = "multi_thread")]
async fn older_pieces_that_cannot_be_removed_fail_the_conversion() {
    let server = S3Server::start().await;
    let bed = bed_with_reports(&server);
    bed.convert(&["--rows-per-file", "4"]).await.expect(0, &["10 objects"]);
    server.refuse_deletes(true);
    let ended = bed.convert(&["--replace"]).await;
    ended.expect(78, &["the new objects are there", "count twice", "2 objects", "0_daily_1.parquet", "AccessDenied"]);
    server.refuse_deletes(false);
    bed.convert(&["--replace"]).await.expect(0, &["8 objects"]);
    assert_eq!(server.keys().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_piece_of_a_report_tells_the_hours_of_its_day() {
    let server = S3Server::start().await;
    let mut bed = Bed::new();
    bed.settings = from_server(bed.settings, &server);
    let rows: Vec<String> = (0..5).map(|hour| pod_row(DAY, hour, "a", "shop", "")).collect();
    bed.write("pods.csv", csv(POD_HEADER, &rows));
    bed.convert(&["--rows-per-file", "2"]).await.expect(0, &["6 objects"]);
    for key in server.keys() {
        let content = Bytes::from(server.content(&key));
        let builder = ParquetRecordBatchReaderBuilder::try_new(content).unwrap();
        let pairs = builder.metadata().file_metadata().key_value_metadata().unwrap();
        let value = |name: &str| pairs.iter().find(|pair| pair.key == name).and_then(|pair| pair.value.clone());
        assert_eq!(value("reportnumhours").as_deref(), Some("5"), "{key}");
        // The object says the same as the file.
        let beside = server.metadata(&key);
        assert_eq!(beside.keys().collect::<Vec<_>>(), ["manifestid", "reportdatestart", "reportnumhours"], "{key}");
        assert!(beside.iter().all(|(name, kept)| value(name).as_ref() == Some(kept)), "{key}: {beside:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_named() {
    let server = S3Server::start().await;
    let mut bed = Bed::new();
    bed.settings = from_server(bed.settings, &server);
    bed.settings["storage"]["url"] = serde_json::json!("s3://another");
    for (name, text) in reports() {
        bed.write(name, text);
    }
    bed.convert(&[]).await.expect(78, &["s3://another", "no such bucket"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversion_that_is_stopped_takes_its_objects_back() {
    let server = S3Server::start().await;
    let bed = bed_with_reports(&server);
    let target = ConvertTarget::Storage(Box::new(crate::bucket::in_process(&server)));
    let mut options = ConvertOptions::new(bed.input.path(), target, ORG, SOURCE.parse().unwrap());
    options.workers = 1;
    server.set_latency(Duration::from_millis(100));
    let first_object = async {
        while server.keys().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Failure::new(ErrorKind::Interrupted, "stopped by the test")
    };
    let failure = convert_until(&options, first_object).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Interrupted);
    assert!(failure.message.contains("stopped by the test; the objects written so far were removed"), "{failure}");
    assert_eq!(server.keys(), [""; 0]);
}
