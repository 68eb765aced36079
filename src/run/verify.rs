//! Configuration × what to compare with → both sides of a comparison, what the ledger says and what a run of today would
//! note; then `verify` compares.

use std::path::Path;
#[cfg(feature = "sql")]
use std::sync::Arc;

use uuid::Uuid;

use super::fingerprint::Facts;
use super::{Context, Resources, RunOptions, roles, window};
use crate::config::{Config, FileFormat, NodeRoles, Postgres, Target};
use crate::error::{ErrorKind, Failure};
use crate::ledger::{self, Layout};
use crate::plan::DayPlan;
use crate::postgres::connection::Connection;
use crate::postgres::error::PostgresError;
use crate::postgres::retry::retrying;
use crate::postgres::sql::TableName;
use crate::reference;
use crate::telemetry::progress::Progress;
use crate::time::Window;
use crate::verify::source::RowSource;
use crate::verify::{
    Against, Expected, FileSource, LedgerDays, Side, TableSource, Terms, Tolerance, VerifyError, VerifyReport,
    VerifyReports, verify,
};

/// What the command line adds to the configuration.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// What the target is compared with.
    pub against: Against,
    /// The configuration whose database holds the other table; absent: that of the target.
    pub against_config: Option<Config>,
    /// For decimals.
    pub tolerance: Tolerance,
}

