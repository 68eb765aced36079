//! The pipeline from configuration to report, to be read from top to bottom: the only place that names every stage.

pub mod check;
pub mod fingerprint;
mod pace;
mod pipeline;
mod plan_report;
pub mod planning;
pub mod preflight;
#[cfg(feature = "sql")]
pub mod recompute;
mod replan;
mod report;
mod roles;
mod schedule;
mod sinks;
mod unchanged;
pub mod verify;
mod window;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tracing::{error, info};
use uuid::Uuid;

use crate::config::Config;
use crate::error::Failure;
use crate::rollups::ocp_daily_summary;
use crate::rollups::semantics::Semantics;
use crate::runtime::cpu_pool::CpuPool;
use crate::runtime::limits::{self, CGROUP_ROOT};
use crate::runtime::memory_budget::MemoryBudget;
use crate::runtime::stopping::Stopping;
use crate::schema::source::SourceTable;
use crate::sink::Sink;
use crate::store::Store;
use crate::telemetry::progress::Progress;
use crate::telemetry::report::RunReport;
use crate::time::Window;
use crate::units::Bytes;
use sinks::Sinks;

/// What the command line adds to the configuration.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// A period without any object is a success.
    pub allow_empty: bool,
    /// Days without input rows lose their old rows.
    pub delete_empty_days: bool,
    /// Days that nothing changed of are written all the same.
    pub force: bool,
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
    state_limit: Bytes,
    run_id: Uuid,
    progress: &'a Progress,
}

/// Threads, memory and storage of a run, made once.
struct Resources {
    store: Store,
    pool: CpuPool,
    budget: MemoryBudget,
    state_limit: Bytes,
    run_id: Uuid,
}

impl Resources {
    fn new(config: &Config) -> Result<Self, Failure> {
        let limits = limits::limits(Path::new(CGROUP_ROOT));
        let workers = config.performance.max_workers.unwrap_or_else(|| limits::default_workers(limits.cpus));
        let budget = config.performance.memory_budget.unwrap_or_else(|| limits::default_memory_budget(limits.memory));
        info!(workers, %budget, memory = %limits.memory, memory_source = limits.memory_source, "limits");
        // Chunks come and go, state grows: each gets its half.
        let half = Bytes(budget.0 / 2);
        Ok(Self {
            store: Store::new(&config.storage)?,
            pool: CpuPool::new(workers)?,
            budget: MemoryBudget::new(half),
            state_limit: half,
            run_id: Uuid::new_v4(),
        })
    }

    fn context<'a>(&'a self, config: &'a Config, options: &'a RunOptions, progress: &'a Progress) -> Context<'a> {
        Context {
            config,
            options,
            store: &self.store,
            pool: &self.pool,
            budget: &self.budget,
            state_limit: self.state_limit,
            run_id: self.run_id,
            progress,
        }
    }
}

/// Aggregates one source over its period and writes it to the target, a window per month. Every failure is part of the
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
    let mut report = report::begin(config, &windows);
    match Resources::new(config) {
        Ok(resources) => {
            report.run_id = resources.run_id.to_string();
            let context = resources.context(config, options, progress);
            run_windows(&context, &windows, target, &mut report).await;
            report::add_resources(&mut report, &resources.store, &resources.budget);
        }
        Err(failure) => report::stop(&mut report, &failure),
    }
    progress.end();
    report.wall_seconds = started.elapsed().as_secs_f64();
    report::end(&mut report);
    for day in report.days.iter().filter(|day| day.error.is_some()) {
        error!(day = day.day, "{}", day.error.as_deref().unwrap_or_default());
    }
    if let Some(text) = &report.error {
        error!("{text}");
    }
    report
}

async fn run_windows(context: &Context<'_>, windows: &[Window], target: Option<Arc<dyn Sink>>, report: &mut RunReport) {
    let opened = match target {
        Some(target) => Ok(Sinks::Same(target)),
        None => context.options.stopping.unless_asked(Sinks::new(context, windows)).await,
    };
    let sinks = match opened {
        Ok(sinks) => sinks,
        Err(failure) => return report::stop(report, &failure),
    };
    let mut object_count = 0;
    for window in windows {
        info!(%window, semantics = %context.config.semantics, "window begins");
        let outcome = window::run_window(context, *window, async |reference| Ok(sinks.of(reference))).await;
        let stopped = match outcome {
            Ok(outcome) => {
                object_count += outcome.plan.object_count;
                report::add_window(report, context.config, outcome)
            }
            // Bad data that concerns all days of a window says nothing about those of another.
            Err(failure) if failure.kind.is_of_one_day() => {
                object_count += 1;
                report::fail_window(report, context.config, *window, &failure)
            }
            Err(failure) => {
                report::stop(report, &failure);
                true
            }
        };
        if stopped {
            return;
        }
    }
    if object_count == 0 && !context.options.allow_empty {
        report::stop(report, &window::no_objects(context, windows));
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
