//! A day's finished rows → the same rows in the target table, in one transaction: locks, delete of exactly the day's scope,
//! COPY, count, sums, ledger row, commit. Whatever goes wrong on the way leaves the old day as it was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, stream};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit, mpsc};
use tracing::debug;
use uuid::Uuid;

use crate::config::{Postgres, Replace};
use crate::error::Failure;
use crate::ledger;
use crate::postgres::connection::{Connection, Connector};
use crate::postgres::copy::{self, DayEncoder, EncodeError};
use crate::postgres::error::PostgresError;
use crate::postgres::partitions;
use crate::postgres::retry::retrying;
use crate::postgres::scope::{Scope, Totals};
use crate::postgres::shape::TargetShape;
use crate::postgres::sql::TableName;
use crate::sink::change::{DaySums, changes, columns, too_large};
use crate::sink::{DayRows, RecordedDays, Rows, Sink, Written};
use crate::time::{BillingMonth, UsageDay, Window};

/// A batch of rows to be made and checked, or made and encoded; computation, to be run where computing belongs.
pub struct EncodeJob {
    rows: Rows,
    batch: usize,
    encoder: Arc<DayEncoder>,
    purpose: Purpose,
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Its values are looked at; nothing is encoded.
    Check,
    /// It is encoded.
    Encode,
}

impl EncodeJob {
    /// Makes the batch, checks or encodes it, and frees it.
    pub fn run(self) -> Result<Vec<Bytes>, EncodeError> {
        let made = self.rows.batch(self.batch);
        // What cannot be stored was found when the day was closed.
        let (batch, first_row_index) = made.map_err(|error| EncodeError::Lost(error.to_string()))?;
        match self.purpose {
            Purpose::Check => self.encoder.check(&batch, first_row_index).map(|()| Vec::new()),
            Purpose::Encode => self.encoder.encode(&batch, first_row_index),
        }
    }
}

/// Runs an `EncodeJob` somewhere and waits for it.
pub type EncodeRunner = Arc<dyn Fn(EncodeJob) -> BoxFuture<'static, Result<Vec<Bytes>, EncodeError>> + Send + Sync>;

/// Encodes on tokio's threads for blocking work; for callers that have no pool of their own.
pub fn encode_on_blocking_threads() -> EncodeRunner {
    Arc::new(|job: EncodeJob| {
        async move {
            let job = tokio::task::spawn_blocking(move || job.run());
            job.await.unwrap_or_else(|error| Err(EncodeError::Lost(error.to_string())))
        }
        .boxed()
    })
}

/// Whose days are written, and how.
#[derive(Debug, Clone)]
pub struct PostgresSinkOptions {
    /// The source.
    pub source_uuid: Uuid,
    /// Its cluster, for the reference's lock.
    pub cluster_id: String,
    /// The run, as it stands in the ledger and in `application_name`.
    pub run_id: Uuid,
    /// Whether a day without input rows loses its old rows.
    pub delete_empty_days: bool,
    /// Most that rows and totals of a day may move against those that are replaced.
    pub max_change_percent: Option<f64>,
}

/// The PostgreSQL target.
pub struct PostgresSink {
    shared: Arc<Shared>,
    report_period_id: Option<i32>,
}

impl PostgresSink {
    /// Needs no network yet. Errors: an unusable `ca_file`.
    pub fn new(config: &Postgres, options: PostgresSinkOptions, encode: EncodeRunner) -> Result<Self, PostgresError> {
        let connector = Connector::new(config, options.run_id)?;
        let shared = Shared {
            table: TableName::new(&config.schema, &config.table),
            replace: config.replace,
            reference_locks: config.reference_locks,
            connections: config.connections.max(1),
            pool: Pool { connector, permits: Semaphore::new(config.connections.max(1)), idle: Mutex::new(Vec::new()) },
            options,
            encode,
            shape: OnceCell::new(),
        };
        Ok(Self { shared: Arc::new(shared), report_period_id: None })
    }

    /// The same target and connections for days of one report period. Without a period, a day's scope is its source.
    pub fn for_report_period(&self, report_period_id: Option<i32>) -> Self {
        Self { shared: Arc::clone(&self.shared), report_period_id }
    }

