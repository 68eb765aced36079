//! Days that would be made from far fewer objects than their rows were: a listing that lost some of them is no reason to overwrite.

use super::{Bed, DAYS, days_with};
use crate::delivery::{key, pod_key, pod_object};
use crate::s3_server::deviation::{Answer, Deviation, ListForm};
use crate::usage;

/// The rows of a day's hours as an object of their own each, so many hours each.
fn hourly(bed: &Bed, day: &str, hours: usize) {
    bed.server.remove(&pod_key(day));
    let rows = crate::delivery::pod_rows(day, 1.0);
    for (number, rows) in rows.chunks(2 * hours).enumerate() {
        let object = usage::parquet(usage::pod_columns(rows), rows.len());
        bed.server.put(&pod_key(day).replace("0_0.parquet", &format!("{number}_0.parquet")), object);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_lost_most_of_its_objects_keeps_its_rows_unless_it_is_accepted() {
    let bed = Bed::filled().await;
    hourly(&bed, DAYS[1], 3);
    bed.run(&[]).await.expect(0, &[]);
    let before = bed.everything().await;
    let part = |number: usize| pod_key(DAYS[1]).replace("0_0.parquet", &format!("{number}_0.parquet"));
    (0..5).for_each(|number| bed.server.remove(&part(number)));
    let why = "pod_usage has 3 objects instead of 8 and 18 rows instead of 48";
    let ended = bed.command("plan", &[]).await;
    ended.expect(0, &["far fewer objects", why, "target.guard.min_objects_percent refuses that"]);
    assert_eq!(ended.day(DAYS[1])["state"], "far fewer objects");
    for extra in [&[][..], &["--force"], &["--delete-empty-days"]] {
        let ended = bed.run(extra).await;
        ended.expect(65, &[why, "deliver the missing objects again", "--set target.guard.min_objects_percent=0"]);
        assert_eq!(days_with(&ended, "status", "failed"), [DAYS[1]], "{extra:?}");
        if extra.is_empty() {
            assert_eq!(bed.everything().await, before);
        }
    }
    // Half is allowed.
    bed.server.put(&part(0), usage::parquet(usage::pod_columns(&crate::delivery::pod_rows(DAYS[1], 1.0)[..6]), 6));
    assert_eq!(bed.written_by_run(&[]).await, [DAYS[1]]);
    bed.server.remove(&part(0));
    bed.server.remove(&part(5));
    bed.server.remove(&part(6));
    bed.run(&[]).await.expect(65, &["pod_usage has 1 objects instead of 4"]);
    assert_eq!(bed.written_by_run(&["--set", "target.guard.min_objects_percent=0"]).await, [DAYS[1]]);
    assert_eq!(bed.written_by_run(&[]).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_objects_that_were_put_together_pass() {
    let bed = Bed::filled().await;
    hourly(&bed, DAYS[1], 1);
    assert_eq!(bed.written_by_run(&[]).await, [DAYS[1]]);
    (0..24)
        .for_each(|number| bed.server.remove(&pod_key(DAYS[1]).replace("0_0.parquet", &format!("{number}_0.parquet"))));
    bed.server.put(&pod_key(DAYS[1]), pod_object(DAYS[1], 1.0));
    assert_eq!(bed.written_by_run(&[]).await, [DAYS[1]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_is_gone_altogether_is_missed() {
    let bed = Bed::filled_with_roles().await;
    let before = bed.everything().await;
    // The folder is listed without an error, and without its objects.
    DAYS[..2].iter().for_each(|day| bed.server.remove(&key("node_labels", day)));
    let ended = bed.run(&[]).await;
    ended.expect(65, &["node_labels has 0 objects instead of 1 and 0 rows instead of 2"]);
    assert_eq!(days_with(&ended, "status", "failed"), DAYS[..2]);
    let of_days = |all: &[String]| -> Vec<String> {
        all.iter().filter(|line| DAYS[..2].iter().any(|day| line.contains(day))).cloned().collect()
    };
    let after = bed.everything().await;
    assert_eq!(of_days(&after), of_days(&before));
    assert!(!of_days(&before).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_is_cut_or_of_another_kind_changes_nothing() {
    let bed = Bed::filled().await;
    let before = bed.everything().await;
    bed.server.set_page_size(1);
    let answer = |body: &str| {
        let (contains, content_type) = ("month=10".to_owned(), "text/html".to_owned());
        Deviation {
            answer_list: Some(Answer { contains, body: body.to_owned(), content_type }),
            ..Deviation::default()
        }
    };
    for deviation in [
        Deviation { list: Some(ListForm::NoToken), ..Deviation::default() },
        Deviation { list: Some(ListForm::Version1), ..Deviation::default() },
        answer("<html></html>"),
        answer("<Error><Code>InvalidRequest</Code></Error>"),
    ] {
        bed.server.deviate(deviation.clone());
        for extra in [&[][..], &["--allow-empty", "--delete-empty-days", "--set", "input.on_disappeared=accept"]] {
            let ended = bed.run(extra).await;
            assert_eq!(ended.code, 78, "{deviation:?}: {ended:#?}");
            assert_eq!(bed.everything().await, before, "{deviation:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_written_by_an_earlier_version_is_guarded_by_its_keys() {
    let bed = Bed::filled().await;
    hourly(&bed, DAYS[1], 3);
    bed.run(&[]).await.expect(0, &[]);
    bed.execute("UPDATE gristmill.day_ledger SET made_from = made_from - 'reports'").await;
    (0..5)
        .for_each(|number| bed.server.remove(&pod_key(DAYS[1]).replace("0_0.parquet", &format!("{number}_0.parquet"))));
    bed.run(&[]).await.expect(65, &["pod_usage has 3 objects instead of 8; target.guard.min_objects_percent"]);
}
