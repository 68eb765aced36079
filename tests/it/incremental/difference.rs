//! What would change, said before it is written; and the guard that refuses to write it.

use serde_json::json;
use uuid::Uuid;

use super::{Bed, DAYS, TABLE, days_with};
use crate::binary::{Ended, Invocation};
use crate::delivery::{pod_key, pod_object};

/// Over all rows unallocated capacity makes up for what pods use less.
const USAGE: &str = "pod_usage_cpu_core_hours of pods";
const LIMIT: &str = "pod_limit_cpu_core_hours";
const GUARD: [&str; 2] = ["--set", "target.guard.max_change_percent=10"];

fn percent(ended: &Ended, day: &str) -> f64 {
    let percent = &ended.day(day)["difference"]["totals"][USAGE]["percent"];
    percent.as_f64().unwrap_or_else(|| panic!("{day}: {ended:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_shows_rows_and_totals_and_needs_no_right_to_write() {
    let bed = Bed::filled().await;
    bed.server.put(&pod_key(DAYS[1]), pod_object(DAYS[1], 1.5));
    bed.server.put(&pod_key(DAYS[2]), pod_object(DAYS[2], 1.0 / 3.0));
    bed.execute(&format!("DELETE FROM {TABLE} WHERE usage_start = '{}'", DAYS[3])).await;
    let before = bed.everything().await;

    let role = format!("r_{}", Uuid::new_v4().simple());
    bed.execute(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA tenant, gristmill TO {role}; \
         GRANT SELECT ON ALL TABLES IN SCHEMA tenant, gristmill TO {role}"
    ))
    .await;
    let mut settings = bed.settings.clone();
    settings["target"]["postgres"]["user"] = json!(role);
    settings["target"]["postgres"]["password"] = json!("pw");
    let ended = Invocation::with("plan", &settings).arguments(&["--diff"]).run().await;
    ended.expect(0, &[]);

    assert_eq!((&ended.day(DAYS[0])["state"], &ended.day(DAYS[0])["difference"]), (&json!("unchanged"), &json!(null)));
    let half_more = &ended.day(DAYS[1])["difference"];
    assert_eq!(half_more["rows"], json!({"old": "4", "new": "4", "percent": 0.0}));
    let expected = json!({"old": "48.000000000000000", "new": "72.000000000000000", "percent": 50.0});
    assert_eq!(half_more["totals"][USAGE], expected);
    assert_eq!(half_more["refused_for"], json!(null));
    assert!((percent(&ended, DAYS[2]) + 66.67).abs() < 0.01);
    let from_nothing = &ended.day(DAYS[3])["difference"];
    assert_eq!(from_nothing["rows"], json!({"old": "0", "new": "4", "percent": null}));
    let line = format!("{USAGE} 48.000000000000000 -> 72.000000000000000 (+50.00 %)");
    ended.expect(0, &[&format!("{} would change: rows 4 -> 4", DAYS[1]), &line, "rows 0 -> 4 (from nothing)"]);
    assert_eq!(bed.everything().await, before, "nothing was written");

    // A run does what was said.
    let foretold: Vec<String> = DAYS[1..]
        .iter()
        .map(|day| ended.day(day)["difference"]["totals"][LIMIT]["new"].as_str().unwrap().to_owned())
        .collect();
    let ended = bed.run(&[]).await;
    ended.expect(0, &[]);
    let came: Vec<&str> = DAYS[1..].iter().map(|day| ended.day(day)["sums"][LIMIT].as_str().unwrap()).collect();
    assert_eq!(came, foretold);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_of_equal_days_says_so_and_one_of_bad_days_fails() {
    let bed = Bed::filled().await;
    // Another object with the same rows.
    bed.server.put(
        &pod_key(DAYS[0]),
        crate::usage::parquet(crate::usage::pod_columns(&crate::delivery::pod_rows(DAYS[0], 1.0)), 7),
    );
    let ended = bed.command("plan", &["--diff"]).await;
    ended.expect(0, &[&format!("{} would change: rows 4 -> 4 (+0.00 %); the totals stay as they are", DAYS[0])]);

    let rows: Vec<_> = crate::delivery::pod_rows(DAYS[1], 1.0)
        .into_iter()
        .map(|row| crate::usage::PodRow { labels: Some("{not json".to_owned()), ..row })
        .collect();
    bed.server.put(&pod_key(DAYS[1]), crate::usage::parquet(crate::usage::pod_columns(&rows), rows.len()));
    let ended = bed.command("plan", &["--diff"]).await;
    ended.expect(65, &["cannot be computed", "label"]);
    assert!(ended.day(DAYS[1])["error"].is_string());
    assert!(ended.day(DAYS[0])["difference"].is_object());

    let mut settings = bed.settings.clone();
    settings["target"] = json!({"kind": "none"});
    settings["reference"] = json!({"from": "inline"});
    Invocation::with("plan", &settings).arguments(&["--diff"]).run().await.expect(78, &["target.kind is not postgres"]);
    let ended = Invocation::with("plan", &settings).run().await;
    assert_eq!(ended.expect(0, &[]).day(DAYS[0])["state"], json!(null), "without a ledger there is no state");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guard_refuses_days_that_move_too_far() {
    let bed = Bed::new().await;
    DAYS[..3].iter().for_each(|day| bed.server.put(&pod_key(day), pod_object(day, 1.0)));
    // Days without old rows pass.
    bed.run(&GUARD).await.expect(0, &["written"]);
    bed.server.put(&pod_key(DAYS[0]), pod_object(DAYS[0], 1.05));
    bed.server.put(&pod_key(DAYS[1]), pod_object(DAYS[1], 1.2));
    bed.server.put(&pod_key(DAYS[3]), pod_object(DAYS[3], 1.0));
    let old = bed.contents().await;
    let of_day = |contents: &[String], day: &str| -> Vec<String> {
        contents.iter().filter(|line| line.contains(day)).cloned().collect()
    };

    let ended = bed.command("plan", &["--diff", GUARD[0], GUARD[1]]).await;
    ended.expect(0, &["target.guard.max_change_percent refuses the day for its pod_limit_cpu_core_hours"]);
    assert_eq!(ended.day(DAYS[1])["difference"]["refused_for"], LIMIT);
    assert_eq!(ended.day(DAYS[0])["difference"]["refused_for"], json!(null));
    assert_eq!(ended.day(DAYS[3])["difference"]["refused_for"], json!(null));

    let ended = bed.run(&GUARD).await;
    ended.expect(
        65,
        &[
            &format!("day {} in {TABLE}: {LIMIT} would go from 48.000000000000000 to 57.6", DAYS[1]),
            "(+20.00 %); target.guard.max_change_percent allows 10; the day is left as it was",
            "gristmill plan --diff",
        ],
    );
    assert_eq!(days_with(&ended, "status", "written"), [DAYS[0], DAYS[3]]);
    assert_eq!(days_with(&ended, "status", "failed"), [DAYS[1]]);
    let now = bed.contents().await;
    assert_eq!(of_day(&now, DAYS[1]), of_day(&old, DAYS[1]), "the refused day is the old one, in the ledger too");
    assert_ne!(of_day(&now, DAYS[0]), of_day(&old, DAYS[0]));

    // Writing unchanged days again is no reason to accept changed ones.
    bed.run(&["--force", GUARD[0], GUARD[1]]).await.expect(65, &["would go from"]);
    // What the message says accepts the day.
    let mut settings = bed.settings.clone();
    settings["target"]["guard"] = json!({"max_change_percent": 10});
    Invocation::with("run", &settings).run().await.expect(65, &["would go from"]);
    let accept = ["--set", "target.guard.max_change_percent="];
    let ended = Invocation::with("run", &settings).arguments(&accept).run().await;
    assert_eq!(days_with(ended.expect(0, &[]), "status", "written"), [DAYS[1]]);
    Invocation::with("run", &settings).run().await.expect(0, &["unchanged"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guard_looks_at_the_rows_that_are_there_not_at_the_ledger() {
    let bed = Bed::filled().await;
    // Usage alone, which unallocated capacity hides in the sums over all rows.
    let less = |row: crate::usage::PodRow| crate::usage::PodRow { usage: [Some(1_800.0); 8], ..row };
    let half: Vec<_> = crate::delivery::pod_rows(DAYS[3], 1.0)
        .into_iter()
        .map(|row| {
            let limits = [row.usage[3], row.usage[7]];
            let mut row = less(row);
            (row.usage[3], row.usage[7]) = (limits[0], limits[1]);
            row
        })
        .collect();
    let full = bed.server.content(&pod_key(DAYS[3]));
    bed.server.put(&pod_key(DAYS[3]), crate::usage::parquet(crate::usage::pod_columns(&half), half.len()));
    bed.run(&GUARD)
        .await
        .expect(65, &[&format!("{USAGE} would go from 48.000000000000000 to 24.000000000000000 (-50.00 %)")]);
    bed.server.put(&pod_key(DAYS[3]), full);
    // Without a ledger row, as after taking over from another writer.
    bed.execute("DELETE FROM gristmill.day_ledger").await;
    bed.server.put(&pod_key(DAYS[0]), pod_object(DAYS[0], 3.0));
    let ended = bed.run(&GUARD).await;
    ended.expect(65, &["+200.00 %"]);
    assert_eq!(days_with(&ended, "status", "failed"), [DAYS[0]]);
    // Fewer rows count as well, even where totals stand.
    bed.execute(&format!("DELETE FROM {TABLE} WHERE usage_start = '{}' AND namespace LIKE '% unallocated'", DAYS[1]))
        .await;
    bed.execute(&format!("DELETE FROM {TABLE} WHERE usage_start = '{}' AND namespace IS NULL", DAYS[1])).await;
    bed.run(&GUARD).await.expect(65, &["rows would go from 2 to 4 (+100.00 %)"]);
    // Nor is a day emptied against it.
    bed.server.remove(&pod_key(DAYS[2]));
    let empty = ["--delete-empty-days", "--set", "input.on_disappeared=accept", GUARD[0], GUARD[1]];
    bed.run(&empty).await.expect(65, &["rows would go from 4 to 0 (-100.00 %)"]);
}
