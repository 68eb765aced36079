//! Claims one by one: taken, kept, lost, given back, and what a writer without one may not do.

use std::time::Duration;

use futures::future::join_all;
use gristmill::config::Postgres;
use gristmill::error::ErrorKind;
use gristmill::ledger::{self, Basis, Claimant, DayKey};
use gristmill::postgres::connection::{Connection, Connector};
use gristmill::postgres::sql::TableName;
use gristmill::sink::{DayRows, Sink, Written};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::day_rows::{day, pod_rows};
use crate::postgres::{ready_database, sink, target};

const DAY: &str = "2025-10-01";
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(60);

struct Bed {
    config: Postgres,
    client: Client,
    key: DayKey,
}

impl Bed {
    async fn new() -> Self {
        let (config, client) = ready_database().await;
        super::note_writes(&client).await;
        let target = TableName::new(&config.schema, &config.table);
        let key = DayKey { target, source_uuid: Uuid::new_v4(), day: day(DAY) };
        let bed = Self { config, client, key };
        let connection = bed.connect().await;
        for _ in 0..2 {
            let days = [day(DAY), day("2025-10-02")];
            ledger::expect_days(&connection, &bed.key.target, bed.key.source_uuid, &days).await.unwrap();
        }
        bed
    }

    async fn connect(&self) -> Connection {
        Connector::new(&self.config, Uuid::new_v4()).unwrap().connect().await.unwrap()
    }

    async fn claim(&self, name: &str, lease: Duration, last_run: Option<Uuid>) -> Option<i64> {
        let claimant = Claimant { name: name.to_owned(), lease };
        ledger::claim(&self.connect().await, &self.key, last_run, &claimant).await.unwrap()
    }

    async fn renew(&self, tokens: &[i64], lease: Duration) -> Vec<i64> {
        ledger::renew(&self.connect().await, &self.key.target, tokens, lease).await.unwrap()
    }

    /// Rows of the day for a writer with this token; another `mark`, another fingerprint.
    fn rows(&self, token: Option<i64>, row_count: usize, mark: u8) -> DayRows {
        let basis = Some(Basis { last_run: None, token });
        DayRows { basis, fingerprint: [mark; 32], ..pod_rows(self.key.day, self.key.source_uuid, row_count, 1, None) }
    }

