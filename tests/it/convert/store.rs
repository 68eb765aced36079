//! Objects that go straight into a bucket.

use super::{Bed, DAY, reports};
use crate::binary::Invocation;
use crate::delivery::{from_server, into_csv};
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
    bed.convert(&["--replace"]).await.expect(0, &["8 objects", "of an earlier conversion", "count twice"]);
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
