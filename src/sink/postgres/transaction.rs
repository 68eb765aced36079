//! One day's rows → the target, in one transaction: locks, claim, guard, delete of exactly the day's scope, COPY, count, sums, ledger
//! row, commit. Whatever goes wrong on the way leaves the old day as it was.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tracing::debug;

use super::{EncodeJob, PostgresSink, Purpose};
use crate::ledger::{self, Verdict};
use crate::postgres::actors::actors;
use crate::postgres::connection::Connection;
use crate::postgres::copy::{self, DayEncoder, EncodeError};
use crate::postgres::error::PostgresError;
use crate::postgres::scope::Scope;
use crate::postgres::shape::TargetShape;
use crate::runtime::retry::RetryPolicy;
use crate::sink::change::{changes, columns, too_large};
use crate::sink::{DayRows, Written};
use crate::time::UsageDay;

/// What it takes to replace one day, tried as a whole and on a new connection each time.
pub(super) struct DayTransaction<'a> {
    sink: &'a PostgresSink,
    rows: &'a DayRows,
    row_count: u64,
    encoder: Arc<DayEncoder>,
    /// Rows deleted by an attempt whose COMMIT had no answer.
    unconfirmed: Mutex<Option<u64>>,
}

/// Batches of a day that are encoded before its transaction begins, so that the locks of a small day cover no computing.
const BATCHES_AHEAD: usize = 4;
/// Batches of a day that are looked at side by side; they are dropped at once.
const CHECKED_AT_ONCE: usize = 2;
/// Batches of a day that are encoded side by side, while the connection is busy with one and two more wait: a core encodes several
/// times as fast as a connection takes rows, and encoded rows take room.
const ENCODED_AT_ONCE: usize = 1;
/// Looking for a free slot: a day takes from a fraction of a second to minutes. Its total comes from the configuration.
const SLOT_POLICY: RetryPolicy = RetryPolicy {
    retries: 1_000_000,
    total: Duration::ZERO,
    first_pause: Duration::from_millis(20),
    longest_pause: Duration::from_millis(500),
};

impl<'a> DayTransaction<'a> {
    /// Nothing is done yet.
    pub(super) fn new(sink: &'a PostgresSink, rows: &'a DayRows, shape: Arc<TargetShape>) -> Self {
        let encoder = Arc::new(DayEncoder::new(shape));
        Self { sink, row_count: rows.row_count(), rows, encoder, unconfirmed: Mutex::new(None) }
    }

    /// One attempt, on a connection that is given back only after everything on it went well.
    pub(super) async fn attempt(&self) -> Result<Written, PostgresError> {
        if let Some(deleted_row_count) = self.take_unconfirmed()
            && self.is_recorded(deleted_row_count).await?
        {
            return Ok(Written::Replaced { deleted_row_count, row_count: self.row_count });
        }
        self.check().await?;
        let (sender, receiver) = mpsc::channel(1);
        let write = async {
            let frames = Frames::first(receiver).await;
            let lease = self.unless_asked(self.sink.shared.pool.lease()).await?;
            let written = self.within_grace(&lease.connection, frames).await;
            if written.as_ref().is_err_and(PostgresError::may_leave_work_behind) {
                lease.connection.cancel().await;
            }
            let written = written?;
            lease.give_back();
            Ok(written)
        };
        // A value that cannot be encoded ends both, and the transaction with its connection.
        let (written, ()) = tokio::try_join!(write, self.encode(sender))?;
        Ok(written)
    }

