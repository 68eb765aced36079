//! SIGKILL at random moments, a rerun after each, and a reader who looks at every day's totals all the while.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gristmill::config::Postgres;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::binary::Invocation;
use crate::delivery::{into_postgres, settings};
use crate::usage::{FIRST_DATE, Random, Usage};
use crate::{Storage, database};

pub const TABLE: &str = "tenant.reporting_ocpusagelineitem_daily_summary";
pub const DAYS: usize = 12;
const LAST_DATE: &str = "2025-03-10";
const POD_ROWS: usize = 6_000;
/// Undisturbed runs that say how long one takes.
const TIMED_RUNS: usize = 4;

/// Day → what a reader sees of it.
pub type Totals = BTreeMap<String, (i64, String)>;
/// Day → digest of all its rows but their random ids, number of rows, and fingerprint in the ledger.
pub type Digests = BTreeMap<String, (String, i64, Option<String>)>;

/// One of the two contents that each day may have.
pub struct Content {
    config: tempfile::NamedTempFile,
    pub totals: Totals,
    pub digests: Digests,
}

impl Content {
    /// Nothing is known yet of what it gives.
    pub fn new(settings: &Value) -> Self {
        let config = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(config.path(), settings.to_string()).unwrap();
        Self { config, totals: Totals::new(), digests: Digests::new() }
    }

    /// Takes what is in the table now for what it gives.
    pub async fn look(&mut self, client: &Client) {
        (self.totals, self.digests) = (totals(client).await, digests(client).await);
        assert_eq!(self.totals.len(), DAYS);
    }

    pub fn rows(&self) -> i64 {
        self.digests.values().map(|(_, rows, _)| rows).sum()
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
        command.env_clear().arg("run").arg("--config").arg(self.config.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end; answers how long that took.
    pub fn run(&self) -> Duration {
        let started = Instant::now();
        let output = self.command().output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        started.elapsed()
    }
}

pub async fn totals(client: &Client) -> Totals {
    let sql = format!(
        "SELECT usage_start::text, count(*), concat_ws(' ', sum(pod_usage_cpu_core_hours), \
         sum(pod_request_memory_gigabyte_hours), sum(persistentvolumeclaim_usage_gigabyte_months)) \
         FROM {TABLE} GROUP BY 1"
    );
    let rows = client.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
}

pub async fn digests(client: &Client) -> Digests {
    let sql = format!(
        "SELECT usage_start::text, md5(string_agg(line, E'\\n' ORDER BY line)), count(*), \
         (SELECT encode(fingerprint, 'hex') FROM gristmill.day_ledger WHERE usage_day = usage_start) \
         FROM (SELECT usage_start, (to_jsonb(t) - 'uuid')::text AS line FROM {TABLE} t) AS lines GROUP BY usage_start"
    );
    let rows = client.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3)))).collect()
}

/// Writes the objects of a content.
fn write_objects(root: &Path, name: &str, seed: u64) {
    let folder = root.join(name);
    std::fs::create_dir(&folder).unwrap();
    let mut usage = Usage::random(&mut Random(seed), POD_ROWS, DAYS, true);
    // In the order of time, as reports come: days then end one after the other, not all at once.
    usage.pods.sort_by_key(|row| row.milliseconds);
    usage.volumes.sort_by_key(|row| row.milliseconds);
    usage.node_labels.sort_by_key(|row| row.milliseconds);
    usage.namespace_labels.sort_by_key(|row| row.milliseconds);
    usage.write(&folder, DAYS, 300);
}

fn settings_of(storage: &Storage, postgres: &Postgres, name: &str) -> Value {
    let mut settings = into_postgres(settings(Path::new("/nowhere"), FIRST_DATE, LAST_DATE), postgres);
    settings["storage"] = storage.settings(name);
    settings["performance"] = json!({"max_workers": 1});
    // The two contents are cut into objects in ways of their own, and each takes the place of the other.
    settings["target"]["guard"] = json!({"min_objects_percent": 0});
    // Without a first pass for the roles more of the run is writing.
    settings["reference"] = json!({"from": "postgres"});
    settings
}