/// Compares what lies in the target with something else, source by source. Writes nothing.
/// Errors: a side, the objects or the ledger cannot be read. Differences are part of the report, and so is one of several sources
/// that cannot be compared.
pub async fn verify_target(
    config: &Config,
    options: &VerifyOptions,
    progress: &Progress,
) -> Result<VerifyReports, Failure> {
    let views = config.per_source();
    let is_one_of_several = views.len() > 1;
    let mut reports = VerifyReports::default();
    for view in &views {
        let compared = match of_source(view, options, is_one_of_several) {
            Ok(options) => verify_source(view, &options, progress).await,
            Err(failure) => Err(failure),
        };
        match compared {
            Ok(report) => reports.add(view.source.uuid, report),
            Err(failure) if is_one_of_several && is_of_source(failure.kind) => reports.fail(view.source.uuid, &failure),
            Err(failure) if is_one_of_several => {
                return Err(failure.named(&format!("source {}", view.source.uuid)));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(reports)
}

fn is_of_source(kind: ErrorKind) -> bool {
    kind.is_of_one_source() || kind == ErrorKind::NotComparable
}

/// What one of several sources is compared with: its own folder, its own rows.
fn of_source(view: &Config, options: &VerifyOptions, is_one_of_several: bool) -> Result<VerifyOptions, Failure> {
    let mut options = options.clone();
    if let (Against::Files(path), true) = (&mut options.against, is_one_of_several) {
        if !path.is_dir() {
            let message =
                "--against FILE.csv is for one source; give a folder that has a folder source=<uuid> for each";
            return Err(Failure::new(ErrorKind::Usage, message));
        }
        path.push(view.source.folder_name());
    }
    if let Some(other) = options.against_config.as_mut().filter(|other| !other.other_sources.is_empty()) {
        let same = other.per_source().into_iter().find(|other| other.source.uuid == view.source.uuid);
        *other = same.ok_or_else(|| {
            let message = format!("--against-config does not list source {}", view.source.uuid);
            Failure::new(ErrorKind::NotComparable, message)
        })?;
    }
    Ok(options)
}

async fn verify_source(config: &Config, options: &VerifyOptions, progress: &Progress) -> Result<VerifyReport, Failure> {
    let windows = Window::split_by_month(config.period.start, config.period.end);
    let mut target = open_target(config, &windows).await?;
    // Both sides are opened first: whether they are two is quickly seen, the inputs are not.
    let other = open_other(config, options, &windows).await?;
    let shared = other.iter().flat_map(|other| other.origins()).any(|origin| target.origins().contains(&origin));
    if shared {
        return Err(VerifyError::Itself { place: target.place() }.into());
    }
    let terms = terms(config, options, progress, &windows).await?;
    match other {
        Some(mut other) => Ok(verify(&terms, target.as_mut(), other.as_mut()).await?),
        None => against_recompute(config, progress, &terms, target.as_mut()).await,
    }
}

/// What the target is compared with; `None` for rows that are yet to be computed.
async fn open_other(
    config: &Config,
    options: &VerifyOptions,
    windows: &[Window],
) -> Result<Option<Box<dyn RowSource>>, Failure> {
    match &options.against {
        Against::Recompute => Ok(None),
        Against::Files(path) => Ok(Some(open_files(path, windows).await?)),
        Against::Table(table) => {
            let other = options.against_config.as_ref().unwrap_or(config);
            let postgres = postgres_of(other)?;
            let side = if options.against_config.is_some() { Side::Elsewhere } else { Side::Other };
            let table = TableSource::open(side, postgres, table.clone(), &other.source, windows).await?;
            Ok(Some(Box::new(table)))
        }
    }
}

async fn open_files(path: &Path, windows: &[Window]) -> Result<Box<dyn RowSource>, Failure> {
    let (path, windows) = (path.to_owned(), windows.to_vec());
    let lost =
        |error: tokio::task::JoinError| Failure::new(ErrorKind::Bug, format!("reading the files broke down: {error}"));
    let opening = tokio::task::spawn_blocking(move || FileSource::open(&path, &windows));
    Ok(Box::new(opening.await.map_err(lost)??))
}

fn postgres_of(config: &Config) -> Result<&Postgres, Failure> {
    let missing = || Failure::new(ErrorKind::Config, "a table can only be compared with target.postgres set");
    config.postgres.as_ref().ok_or_else(missing)
}

async fn open_target(config: &Config, windows: &[Window]) -> Result<Box<dyn RowSource>, Failure> {
    match &config.target {
        Target::None => Err(VerifyError::Target { kind: "none" }.into()),
        Target::File { format: FileFormat::Parquet, .. } => {
            Err(VerifyError::Target { kind: "file with format parquet" }.into())
        }
        Target::File { path, .. } => open_files(path, windows).await,
        Target::Postgres => {
            let postgres = postgres_of(config)?;
            let table = TableName::new(&postgres.schema, &postgres.table);
            Ok(Box::new(TableSource::open(Side::Target, postgres, table, &config.source, windows).await?))
        }
    }
}

async fn terms(
    config: &Config,
    options: &VerifyOptions,
    progress: &Progress,
    windows: &[Window],
) -> Result<Terms, Failure> {
    let ledger = match &config.target {
        Target::Postgres => Some(read_ledger(postgres_of(config)?, config.source.uuid, windows).await?),
        Target::File { .. } | Target::None => None,
    };
    let expected = match ledger {
        Some(_) => expected(config, progress, windows).await?,
        None => Expected::new(),
    };
    let other = options.against_config.as_ref().and_then(|other| other.postgres.as_ref());
    let is_same = |other: &Postgres| {
        let place = |postgres: &Postgres| (postgres.host.clone(), postgres.port, postgres.database.clone());
        config.postgres.as_ref().is_some_and(|own| place(own) == place(other))
    };
    Ok(Terms {
        windows: windows.to_vec(),
        cluster_id: config.source.cluster_id.clone(),
        source_uuid: config.source.uuid,
        tolerance: options.tolerance,
        conserves: config.semantics.conserves(),
        same_database: other.is_none_or(is_same),
        ledger,
        expected,
    })
}

/// The ledger's rows of the period. A ledger that is not there knows nothing.
async fn read_ledger(postgres: &Postgres, source_uuid: Uuid, windows: &[Window]) -> Result<LedgerDays, Failure> {
    let connector = crate::postgres::connection::Connector::new(postgres, Uuid::new_v4())?;
    let target = TableName::new(&postgres.schema, &postgres.table);
    let read = || async {
        let connection: Connection = connector.connect().await?;
        let mut ledger = LedgerDays::default();
        let layout = ledger::layout(&connection).await?;
        if layout == Layout::Missing {
            return Ok::<_, PostgresError>(ledger);
        }
        layout.required()?;
        connection.begin_reading("reading the ledger").await?;
        for window in windows {
            let days = ledger::read_days(&connection, &target, source_uuid, [window.start, window.end]).await?;
            ledger.days.extend(days);
        }
        connection.commit("reading the ledger").await?;
        Ok(ledger)
    };
    Ok(retrying(connector.retry_policy(), "reading the ledger", read).await?)
}

/// Lists, plans and loads the reference data as a run does, up to the fingerprint of each day.
async fn expected(config: &Config, progress: &Progress, windows: &[Window]) -> Result<Expected, Failure> {
    let resources = Resources::new(config)?;
    let options = RunOptions::default();
    let context: Context<'_> = resources.context(config, &options, progress);
    let mut expected = Expected::new();
    for window in windows {
        progress.stage("list and read footers");
        let (prepared, _) = window::prepare(&context, *window).await?;
        if prepared.footers.is_empty() {
            continue;
        }
        let reference = reference::load(config, *window, context.run_id).await?;
        let facts = Facts::new(config, &reference);
        let roles = if matches!(config.reference.node_roles, NodeRoles::Derive) {
            progress.stage("derive node roles");
            let role_plan = roles::role_plan(&context, &prepared);
            Some(roles::derive(&context, &prepared, &role_plan).await?)
        } else {
            None
        };
        let of_day = |day: &DayPlan| facts.of_day(day, roles.as_ref().map(|roles| roles.noted(day.day)));
        expected.extend(prepared.plan.days.iter().map(|day| (day.day, of_day(day).fingerprint)));
    }
    progress.end();
    Ok(expected)
}

#[cfg(not(feature = "sql"))]
async fn against_recompute(
    _config: &Config,
    _progress: &Progress,
    _terms: &Terms,
    _target: &mut dyn RowSource,
) -> Result<VerifyReport, Failure> {
    let message = "--against recompute needs the second engine, which this binary was built without; build it with the \
                   feature `sql` (cargo build --release), or compare with a file or a table";
    Err(Failure::new(ErrorKind::NotComparable, message))
}

/// Computes the other side by the second engine while it is compared, at most two days ahead.
#[cfg(feature = "sql")]
async fn against_recompute(
    config: &Config,
    progress: &Progress,
    terms: &Terms,
    target: &mut dyn RowSource,
) -> Result<VerifyReport, Failure> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let begin = Arc::new(tokio::sync::Notify::new());
    let mut other = recomputed::RecomputedSource::new(receiver, Arc::clone(&begin), config.semantics);
    let options = RunOptions { allow_empty: true, ..RunOptions::default() };
    let computing = async move {
        // What can be said without it is said first.
        begin.notified().await;
        let each_day = async |day| {
            let stopped = |_| Failure::new(ErrorKind::Bug, "the comparison ended before the computation");
            sender.send(day).await.map_err(stopped)
        };
        super::recompute::recompute(config, &options, progress, each_day).await
    };
    let comparing = verify(terms, target, &mut other);
    tokio::pin!(comparing);
    tokio::select! {
        biased;
        // Its failure is the cause of whatever the comparison misses then.
        computed = computing => {
            computed?;
            Ok(comparing.await?)
        }
        compared = &mut comparing => Ok(compared?),
    }
}

#[cfg(feature = "sql")]
mod recomputed {
    //! Days of the second engine, in order → a side of a comparison.

    use std::sync::Arc;

    use futures::FutureExt;
    use futures::future::BoxFuture;
    use tokio::sync::Notify;
    use tokio::sync::mpsc::Receiver;

    use crate::error::{ErrorKind, Failure};
    use crate::rollups::semantics::Semantics;
    use crate::sql::RecomputedDay;
    use crate::time::UsageDay;
    use crate::verify::VerifyError;
    use crate::verify::source::{Coverage, Fill, RowSource, bad_value};

    /// The second engine as a side.
    pub struct RecomputedSource {
        days: Receiver<RecomputedDay>,
        begin: Arc<Notify>,
        semantics: Semantics,
    }

    impl RecomputedSource {
        /// Days arrive once `begin` is notified.
        pub fn new(days: Receiver<RecomputedDay>, begin: Arc<Notify>, semantics: Semantics) -> Self {
            Self { days, begin, semantics }
        }
    }

    impl RowSource for RecomputedSource {
        fn place(&self) -> String {
            format!("recomputation of the source objects by the second engine, semantics {}", self.semantics)
        }

        fn origins(&self) -> Vec<String> {
            Vec::new()
        }

        fn column_problems(&mut self) -> BoxFuture<'_, Result<Vec<String>, VerifyError>> {
            async { Ok(Vec::new()) }.boxed()
        }

        fn coverage(&mut self) -> BoxFuture<'_, Result<Coverage, VerifyError>> {
            async { Ok(None) }.boxed()
        }

        fn day(&mut self, day: UsageDay) -> BoxFuture<'_, Result<Fill, VerifyError>> {
            async move {
                self.begin.notify_one();
                let next = self.days.recv().await.filter(|next| next.day == day);
                let missing = || Failure::new(ErrorKind::Bug, format!("day {day} was not recomputed"));
                let next = next.ok_or_else(missing).map_err(VerifyError::Source)?;
                let place = self.place();
                let fill: Fill = Box::new(move |rows, texts| {
                    let mut batches = next.batches.iter();
                    batches
                        .try_for_each(|batch| rows.push_batch(batch, texts))
                        .map_err(|bad| bad_value(&place, day, bad))
                });
                Ok(fill)
            }
            .boxed()
        }
    }
}