    /// After a COMMIT without an answer: whether it took place. The day's lock is free only once the transaction has ended one
    /// way or the other, so what the ledger says then is final.
    async fn is_recorded(&self, deleted_row_count: u64) -> Result<bool, PostgresError> {
        let look = async {
            let shared = &self.sink.shared;
            let action = format!("day {} in {}: asking the ledger for the commit", self.day(), shared.table);
            let lease = shared.pool.lease().await?;
            lease.connection.begin(&action).await?;
            ledger::lock_day(&lease.connection, &self.key()).await?;
            let recorded = ledger::read(&lease.connection, &self.key()).await?;
            lease.connection.commit(&action).await?;
            lease.give_back();
            Ok(recorded.is_some_and(|recorded| {
                recorded.run_id == shared.options.run_id && recorded.fingerprint == self.rows.fingerprint
            }))
        };
        let recorded = look.await;
        if recorded.is_err() {
            // Still open: the next attempt asks again before it writes.
            self.note_unconfirmed(deleted_row_count);
        }
        recorded
    }

    fn take_unconfirmed(&self) -> Option<u64> {
        self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note_unconfirmed(&self, deleted_row_count: u64) {
        *self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner) = Some(deleted_row_count);
    }

    /// What comes before the COPY is given up as soon as the run is told to stop.
    async fn unless_asked<T>(&self, work: impl Future<Output = Result<T, PostgresError>>) -> Result<T, PostgresError> {
        tokio::select! {
            biased;
            _ = self.sink.shared.options.stopping.asked() => Err(PostgresError::Stopped { day: self.day() }),
            result = work => result,
        }
    }

    /// The transaction; a server that is still at work when it has to be given up is told so.
    async fn within_grace(&self, connection: &Connection, frames: Frames) -> Result<Written, PostgresError> {
        let written = tokio::select! {
            biased;
            result = self.run(connection, frames) => result,
            _ = self.sink.shared.options.stopping.out_of_time() => Err(PostgresError::Stopped { day: self.day() }),
        };
        if matches!(written, Err(PostgresError::Stopped { .. })) {
            connection.cancel().await;
        }
        written
    }

    /// Looks at every value of a day that will not be encoded as a whole before its transaction begins: a value that cannot be
    /// stored must not cost the database a DELETE and a COPY that are rolled back.
    async fn check(&self) -> Result<(), PostgresError> {
        if self.rows.rows.batch_count() <= BATCHES_AHEAD {
            return Ok(());
        }
        let mut checked = self.jobs(Purpose::Check);
        while let Some(result) = checked.next().await {
            result?;
        }
        Ok(())
    }

