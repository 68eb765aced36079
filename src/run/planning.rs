//! Configuration → what a run would do with each day, and why; with a comparison, also what would change in the target. Nothing
//! is written.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::plan_report::{DayDifference, PlanDay, PlanReport, PlanWindow};
use super::sinks::postgres_sink;
use super::unchanged::{Decisions, Purpose, decide, decide_empty};
use super::units::together;
use super::window::{self, PreparedWindow};
use super::{Context, Resources, RunOptions};
use crate::config::{Config, Postgres, Target};
use crate::error::{ErrorKind, Failure};
use crate::plan::{Plan, display};
use crate::reference;
use crate::rollups::facts::ReferenceData;
use crate::sink::Sink;
use crate::sink::diff::{DiffSink, Diffs};
use crate::telemetry::progress::Progress;
use crate::time::Window;

/// What the command line adds to the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanOptions {
    /// A period without any object is no error.
    pub allow_empty: bool,
    /// Days that a run would write are computed and compared with the target.
    pub diff: bool,
}

/// Lists, reads footers and compares each day with the ledger of a PostgreSQL target; without one, neither database nor columns are
/// touched. Columns are read for derived node roles where their objects changed, and for a comparison.
pub async fn plan_period(config: &Config, options: PlanOptions, progress: &Progress) -> Result<PlanReport, Failure> {
    let target = match (&config.target, &config.postgres) {
        (Target::Postgres, Some(postgres)) => Some(postgres),
        _ if options.diff => {
            let message = "plan --diff compares with a table, and target.kind is not postgres";
            return Err(Failure::new(ErrorKind::Config, message));
        }
        _ => None,
    };
    let resources = Resources::new(config)?;
    let run_options = RunOptions { allow_empty: options.allow_empty, ..RunOptions::default() };
    let views = config.per_source();
    let contexts = resources.contexts(&views, &run_options, progress);
    let windows = Window::split_by_month(config.period.start, config.period.end);
    let planning = Planning { resources: &resources, target, diff: options.diff };
    let mut report = PlanReport::default();
    let mut empty = Vec::new();
    for context in &contexts {
        match planning.plan_source(context, &windows, &mut report).await {
            Ok(0) if !options.allow_empty => empty.push(window::no_objects(context, &windows).await),
            Ok(_) => {}
            Err(failure) if context.is_of_source(failure.kind) => report.fail(&context.named(failure)),
            Err(failure) => return Err(context.named(failure)),
        }
    }
    let nothing_at_all = empty.len() == contexts.len();
    match together(empty) {
        Some(failure) if nothing_at_all => return Err(failure),
        Some(failure) => report.fail(&failure),
        None => {}
    }
    report.end();
    Ok(report)
}

/// What planning needs besides the source.
struct Planning<'a> {
    resources: &'a Resources,
    target: Option<&'a Postgres>,
    diff: bool,
}

impl Planning<'_> {
    /// Plans every window of a source; gives the number of its objects.
    async fn plan_source(
        &self,
        context: &Context<'_>,
        windows: &[Window],
        report: &mut PlanReport,
    ) -> Result<usize, Failure> {
        let mut object_count = 0;
        for window in windows {
            let (prepared, seconds) = window::prepare(context, *window).await?;
            object_count += prepared.plan.object_count;
            let mut planned = describe(self.resources, context, &prepared);
            match self.target {
                None => {}
                Some(postgres) if self.diff => {
                    difference(context, postgres, prepared, seconds, &mut planned).await?;
                }
                Some(postgres) => look(context, postgres, prepared, &mut planned).await?,
            }
            report.windows.push(planned);
        }
        Ok(object_count)
    }
}

/// What the footers say, and what there is to work with.
fn describe(resources: &Resources, context: &Context<'_>, prepared: &PreparedWindow) -> PlanWindow {
    let (plan, source) = (&prepared.plan, context.config.source.uuid.to_string());
    let tail = display::tail(plan, resources.pool.worker_count(), [resources.shares.budget, resources.shares.chunks]);
    let days = plan.days.iter().zip(display::day_lines(plan)).map(|(day, (_, line))| PlanDay {
        source: source.clone(),
        day: day.day,
        objects: day.objects.len(),
        row_groups: day.chunk_count,
        rows: day.row_count,
        bytes: day.stored_bytes.0,
        state: None,
        reasons: Vec::new(),
        difference: None,
        error: None,
        line,
    });
    PlanWindow {
        source: source.clone(),
        window: plan.window.to_string(),
        days: days.collect(),
        to_read: None,
        warnings: prepared.warnings.clone(),
        head: display::head(plan),
        tail: format!("{tail}limits: {}\n", resources.limits),
    }
}

/// What a run would do with each day.
async fn look(
    context: &Context<'_>,
    postgres: &Postgres,
    mut prepared: PreparedWindow,
    planned: &mut PlanWindow,
) -> Result<(), Failure> {
    let window = prepared.plan.window;
    let decisions = if prepared.footers.is_empty() {
        decide_empty(context, window, &postgres_sink(context, postgres)?).await?
    } else {
        let mut reference = reference::load(context.config, window, context.run_id).await?;
        let sink = postgres_sink(context, postgres)?.for_report_period(reference.report_period_id);
        decide(context, &prepared, &mut reference, &sink, Purpose::Look).await?
    };
    decisions.apply(&mut prepared.plan, context.config);
    let Decisions { states, no_roles, .. } = decisions;
    planned.add_states(&states);
    planned.to_read = Some(to_read(&prepared.plan));
    planned.warnings.extend(no_roles.map(|failure| failure.full_text()));
    Ok(())
}

/// Computes the days that a run would write and compares them with the target.
async fn difference(
    context: &Context<'_>,
    postgres: &Postgres,
    prepared: PreparedWindow,
    seconds: [f64; 2],
    planned: &mut PlanWindow,
) -> Result<(), Failure> {
    let found = Diffs::default();
    let target = async |reference: &ReferenceData| {
        let target = postgres_sink(context, postgres)?.for_report_period(reference.report_period_id);
        Ok(Arc::new(DiffSink::new(target, Arc::clone(&found))) as Arc<dyn Sink>)
    };
    let outcome = window::compute_window(context, prepared, seconds, None, target).await?;
    planned.add_states(&outcome.states);
    planned.to_read = Some(to_read(&outcome.plan));
    let differences = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    let differences: BTreeMap<_, _> =
        differences.into_iter().map(|(day, diff)| (day, DayDifference::new(&diff))).collect();
    planned.add_differences(differences);
    let end = outcome.outcome.end;
    if let Some(failure) = end.stopped_by {
        return Err(failure);
    }
    planned.add_failures(&end.failed_days);
    Ok(())
}

/// What is left to read.
fn to_read(plan: &Plan) -> String {
    format!("a run reads {} row groups, at most {} rows, {}", plan.chunks.len(), plan.row_count(), plan.stored_bytes())
}
