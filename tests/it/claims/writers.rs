//! `target.postgres.max_writers`: how many days all pods together write at once.

use futures::future::join_all;
use gristmill::error::ErrorKind;
use gristmill::sink::{Sink, Written};
use serde_json::json;
use uuid::Uuid;

use super::{Bed, TABLE, with_status};
use crate::binary::Ended;
use crate::day_rows::{day, pod_rows};
use crate::postgres::{ready_database, sink, target};

/// Counts transactions that insert while another one does, whether they are committed or not.
const CROWD: &str = "CREATE SEQUENCE tenant.crowded; CREATE FUNCTION tenant.crowd() RETURNS trigger LANGUAGE plpgsql AS $$ \
     BEGIN IF NOT pg_try_advisory_xact_lock(42) THEN PERFORM nextval('tenant.crowded'); END IF; PERFORM pg_sleep(0.05); \
     RETURN NULL; END $$";

async fn run_two(bed: &Bed, extra: &[&str]) -> Vec<Ended> {
    let pods = ["0/2", "1/2"].map(|shard| bed.pod(shard).arguments(extra).run());
    let ended = join_all(pods).await;
    ended.iter().for_each(|ended| {
        ended.expect(0, &[]);
    });
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_with_one_slot_never_write_two_days_at_once() {
    let mut bed = Bed::new().await;
    bed.client.batch_execute(CROWD).await.unwrap();
    let sql =
        format!("CREATE TRIGGER crowd BEFORE INSERT ON {TABLE} FOR EACH STATEMENT EXECUTE FUNCTION tenant.crowd()");
    bed.client.batch_execute(&sql).await.unwrap();
    bed.settings["target"]["postgres"]["max_writers"] = json!(1);
    let ended = run_two(&bed, &[]).await;
    assert!(ended.iter().all(|ended| !with_status(ended, "written").is_empty()), "both had something to do");
    bed.expect_each_day_written(1).await;
    let crowded = "SELECT last_value FROM tenant.crowded WHERE is_called UNION ALL SELECT 0 LIMIT 1";
    assert_eq!(bed.count(crowded).await, 0, "two days were written at once");

    // Without the limit they are, and that is noticed.
    bed.settings["target"]["postgres"]["max_writers"] = json!(null);
    run_two(&bed, &["--force"]).await;
    assert!(bed.count(crowded).await > 0, "nothing was written at once");
}

#[tokio::test]
async fn a_writer_waits_for_a_slot_within_its_time_and_then_says_why_it_gave_up() {
    let (mut config, client) = ready_database().await;
    (config.max_writers, config.retry_seconds) = (Some(2), 1);
    let source = Uuid::new_v4();
    client
        .batch_execute(&format!(
            "CREATE FUNCTION tenant.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.usage_start < '2025-10-03' THEN PERFORM pg_sleep(3); END IF; RETURN NEW; END $$; \
             CREATE TRIGGER dawdle BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION tenant.dawdle()",
            target(&config)
        ))
        .await
        .unwrap();
    let writing: Vec<_> = ["2025-10-01", "2025-10-02"]
        .map(|date| {
            let sink = sink(&config, source);
            tokio::spawn(async move { sink.replace(pod_rows(day(date), source, 1, 1, None)).await })
        })
        .into();
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    while client.query_one(asleep, &[]).await.unwrap().get::<_, i64>(0) < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let third = || pod_rows(day("2025-10-03"), source, 1, 1, None);
    let failure = sink(&config, source).replace(third()).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::LockBusy);
    let message = "all 2 slots of target.postgres.max_writers were taken for 1 s";
    assert!(failure.message.contains(message), "{}", failure.message);
    config.retry_seconds = 60;
    let written = sink(&config, source).replace(third()).await.unwrap();
    assert_eq!(written, Written::Replaced { deleted_row_count: 0, row_count: 1 }, "it got the slot of one that ended");
    for writing in writing {
        writing.await.unwrap().unwrap();
    }
}
