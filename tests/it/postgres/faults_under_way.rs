//! A database that fails in the middle of a day: whatever the moment, others see the old day or the new one, and nothing
//! between. A reader polls all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gristmill::config::Postgres;
use gristmill::error::{ErrorKind, Failure};
use gristmill::postgres::error::PostgresError;
use gristmill::sink::{Sink, Written};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{OCTOBER, count, init, ready_database, sink, target};
use crate::database;
use crate::day_rows::{day, pod_rows};

const DAY: &str = "2025-10-01";
const OLD_ROWS: usize = 5;
const NEW_ROWS: usize = 9;

/// A database with the old day, and somebody who looks at it all the time.
struct Bed {
    config: Postgres,
    client: Client,
    source: Uuid,
    reader: Reader,
}

impl Bed {
    async fn new() -> Self {
        let (config, client) = ready_database().await;
        Self::on(config, client).await
    }

    async fn on(config: Postgres, client: Client) -> Self {
        let source = Uuid::new_v4();
        sink(&config, source).replace(pod_rows(day(DAY), source, OLD_ROWS, 1, None)).await.unwrap();
        let reader = Reader::start(config.clone(), target(&config)).await;
        Self { config, client, source, reader }
    }

    /// Begins to write the new day.
    fn write(&self) -> JoinHandle<Result<Written, Failure>> {
        self.write_with(&self.config)
    }

    fn write_with(&self, config: &Postgres) -> JoinHandle<Result<Written, Failure>> {
        let (sink, source) = (sink(config, self.source), self.source);
        tokio::spawn(async move { sink.replace(pod_rows(day(DAY), source, NEW_ROWS, 1, None)).await })
    }

    async fn rows(&self) -> i64 {
        count(&self.client, &format!("SELECT count(*) FROM {}", target(&self.config))).await
    }

    /// Waits for our session to come to a state.
    async fn session_at(&self, state: &str) {
        super::faults::wait_for_session(&self.client, state).await;
    }

    /// Ends our sessions as an administrator would.
    async fn terminate(&self) {
        let killed = count(
            &self.client,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
             AND application_name LIKE 'gristmill/%' AND state <> 'idle'",
        )
        .await;
        assert!(killed >= 1);
    }

