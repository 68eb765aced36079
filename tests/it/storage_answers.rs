//! Servers that answer with something else than what was asked: no day is written from it, and the message says what it was.

use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde_json::{Value, json};

use crate::binary::{Ended, Invocation};
use crate::delivery::{self, Delivery, from_server, into_csv, pod_key, pod_object, settings};
use crate::s3_server::S3Server;
use crate::s3_server::deviation::{Answer, Deviation, ListForm, Range};
use crate::usage;

const DAYS: [&str; 3] = ["2025-10-01", "2025-10-02", "2025-10-03"];

/// A server with three days, and a folder for their rows.
struct Bed {
    server: S3Server,
    output: tempfile::TempDir,
    settings: Value,
}

impl Bed {
    async fn new() -> Self {
        let server = S3Server::start().await;
        let output = tempfile::tempdir().unwrap();
        Delivery::of(&DAYS, 1.0).store(&server);
        let settings = into_csv(settings(output.path(), DAYS[0], DAYS[2]), output.path());
        let settings = from_server(settings, &server);
        Self { server, output, settings }
    }

    async fn run(&self, extra: &[&str]) -> Ended {
        Invocation::with("run", &self.settings).arguments(extra).run().await
    }

    fn days(&self) -> Vec<String> {
        let mut days: Vec<String> = std::fs::read_dir(self.output.path())
            .unwrap()
            .map(|file| file.unwrap().file_name().to_string_lossy()[..10].to_owned())
            .collect();
        days.sort();
        days
    }

    /// With this deviation `run` and `check` end so and say this, and no day is written.
    async fn refuses(&self, deviation: Deviation, code: i32, parts: &[&str]) -> Ended {
        self.server.deviate(deviation);
        Invocation::with("check", &self.settings).run().await.expect(code, parts);
        let ended = self.run(&[]).await;
        ended.expect(code, parts);
        assert_eq!(self.days(), [""; 0], "{ended:#?}");
        ended
    }

    async fn writes(&self, deviation: Deviation, extra: &[&str]) -> Ended {
        self.server.deviate(deviation);
        let ended = self.run(extra).await;
        ended.expect(0, &[]);
        assert_eq!(self.days(), DAYS, "{ended:#?}");
        ended
    }
}