    async fn count(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn row_count(&self) -> i64 {
        self.count(&format!("SELECT count(*) FROM {}", target(&self.config))).await
    }
}

#[tokio::test]
async fn one_of_many_claimants_gets_the_day() {
    let bed = Bed::new().await;
    let names: Vec<String> = (0..8).map(|number| format!("pod {number}")).collect();
    let answers = join_all(names.iter().map(|name| bed.claim(name, LONG, None))).await;
    assert_eq!(answers.iter().flatten().count(), 1, "{answers:?}");
    let winner = &names[answers.iter().position(Option::is_some).unwrap()];
    let days = [day(DAY), day("2025-10-02"), day("2025-10-03")];
    let connection = bed.connect().await;
    let found = ledger::look(&connection, &bed.key.target, bed.key.source_uuid, &days).await.unwrap();
    assert_eq!(found.len(), 2, "the third day is not known: {found:?}");
    let claim = found[&days[0]].claim.as_ref().expect("a claim");
    assert_eq!((&claim.claimed_by, Some(claim.token)), (winner, answers.into_iter().flatten().next()));
    assert!(claim.expires_in_seconds > 50.0 && claim.expires_in_seconds <= 60.0, "{claim:?}");
    assert_eq!((&found[&days[1]].claim, &found[&days[0]].written), (&None, &None));
}

#[tokio::test]
async fn a_claim_expires_unless_it_is_renewed_and_comes_with_another_token() {
    let bed = Bed::new().await;
    let first = bed.claim("a", SHORT, None).await.expect("nobody holds it");
    for _ in 0..6 {
        tokio::time::sleep(SHORT / 3).await;
        assert_eq!(bed.renew(&[first], SHORT).await, [first]);
        assert_eq!(bed.claim("b", SHORT, None).await, None, "it is renewed all the time");
    }
    tokio::time::sleep(SHORT + SHORT / 3).await;
    // Late, and nobody came in between: it is still ours.
    assert_eq!(bed.renew(&[first], SHORT).await, [first]);
    tokio::time::sleep(SHORT + SHORT / 3).await;
    let second = bed.claim("b", LONG, None).await.expect("it has expired");
    assert!(second > first);
    assert_eq!(bed.renew(&[first, second], LONG).await, [second], "the first one is lost");
    assert_eq!(bed.claim("a", LONG, None).await, None);
}

#[tokio::test]
async fn a_claim_that_is_given_back_can_be_taken_at_once() {
    let bed = Bed::new().await;
    let token = bed.claim("a", LONG, None).await.unwrap();
    let connection = bed.connect().await;
    let release = async |name: &str, tokens: Option<&[i64]>| {
        ledger::release(&connection, &bed.key.target, name, tokens).await.unwrap()
    };
    // Neither another claimant nor another token gives it back.
    assert_eq!([release("b", None).await, release("a", Some(&[token + 1])).await], [0, 0]);
    assert_eq!(bed.claim("b", LONG, None).await, None);
    // A row that a transaction locks is not waited for; it is counted.
    let blocker = crate::database::client(&bed.config).await;
    blocker.batch_execute("BEGIN; SELECT * FROM gristmill.day_ledger FOR UPDATE").await.unwrap();
    assert_eq!(release("a", None).await, 1);
    assert_eq!(bed.renew(&[token], LONG).await, [token], "locked, and still ours");
    blocker.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(release("a", Some(&[token])).await, 0);
    let token = bed.claim("b", LONG, None).await.expect("it was given back");
    assert_eq!(release("b", None).await, 0);
    assert!(bed.claim("a", LONG, None).await.is_some_and(|next| next > token));
}

#[tokio::test]
async fn a_day_that_is_being_written_or_was_written_since_cannot_be_claimed() {
    let bed = Bed::new().await;
    let blocker = crate::database::client(&bed.config).await;
    blocker.batch_execute("BEGIN; SELECT * FROM gristmill.day_ledger FOR UPDATE").await.unwrap();
    assert_eq!(bed.claim("a", LONG, None).await, None, "and it does not wait");
    blocker.batch_execute("ROLLBACK").await.unwrap();
    let token = bed.claim("a", LONG, None).await;
    let run = sink(&bed.config, bed.key.source_uuid);
    assert_eq!(
        run.replace(bed.rows(token, 3, 1)).await.unwrap(),
        Written::Replaced { deleted_row_count: 0, row_count: 3 }
    );
    // The claim went with the rows; who knows nothing of them gets none.
    assert_eq!(bed.count("SELECT count(*) FROM gristmill.day_ledger WHERE token IS NOT NULL").await, 0);
    assert_eq!(bed.claim("b", LONG, None).await, None);
    assert_eq!(bed.claim("b", LONG, Some(Uuid::nil())).await, None);
    let written = ledger::read(&bed.connect().await, &bed.key).await.unwrap().expect("it is written");
    assert!(bed.claim("b", LONG, Some(written.run_id)).await.is_some());
    // A claim on a written day takes nothing away from it.
    let connection = bed.connect().await;
    ledger::expect_days(&connection, &bed.key.target, bed.key.source_uuid, &[day(DAY)]).await.unwrap();
    assert_eq!(ledger::read(&connection, &bed.key).await.unwrap(), Some(written));
}

/// A writer that was paused: its claim expired, its successor writes, and only then it goes on.
#[tokio::test]
async fn a_paused_writer_rolls_back_at_its_token() {
    let bed = Bed::new().await;
    let paused = bed.claim("a", Duration::from_millis(50), None).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let successor = bed.claim("b", LONG, None).await;
    assert!(successor > paused);
    // Before the successor has written anything, other rows or the same.
    for mark in [1, 2] {
        let failure = sink(&bed.config, bed.key.source_uuid).replace(bed.rows(paused, 9, mark)).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::HeldByOthers);
        assert!(failure.message.contains("another pod took the claim over"), "{}", failure.message);
        assert_eq!(bed.row_count().await, 0);
    }
    // While the successor is writing: the paused one has to wait for its lock.
    bed.client
        .batch_execute(&format!(
            "CREATE FUNCTION tenant.dawdle() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END'; CREATE TRIGGER dawdle AFTER INSERT ON {} \
             FOR EACH STATEMENT EXECUTE FUNCTION tenant.dawdle()",
            target(&bed.config)
        ))
        .await
        .unwrap();
    let (first, second) = [(); 2].map(|()| sink(&bed.config, bed.key.source_uuid)).into();
    let late = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        second.replace(bed.rows(paused, 9, 2)).await
    };
    let (written, late) = tokio::join!(first.replace(bed.rows(successor, 3, 1)), late);
    assert_eq!(written.unwrap(), Written::Replaced { deleted_row_count: 0, row_count: 3 });
    assert_eq!(late.unwrap_err().kind, ErrorKind::HeldByOthers);
    assert_eq!(bed.row_count().await, 3, "the successor's rows, once");
    // Afterwards, with the rows that the successor wrote as well: they are there.
    let again = sink(&bed.config, bed.key.source_uuid).replace(bed.rows(paused, 3, 1)).await.unwrap();
    assert_eq!(again, Written::AlreadyThere);
    assert_eq!(bed.count("SELECT count(*) FROM tenant.writes").await, 1);
}

#[tokio::test]
async fn of_two_writers_without_claims_one_finds_the_rows_there() {
    let bed = Bed::new().await;
    let writers = [(); 2].map(|()| sink(&bed.config, bed.key.source_uuid));
    let written = join_all(writers.iter().map(|sink| sink.replace(bed.rows(None, 4, 1)))).await;
    let mut written: Vec<Written> = written.into_iter().map(Result::unwrap).collect();
    written.sort_by_key(|written| *written == Written::AlreadyThere);
    assert_eq!(written, [Written::Replaced { deleted_row_count: 0, row_count: 4 }, Written::AlreadyThere]);
    assert_eq!([bed.row_count().await, bed.count("SELECT count(*) FROM tenant.writes").await], [4, 1]);
    // Other rows are written, whoever was there meanwhile; and so are the same if they were known when that was decided.
    let other = sink(&bed.config, bed.key.source_uuid).replace(bed.rows(None, 5, 2)).await.unwrap();
    assert_eq!(other, Written::Replaced { deleted_row_count: 4, row_count: 5 });
    let known = ledger::read(&bed.connect().await, &bed.key).await.unwrap().unwrap().run_id;
    let basis = Some(Basis { last_run: Some(known), token: None });
    let forced = join_all([(); 2].map(|()| async {
        let rows = DayRows { basis, ..bed.rows(None, 5, 2) };
        sink(&bed.config, bed.key.source_uuid).replace(rows).await.unwrap()
    }))
    .await;
    assert_eq!(forced.iter().filter(|written| **written == Written::AlreadyThere).count(), 1, "{forced:?}");
    assert_eq!(bed.count("SELECT count(*) FROM tenant.writes").await, 3);
}
