//! The pipeline from configuration to report, to be read from top to bottom: the only place that names every stage.

pub mod check;
mod claims;
mod closing;
pub mod fingerprint;
pub mod observed;
mod pace;
mod pipeline;
mod places;
mod plan_report;
pub mod planning;
pub mod preflight;
#[cfg(feature = "sql")]
pub mod recompute;
mod replan;
mod report;
mod roles;
mod schedule;
mod shards;
mod sinks;
mod turns;
mod unchanged;
mod units;
pub mod verify;
mod waiting;
mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{Instrument, Span, error, error_span, info};
use uuid::Uuid;

use crate::config::{Config, Shard};
use crate::error::{ErrorKind, Failure};
use crate::rollups::ocp_daily_summary;
use crate::rollups::semantics::Semantics;
use crate::runtime::cpu_pool::CpuPool;
use crate::runtime::limits::{self, Limits, MemoryShares};
use crate::runtime::memory_book::MemoryBook;
use crate::runtime::memory_brake::MemoryBrake;
use crate::runtime::memory_budget::MemoryBudget;
use crate::runtime::stopping::Stopping;
use crate::schema::source::SourceTable;
use crate::sink::Sink;
use crate::store::Store;
use crate::telemetry::metrics;
use crate::telemetry::progress::Progress;
use crate::telemetry::report::RunReport;
use crate::time::Window;
use shards::Sharing;

/// What the command line adds to the configuration.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// A period without any object is a success.
    pub allow_empty: bool,
    /// Days without input rows lose their old rows.
    pub delete_empty_days: bool,
    /// Days that nothing changed of are written all the same.
    pub force: bool,
    /// Which of several pods this one is.
    pub shard: Option<Shard>,
    /// Rows per batch; for tests that cut the work differently.
    pub batch_rows: Option<usize>,
    /// Whether the run is told to stop: no further day begins then, and what is being written may end within the grace period.
    pub stopping: Stopping,
}

/// What every stage may use.
pub struct Context<'a> {
    config: &'a Config,
    options: &'a RunOptions,
    store: &'a Store,
    pool: &'a CpuPool,
    budget: &'a MemoryBudget,
    book: &'a MemoryBook,
    run_id: Uuid,
    sharing: &'a Sharing,
    progress: &'a Progress,
    /// Whether messages have to say which source they are about.
    is_one_of_several: bool,
}

impl Context<'_> {
    /// The failure, with the source where there are several.
    fn named(&self, failure: Failure) -> Failure {
        if self.is_one_of_several { failure.named(&self.source_name()) } else { failure }
    }

    /// A text, with the source where there are several.
    fn named_text(&self, text: String) -> String {
        if self.is_one_of_several { format!("{}: {text}", self.source_name()) } else { text }
    }

    /// Whether a failure leaves other sources alone.
    fn is_of_source(&self, kind: ErrorKind) -> bool {
        self.is_one_of_several && kind.is_of_one_source()
    }

    fn source_name(&self) -> String {
        format!("source {}", self.config.source.uuid)
    }

    /// What log lines stand in where there are several sources.
    fn span(&self) -> Span {
        let source = &self.config.source;
        match self.is_one_of_several {
            true => error_span!("source", source = %source.uuid, cluster_id = source.cluster_id),
            false => Span::none(),
        }
    }
}

/// Threads, memory and storage of a run, made once.
struct Resources {
    store: Store,
    pool: CpuPool,
    budget: MemoryBudget,
    book: MemoryBook,
    limits: Limits,
    shares: MemoryShares,
    run_id: Uuid,
    sharing: Sharing,
    /// What every log line of the run stands in.
    span: Span,
}

impl Resources {
    fn new(config: &Config) -> Result<Self, Failure> {
        let run_id = Uuid::new_v4();
        let span = error_span!("run", %run_id);
        let limits = limits::limits(config.performance.memory_limit);
        let workers = config.performance.max_workers.unwrap_or_else(|| limits::default_workers(limits.cpus));
        let shares = match config.performance.memory_budget {
            Some(budget) => MemoryShares::of_budget(budget),
            None => MemoryShares::of_limit(limits.memory),
        };
        if let Some(text) = limits::too_little_memory(&limits) {
            return Err(Failure::new(ErrorKind::MemoryBudget, text));
        }
        let Limits { cpus, memory, memory_source, .. } = limits;
        let cpu_source = limits.cpu_source.of_cpus();
        span.in_scope(|| {
            info!(%cpus, %cpu_source, workers, %memory, %memory_source, memory_budget = %shares.budget, "limits");
        });
        Ok(Self {
            store: Store::new(&config.storage)?,
            pool: CpuPool::new(workers)?,
            budget: MemoryBudget::new(shares.chunks),
            book: MemoryBook::new(shares.state, MemoryBrake::new(limits.memory)),
            limits,
            shares,
            run_id,
            sharing: Sharing::default(),
            span,
        })
    }

