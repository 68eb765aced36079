//! Finished days → the same rows in the target table, each day in one transaction, on a few connections that days share.

mod transaction;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use uuid::Uuid;

use crate::config::{Postgres, Replace};
use crate::error::Failure;
use crate::ledger::{self, LastWrite};
use crate::postgres::connection::{Connection, Connector};
use crate::postgres::copy::{DayEncoder, EncodeError};
use crate::postgres::error::PostgresError;
use crate::postgres::partitions;
use crate::postgres::retry::retrying_unless_asked;
use crate::postgres::scope::{Scope, Totals};
use crate::postgres::shape::TargetShape;
use crate::postgres::sql::TableName;
use crate::runtime::stopping::Stopping;
use crate::sink::change::{DaySums, columns};
use crate::sink::{DayRows, RecordedDays, Rows, Sink, Written};
use crate::time::{BillingMonth, UsageDay, Window};
use transaction::DayTransaction;

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
    /// Whether the run was told to stop: then no day is begun, and one that is being written has the grace period.
    pub stopping: Stopping,
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
            max_writers: config.max_writers,
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
        self.shared
            .retrying("preparing the target", || async {
                let lease = self.shared.pool.lease().await?;
                ledger::layout(&lease.connection).await?.required()?;
                let created = partitions::ensure_months(&lease.connection, &shape, months).await?;
                lease.give_back();
                Ok(created)
            })
            .await
    }

    /// The run that wrote days of these sources into this table last, as the ledger has it.
    pub async fn last_write(&self, sources: &[Uuid]) -> Result<Option<LastWrite>, PostgresError> {
        const ACTION: &str = "looking for the run before this one";
        let look = || async {
            let lease = self.shared.begin_look(ACTION).await?;
            let last = ledger::last_write(&lease.connection, &self.shared.table, sources).await?;
            lease.end_look(ACTION).await?;
            Ok(last)
        };
        self.shared.retrying(ACTION, look).await
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
        let look = || async {
            let lease = self.shared.begin_look(&action).await?;
            let totals = scope.totals(&lease.connection, day, columns, &action).await?;
            lease.end_look(&action).await?;
            Ok(totals)
        };
        self.shared.retrying(&action, look).await
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
        let day = DayTransaction::new(self, &rows, shape);
        let action = format!("writing day {}", rows.day);
        self.shared.retrying(&action, || day.attempt()).await
    }
}

impl Sink for PostgresSink {
    fn replace(&self, rows: DayRows) -> BoxFuture<'_, Result<Written, Failure>> {
        async move { self.replace_day(rows).await.map_err(Failure::from) }.boxed()
    }

    fn parallel_days(&self) -> usize {
        self.shared.connections
    }

    /// A worker reads a day several times as fast as a connection writes its rows.
    fn days_ahead(&self, _worker_count: usize) -> usize {
        1
    }

    /// While half of the connections have a day, what is read without anything ahead keeps the others busy.
    fn enough_days(&self) -> usize {
        self.shared.connections.div_ceil(2)
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
        async move { Ok(Some(self.shared.retrying(ACTION, read).await?)) }.boxed()
    }

    fn row_counts<'a>(&'a self, days: &'a [UsageDay]) -> BoxFuture<'a, Result<BTreeMap<UsageDay, u64>, Failure>> {
        const ACTION: &str = "counting the rows that are there";
        let count = move || async move {
            let lease = self.shared.begin_look(ACTION).await?;
            let counts = self.scope().row_counts(&lease.connection, days).await?;
            lease.end_look(ACTION).await?;
            Ok(counts)
        };
        let count = async move { Ok(self.shared.retrying(ACTION, count).await?) };
        async move { if days.is_empty() { Ok(BTreeMap::new()) } else { count.await } }.boxed()
    }
}

/// What the windows of a run have in common.
struct Shared {
    table: TableName,
    replace: Replace,
    reference_locks: bool,
    connections: usize,
    max_writers: Option<usize>,
    pool: Pool,
    options: PostgresSinkOptions,
    encode: EncodeRunner,
    shape: OnceCell<Arc<TargetShape>>,
}

impl Shared {
    /// Tries again within the policy, and not once the run was told to stop.
    async fn retrying<T, F>(&self, action: &str, work: impl FnMut() -> F) -> Result<T, PostgresError>
    where
        F: Future<Output = Result<T, PostgresError>>,
    {
        retrying_unless_asked(self.pool.connector.retry_policy(), &self.options.stopping, action, work).await
    }

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
            .get_or_try_init(|| async { self.retrying("reading the target's shape", read).await.map(Arc::new) })
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