    /// Encodes batch after batch in order.
    async fn encode(&self, sender: mpsc::Sender<Vec<Bytes>>) -> Result<(), PostgresError> {
        let mut encoded = self.jobs(Purpose::Encode);
        while let Some(frames) = encoded.next().await {
            // The writer's own failure is the one to report.
            if sender.send(frames?).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// One job per batch, a few at once, results in order.
    fn jobs(&self, purpose: Purpose) -> impl Stream<Item = Result<Vec<Bytes>, EncodeError>> + Unpin + '_ {
        let (rows, encoder) = (&self.rows.rows, &self.encoder);
        let job = move |batch| EncodeJob { rows: rows.clone(), batch, encoder: Arc::clone(encoder), purpose };
        let batches = stream::iter(0..rows.batch_count());
        let at_once = match purpose {
            Purpose::Check => CHECKED_AT_ONCE,
            Purpose::Encode => ENCODED_AT_ONCE,
        };
        batches.map(move |batch| (self.sink.shared.encode)(job(batch))).buffered(at_once)
    }

    async fn run(&self, connection: &Connection, frames: Frames) -> Result<Written, PostgresError> {
        let shared = &self.sink.shared;
        let day = self.rows.day;
        let action = |step: &str| format!("day {day} in {}: {step}", shared.table);
        let key = self.key();
        let scope = self.sink.scope();
        let make_room = async {
            self.begin(connection, &action("beginning the transaction")).await?;
            if shared.reference_locks {
                ledger::lock_like_the_reference(connection, shared.options.source_uuid, &shared.options.cluster_id)
                    .await?;
            }
            if !self.is_still_to_be_written(connection, &key).await? {
                return Ok(None);
            }
            self.guard(connection, &scope, &action("reading the old totals")).await?;
            scope.delete_day(connection, day, shared.replace, &action("deleting the old rows")).await.map(Some)
        };
        let Some(deleted_row_count) = self.unless_asked(make_room).await? else {
            connection.rollback(&action("leaving the day as it is")).await?;
            return Ok(Written::AlreadyThere);
        };
        self.copy(connection, frames, &action("COPY of the new rows")).await?;
        self.check_totals(connection, &scope, &action("checking the new rows")).await?;
        let entry = ledger::Entry {
            fingerprint: self.rows.fingerprint,
            row_count: self.row_count,
            deleted_row_count,
            sums: self.rows.sums.clone(),
            made_from: self.rows.made_from.clone(),
            run_id: shared.options.run_id,
        };
        ledger::record(connection, &key, &entry).await?;
        let committed = connection.commit(&action("commit")).await;
        if matches!(committed, Err(PostgresError::CommitUnknown { .. })) {
            self.note_unconfirmed(deleted_row_count);
        }
        committed?;
        debug!(day = %day, row_count = self.row_count, deleted_row_count, "day written");
        Ok(Written::Replaced { deleted_row_count, row_count: self.row_count })
    }

    /// Begins the transaction, once fewer days are being written than all pods together may write at once. The wait is as bounded
    /// as that for a database in trouble.
    async fn begin(&self, connection: &Connection, action: &str) -> Result<(), PostgresError> {
        let shared = &self.sink.shared;
        let Some(max_writers) = shared.max_writers else { return connection.begin(action).await };
        let policy = RetryPolicy { total: shared.pool.connector.retry_policy().total, ..SLOT_POLICY };
        let mut attempts = policy.begin();
        loop {
            let began = Instant::now();
            connection.begin(action).await?;
            if ledger::take_writer_slot(connection, &shared.table, max_writers).await? {
                return Ok(());
            }
            connection.rollback(action).await?;
            let Some(pause) = attempts.pause_after(began.elapsed()) else {
                let (table, seconds) = (shared.table.to_string(), policy.total.as_secs());
                return Err(PostgresError::WritersBusy { day: self.day(), table, max_writers, seconds });
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Locks the day, and looks whether what was decided about it still holds. A writer with a claim goes on only if its token is
    /// still that of the row, which stays locked: nobody can take the claim from here on.
    async fn is_still_to_be_written(
        &self,
        connection: &Connection,
        key: &ledger::DayKey,
    ) -> Result<bool, PostgresError> {
        let Some(basis) = self.rows.basis else {
            ledger::lock_day(connection, key).await?;
            return Ok(true);
        };
        let standing = ledger::lock_day_and_look(connection, key).await?;
        let shared = &self.sink.shared;
        match basis.verdict(shared.options.run_id, &self.rows.fingerprint, &standing) {
            Verdict::Write => Ok(true),
            Verdict::AlreadyThere => Ok(false),
            Verdict::ClaimLost => Err(PostgresError::ClaimLost { day: self.day(), table: shared.table.to_string() }),
        }
    }

    /// Refuses a day that moves too far, before any of its rows is touched. What it is compared with is read here, under the lock
    /// of the day: the ledger may not know the rows that are there.
    async fn guard(&self, connection: &Connection, scope: &Scope, action: &str) -> Result<(), PostgresError> {
        let Some(limit) = self.sink.max_change_percent() else { return Ok(()) };
        let sums = [&self.rows.sums[..], &self.rows.pod_sums];
        let [all, of_pods] = columns(sums);
        let old = scope.totals(connection, self.day(), [&all, &of_pods], action).await?;
        match too_large(&old, &changes(&old, self.row_count, sums), Some(limit)) {
            None => Ok(()),
            Some(change) => Err(PostgresError::ChangeTooLarge {
                day: self.day(),
                table: self.sink.shared.table.to_string(),
                change: change.sentence(),
                limit,
            }),
        }
    }

    async fn copy(&self, connection: &Connection, frames: Frames, action: &str) -> Result<(), PostgresError> {
        let patience = self.sink.shared.pool.connector.statement_timeout();
        connection.lift_statement_timeout(action).await?;
        let copied = copy::send(connection, self.encoder.shape(), frames.stream(), patience, action).await?;
        connection.restore_statement_timeout(action).await?;
        match self.compare_count("COPY", copied) {
            Err(error) => Err(self.explained(connection, error).await),
            same => same,
        }
    }

    /// What is in the table must be what was computed: as many rows, and the same sums to the last digit.
    async fn check_totals(&self, connection: &Connection, scope: &Scope, action: &str) -> Result<(), PostgresError> {
        match self.totals_agree(connection, scope, action).await {
            Err(error @ (PostgresError::RowsDiffer { .. } | PostgresError::SumDiffers { .. })) => {
                Err(self.explained(connection, error).await)
            }
            agreed => agreed,
        }
    }

    /// A difference, with whatever in the database may have made it.
    async fn explained(&self, connection: &Connection, difference: PostgresError) -> PostgresError {
        let table = &self.sink.shared.table;
        match actors(connection, table).await {
            Ok(actors) if !actors.is_empty() => PostgresError::RowsAltered {
                day: self.day(),
                table: table.to_string(),
                difference: difference.to_string(),
                causes: actors.join(", "),
            },
            // The difference is the news; that its cause cannot be looked for is not.
            _ => difference,
        }
    }

    async fn totals_agree(&self, connection: &Connection, scope: &Scope, action: &str) -> Result<(), PostgresError> {
        let columns: Vec<&'static str> = self.rows.sums.iter().map(|(column, _)| *column).collect();
        let totals = scope.totals(connection, self.rows.day, [&columns, &[]], action).await?;
        self.compare_count("rows of the day's scope", totals.row_count)?;
        for ((column, expected), found) in self.rows.sums.iter().zip(totals.sums) {
            if found.parse() != Ok(*expected) {
                return Err(PostgresError::SumDiffers {
                    day: self.day(),
                    table: self.sink.shared.table.to_string(),
                    column: (*column).to_owned(),
                    expected: *expected,
                    found,
                });
            }
        }
        Ok(())
    }

    fn compare_count(&self, place: &'static str, found: u64) -> Result<(), PostgresError> {
        let sent = self.row_count;
        if sent == found {
            return Ok(());
        }
        let table = self.sink.shared.table.to_string();
        Err(PostgresError::RowsDiffer { day: self.day(), table, place, sent, found })
    }

    fn key(&self) -> ledger::DayKey {
        let shared = &self.sink.shared;
        ledger::DayKey { target: shared.table.clone(), source_uuid: shared.options.source_uuid, day: self.day() }
    }

    fn day(&self) -> UsageDay {
        self.rows.day
    }
}

/// Encoded rows on their way from the CPU pool to the connection.
struct Frames {
    first: Vec<Vec<Bytes>>,
    rest: mpsc::Receiver<Vec<Bytes>>,
}

impl Frames {
    /// Waits for the first batches.
    async fn first(mut receiver: mpsc::Receiver<Vec<Bytes>>) -> Self {
        let mut first = Vec::with_capacity(BATCHES_AHEAD);
        while first.len() < BATCHES_AHEAD
            && let Some(frames) = receiver.recv().await
        {
            first.push(frames);
        }
        Self { first, rest: receiver }
    }

    /// Header, all rows, trailer.
    fn stream(self) -> impl Stream<Item = Bytes> {
        let rest = stream::unfold(self.rest, async |mut rest| Some((rest.recv().await?, rest)));
        let rows = stream::iter(self.first).chain(rest).flat_map(stream::iter);
        stream::iter([DayEncoder::header()]).chain(rows).chain(stream::iter([DayEncoder::trailer()]))
    }
}
