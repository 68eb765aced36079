//! Objects that are replaced while a run reads them: their days are planned again, and what was written from the old object is
//! written once more.

use std::path::Path;

use serde_json::{Value, json};

use crate::binary::Invocation;
use crate::bucket::files_below;
use crate::delivery::{Delivery, from_server, into_csv, pod_key, pod_object, pod_rows, settings};
use crate::s3_server::S3Server;
use crate::usage;

const DAYS: [&str; 3] = ["2025-10-01", "2025-10-02", "2025-10-03"];

fn run_settings(server: &S3Server, output: &Path) -> Value {
    let mut settings = into_csv(from_server(settings(output, DAYS[0], DAYS[2]), server), output);
    // One read after the other, so that it is known which of them meets the new object.
    settings["storage"]["concurrent_requests"] = json!(1);
    settings
}

/// What a run over these objects writes.
async fn expected(objects: &Delivery) -> Vec<(String, Vec<u8>)> {
    let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    objects.write(input.path());
    let settings = into_csv(settings(input.path(), DAYS[0], DAYS[2]), output.path());
    Invocation::with("run", &settings).run().await.expect(0, &[]);
    sorted(output.path())
}

fn sorted(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = files_below(folder);
    files.sort();
    files
}

/// Some days in one object, so large that it is not kept whole.
fn object_of(days: &[&str], cores: f64, row_groups: usize) -> Vec<u8> {
    let mut rows = Vec::new();
    for day in days {
        for pod in 0..40 {
            for mut row in pod_rows(day, cores) {
                row.pod = row.pod.map(|name| format!("{name}-{pod}"));
                row.usage = row.usage.map(|usage| usage.map(|usage| usage + rows.len() as f64 * 0.37));
                rows.push(row);
            }
        }
    }
    usage::parquet(usage::pod_columns(&rows), rows.len() / row_groups)
}

/// A row group per day.
fn object_of_three_days(cores: f64) -> Vec<u8> {
    object_of(&DAYS, cores, DAYS.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_replaced_after_the_listing_is_planned_again() {
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 1.0).store(&server);
    let key = pod_key(DAYS[1]);
    server.replace_after_listing(&key, pod_object(DAYS[1], 3.0));
    let output = tempfile::tempdir().unwrap();
    let ended = Invocation::with("run", &run_settings(&server, output.path())).run().await;
    ended.expect(0, &["planning again", "was replaced or removed after it was listed", &key]);
    let objects = Delivery::of(&DAYS, 1.0).with(key, pod_object(DAYS[1], 3.0));
    assert_eq!(sorted(output.path()), expected(&objects).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_written_from_the_old_object_are_written_again() {
    let server = S3Server::start().await;
    let key = pod_key(DAYS[0]);
    server.put(&key, object_of_three_days(1.0));
    // The first day is read and written; the reads after it find another object.
    server.replace_after_reads(&key, 2, object_of_three_days(3.0));
    let output = tempfile::tempdir().unwrap();
    let mut settings = run_settings(&server, output.path());
    // It is no bad day.
    settings["on_bad_day"] = json!("stop");
    let ended = Invocation::with("run", &settings).run().await;
    ended.expect(0, &["planning again"]);
    let objects = Delivery::default().with(key, object_of_three_days(3.0));
    assert_eq!(sorted(output.path()), expected(&objects).await);
    let log = ended.all_text();
    assert!(log.matches("day written").count() > 3, "the first day was written twice: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_shares_a_row_group_with_a_changed_one_is_left_alone() {
    let server = S3Server::start().await;
    let (shared, changed) = (pod_key(DAYS[0]), pod_key(DAYS[1]));
    server.put(&shared, object_of(&DAYS[..2], 1.0, 1));
    server.put(&changed, object_of(&DAYS[1..2], 1.0, 1));
    server.replace_after_reads(&changed, 1, object_of(&DAYS[1..2], 3.0, 1));
    let output = tempfile::tempdir().unwrap();
    let ended = Invocation::with("run", &run_settings(&server, output.path())).run().await;
    ended.expect(0, &["planning again"]);
    let objects =
        Delivery::default().with(shared, object_of(&DAYS[..2], 1.0, 1)).with(changed, object_of(&DAYS[1..2], 3.0, 1));
    assert_eq!(sorted(output.path()), expected(&objects).await);
    assert_eq!(ended.stderr.matches("day written day=2025-10-01").count(), 1, "{ended:#?}");
    assert_eq!(ended.day(DAYS[0])["status"], "written");
}

/// Roles are derived while the first days are read: whichever of the two meets the new object first, and whether days were written
/// before, the rows are those of the new one.
#[tokio::test(flavor = "multi_thread")]
async fn roles_derived_from_the_old_object_are_derived_again() {
    // Its end, then each of three row groups for the roles and for the rows: the seventh read is the last.
    for reads in 1..=6 {
        let server = S3Server::start().await;
        let key = pod_key(DAYS[0]);
        server.put(&key, object_of_three_days(1.0));
        server.replace_after_reads(&key, reads, object_of_three_days(3.0));
        let output = tempfile::tempdir().unwrap();
        let mut settings = run_settings(&server, output.path());
        settings["reference"]["node_roles"] = json!("derive");
        let ended = Invocation::with("run", &settings).run().await;
        ended.expect(0, &["planning again"]);
        let quiet = tempfile::tempdir().unwrap();
        settings["target"]["file"]["path"] = json!(quiet.path());
        Invocation::with("run", &settings).run().await.expect(0, &[]);
        assert_eq!(sorted(output.path()), sorted(quiet.path()), "replaced after {reads} reads");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_never_settles_costs_its_days_only() {
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 1.0).store(&server);
    let key = pod_key(DAYS[1]);
    for upload in 0..8 {
        server.replace_after_listing(&key, pod_object(DAYS[1], 3.0 + f64::from(upload)));
    }
    server.one_replacement_at_a_time(true);
    let output = tempfile::tempdir().unwrap();
    let ended = Invocation::with("run", &run_settings(&server, output.path())).run().await;
    ended.expect(75, &[&key, "was replaced or removed after it was listed", "once the upload has finished"]);
    assert_eq!(ended.report["exit_code"], 75);
    for (day, status) in [(DAYS[0], "written"), (DAYS[1], "failed"), (DAYS[2], "written")] {
        assert_eq!(ended.day(day)["status"], status, "{ended:#?}");
    }
    let names: Vec<String> = sorted(output.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["2025-10-01.csv", "2025-10-03.csv"]);
}