    fn context<'a>(&'a self, config: &'a Config, options: &'a RunOptions, progress: &'a Progress) -> Context<'a> {
        Context {
            config,
            options,
            store: &self.store,
            pool: &self.pool,
            budget: &self.budget,
            book: &self.book,
            run_id: self.run_id,
            sharing: &self.sharing,
            progress,
            is_one_of_several: false,
        }
    }

    /// Divides the days between this pod and others. A target of the caller's own has no ledger.
    fn share(&mut self, config: &Config, options: &RunOptions, is_configured_target: bool) -> Result<(), Failure> {
        self.sharing = match options.shard {
            None => Sharing::default(),
            Some(shard) if is_configured_target => {
                let _entered = self.span.enter();
                Sharing::new(config, shard, self.run_id, &options.stopping)?
            }
            Some(shard) => Sharing::divided(config, shard),
        };
        Ok(())
    }

    /// A context per view of a configuration, to do the same for each source.
    fn contexts<'a>(
        &'a self,
        views: &'a [Config],
        options: &'a RunOptions,
        progress: &'a Progress,
    ) -> Vec<Context<'a>> {
        let is_one_of_several = views.len() > 1;
        let context = |view: &'a Config| Context { is_one_of_several, ..self.context(view, options, progress) };
        views.iter().map(context).collect()
    }
}

/// Aggregates each source over the period and writes it to the target, a window per month. Every failure is part of the
/// report, whose exit code says how it went.
pub async fn run(config: &Config, options: &RunOptions, progress: &Progress) -> RunReport {
    run_with(config, options, progress, None).await
}

/// The same run into a target of the caller's own; what the configuration says about the target is not looked at.
pub async fn run_into(config: &Config, options: &RunOptions, progress: &Progress, target: Arc<dyn Sink>) -> RunReport {
    run_with(config, options, progress, Some(target)).await
}

async fn run_with(
    config: &Config,
    options: &RunOptions,
    progress: &Progress,
    target: Option<Arc<dyn Sink>>,
) -> RunReport {
    let started = Instant::now();
    let windows = Window::split_by_month(config.period.start, config.period.end);
    let views = config.per_source();
    let mut report = report::begin(&views, &windows);
    report.shard = options.shard.as_ref().map(ToString::to_string).unwrap_or_default();
    progress.health().set_patience(patience(config));
    let mut span = Span::none();
    match Resources::new(config) {
        Ok(mut resources) => {
            span = resources.span.clone();
            report::add_limits(&mut report, &resources);
            metrics::run_begins(
                &report.run_id,
                views.iter().map(|view| view.source.cluster_id.as_str()),
                resources.shares.budget,
                resources.limits.memory,
            );
            match resources.share(config, options, target.is_none()) {
                Ok(()) => {
                    let contexts = resources.contexts(&views, options, progress);
                    units::run_units(config, &contexts, &windows, target, &mut report).instrument(span.clone()).await;
                }
                Err(failure) => report::stop(&mut report, &failure),
            }
            resources.sharing.end().instrument(span.clone()).await;
            report::add_resources(&mut report, &resources.store, &resources.budget);
        }
        Err(failure) => report::stop(&mut report, &failure),
    }
    progress.end();
    progress.health().stopping();
    report.wall_seconds = started.elapsed().as_secs_f64();
    report::end(&mut report);
    metrics::run_ended(report.exit_code, report.rows_out);
    span.in_scope(|| tell_errors(&report));
    report
}

/// Twice the longest time that one request with its attempts, or one statement, may take with nothing else to do, or the time
/// for all attempts at a day: a run that is still for longer is stuck.
fn patience(config: &Config) -> Duration {
    let storage = config.storage.retry_seconds.saturating_mul(2);
    let database = config.postgres.as_ref().map_or(0, |postgres| {
        let attempt = postgres.statement_timeout_seconds.saturating_add(postgres.lock_timeout_seconds);
        postgres.retry_seconds.max(attempt).saturating_add(attempt)
    });
    Duration::from_secs(storage.max(database))
}

fn tell_errors(report: &RunReport) {
    let several = report.has_several_sources();
    for day in report.days.iter().filter(|day| day.error.is_some()) {
        let source = several.then_some(day.source.as_str());
        error!(source, day = day.day, "{}", day.error.as_deref().unwrap_or_default());
    }
    if let Some(text) = &report.error {
        error!("{text}");
    }
}

/// The tables that may be read: the daily copies too where they stand in for missing raw ones.
fn tables_of(semantics: Semantics) -> Vec<SourceTable> {
    let mut tables: Vec<SourceTable> = [true, false]
        .into_iter()
        .flat_map(|has_raw| ocp_daily_summary::scans(semantics, move |_| has_raw))
        .map(|scan| scan.table)
        .collect();
    tables.sort_unstable();
    tables.dedup();
    tables
}
