//! One window, from listing to written days: the stages in the order in which they run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use tracing::{Instrument, error_span, info, warn};

use super::fingerprint::fingerprint;
use super::pipeline::{Outcome, Pipeline};
use super::schedule::{CompleteDay, DayRules, End};
use super::{Context, tables_of};
use crate::aggregate::{CompiledScan, DayState, LabelColumnStats, LabelSettings};
use crate::config::{NodeRoles, OnBadDay, OnTwoManifests};
use crate::decode::BATCH_ROWS;
use crate::discover::{self, Listing, ObjectInfo, discover};
use crate::enrich::{BatchSums, DayColumns, Stamp};
use crate::error::{ErrorKind, Failure};
use crate::footers::{Footer, FooterError, read_footers};
use crate::labels::EnabledKeys;
use crate::merge::{LabelRowCounts, merge};
use crate::plan::{BadObject, ChunkPlan, Plan, plan};
use crate::reference;
use crate::rollups::declaration::{Scan, without_empty_tables};
use crate::rollups::facts::{NodeRole, ReferenceData};
use crate::rollups::{node_roles, ocp_daily_summary};
use crate::runtime::cpu_pool::in_pieces;
use crate::runtime::memory_book::{Excess, Holding};
use crate::schema::source::{ReportType, SourceTable, Variant};
use crate::sink::{DayRows, Rows, Sink, Written};
use crate::telemetry::metrics::{self, DayOutcome};
use crate::telemetry::progress::Progress;
use crate::telemetry::report::LabelColumnReport;
use crate::time::{BillingMonth, UsageDay, Window};
use crate::units::Bytes;