    /// Once per run, before the first day: the table has the needed shape, the ledger is there, and each month has its
    /// partition. Returns the names of partitions that were created.
    pub async fn prepare(&self, months: &[BillingMonth]) -> Result<Vec<String>, PostgresError> {
        let shape = self.shared.shape().await?;
        retrying("preparing the target", || async {
            let lease = self.shared.pool.lease().await?;
            ledger::layout(&lease.connection).await?.required()?;
            let created = partitions::ensure_months(&lease.connection, &shape, months).await?;
            lease.give_back();
            Ok(created)
        })
        .await
    }

    /// Whether the day has no input rows and its old ones stay.
    pub(super) fn leaves_as_it_is(&self, rows: &DayRows) -> bool {
        rows.input_row_count == 0 && !self.shared.options.delete_empty_days
    }

    /// Most that a day may move, in percent.
    pub(super) fn max_change_percent(&self) -> Option<f64> {
        self.shared.options.max_change_percent
    }

    /// Count and sums of the day's rows that are there, read without changing anything.
    pub(super) async fn totals(&self, day: UsageDay, sums: DaySums<'_>) -> Result<Totals, PostgresError> {
        let (scope, [all, of_pods]) = (self.scope(), columns(sums));
        let columns = [&all[..], &of_pods[..]];
        let action = format!("day {day} in {}: reading its totals", self.shared.table);
        retrying(&action, || async {
            let lease = self.shared.begin_look(&action).await?;
            let totals = scope.totals(&lease.connection, day, columns, &action).await?;
            lease.end_look(&action).await?;
            Ok(totals)
        })
        .await
    }

    fn scope(&self) -> Scope {
        Scope {
            table: self.shared.table.clone(),
            source_uuid: self.shared.options.source_uuid,
            report_period_id: self.report_period_id,
        }
    }

    async fn replace_day(&self, rows: DayRows) -> Result<Written, PostgresError> {
        if self.leaves_as_it_is(&rows) {
            return Ok(Written::LeftAsItWas);
        }
        let shape = self.shared.shape().await?;
        let day = DayTransaction {
            sink: self,
            row_count: rows.row_count(),
            rows: &rows,
            encoder: Arc::new(DayEncoder::new(shape)),
        };
        let action = format!("writing day {}", rows.day);
        retrying(&action, || day.attempt()).await
    }
}

impl Sink for PostgresSink {
    fn replace(&self, rows: DayRows) -> BoxFuture<'_, Result<Written, Failure>> {
        async move { self.replace_day(rows).await.map_err(Failure::from) }.boxed()
    }

    fn parallel_days(&self) -> usize {
        self.shared.connections
    }

    fn recorded(&self, window: Window) -> BoxFuture<'_, Result<Option<RecordedDays>, Failure>> {
        const ACTION: &str = "reading the ledger";
        let (table, source_uuid) = (&self.shared.table, self.shared.options.source_uuid);
        let read = move || async move {
            let lease = self.shared.begin_look(ACTION).await?;
            ledger::layout(&lease.connection).await?.required()?;
            let days = ledger::read_days(&lease.connection, table, source_uuid, [window.start, window.end]).await?;
            lease.end_look(ACTION).await?;
            Ok(days)
        };
        async move { Ok(Some(retrying(ACTION, read).await?)) }.boxed()
    }

    fn row_counts<'a>(&'a self, days: &'a [UsageDay]) -> BoxFuture<'a, Result<BTreeMap<UsageDay, u64>, Failure>> {
        const ACTION: &str = "counting the rows that are there";
        let count = move || async move {
            let lease = self.shared.begin_look(ACTION).await?;
            let counts = self.scope().row_counts(&lease.connection, days).await?;
            lease.end_look(ACTION).await?;
            Ok(counts)
        };
        async move { if days.is_empty() { Ok(BTreeMap::new()) } else { Ok(retrying(ACTION, count).await?) } }.boxed()
    }
}

/// What the windows of a run have in common.
struct Shared {
    table: TableName,
    replace: Replace,
    reference_locks: bool,
    connections: usize,
    pool: Pool,
    options: PostgresSinkOptions,
    encode: EncodeRunner,
    shape: OnceCell<Arc<TargetShape>>,
}

