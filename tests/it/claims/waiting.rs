//! Days of pods that are gone, that hang, or that are told to stop: taken over, waited for, given back.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Bed, DAYS, with_status};
use crate::binary::Invocation;

impl Bed {
    /// What the ledger shows of a pod that holds some days.
    async fn hold(&self, days: &[&str], seconds: u32) {
        for day in days {
            let sql = format!(
                "INSERT INTO gristmill.day_ledger (target_schema, target_table, source_uuid, usage_day, claimed_by, token, \
                 expires_at) VALUES ('tenant', 'reporting_ocpusagelineitem_daily_summary', '{}', '{day}', 'a pod that is gone', \
                 nextval('gristmill.claim_token'), now() + interval '{seconds} seconds')",
                crate::delivery::SOURCE
            );
            self.client.batch_execute(&sql).await.unwrap();
        }
    }

    fn lease(&mut self, lease_seconds: u32, wait_seconds: u32) {
        self.settings["claims"] = json!({"lease_seconds": lease_seconds, "wait_seconds": wait_seconds});
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn days_of_a_pod_that_is_gone_are_taken_over_when_its_claims_expire() {
    let mut bed = Bed::new().await;
    bed.lease(3, 60);
    bed.hold(&[DAYS[0], DAYS[5]], 3).await;
    let begun = Instant::now();
    let ended = bed.pod("0/2").run().await;
    ended.expect(0, &["days are left to other pods", "days that nobody holds are taken over"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(with_status(&ended, "written"), DAYS);
    bed.expect_each_day_written(1).await;
    bed.expect_undisturbed_rows().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_are_held_for_too_long_end_the_run_with_their_holders() {
    let mut bed = Bed::new().await;
    bed.lease(3, 1);
    bed.hold(&[DAYS[1]], 3_600).await;
    let ended = bed.pod("0/2").run().await;
    let parts =
        ["1 days are left to other pods", "2025-10-02 by a pod that is gone, expires in 3", "claims.wait_seconds"];
    ended.expect(75, &parts);
    assert_eq!(with_status(&ended, "left to others"), [DAYS[1]]);
    assert_eq!(with_status(&ended, "written").len(), 7);
    // A run by itself asks nobody, and whose claim it was has lost it.
    Invocation::with("run", &bed.settings).run().await.expect(0, &[]);
    bed.expect_each_day_written(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_wait_for_others_at_once() {
    let mut bed = Bed::new().await;
    bed.lease(60, 600);
    bed.hold(&[DAYS[1]], 3_600).await;
    let running = bed.pod("0/2").start();
    bed.wait_for("SELECT count(*) / 7 FROM tenant.writes").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let told = Instant::now();
    running.terminate();
    running.end().await.expect(143, &["stopped by SIGTERM"]);
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_gives_claims_back_and_another_pod_takes_the_days_at_once() {
    let mut bed = Bed::new().await;
    bed.lease(3_600, 3_600);
    bed.settings["stopping"] = json!({"grace_seconds": 1});
    bed.settings["target"]["postgres"]["connections"] = json!(1);
    bed.dawdle(30.0, "usage_start >= '2025-10-02'").await;
    let running = bed.pod("0/2").start();
    bed.wait_for("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()")
        .await;
    assert!(bed.count("SELECT count(*) FROM gristmill.day_ledger WHERE claimed_by IS NOT NULL").await > 0);
    running.terminate();
    running.end().await.expect(143, &["SIGTERM", "nothing is half-written"]);
    assert_eq!(bed.count("SELECT count(*) FROM gristmill.day_ledger WHERE claimed_by IS NOT NULL").await, 0);
    bed.hurry().await;
    let begun = Instant::now();
    bed.pod("1/2").run().await.expect(0, &[]);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    bed.expect_each_day_written(1).await;
}

/// Days that are claimed and not being written yet: their rows are not locked, so only renewing keeps them.
#[tokio::test(flavor = "multi_thread")]
async fn claims_are_renewed_as_long_as_they_are_held() {
    let mut bed = Bed::new().await;
    bed.lease(1, 60);
    bed.settings["target"]["postgres"]["connections"] = json!(1);
    bed.dawdle(4.0, "usage_start = '2025-10-01'").await;
    let pod = bed.pod("0/2").start();
    let held = "SELECT count(*), coalesce(sum(token), 0)::bigint, coalesce(bool_and(expires_at > clock_timestamp()), false) \
                FROM gristmill.day_ledger WHERE usage_day > '2025-10-01' AND claimed_by LIKE 'shard 0/2 of run %'";
    bed.wait_for(&format!(
        "SELECT count FROM ({held}) AS held WHERE EXISTS (SELECT FROM pg_stat_activity WHERE \
        wait_event = 'PgSleep' AND datname = current_database()) UNION ALL SELECT 0 ORDER BY 1 DESC LIMIT 1"
    ))
    .await;
    let look = async || {
        let row = bed.client.query_one(held, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, bool>(2))
    };
    let first = look().await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = look().await;
        assert_eq!(now, (first.0, first.1, true), "the same claims, none of them expired");
    }
    pod.end().await.expect(0, &[]);
    bed.expect_each_day_written(1).await;
}

/// A pod that sleeps through the end of its claims and then goes on with what it has in hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_paused_writes_nothing_that_others_have_written_since() {
    let mut bed = Bed::new().await;
    bed.lease(1, 60);
    bed.settings["target"]["postgres"]["connections"] = json!(1);
    bed.dawdle(1.0, "usage_start = '2025-10-01'").await;
    let paused = bed.pod("0/2").start();
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    bed.wait_for(asleep).await;
    let held = "SELECT count(*) FROM gristmill.day_ledger WHERE claimed_by LIKE 'shard 0/2 of run %'";
    bed.wait_for(&format!("SELECT greatest(({held}) - 1, 0)")).await;
    paused.signal("STOP");
    let other = bed.pod("1/2").start();
    // All but the day that the first one is in the middle of: its transaction stays open.
    bed.wait_for("SELECT count(*) / 7 FROM tenant.writes").await;
    assert_eq!(bed.count("SELECT count(*) FROM tenant.writes WHERE usage_day = '2025-10-01'").await, 0);
    paused.signal("CONT");
    let (paused, other) = (paused.end().await, other.end().await);
    paused.expect(0, &[]);
    other.expect(0, &[]);
    assert_eq!(with_status(&paused, "written"), [DAYS[0]]);
    assert_eq!(with_status(&other, "written"), DAYS[1..]);
    bed.expect_each_day_written(1).await;
    bed.expect_undisturbed_rows().await;
}

/// A pod whose writing takes longer than its lease keeps its days by renewing them.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_day_stays_with_the_pod_that_renews_its_claim() {
    let mut bed = Bed::new().await;
    bed.lease(1, 60);
    bed.dawdle(3.0, "usage_start = '2025-10-01'").await;
    let slow = bed.pod("0/2").start();
    bed.wait_for("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()")
        .await;
    let other = bed.pod("1/2").run().await;
    other.expect(0, &[]);
    let slow = slow.end().await;
    slow.expect(0, &[]);
    assert_eq!(slow.day(DAYS[0])["status"], "written");
    assert_eq!(other.day(DAYS[0])["reason"], "written by another run meanwhile");
    bed.expect_each_day_written(1).await;
}