    /// How often rows of the day were inserted, rolled back or not, from now on.
    async fn count_copies(&self) {
        let sql = "CREATE SEQUENCE tenant.copies; CREATE FUNCTION tenant.note() RETURNS trigger LANGUAGE plpgsql AS \
                   'BEGIN PERFORM nextval(''tenant.copies''); RETURN NULL; END'; CREATE TRIGGER note AFTER INSERT ON \
                   tenant.reporting_ocpusagelineitem_daily_summary FOR EACH STATEMENT EXECUTE FUNCTION tenant.note()";
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn copies(&self) -> i64 {
        count(&self.client, "SELECT last_value FROM tenant.copies").await
    }

    async fn ends_new(self, writing: JoinHandle<Result<Written, Failure>>) {
        let limit = Duration::from_secs(60);
        let written = tokio::time::timeout(limit, writing).await.expect("no hang").unwrap().expect("it is tried again");
        let (deleted_row_count, row_count) = (OLD_ROWS as u64, NEW_ROWS as u64);
        assert_eq!(written, Written::Replaced { deleted_row_count, row_count });
        assert_eq!(self.rows().await, NEW_ROWS as i64);
        assert_eq!(
            count(&self.client, "SELECT sum(row_count)::bigint FROM gristmill.day_ledger").await,
            NEW_ROWS as i64
        );
        self.reader.saw_only_whole_days().await;
    }
}

/// Polls the number of rows of the day until it is told to end.
struct Reader {
    polls: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    reading: JoinHandle<()>,
}

impl Reader {
    /// Comes back once it has looked for the first time.
    async fn start(config: Postgres, table: String) -> Self {
        let (polls, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, end) = (Arc::clone(&polls), Arc::clone(&ends));
        let reading = tokio::spawn(async move {
            let sql = format!("SELECT count(*), coalesce(sum(pod_usage_cpu_core_hours), 0)::bigint FROM {table}");
            let mut client = database::client(&config).await;
            while !end.load(Ordering::Relaxed) {
                match client.query_one(&sql, &[]).await {
                    Ok(row) => {
                        let seen: (i64, i64) = (row.get(0), row.get(1));
                        let whole = [OLD_ROWS, NEW_ROWS].map(|rows| (rows as i64, rows as i64));
                        assert!(whole.contains(&seen), "a partial day was visible: {seen:?}");
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    // The server restarts in one of the tests.
                    Err(_) => client = reconnected(&config).await,
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        for _ in 0..10_000 {
            if polls.load(Ordering::Relaxed) > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Self { polls, ends, reading }
    }

    async fn saw_only_whole_days(self) {
        self.ends.store(true, Ordering::Relaxed);
        self.reading.await.unwrap();
        assert!(self.polls.load(Ordering::Relaxed) > 0);
    }
}

async fn reconnected(config: &Postgres) -> Client {
    use secrecy::ExposeSecret;
    let mut options = tokio_postgres::Config::new();
    options.host(&config.host).port(config.port).user(&config.user).dbname(&config.database);
    options.password(config.password.as_ref().expect("a password").expose_secret());
    for _ in 0..300 {
        if let Ok((client, connection)) = options.connect(tokio_postgres::NoTls).await {
            tokio::spawn(async move {
                let _ = connection.await;
            });
            return client;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the server does not come back");
}

/// Holds every COPY into the target while the client holds advisory lock 77.
const GATE_IN_COPY: &str = "CREATE FUNCTION tenant.gate() RETURNS trigger LANGUAGE plpgsql AS \
     'BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN new; END'; CREATE TRIGGER gate BEFORE INSERT ON \
     tenant.reporting_ocpusagelineitem_daily_summary_2025_10 FOR EACH ROW EXECUTE FUNCTION tenant.gate()";

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_terminated_during_delete() {
    let bed = Bed::new().await;
    let blocker = database::client(&bed.config).await;
    blocker.batch_execute(&format!("BEGIN; SELECT 1 FROM {} FOR UPDATE", target(&bed.config))).await.unwrap();
    let writing = bed.write();
    bed.session_at("wait_event_type = 'Lock' AND query LIKE 'DELETE%'").await;
    bed.terminate().await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    bed.ends_new(writing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_terminated_during_copy() {
    let bed = Bed::new().await;
    bed.client.batch_execute(GATE_IN_COPY).await.unwrap();
    bed.client.batch_execute("SELECT pg_advisory_lock(77)").await.unwrap();
    let writing = bed.write();
    bed.session_at("wait_event_type = 'Lock' AND query LIKE 'COPY%'").await;
    assert_eq!(bed.rows().await, OLD_ROWS as i64);
    bed.terminate().await;
    bed.client.batch_execute("SELECT pg_advisory_unlock(77)").await.unwrap();
    bed.ends_new(writing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_terminated_before_commit() {
    let bed = Bed::new().await;
    let blocker = database::client(&bed.config).await;
    blocker.batch_execute("BEGIN; SELECT 1 FROM gristmill.day_ledger FOR UPDATE").await.unwrap();
    let writing = bed.write();
    bed.session_at("wait_event_type = 'Lock' AND query LIKE '%day_ledger%'").await;
    bed.terminate().await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    bed.ends_new(writing).await;
}

/// What becomes of the first COMMIT that passes.
#[derive(Clone, Copy)]
enum Commit {
    /// It reaches the server; the answer is lost.
    Lost,
    /// It never reaches the server.
    Swallowed,
}

/// Passes bytes on until a COMMIT comes for the first time; then the connection is cut.
async fn cut_at_commit(server_port: u16, commit: Commit) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let is_armed = Arc::new(AtomicBool::new(true));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
            tokio::spawn(pass_on(client, server, Arc::clone(&is_armed), commit));
        }
    });
    port
}

async fn pass_on(client: TcpStream, server: TcpStream, is_armed: Arc<AtomicBool>, commit: Commit) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let answers = async { tokio::io::copy(&mut from_server, &mut to_client).await };
    let questions = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = from_client.read(&mut buffer).await.unwrap_or(0);
            if length == 0 {
                return false;
            }
            // A statement of its own, in a message of its own: 'Q', length, text.
            let is_commit = buffer[..length].windows(7).any(|window| window == b"COMMIT\0");
            if is_commit && is_armed.swap(false, Ordering::SeqCst) {
                if matches!(commit, Commit::Lost) {
                    to_server.write_all(&buffer[..length]).await.unwrap();
                }
                return true;
            }
            if to_server.write_all(&buffer[..length]).await.is_err() {
                return false;
            }
        }
    };
    tokio::select! {
        _ = answers => {}
        is_cut = questions => {
            if is_cut && matches!(commit, Commit::Lost) {
                // The server has it; give it time to work on it before its client vanishes.
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_found_in_the_ledger() {
    let bed = Bed::new().await;
    bed.count_copies().await;
    let config = Postgres { port: cut_at_commit(bed.config.port, Commit::Lost).await, ..bed.config.clone() };
    // What is read by single statements ends with END, so the first COMMIT is that of the day.
    let writing = bed.write_with(&config);
    let written = writing.await.unwrap().unwrap();
    let (deleted_row_count, row_count) = (OLD_ROWS as u64, NEW_ROWS as u64);
    assert_eq!(written, Written::Replaced { deleted_row_count, row_count });
    assert_eq!(bed.copies().await, 1, "the day was not written twice");
    assert_eq!(bed.rows().await, NEW_ROWS as i64);
    bed.reader.saw_only_whole_days().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_arrived_is_repeated_with_its_day() {
    let bed = Bed::new().await;
    bed.count_copies().await;
    let config = Postgres { port: cut_at_commit(bed.config.port, Commit::Swallowed).await, ..bed.config.clone() };
    let writing = bed.write_with(&config);
    let written = writing.await.unwrap().unwrap();
    assert!(matches!(written, Written::Replaced { .. }));
    assert_eq!(bed.copies().await, 2, "the first attempt was rolled back");
    assert_eq!(bed.rows().await, NEW_ROWS as i64);
    bed.reader.saw_only_whole_days().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_gets_the_day_afterwards() {
    let server = database::server_of_its_own();
    let config = database::database_on(&server).await;
    init(&config, &[OCTOBER]).await;
    let client = database::client(&config).await;
    let mut bed = Bed::on(config, client).await;
    bed.client.batch_execute(GATE_IN_COPY).await.unwrap();
    bed.client.batch_execute("SELECT pg_advisory_lock(77)").await.unwrap();
    let writing = bed.write();
    bed.session_at("wait_event_type = 'Lock' AND query LIKE 'COPY%'").await;
    let pid = count(
        &bed.client,
        "SELECT pid::bigint FROM pg_stat_activity WHERE application_name LIKE 'gristmill/%' AND query LIKE 'COPY%'",
    )
    .await;
    // One process of the server dies of a signal: all its sessions end and it recovers from its log, as after a crash.
    let killed = std::process::Command::new("/bin/sh").args(["-c", "kill -KILL \"$0\"", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
    bed.client = reconnected(&bed.config).await;
    bed.ends_new(writing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_another_session_holds_leaves_the_old_day() {
    let bed = Bed::new().await;
    let blocker = database::client(&bed.config).await;
    blocker.batch_execute(&format!("BEGIN; SELECT 1 FROM {} FOR UPDATE", target(&bed.config))).await.unwrap();
    let config = Postgres { lock_timeout_seconds: 1, ..bed.config.clone() };
    let failure = bed.write_with(&config).await.unwrap().unwrap_err();
    assert_eq!(failure.kind, ErrorKind::LockBusy);
    assert_eq!(failure.kind.exit_code(), 75);
    assert_eq!(bed.rows().await, OLD_ROWS as i64);
    blocker.batch_execute("ROLLBACK").await.unwrap();
    let writing = bed.write();
    bed.ends_new(writing).await;
}

/// Raises SQLSTATE 53100, as a server with a full disk does, for the first rows that are inserted.
fn full_disk(failures: u32) -> String {
    format!(
        "CREATE SEQUENCE tenant.attempts; CREATE FUNCTION tenant.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('tenant.attempts') <= {failures} THEN \
         RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END IF; \
         RETURN new; END $$; CREATE TRIGGER full_disk BEFORE INSERT ON \
         tenant.reporting_ocpusagelineitem_daily_summary_2025_10 FOR EACH ROW EXECUTE FUNCTION tenant.full()"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_tried_again_and_called_by_its_name() {
    let bed = Bed::new().await;
    bed.client.batch_execute(&full_disk(1_000)).await.unwrap();
    let config = Postgres { retries: 1, ..bed.config.clone() };
    let failure = bed.write_with(&config).await.unwrap().unwrap_err();
    assert_eq!((failure.kind, failure.kind.exit_code()), (ErrorKind::DatabaseFull, 75));
    let text = failure.full_text();
    assert!(text.contains("No space left on device") && text.contains("SQLSTATE 53100"), "{text}");
    assert!(text.contains("free space on the disk of the database server"), "{text}");
    assert_eq!(bed.rows().await, OLD_ROWS as i64);
    assert_eq!(count(&bed.client, "SELECT last_value FROM tenant.attempts").await, 2, "one attempt and one more");

    bed.client.batch_execute("ALTER SEQUENCE tenant.attempts RESTART WITH 999").await.unwrap();
    let writing = bed.write();
    bed.ends_new(writing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_with_another_writer_is_survived() {
    let bed = Bed::new().await;
    let other = database::client(&bed.config).await;
    // We hold the deleted rows and wait for the ledger; the other holds the ledger and waits for the rows.
    other
        .batch_execute("SET deadlock_timeout = '20s'; BEGIN; SELECT 1 FROM gristmill.day_ledger FOR UPDATE")
        .await
        .unwrap();
    let writing = bed.write();
    bed.session_at("wait_event_type = 'Lock' AND query LIKE '%day_ledger%'").await;
    let sql = format!("SELECT 1 FROM {} FOR UPDATE", target(&bed.config));
    let waiting = tokio::spawn(async move {
        let waited = other.batch_execute(&sql).await;
        other.batch_execute("ROLLBACK").await.unwrap();
        waited
    });
    // PostgreSQL ends one of the two.
    let waited = waiting.await.unwrap();
    let other_lost = waited.as_ref().is_err_and(|error| error.code().is_some_and(|code| code.code() == "40P01"));
    assert!(waited.is_ok() || other_lost, "{waited:?}");
    bed.ends_new(writing).await;
}

#[tokio::test]
async fn errors_of_a_day_say_whether_it_may_be_tried_again() {
    let lost = PostgresError::CommitUnknown { action: "commit".to_owned(), reason: "closed".to_owned() };
    assert!(lost.is_worth_retrying());
    let stopped = PostgresError::Stopped { day: day(DAY) };
    assert!(!stopped.is_worth_retrying() && stopped.kind() == ErrorKind::Interrupted);
}