impl Shared {
    /// Begins a short transaction that cannot write.
    async fn begin_look(&self, action: &str) -> Result<Lease<'_>, PostgresError> {
        let lease = self.pool.lease().await?;
        lease.connection.begin_reading(action).await?;
        Ok(lease)
    }

    /// The target's shape, read and checked once.
    async fn shape(&self) -> Result<Arc<TargetShape>, PostgresError> {
        let read = || async {
            let lease = self.pool.lease().await?;
            let shape = TargetShape::read(&lease.connection, &self.table).await?.checked()?;
            lease.give_back();
            Ok(shape)
        };
        let shape = self
            .shape
            .get_or_try_init(|| async { retrying("reading the target's shape", read).await.map(Arc::new) })
            .await?;
        Ok(Arc::clone(shape))
    }
}

/// At most as many connections as permits; opened when needed, kept while nothing fails on them.
struct Pool {
    connector: Connector,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// An idle connection or a new one, once fewer are in use than allowed.
    async fn lease(&self) -> Result<Lease<'_>, PostgresError> {
        let permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let connection = match self.take_idle() {
            Some(connection) => connection,
            None => self.connector.connect().await?,
        };
        Ok(Lease { connection, pool: self, _permit: permit })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.is_closed());
        idle.pop()
    }
}

/// A connection in use. Unless it is given back it is closed at the end, and its transaction with it.
struct Lease<'a> {
    connection: Connection,
    pool: &'a Pool,
    _permit: SemaphorePermit<'a>,
}

impl Lease<'_> {
    /// Ends what `begin_look` began, and gives the connection back.
    async fn end_look(self, action: &str) -> Result<(), PostgresError> {
        self.connection.commit(action).await?;
        self.give_back();
        Ok(())
    }

    /// Only after everything on it went well.
    fn give_back(self) {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
    }
}

/// One attempt to replace one day.
struct DayTransaction<'a> {
    sink: &'a PostgresSink,
    rows: &'a DayRows,
    row_count: u64,
    encoder: Arc<DayEncoder>,
}

/// Batches of a day that are encoded before its transaction begins, so that the locks of a small day cover no computing.
const BATCHES_AHEAD: usize = 4;
/// Batches of a large day that are being encoded while the connection is busy; one more waits.
const BATCHES_AT_ONCE: usize = 2;

impl DayTransaction<'_> {
    /// One attempt, on a connection that is given back only after everything on it went well.
    async fn attempt(&self) -> Result<Written, PostgresError> {
        self.check().await?;
        let (sender, receiver) = mpsc::channel(1);
        let write = async {
            let frames = Frames::first(receiver).await;
            let lease = self.sink.shared.pool.lease().await?;
            let written = self.run(&lease.connection, frames).await?;
            lease.give_back();
            Ok(written)
        };
        // A value that cannot be encoded ends both, and the transaction with its connection.
        let (written, ()) = tokio::try_join!(write, self.encode(sender))?;
        Ok(written)
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
        batches.map(move |batch| (self.sink.shared.encode)(job(batch))).buffered(BATCHES_AT_ONCE)
    }

    async fn run(&self, connection: &Connection, frames: Frames) -> Result<Written, PostgresError> {
        let shared = &self.sink.shared;
        let day = self.rows.day;
        let action = |step: &str| format!("day {day} in {}: {step}", shared.table);
        let key = ledger::DayKey { target: shared.table.clone(), source_uuid: shared.options.source_uuid, day };
        let scope = self.sink.scope();
        connection.begin(&action("beginning the transaction")).await?;
        if shared.reference_locks {
            ledger::lock_like_the_reference(connection, shared.options.source_uuid, &shared.options.cluster_id).await?;
        }
        ledger::lock_day(connection, &key).await?;
        self.guard(connection, &scope, &action("reading the old totals")).await?;
        // A writer that holds a claim re-reads it here, FOR UPDATE, and rolls back unless the token is still its own.
        let deleted_row_count =
            scope.delete_day(connection, day, shared.replace, &action("deleting the old rows")).await?;
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
        connection.commit(&action("commit")).await?;
        debug!(day = %day, row_count = self.row_count, deleted_row_count, "day written");
        Ok(Written::Replaced { deleted_row_count, row_count: self.row_count })
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
        self.compare_count("COPY", copied)
    }

    /// What is in the table must be what was computed: as many rows, and the same sums to the last digit.
    async fn check_totals(&self, connection: &Connection, scope: &Scope, action: &str) -> Result<(), PostgresError> {
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
