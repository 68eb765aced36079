//! Four pods on one month at once, two of them killed at random moments, and a reader who looks at every day all the while.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_postgres::Client;

use crate::database;
use crate::kills::{Content, DAYS, Stage, TABLE, digests, totals, watch};
use crate::usage::Random;

const PODS: u32 = 4;
const KILLED: usize = 2;
const LEASE_SECONDS: u64 = 2;
/// Writing a day takes so much longer than its rows do, as in a database that others use too.
const DAY_SECONDS: f64 = 0.2;
/// A round takes seconds; one that takes so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// What happened in all rounds.
#[derive(Default)]
struct Survived {
    kills: u64,
    /// Kills that left claims behind.
    kills_with_claims: u64,
    rows_compared: i64,
    days_written: i64,
    longest: Duration,
}

/// Plays so many rounds.
pub async fn run(rounds: u64, seed: u64) {
    let stage = Stage::new(seed).await;
    let client = &stage.client;
    let mut contents = ["a", "b"].map(|name| {
        let mut settings = stage.settings(name);
        settings["claims"] = json!({"lease_seconds": LEASE_SECONDS, "wait_seconds": 60});
        settings["target"]["postgres"]["max_writers"] = json!(3);
        Content::new(&settings)
    });
    // Undisturbed: what each content gives.
    for content in &mut contents {
        content.run();
        content.look(client).await;
    }
    note_writes(client).await;
    let (stop, polls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let legal = [contents[0].totals.clone(), contents[1].totals.clone()];
    let watcher = database::client(&stage.postgres).await;
    let watcher = tokio::spawn(watch(watcher, legal, Arc::clone(&stop), Arc::clone(&polls)));
    let mut random = Random(seed);
    // The table holds `b`. Nobody is killed at first: that says how long four pods take.
    let mut undisturbed = Survived::default();
    for content in &contents {
        play(client, content, &[], &mut random, &mut undisturbed).await;
    }
    let length = undisturbed.longest;
    let mut survived = Survived::default();
    for round in 0..rounds {
        // In the middle, where pods have days: before that they list and read footers.
        let mut delays = [(); KILLED].map(|()| length.mul_f64(0.2 + 0.6 * random.below(1_000) as f64 / 1_000.0));
        delays.sort();
        play(client, &contents[round as usize % 2], &delays, &mut random, &mut survived).await;
    }
    assert!(rounds < 10 || survived.kills_with_claims > 0, "no kill met a pod with days");
    stop.store(true, Ordering::Relaxed);
    assert_eq!(watcher.await.unwrap(), None);
    println!(
        "\n{PODS} pods on {DAYS} days, {KILLED} of them killed; lease {LEASE_SECONDS} s, undisturbed {} ms",
        length.as_millis()
    );
    println!(
        "| fault | rounds | killed | of these with claims | days written, each once | rows compared | looks at all days | longest round |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| SIGKILL of {KILLED} of {PODS} pods | {rounds} | {} | {} | {} | {} | {} | {:.1} s |",
        survived.kills,
        survived.kills_with_claims,
        survived.days_written,
        survived.rows_compared,
        polls.load(Ordering::Relaxed),
        survived.longest.as_secs_f64()
    );
}

/// One month by four pods. Whoever is not killed ends well, and only when every day is written.
async fn play(client: &Client, content: &Content, delays: &[Duration], random: &mut Random, survived: &mut Survived) {
    client.batch_execute("TRUNCATE tenant.writes").await.unwrap();
    let begun = Instant::now();
    let mut pods: Vec<(u32, Child)> = (0..PODS).map(|index| (index, start(content, index))).collect();
    for delay in delays {
        tokio::time::sleep(delay.saturating_sub(begun.elapsed())).await;
        let (index, mut victim) = pods.remove(random.below(pods.len()));
        if victim.try_wait().unwrap().is_none() {
            victim.kill().unwrap();
            survived.kills += 1;
            victim.wait().unwrap();
            let held = "SELECT count(*) FROM gristmill.day_ledger WHERE claimed_by LIKE $1";
            let name = format!("shard {index}/{PODS} of %");
            let days: i64 = client.query_one(held, &[&name]).await.unwrap().get(0);
            survived.kills_with_claims += u64::from(days > 0);
        } else {
            assert!(victim.wait().unwrap().success(), "it ended before it could be killed");
        }
    }
    for (_, pod) in pods {
        let output = tokio::task::spawn_blocking(move || pod.wait_with_output().unwrap());
        let output = tokio::time::timeout(PATIENCE, output).await.expect("no pod hangs").unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    survived.longest = survived.longest.max(begun.elapsed());
    assert_eq!(totals(client).await, content.totals);
    assert_eq!(digests(client).await, content.digests, "the table equals that of a run by itself");
    let sql = "SELECT count(*), count(DISTINCT (usage_day, fingerprint)), count(DISTINCT usage_day) FROM tenant.writes";
    let row = client.query_one(sql, &[]).await.unwrap();
    let found: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(found, [DAYS as i64; 3], "every day is written exactly once");
    survived.days_written += found[0];
    survived.rows_compared += content.rows();
}

fn start(content: &Content, index: u32) -> Child {
    let mut command: Command = content.command();
    command.arg("--shard").arg(format!("{index}/{PODS}")).stdin(Stdio::null());
    command.spawn().unwrap()
}

/// Notes every day that is written, in the transaction that writes it, and makes days take their time.
async fn note_writes(client: &Client) {
    client
        .batch_execute(&format!(
            "CREATE TABLE tenant.writes (usage_day date, fingerprint bytea); \
             CREATE FUNCTION tenant.note_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO tenant.writes VALUES (NEW.usage_day, NEW.fingerprint); RETURN NULL; END $$; \
             CREATE TRIGGER note_write AFTER INSERT OR UPDATE OF fingerprint ON gristmill.day_ledger \
             FOR EACH ROW WHEN (NEW.status = 'written') EXECUTE FUNCTION tenant.note_write(); \
             CREATE FUNCTION tenant.dawdle() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep({DAY_SECONDS}); RETURN NULL; END $$; \
             CREATE TRIGGER dawdle AFTER INSERT ON {TABLE} FOR EACH STATEMENT EXECUTE FUNCTION tenant.dawdle()"
        ))
        .await
        .unwrap();
}