/// Looks at all days again and again until it is told to stop; notes the first day that is neither old nor new.
pub async fn watch(client: Client, legal: [Totals; 2], stop: Arc<AtomicBool>, polls: Arc<AtomicU64>) -> Option<String> {
    while !stop.load(Ordering::Relaxed) {
        let seen = totals(&client).await;
        for day in legal[0].keys() {
            let found = seen.get(day);
            if !legal.iter().any(|totals| found == totals.get(day)) {
                return Some(format!("{day} was seen as {found:?}, neither old nor new"));
            }
        }
        polls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    None
}

/// A database after `init-db`, and a storage with both contents.
pub struct Stage {
    pub postgres: Postgres,
    pub client: Client,
    storage: Storage,
    _root: tempfile::TempDir,
}

impl Stage {
    pub async fn new(seed: u64) -> Self {
        let postgres = database::database().await;
        let root = tempfile::tempdir().unwrap();
        for (name, seed) in [("a", seed), ("b", seed + 1)] {
            write_objects(root.path(), name, seed);
        }
        // The server lists its folder when it starts.
        let storage = Storage::of(root.path());
        let client = database::client(&postgres).await;
        let stage = Self { postgres, client, storage, _root: root };
        Invocation::with("init-db", &stage.settings("a")).run().await.expect(0, &[]);
        stage
    }

    /// Settings for one of the contents.
    pub fn settings(&self, name: &str) -> Value {
        settings_of(&self.storage, &self.postgres, name)
    }
}

/// Kills the program so many times.
pub async fn run(kill_count: u64, seed: u64) {
    let stage = Stage::new(seed).await;
    let client = &stage.client;
    let mut contents = ["a", "b"].map(|name| Content::new(&stage.settings(name)));
    let mut durations = Vec::new();
    for number in 0..TIMED_RUNS {
        let content = &mut contents[number % 2];
        durations.push(content.run());
        content.look(client).await;
    }
    let [a, b] = &contents;
    assert!(a.totals.iter().all(|(day, total)| b.totals[day] != *total), "every day differs");
    durations.sort();
    // The first run begins with an empty table and is no example.
    let length = durations[TIMED_RUNS / 2];

    let (stop, polls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let legal = [a.totals.clone(), b.totals.clone()];
    let watcher = database::client(&stage.postgres).await;
    let watcher = tokio::spawn(watch(watcher, legal, Arc::clone(&stop), Arc::clone(&polls)));
    let survived = kill_often(client, [a, b], kill_count, length, &mut Random(seed)).await;
    stop.store(true, Ordering::Relaxed);
    assert_eq!(watcher.await.unwrap(), None);
    println!("\nundisturbed run: {} ms; {DAYS} days of {} and {} rows", length.as_millis(), a.rows(), b.rows());
    println!("| fault | injected | survived | rows compared | looks at all days | days already new when killed |");
    println!("|---|---|---|---|---|---|");
    println!(
        "| SIGKILL, then a rerun | {} | {} | {} | {} | {} |",
        survived.kills,
        survived.kills,
        survived.rows_compared,
        polls.load(Ordering::Relaxed),
        survived.spread()
    );
}

#[derive(Default)]
struct Survived {
    kills: u64,
    rows_compared: i64,
    /// How many kills met so many days that were already new.
    by_new_days: BTreeMap<usize, u64>,
}

impl Survived {
    fn spread(&self) -> String {
        let part = |(days, kills): (&usize, &u64)| format!("{days}: {kills}×");
        self.by_new_days.iter().map(part).collect::<Vec<_>>().join(", ")
    }
}

async fn kill_often(
    client: &Client,
    contents: [&Content; 2],
    kill_count: u64,
    length: Duration,
    random: &mut Random,
) -> Survived {
    let mut survived = Survived::default();
    // The table holds `b`: that run was the last one.
    for attempt in 0..kill_count * 4 {
        let content = contents[attempt as usize % 2];
        let mut child = content.command().spawn().unwrap();
        let delay = length.mul_f64(random.below(1_000) as f64 / 1_000.0);
        tokio::time::sleep(delay).await;
        let is_killed = child.try_wait().unwrap().is_none();
        if is_killed {
            child.kill().unwrap();
            survived.kills += 1;
        }
        child.wait().unwrap();
        if is_killed {
            let now = totals(client).await;
            let new_days = content.totals.iter().filter(|(day, total)| now.get(*day) == Some(total)).count();
            *survived.by_new_days.entry(new_days).or_default() += 1;
        }
        content.run();
        let found = digests(client).await;
        assert_eq!(found, content.digests, "attempt {attempt}, killed after {delay:?}");
        survived.rows_compared += content.rows();
        if survived.kills == kill_count {
            return survived;
        }
    }
    panic!("only {} of {kill_count} kills met a process that was still running", survived.kills);
}