fn instead_of_listing(body: &str, content_type: &str) -> Deviation {
    let answer = Answer { contains: String::new(), body: body.to_owned(), content_type: content_type.to_owned() };
    Deviation { answer_list: Some(answer), ..Deviation::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_is_whole_only_if_the_server_says_so() {
    let bed = Bed::new().await;
    bed.server.set_page_size(2);
    for (form, said) in [
        (ListForm::NoToken, "it is cut (IsTruncated) and has no NextContinuationToken"),
        (ListForm::Version1, "version 1 (NextMarker)"),
    ] {
        let parts = ["the listing is not whole", said, "check that storage.endpoint"];
        bed.refuses(Deviation { list: Some(form), ..Deviation::default() }, 78, &parts).await;
    }
    bed.writes(Deviation::default(), &[]).await;
    bed.server.set_page_size(1_000);
    bed.server.deviate(Deviation { list: Some(ListForm::NoIsTruncated), ..Deviation::default() });
    bed.run(&[]).await.expect(78, &["does not say whether it is complete"]);
    bed.server.deviate(Deviation { list: Some(ListForm::Half), ..Deviation::default() });
    bed.run(&[]).await.expect(75, &["the listing cannot be read to its end", "the XML is broken at line"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_listing_is_no_empty_folder() {
    let bed = Bed::new().await;
    let xml = "application/xml";
    for (body, content_type, code, said) in [
        (
            "<!DOCTYPE html><html><body>secret-session</body></html>",
            "text/html",
            78,
            "an HTML page came (first element `html`)",
        ),
        ("{\"secret-session\": 1}", "application/json", 78, "JSON came"),
        ("", xml, 78, "an empty answer came"),
        ("secret-session", "text/plain", 78, "something that is no XML came"),
        ("<ListAllMyBucketsResult/>", xml, 78, "XML with the first element `ListAllMyBucketsResult` came"),
        ("<Error><Code>AccessDenied</Code></Error>", xml, 78, "access denied"),
        ("<Error><Code>NoSuchBucket</Code></Error>", xml, 78, "no such bucket"),
        ("<Error><Code>SlowDown</Code></Error>", xml, 75, "code SlowDown"),
        ("<Error><Code>InvalidRequest</Code></Error>", xml, 78, "an <Error> document came, InvalidRequest"),
        ("<Error/>", xml, 78, "an <Error> document came, without a code"),
        (
            "<ListBucketResult><Prefix/><IsTruncated>false</IsTruncated></ListBucketResult>",
            xml,
            78,
            "it is the listing of a whole bucket, and empty",
        ),
        (
            "<ListBucketResult><Prefix>elsewhere/</Prefix><IsTruncated>false</IsTruncated></ListBucketResult>",
            xml,
            78,
            "it is the listing of another prefix",
        ),
        (
            "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>elsewhere/a.parquet</Key><Size>1</Size>\
             <LastModified>2025-10-01T00:00:00Z</LastModified></Contents></ListBucketResult>",
            xml,
            78,
            "`elsewhere/a.parquet`, which is outside of the prefix",
        ),
    ] {
        let ended = bed.refuses(instead_of_listing(body, content_type), code, &[said, "org7/OCP/"]).await;
        assert!(!ended.all_text().contains("secret-session"), "{ended:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_told_and_not_followed() {
    let bed = Bed::new().await;
    let elsewhere = S3Server::start().await;
    Delivery::of(&DAYS, 5.0).store(&elsewhere);
    let address = format!("{}/console?session=secret-session", elsewhere.endpoint());
    let redirect = Deviation { redirect: Some(address), ..Deviation::default() };
    let said = format!("HTTP status 307, a redirect to {}, which is not followed", elsewhere.endpoint());
    let ended = bed.refuses(redirect, 78, &[&said, "check that storage.endpoint"]).await;
    assert!(!ended.all_text().contains("secret-session"), "{ended:#?}");
    assert_eq!(elsewhere.counters().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_are_named_as_the_cause() {
    let bed = Bed::new().await;
    let ended = bed.refuses(Deviation { clock_differs: true, ..Deviation::default() }, 78, &["set the clock"]).await;
    assert!(!ended.all_text().contains("check the access and secret key"), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_objects_in_place_of_ranges_give_the_same_rows() {
    let bed = Bed::new().await;
    let rows = |bed: &Bed| DAYS.map(|day| std::fs::read(bed.output.path().join(format!("{day}.csv"))).unwrap());
    bed.writes(Deviation::default(), &[]).await;
    let before = rows(&bed);
    for range in [Range::WholeIfWhole, Range::Whole] {
        std::fs::remove_dir_all(bed.output.path()).unwrap();
        std::fs::create_dir(bed.output.path()).unwrap();
        bed.writes(Deviation { range, ..Deviation::default() }, &[]).await;
        assert_eq!(rows(&bed), before, "{range:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_differ_at_each_read_are_told_with_the_way_out() {
    let bed = Bed::new().await;
    let differ = Deviation { tags_differ: true, ..Deviation::default() };
    bed.server.deviate(differ.clone());
    let parts =
        ["its ETag is another one", "listing of an object stays as it is", "storage.compare_objects_by: size_and_time"];
    let ended = bed.run(&[]).await;
    ended.expect(78, &parts);
    assert!(!ended.all_text().contains("run again once the upload has finished"), "{ended:#?}");
    assert_eq!(bed.days(), [""; 0]);
    bed.writes(differ, &["--set", "storage.compare_objects_by=size_and_time"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tags_a_replaced_object_is_noticed_by_its_time() {
    let bed = Bed::new().await;
    // As large as the one before, and uploaded in another second.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    bed.server.replace_after_listing(&pod_key(DAYS[1]), pod_object(DAYS[1], 2.0));
    let ended = bed.writes(Deviation::default(), &["--set", "storage.compare_objects_by=size_and_time"]).await;
    ended.expect(0, &["planning again", "the time of its last upload is another one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_in_another_form_are_permanent_and_named() {
    let bed = Bed::new().await;
    let form = |time: &str| Deviation { last_modified: Some(time.to_owned()), ..Deviation::default() };
    let ended =
        bed.refuses(form("Wed, 01 Oct 2025 06:26:00 GMT"), 78, &["LastModified", "RFC 3339", ".parquet` has"]).await;
    assert!(!ended.all_text().contains("trying again"), "{ended:#?}");
    let ended = bed
        .refuses(
            form("2025-10-01T06:26:00Z"),
            78,
            &["the answer cannot be used", "its Last-Modified is not in the form of RFC 2822"],
        )
        .await;
    assert!(!ended.all_text().contains("trying again"), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_objects_that_nobody_asked_to_remove_is_an_error() {
    let bed = Bed::new().await;
    bed.server.deviate(Deviation { odd_removals: true, ..Deviation::default() });
    let store = gristmill::store::Store::new(&crate::bucket::in_process(&bed.server)).unwrap();
    let keys = DAYS.map(pod_key).to_vec();
    let error = gristmill::error::Failure::from(store.delete(&keys).await.unwrap_err()).full_text();
    assert!(error.contains("3 objects") && error.contains("nobody asked to remove"), "{error}");
    assert_eq!(bed.server.keys().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_under_a_key_that_cannot_be_addressed_fails_its_day_alone() {
    let bed = Bed::new().await;
    let key = pod_key(DAYS[1]);
    let odd = key.replace("/pod_usage.2025", "//pod_usage.2025");
    bed.server.remove(&key);
    bed.server.put(&odd, pod_object(DAYS[1], 1.0));
    bed.server.put(&key.replace("/pod_usage.2025", "//notes.2025").replace(".parquet", ".txt"), "x".to_owned());
    let ended = bed.run(&[]).await;
    let named = format!("`s3://{}/{odd}`", crate::s3_server::BUCKET);
    ended.expect(65, &[&named, "a segment of it is empty", "store the object under a key", "1 object is passed over"]);
    assert_eq!(bed.days(), [DAYS[0], DAYS[2]]);
    assert_eq!(ended.day(DAYS[1])["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_another_period_are_told_with_their_days() {
    let bed = Bed::new().await;
    bed.server.put(&pod_key(DAYS[1]), pod_object("2025-09-30", 1.0));
    let said = format!(
        "1 object has rows of other days alone than those that folder and name stand for, and add nothing: `{}` (2025-09-30 to 2025-09-30)",
        pod_key(DAYS[1])
    );
    for command in ["plan", "check", "run"] {
        Invocation::with(command, &bed.settings).run().await.expect(0, &[&said]);
    }
    // Without statistics it shows once the rows are read.
    let untold = |day: &str| {
        let properties = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None);
        usage::parquet_with(usage::pod_columns(&delivery::pod_rows(day, 1.0)), properties)
    };
    bed.server.put(&pod_key(DAYS[1]), untold("2025-09-30"));
    bed.run(&[]).await.expect(0, &[&said]);
    for (number, day) in DAYS.iter().enumerate() {
        bed.server.put(&pod_key(day), untold(DAYS[number]));
    }
    let ended = bed.run(&[]).await;
    assert!(!ended.expect(0, &[]).all_text().contains("other days alone"), "{ended:#?}");
    // Objects of days beside the window are as they should be.
    let mut settings = bed.settings.clone();
    settings["period"] = json!({"start_date": DAYS[0], "end_date": DAYS[0]});
    for object in [pod_object(DAYS[1], 1.0), untold(DAYS[1])] {
        bed.server.put(&pod_key(DAYS[1]), object);
        let ended = Invocation::with("run", &settings).run().await;
        assert!(!ended.expect(0, &[]).all_text().contains("other days alone"), "{ended:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_a_day_that_has_no_rows_any_more_stays_as_it_was() {
    let bed = Bed::new().await;
    bed.writes(Deviation::default(), &[]).await;
    let file = bed.output.path().join(format!("{}.csv", DAYS[1]));
    let before = std::fs::read(&file).unwrap();
    bed.server.remove(&pod_key(DAYS[1]));
    let ended = bed.run(&[]).await;
    assert_eq!(ended.expect(0, &[]).day(DAYS[1])["status"], "no input rows, left as it was");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(bed.run(&["--delete-empty-days"]).await.expect(0, &[]).day(DAYS[1])["rows_out"], 0);
    assert!(std::fs::read(&file).unwrap().len() < before.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_without_objects_says_what_is_there() {
    let bed = Bed::new().await;
    Delivery::of(&["2025-08-30"], 1.0).store(&bed.server);
    let folder = tempfile::tempdir().unwrap();
    Delivery::of(&DAYS, 1.0).and(Delivery::of(&["2025-08-30"], 1.0)).write(folder.path());
    let mut of_folder = bed.settings.clone();
    of_folder["storage"] = json!({"url": format!("file://{}", folder.path().display())});
    for settings in [bed.settings.clone(), of_folder] {
        let with = |path: [&str; 2], value: Value| {
            let mut settings = settings.clone();
            settings[path[0]][path[1]] = value;
            settings
        };
        let source = delivery::SOURCE;
        let has = |what: &str| format!("`data/parquet/org7/OCP/pod_usage/{what}");
        for (settings, said) in [
            (
                with(["source", "uuid"], json!("00000000-0000-0000-0000-00000000abce")),
                has(&format!("` has `source={source}`")),
            ),
            (with(["organization", "org_id"], json!("org8")), "the organisations there are `org7`".to_owned()),
            (
                with(["period", "start_date"], json!("2025-09-01")),
                has(&format!("source={source}/` has `year=2025/month=08`, `year=2025/month=10`")),
            ),
        ] {
            let mut settings = settings;
            if settings["period"]["start_date"] == "2025-09-01" {
                settings["period"]["end_date"] = json!("2025-09-02");
            }
            for command in ["run", "plan", "check"] {
                Invocation::with(command, &settings).run().await.expect(65, &[&said, "no objects in"]);
            }
        }
    }
}
