//! Pods side by side: every day once, whoever is faster, slower or fails.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;

use super::{Bed, DAYS, with_status};
use crate::binary::{Ended, Invocation};
use crate::bucket::files_below;
use crate::delivery::{Delivery, ROWS_PER_DAY, SOURCE, from_server, into_csv, pod_key, pod_object, settings};
use crate::s3_server::S3Server;
use crate::usage::{self, PodRow};

async fn run_all<const N: usize>(pods: [Invocation; N]) -> Vec<Ended> {
    join_all(pods.map(Invocation::run)).await
}

/// Every day is written by one pod and unchanged for the others.
fn expect_shared(ended: &[Ended]) {
    for day in DAYS {
        let statuses: Vec<&str> = ended.iter().map(|ended| ended.day(day)["status"].as_str().unwrap()).collect();
        let written = statuses.iter().filter(|status| **status == "written").count();
        assert_eq!(written, 1, "{day}: {statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == "unchanged").count(), ended.len() - 1, "{statuses:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_shards_write_each_day_once() {
    let bed = Bed::new().await;
    bed.dawdle(0.1, "true").await;
    let ended = run_all(["0/2", "1/2"].map(|shard| bed.pod(shard))).await;
    for (number, ended) in ended.iter().enumerate() {
        ended.expect(0, &[]);
        assert_eq!(ended.report["shard"], format!("{number}/2"));
        // What it began with is its own.
        let run_id = ended.report["run_id"].as_str().unwrap();
        let first = format!(
            "SELECT extract(day FROM usage_day)::bigint FROM tenant.writes WHERE run_id = '{run_id}' ORDER BY number LIMIT 1"
        );
        assert_eq!((bed.count(&first).await - 1) % 2, number as i64, "{ended:#?}");
    }
    expect_shared(&ended);
    let rows_in: u64 = ended.iter().map(|ended| ended.report["rows_in"].as_u64().unwrap()).sum();
    assert_eq!(rows_in as usize, DAYS.len() * ROWS_PER_DAY, "no day is computed twice");
    bed.expect_each_day_written(1).await;
    bed.expect_undisturbed_rows().await;

    // Again with nothing changed, and again with everything changed.
    let again = run_all(["0/2", "1/2"].map(|shard| bed.pod(shard))).await;
    assert!(again.iter().all(|ended| ended.code == 0 && with_status(ended, "unchanged").len() == DAYS.len()));
    bed.expect_each_day_written(1).await;
    Delivery::of(&DAYS, 2.0).write(bed.folder.path());
    let changed = run_all(["0/3", "1/3", "2/3"].map(|shard| bed.pod(shard))).await;
    assert!(changed.iter().all(|ended| ended.code == 0), "{changed:#?}");
    expect_shared(&changed);
    bed.expect_each_day_written(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_by_themselves_write_each_day_once() {
    let bed = Bed::new().await;
    bed.dawdle(0.2, "true").await;
    let ended = run_all([(); 2].map(|()| Invocation::with("run", &bed.settings))).await;
    ended.iter().for_each(|ended| {
        ended.expect(0, &[]);
    });
    expect_shared(&ended);
    bed.expect_each_day_written(1).await;
    let meanwhile = |ended: &Ended| {
        let days = ended.report["days"].as_array().unwrap().iter();
        days.filter(|day| day["reason"] == "written by another run meanwhile").count()
    };
    assert!(ended.iter().map(meanwhile).sum::<usize>() > 0, "they met: {ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_pod_takes_days_of_a_slow_one() {
    let bed = Bed::new().await;
    let [slow, fast] = [S3Server::start().await, S3Server::start().await];
    for server in [&slow, &fast] {
        Delivery::of(&DAYS, 1.0).store(server);
    }
    slow.set_latency(Duration::from_millis(400));
    let pod = |server: &S3Server, shard: &str| {
        let mut settings = from_server(bed.settings.clone(), server);
        settings["storage"]["concurrent_requests"] = json!(1);
        Invocation::with("run", &settings).arguments(&["--shard", shard])
    };
    let ended = run_all([pod(&slow, "0/2"), pod(&fast, "1/2")]).await;
    ended.iter().for_each(|ended| {
        ended.expect(0, &[]);
    });
    expect_shared(&ended);
    bed.expect_each_day_written(1).await;
    let of_fast = with_status(&ended[1], "written");
    let helped = of_fast.iter().filter(|day| DAYS.iter().step_by(2).any(|own| own == day)).count();
    assert!(helped >= 2, "the fast pod wrote {of_fast:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_day_is_tried_once_by_each_pod_and_the_others_are_written() {
    let bed = Bed::new().await;
    let bad: Vec<PodRow> = crate::delivery::pod_rows(DAYS[2], 1.0)
        .into_iter()
        .map(|row| PodRow { labels: Some("{\"app\": ".to_owned()), ..row })
        .collect();
    let delivery = Delivery::of(&DAYS, 1.0);
    delivery.with(pod_key(DAYS[2]), usage::parquet(usage::pod_columns(&bad), 48)).write(bed.folder.path());
    let ended = run_all(["0/2", "1/2"].map(|shard| bed.pod(shard))).await;
    for ended in &ended {
        ended.expect(65, &["1 of 8 days failed"]);
        assert_eq!(with_status(ended, "failed"), [DAYS[2]]);
        assert_eq!(with_status(ended, "left to others"), Vec::<String>::new());
    }
    assert_eq!(bed.count("SELECT count(*) FROM tenant.writes").await, 7);
    assert_eq!(bed.count("SELECT count(DISTINCT usage_day) FROM tenant.writes").await, 7);
    let (status, holders) =
        ("SELECT count(*) FROM gristmill.day_ledger WHERE status = 'pending'", "claimed_by IS NULL");
    assert_eq!(bed.count(&format!("{status} AND {holders}")).await, 1, "the bad day is nobody's");
    // Mended, it is written by one of them.
    std::fs::write(bed.folder.path().join(pod_key(DAYS[2])), pod_object(DAYS[2], 1.0)).unwrap();
    let ended = run_all(["0/2", "1/2"].map(|shard| bed.pod(shard))).await;
    assert!(ended.iter().all(|ended| ended.code == 0), "{ended:#?}");
    bed.expect_each_day_written(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn days_without_input_are_emptied_once() {
    let bed = Bed::new().await;
    Invocation::with("run", &bed.settings).run().await.expect(0, &[]);
    for day in &DAYS[3..5] {
        std::fs::remove_file(bed.folder.path().join(pod_key(day))).unwrap();
    }
    let empty = ["--delete-empty-days", "--set", "input.on_disappeared=accept"];
    let ended = run_all(["0/2", "1/2"].map(|shard| bed.pod(shard).arguments(&empty))).await;
    ended.iter().for_each(|ended| {
        ended.expect(0, &[]);
    });
    for day in &DAYS[3..5] {
        let written = ended.iter().filter(|ended| ended.day(day)["status"] == "written").count();
        assert_eq!(written, 1, "{day}: {ended:#?}");
    }
    assert_eq!(bed.count("SELECT count(*) FROM tenant.writes").await, DAYS.len() as i64 + 2);
    let left = format!("SELECT count(DISTINCT usage_start) FROM {}", super::TABLE);
    assert_eq!(bed.count(&left).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_share_the_days_of_several_sources() {
    const OTHER: &str = "00000000-0000-0000-0000-00000000beef";
    let mut bed = Bed::new().await;
    let cluster = |uuid: &str, name: &str| json!({"uuid": uuid, "cluster_id": name});
    bed.settings.as_object_mut().unwrap().remove("source");
    bed.settings["sources"] = json!([cluster(SOURCE, "cluster-7"), cluster(OTHER, "cluster-8")]);
    let both = Delivery::of(&DAYS, 1.0).and(Delivery::of(&DAYS, 2.0).delivered_by(OTHER));
    both.write(bed.folder.path());
    Invocation::with("init-db", &bed.settings).run().await.expect(0, &[]);
    bed.dawdle(0.05, "true").await;
    let ended = run_all(["0/3", "1/3", "2/3"].map(|shard| bed.pod(shard))).await;
    ended.iter().for_each(|ended| {
        ended.expect(0, &[]);
        assert_eq!(with_status(ended, "left to others"), Vec::<String>::new());
    });
    let written: usize = ended.iter().map(|ended| with_status(ended, "written").len()).sum();
    assert_eq!(written, 2 * DAYS.len());
    assert_eq!(bed.count("SELECT count(*) FROM tenant.writes").await, 2 * DAYS.len() as i64);
    assert_eq!(bed.count("SELECT count(DISTINCT fingerprint) FROM tenant.writes").await, 2 * DAYS.len() as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_a_ledger_is_divided() {
    let folder = tempfile::tempdir().unwrap();
    Delivery::of(&DAYS, 1.0).write(folder.path());
    let into = |output: &std::path::Path| into_csv(settings(folder.path(), DAYS[0], DAYS[7]), output);
    let alone = tempfile::tempdir().unwrap();
    Invocation::with("run", &into(alone.path())).run().await.expect(0, &[]);
    let shared = tempfile::tempdir().unwrap();
    let pods =
        ["0/3", "1/3", "2/3"].map(|shard| Invocation::with("run", &into(shared.path())).arguments(&["--shard", shard]));
    let ended = run_all(pods).await;
    for (number, ended) in ended.iter().enumerate() {
        ended.expect(0, &[]);
        let own: Vec<&str> = DAYS.into_iter().skip(number).step_by(3).collect();
        assert_eq!(with_status(ended, "written"), own);
        assert_eq!(with_status(ended, "left to others").len(), DAYS.len() - own.len());
        assert_eq!(ended.day(DAYS[(number + 1) % 3])["reason"], "of another shard");
    }
    assert_eq!(files_below(shared.path()), files_below(alone.path()));

    // An object that cannot be read is the failure of its own pod alone.
    std::fs::write(folder.path().join(pod_key(DAYS[4])), b"no Parquet at all").unwrap();
    for (shard, code) in [("0/3", 0), ("1/3", 65), ("2/3", 0)] {
        let ended = Invocation::with("run", &into(shared.path())).arguments(&["--shard", shard]).run().await;
        ended.expect(code, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_shards_are_refused_before_anything_begins() {
    let bed = Bed::new().await;
    for (shard, part) in
        [("4/4", "from 0 to 3"), ("x", "INDEX/COUNT"), ("1/0", "0 as COUNT"), ("-1/2", "whole numbers")]
    {
        let shard = format!("--shard={shard}");
        let ended = Invocation::with("run", &bed.settings).arguments(&[&shard]).run().await;
        ended.expect(64, &["--shard", part]);
    }
    let of_environment = |index: &str| Invocation::with("run", &bed.settings).variable("JOB_COMPLETION_INDEX", index);
    of_environment("1").run().await.expect(64, &["JOB_COMPLETION_INDEX is set and JOB_COMPLETION_COUNT is not"]);
    of_environment("2").variable("JOB_COMPLETION_COUNT", "2").run().await.expect(64, &["from 0 to 1"]);
    assert_eq!(bed.count("SELECT count(*) FROM tenant.writes").await, 0);
    let ended = of_environment("1").variable("JOB_COMPLETION_COUNT", "2").run().await;
    assert_eq!(ended.expect(0, &[]).report["shard"], "1/2");
    assert_eq!(with_status(&ended, "written"), DAYS, "alone, it does what the other one would have done");
    bed.expect_each_day_written(1).await;
}
