//! Days that the ledger has and whose objects are gone.

use serde_json::json;

use super::{Bed, DAYS, days_with};
use crate::delivery::{pod_key, pod_object};

#[tokio::test(flavor = "multi_thread")]
async fn a_day_whose_objects_are_gone_is_an_error_and_keeps_its_rows() {
    let mut bed = Bed::filled().await;
    let before = bed.everything().await;
    bed.server.remove(&pod_key(DAYS[1]));
    let ended = bed.command("plan", &[]).await;
    ended.expect(0, &["disappeared: the ledger has 4 rows; none of their objects is there any more"]);
    for extra in [&[][..], &["--force"], &["--delete-empty-days"]] {
        let ended = bed.run(extra).await;
        ended.expect(65, &["none of their objects is there any more", "deliver the objects again"]);
        assert_eq!(days_with(&ended, "status", "failed"), [DAYS[1]], "{extra:?}");
        if extra.is_empty() {
            assert_eq!(bed.everything().await, before);
        }
    }
    // The other days go on.
    bed.server.put(&pod_key(DAYS[0]), pod_object(DAYS[0], 2.0));
    let ended = bed.run(&[]).await;
    assert_eq!(days_with(ended.expect(65, &[]), "status", "written"), [DAYS[0]]);

    bed.settings["input"] = json!({"on_disappeared": "accept"});
    let before = bed.everything().await;
    bed.command("plan", &[]).await.expect(0, &["no input"]);
    let ended = bed.run(&[]).await;
    ended.expect(0, &[]);
    assert_eq!(ended.day(DAYS[1])["status"], "no input rows, left as it was");
    assert_eq!(bed.everything().await, before);
    let ended = bed.run(&["--delete-empty-days"]).await;
    assert_eq!(ended.expect(0, &[]).day(DAYS[1])["rows_deleted"], 4);

    // An emptied day misses nothing any more, whatever the setting.
    bed.settings["input"] = json!({"on_disappeared": "error"});
    let before = bed.everything().await;
    for extra in [&[][..], &["--delete-empty-days"]] {
        let ended = bed.run(extra).await;
        assert_eq!(ended.expect(0, &[]).day(DAYS[1])["status"], "unchanged", "{extra:?}");
    }
    assert_eq!(bed.everything().await, before);
    bed.server.put(&pod_key(DAYS[1]), pod_object(DAYS[1], 1.0));
    assert_eq!(bed.written_by_run(&[]).await, [DAYS[1]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_whose_objects_are_gone_is_missed_too() {
    let bed = Bed::filled().await;
    let before = bed.everything().await;
    DAYS[2..].iter().for_each(|day| bed.server.remove(&pod_key(day)));
    let ended = bed.run(&["--delete-empty-days"]).await;
    ended.expect(65, &["2 of 4 days failed"]);
    assert_eq!(days_with(&ended, "status", "failed"), DAYS[2..]);
    assert_eq!(days_with(&ended, "status", "unchanged"), DAYS[..2]);
    let ended = bed.command("plan", &[]).await;
    assert_eq!(ended.expect(0, &[]).day(DAYS[3])["state"], "disappeared");
    bed.run(&["--set", "input.on_disappeared=accept"]).await.expect(0, &["has no objects"]);
    bed.run(&["--allow-empty"]).await.expect(0, &["has no objects", "left as it was"]);

    DAYS[..2].iter().for_each(|day| bed.server.remove(&pod_key(day)));
    let ended = bed.run(&[]).await;
    assert_eq!(days_with(ended.expect(65, &["no objects in"]), "status", "failed"), DAYS);
    for extra in [&["--allow-empty"][..], &["--allow-empty", "--delete-empty-days"]] {
        let ended = bed.run(extra).await;
        assert_eq!(days_with(ended.expect(0, &[]), "status", "no input rows, left as it was"), DAYS, "{extra:?}");
    }
    assert_eq!(bed.everything().await, before, "a month without any object is never touched");
}