/// What one day gave.
pub struct ClosedDay {
    /// Rows that were read.
    pub input_row_count: u64,
    /// What the target did.
    pub written: Written,
    /// Name → sum of each summed pod measure over the rows, in units of the target's last place.
    pub sums: Vec<(&'static str, i128)>,
    /// How its label columns were read.
    pub label_stats: Vec<(&'static str, LabelColumnReport)>,
    /// Label rows before and after de-duplication.
    pub label_rows: LabelRowCounts,
    /// Pairs of operator texts that were lost because they hold more than one colon.
    pub operator_pairs_dropped: u64,
    /// Seconds for merging and finishing.
    pub finish_seconds: f64,
    /// Seconds for writing.
    pub write_seconds: f64,
}

/// A window before anything is read from its columns.
pub struct PreparedWindow {
    /// What will be read.
    pub plan: Plan,
    /// Scans of the daily summary, in the plan's order.
    pub scans: Vec<Scan>,
    /// Footers of all objects in use.
    pub footers: Vec<(Arc<ObjectInfo>, Result<Footer, FooterError>)>,
    /// Which reports have raw objects.
    listing: Listing,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

impl PreparedWindow {
    /// Whether the month's prefix of a report's raw objects holds any object.
    #[cfg(feature = "sql")]
    pub fn has_raw(&self, report: ReportType, month: BillingMonth) -> bool {
        has_raw(&self.listing, report, month)
    }
}

/// How a window ended.
pub struct WindowOutcome {
    /// How its days ended.
    pub outcome: Outcome<ClosedDay>,
    /// What was planned.
    pub plan: Plan,
    /// What the reader should know.
    pub warnings: Vec<String>,
    /// Seconds of the stages before and around the pipeline.
    pub stage_seconds: Vec<(&'static str, f64)>,
}

/// Lists the objects of a window and reads their footers.
/// Errors: the storage refuses. No object at all is no error of a window.
pub async fn prepare(context: &Context<'_>, window: Window) -> Result<(PreparedWindow, [f64; 2]), Failure> {
    let config = context.config;
    let month = window.month();
    let started = Instant::now();
    let tables = tables_of(config.semantics);
    let listing = discover(context.store, &config.org_id, config.source.uuid, &[month], &tables).await?;
    let discover_seconds = started.elapsed().as_secs_f64();
    let scans = ocp_daily_summary::scans(config.semantics, |report| has_raw(&listing, report, month));
    let scans = without_empty_tables(scans, |table| listing.of(table, month).next().is_some());
    let in_use = |object: &&Arc<ObjectInfo>| scans.iter().any(|scan| scan.table == object.table);
    let objects: Vec<Arc<ObjectInfo>> = listing.objects.iter().filter(in_use).cloned().collect();
    let started = Instant::now();
    let footers = read_footers(context.store, objects.clone()).await;
    let mut plan = plan(window, &scans, &footers);
    let warnings = two_deliveries(context, &objects, &mut plan);
    let seconds = [discover_seconds, started.elapsed().as_secs_f64()];
    Ok((PreparedWindow { plan, scans, footers, listing, warnings }, seconds))
}

fn has_raw(listing: &Listing, report: ReportType, month: BillingMonth) -> bool {
    listing.of(SourceTable { report, variant: Variant::Raw }, month).next().is_some()
}

/// What to say if no window of the period has any object.
pub fn no_objects(context: &Context<'_>, windows: &[Window]) -> Failure {
    let config = context.config;
    let first = windows.first().map(|window| {
        discover::prefix(&config.org_id, config.source.uuid, tables_of(config.semantics)[0], window.month())
    });
    let period: Vec<String> = windows.iter().map(ToString::to_string).collect();
    let message = format!(
        "period {}: no objects in {}, looked under `{}` and its like",
        period.join(", "),
        context.store.place(),
        first.unwrap_or_default()
    );
    Failure::new(ErrorKind::NoObjects, message)
}

/// Reports days that were delivered twice, and gives them up if the configuration says so.
fn two_deliveries(context: &Context<'_>, objects: &[Arc<ObjectInfo>], plan: &mut Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    for twice in discover::two_manifests(objects) {
        if !plan.window.contains(twice.day) {
            continue;
        }
        let message =
            format!("{}: {} was delivered by manifests {}", twice.day, twice.table, twice.manifest_ids.join(", "));
        match context.config.on_two_manifests {
            OnTwoManifests::Warn => warnings.push(format!("{message}; all of them are counted")),
            OnTwoManifests::Error => {
                let failure = Failure::new(ErrorKind::TwoManifests, message);
                plan.bad_objects.push(BadObject { days: vec![twice.day], failure });
            }
        }
    }
    warnings
}

/// Builds and writes every day of a window.
/// Errors: what concerns the window as a whole; a failure of single days is part of the outcome.
pub async fn run_window(
    context: &Context<'_>,
    window: Window,
    sink: impl AsyncFnOnce(&ReferenceData) -> Result<Arc<dyn Sink>, Failure>,
) -> Result<WindowOutcome, Failure> {
    context.progress.stage("list and read footers");
    let (prepared, [discover_seconds, footers_seconds]) = prepare(context, window).await?;
    let mut stage_seconds = Vec::new();
    let mut note_stage = |stage, seconds| {
        metrics::stage_seconds(stage, seconds);
        stage_seconds.push((stage, seconds));
    };
    note_stage("discover", discover_seconds);
    note_stage("footers and plan", footers_seconds);
    if prepared.footers.is_empty() {
        // Whether this is a failure depends on the other windows; either way nothing is taken away.
        return Ok(left_as_it_was(prepared, stage_seconds));
    }
    // A storage in trouble is no fault of any day: a retry, or other rights, may give the same objects.
    if let Some(bad) = prepared.plan.bad_objects.iter().find(|bad| !bad.failure.kind.is_of_one_day()) {
        return Err(Failure::new(bad.failure.kind, bad.failure.message_with_causes()));
    }
    let _footers = hold_footers(context, &prepared)?;
    context.progress.stage("reference data");
    let started = Instant::now();
    let mut reference = reference::load(context.config, window, context.run_id).await?;
    note_stage("reference data", started.elapsed().as_secs_f64());
    if matches!(context.config.reference.node_roles, NodeRoles::Derive) {
        context.progress.stage("derive node roles");
        let started = Instant::now();
        reference.node_roles = derive_roles(context, &prepared, window).await?;
        note_stage("derive node roles", started.elapsed().as_secs_f64());
    }
    let sink = sink(&reference).await?;
    let PreparedWindow { plan, scans, warnings, .. } = prepared;
    context.progress.stage("decode and aggregate");
    context.progress.expect(plan.row_count(), plan.days.len() as u64);
    let reference = Arc::new(reference);
    let close = |day: CompleteDay| close_day(context, &plan, &reference, &sink, day);
    let pipeline = pipeline(context, &reference, sink.parallel_days() + 1);
    let outcome = pipeline.run(&plan, compile(&scans), close).await;
    stage_seconds.push(("fetch", outcome.fetch_seconds));
    stage_seconds.push(("decode and aggregate", outcome.compute_seconds));
    let sum = |seconds: fn(&ClosedDay) -> f64| outcome.days.values().map(seconds).sum();
    stage_seconds.push(("merge and finish", sum(|day| day.finish_seconds)));
    stage_seconds.push(("write", sum(|day| day.write_seconds)));
    Ok(WindowOutcome { outcome, plan, warnings, stage_seconds })
}

/// Enters into the books what lives as long as the window does.
/// Errors: that alone is more than all state may be.
fn hold_footers(context: &Context<'_>, prepared: &PreparedWindow) -> Result<Holding, Failure> {
    let of_footers: Bytes =
        prepared.footers.iter().filter_map(|(_, footer)| Some(footer.as_ref().ok()?.held_bytes())).sum();
    let of_chunks = Bytes((prepared.plan.chunks.len() * size_of::<ChunkPlan>()) as u64);
    let bytes = of_footers + of_chunks;
    let held = context.book.hold(bytes);
    if bytes > context.book.limit() {
        let message = format!(
            "window {}: the footers of {} objects with {} row groups take {bytes}; the limit of state is {}, half of \
             performance.memory_budget; fewer and larger objects take less",
            prepared.plan.window,
            prepared.plan.object_count,
            prepared.plan.chunks.len(),
            context.book.limit(),
        );
        return Err(Failure::new(ErrorKind::MemoryBudget, message));
    }
    Ok(held)
}

/// A window without any object: no day is touched.
fn left_as_it_was(prepared: PreparedWindow, stage_seconds: Vec<(&'static str, f64)>) -> WindowOutcome {
    let day = |day: UsageDay| {
        note(day, 0, 0, Written::LeftAsItWas);
        let untouched = ClosedDay {
            input_row_count: 0,
            written: Written::LeftAsItWas,
            sums: Vec::new(),
            label_stats: Vec::new(),
            label_rows: LabelRowCounts::new(),
            operator_pairs_dropped: 0,
            finish_seconds: 0.0,
            write_seconds: 0.0,
        };
        (day, untouched)
    };
    let outcome = Outcome {
        days: prepared.plan.window.days().map(day).collect(),
        end: End::default(),
        fetch_seconds: 0.0,
        compute_seconds: 0.0,
    };
    WindowOutcome { outcome, plan: prepared.plan, warnings: prepared.warnings, stage_seconds }
}

fn compile(scans: &[Scan]) -> Arc<Vec<CompiledScan>> {
    Arc::new(scans.iter().map(CompiledScan::new).collect())
}

fn pipeline<'a>(context: &'a Context<'_>, reference: &ReferenceData, open_days: usize) -> Pipeline<'a> {
    let config = context.config;
    let malformed_as_empty = config.on_malformed_label == crate::config::OnMalformedLabel::Empty;
    let keys = EnabledKeys::new(config.semantics.kept_keys(&reference.enabled_tag_keys));
    // All open days together remember texts in at most a quarter of what their state may take.
    let label_cache_bytes = context.book.limit().0 / 4 / (open_days as u64).max(1);
    let label_cache_bytes = usize::try_from(label_cache_bytes).unwrap_or(usize::MAX);
    Pipeline {
        store: context.store,
        pool: context.pool,
        budget: context.budget,
        rules: DayRules {
            open_days,
            book: context.book.clone(),
            on_bad_day: config.on_bad_day,
            worker_count: context.pool.worker_count(),
            labels: LabelSettings {
                keys: Arc::new(keys),
                rules: config.semantics.label_rules(malformed_as_empty),
                cache_bytes: label_cache_bytes,
            },
        },
        batch_rows: context.options.batch_rows.unwrap_or(BATCH_ROWS),
        progress: context.progress,
        is_counted: true,
    }
}

/// First pass over the window: the roles of its nodes. An object that cannot be read ends the window, since a role may
/// depend on any of its days.
pub async fn derive_roles(
    context: &Context<'_>,
    prepared: &PreparedWindow,
    window: Window,
) -> Result<Vec<NodeRole>, Failure> {
    let month = window.month();
    let scans = node_roles::scans(context.config.semantics, |report| has_raw(&prepared.listing, report, month));
    let role_plan = plan(window, &scans, &prepared.footers);
    if let Some(bad) = role_plan.bad_objects.first() {
        return Err(Failure::new(
            bad.failure.kind,
            format!("node roles are derived from the whole window: {}", bad.failure.message_with_causes()),
        ));
    }
    let roles = Arc::new(Mutex::new(node_roles::Roles::default()));
    let close = |day: CompleteDay| {
        let (roles, number) = (Arc::clone(&roles), day.state.day);
        let add = move |_worker| {
            let (tables, _) = merge(&day.state);
            roles.lock().unwrap_or_else(PoisonError::into_inner).add_day(&tables);
            Ok(())
        };
        context.pool.run(move || format!("node roles of {number}"), ErrorKind::Bug, add).boxed()
    };
    // One bad day is enough to have no roles, and its rows are not those that the person waits for.
    let uncounted = Progress::hidden();
    let mut pipeline = pipeline(context, &ReferenceData::default(), context.pool.worker_count() + 1);
    pipeline.rules.on_bad_day = OnBadDay::Stop;
    pipeline.progress = &uncounted;
    pipeline.is_counted = false;
    let outcome = pipeline.run(&role_plan, compile(&scans), close).await;
    let failures = outcome.end.stopped_by.into_iter().chain(outcome.end.failed_days.into_values());
    match failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok(roles.lock().unwrap_or_else(PoisonError::into_inner).finish()),
    }
}

/// Merges, finishes and writes one day.
fn close_day<'a>(
    context: &'a Context<'_>,
    plan: &'a Plan,
    reference: &'a Arc<ReferenceData>,
    sink: &'a Arc<dyn Sink>,
    day: CompleteDay,
) -> BoxFuture<'a, Result<ClosedDay, Failure>> {
    let CompleteDay { state, input_row_count } = day;
    let number = state.day;
    async move {
        let config = context.config;
        let started = Instant::now();
        let day_plan = plan.days.iter().find(|planned| planned.day == number);
        let fingerprint = day_plan.map(|planned| fingerprint(config, reference, planned)).unwrap_or_default();
        let facts = Arc::clone(reference);
        let semantics = config.semantics;
        let stamp = Stamp {
            report_period_id: reference.report_period_id,
            cluster_id: config.source.cluster_id.clone(),
            cluster_alias: config.source.cluster_alias.clone(),
            source_uuid: config.source.uuid,
        };
        let reads_rows = sink.reads_rows();
        let book = context.book.clone();
        let finish =
            move |_worker| {
                let (tables, label_rows) = merge(&state);
                stop_if_full(&state)?;
                let finish = ocp_daily_summary::finish(&tables, &facts, semantics)?;
                stop_if_full(&state)?;
                let columns = DayColumns::new(&tables, finish, &stamp, semantics.decimal_rounding())?;
                let (label_stats, dropped) = (label_reports(&state), state.labels.stats().operator_pairs_dropped);
                drop(tables);
                // The day's place in the books has room for its rows already: it goes before they get their own.
                drop(state);
                let held = book.hold_leaving(Bytes(columns.held_bytes() as u64));
                let sums = in_pieces(columns.batch_count(), |batch| {
                    if reads_rows { columns.round(batch) } else { columns.make(batch) }
                });
                let sums = BatchSums::total(sums.into_iter().collect::<Result<Vec<_>, _>>()?);
                Ok((columns, sums, label_rows, label_stats, dropped, held))
            };
        let (columns, sums, label_rows, label_stats, operator_pairs_dropped, _held) =
            context.pool.run(|| format!("day {number}"), ErrorKind::Bug, finish).await?;
        let finish_seconds = started.elapsed().as_secs_f64();
        let rows = Rows::Columns(Arc::new(columns));
        let rows = DayRows { day: number, rows, input_row_count, fingerprint, sums };
        let row_count = rows.row_count();
        // The target takes the rows with it.
        let sums = rows.sums.clone();
        let started = Instant::now();
        let written = sink.replace(rows).await?;
        let write_seconds = started.elapsed().as_secs_f64();
        metrics::stage_seconds("merge and finish", finish_seconds);
        metrics::stage_seconds("write", write_seconds);
        for (_, labels) in &label_stats {
            metrics::label_texts(labels.text_rows, labels.json_texts + labels.operator_texts);
        }
        note(number, input_row_count, row_count, written);
        Ok(ClosedDay {
            input_row_count,
            written,
            sums,
            label_stats,
            label_rows,
            operator_pairs_dropped,
            finish_seconds,
            write_seconds,
        })
    }
    .instrument(error_span!("day", day = %number))
    .boxed()
}

/// What finishing a day takes is accounted for beforehand; should it be more, the run ends here and not by the kernel.
fn stop_if_full(state: &DayState) -> Result<(), Failure> {
    match state.excess() {
        Some(excess @ Excess::Process { .. }) => Err(Failure::new(ErrorKind::MemoryBudget, state.excess_text(excess))),
        _ => Ok(()),
    }
}

fn label_reports(state: &DayState) -> Vec<(&'static str, LabelColumnReport)> {
    let report = |stats: LabelColumnStats| LabelColumnReport {
        map_rows: stats.map_rows,
        struct_rows: stats.struct_rows,
        text_rows: stats.text_rows,
        null_rows: stats.null_rows,
        malformed_rows: stats.malformed_rows,
        json_texts: stats.json_texts.len() as u64,
        operator_texts: stats.operator_texts.len() as u64,
    };
    state.take_label_stats().into_iter().map(|(column, stats)| (column, report(stats))).collect()
}

fn note(day: UsageDay, input_row_count: u64, row_count: u64, written: Written) {
    match written {
        Written::Replaced { deleted_row_count, .. } => {
            metrics::days(DayOutcome::Written, 1);
            metrics::rows_written(row_count);
            info!(%day, input_row_count, row_count, deleted_row_count, "day written");
        }
        Written::LeftAsItWas => {
            metrics::days(DayOutcome::Empty, 1);
            warn!(%day, "day has no input rows and stays as it was");
        }
        Written::Dropped { .. } => {
            metrics::days(DayOutcome::Written, 1);
            metrics::rows_written(row_count);
            info!(%day, input_row_count, row_count, "day counted and dropped");
        }
    }
}
