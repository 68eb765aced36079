//! One window, from listing to written days: the stages in the order in which they run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use tokio::sync::SetOnce;

use super::closing::{ClosedDay, DayFacts, close_day, note};
use super::pipeline::{Outcome, Pipeline};
use super::schedule::{CompleteDay, DayRules, End, Gate};
use super::unchanged::{DayState, Decisions, Purpose, decide_empty, ingredients_with};
use super::{Context, replan, roles, tables_of};
use crate::aggregate::{CompiledScan, LabelSettings};
use crate::config::{Config, NodeRoles, OnTwoManifests};
use crate::decode::BATCH_ROWS;
use crate::discover::{self, Listing, ObjectInfo, discover};
use crate::error::{ErrorKind, Failure};
use crate::footers::{Footer, FooterError, read_footers};
use crate::labels::EnabledKeys;
use crate::merge::LabelRowCounts;
use crate::plan::{BadObject, ChunkPlan, OtherPeriods, Plan, plan};
use crate::reference;
use crate::rollups::declaration::{Scan, without_empty_tables};
use crate::rollups::facts::ReferenceData;
use crate::rollups::ocp_daily_summary;
use crate::runtime::memory_book::Holding;
use crate::schema::source::{ReportType, SourceTable, Variant};
use crate::sink::{Sink, Written};
use crate::telemetry::metrics;
use crate::time::{BillingMonth, UsageDay, Window};
use crate::units::Bytes;

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
    /// Its place in the books of memory.
    held: Holding,
}

impl PreparedWindow {
    /// Whether a bad object of another plan over the same footers is bad for every plan: its days then fail, whatever else is read.
    pub fn fails_days_of(&self, bad: &BadObject) -> bool {
        let is_same = |error: &FooterError| Failure::of(error).message == bad.failure.message;
        let unreadable = self.footers.iter().filter_map(|(_, footer)| footer.as_ref().err());
        bad.failure.kind.is_of_one_day() && unreadable.into_iter().any(is_same)
    }

    /// Whether the month's prefix of a report's raw objects holds any object.
    pub fn has_raw(&self, report: ReportType, month: BillingMonth) -> bool {
        has_raw(&self.listing, report, month)
    }
}

/// Days that are left to others → the fingerprints that they would have here.
pub type LeftDays = BTreeMap<UsageDay, [u8; 32]>;

/// How a window ended.
pub struct WindowOutcome {
    /// How its days ended.
    pub outcome: Outcome<ClosedDay>,
    /// What was planned.
    pub plan: Plan,
    /// What became of each day, and why, as it was decided before anything was fetched.
    pub states: BTreeMap<UsageDay, DayState>,
    /// Days that others hold or have written, with the fingerprints that they would have here.
    pub left: LeftDays,
    /// What the reader should know.
    pub warnings: Vec<String>,
    /// Seconds of the stages before and around the pipeline.
    pub stage_seconds: Vec<(&'static str, f64)>,
}

/// Lists the objects of a window and reads their footers.
/// Errors: the storage refuses. No object at all is no error of a window.
pub async fn prepare(context: &Context<'_>, window: Window) -> Result<(PreparedWindow, [f64; 2]), Failure> {
    prepare_with(context, window, &[]).await
}

/// The same; footers of objects that are still the same are taken over.
pub(super) async fn prepare_with(
    context: &Context<'_>,
    window: Window,
    known: &[(Arc<ObjectInfo>, Result<Footer, FooterError>)],
) -> Result<(PreparedWindow, [f64; 2]), Failure> {
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
    let mut footers = replan::footers_still_true(known, &objects);
    let is_known = |object: &Arc<ObjectInfo>| footers.iter().any(|(known, _)| known.key == object.key);
    let wanted = objects.iter().filter(|object| !is_known(object)).cloned().collect();
    footers.extend(read_footers(context.store, wanted).await);
    footers.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    let mut plan = plan(window, &scans, &footers);
    let mut warnings = listing.passed_over.sentences();
    warnings.extend(two_deliveries(context, &objects, &mut plan));
    warnings.extend(plan.of_other_periods.sentence());
    if matches!(config.reference.node_roles, NodeRoles::Derive) {
        warnings.extend(roles_lack_days(&plan));
    }
    warnings.extend(plan.oddities.warnings());
    let seconds = [discover_seconds, started.elapsed().as_secs_f64()];
    let of_footers: Bytes = footers.iter().filter_map(|(_, footer)| Some(footer.as_ref().ok()?.held_bytes())).sum();
    let of_chunks = Bytes((plan.chunks.len() * size_of::<ChunkPlan>()) as u64);
    let held = context.book.hold(of_footers + of_chunks);
    Ok((PreparedWindow { plan, scans, footers, listing, warnings, held }, seconds))
}

/// What to say of node roles that come from fewer days than the window has.
fn roles_lack_days(plan: &Plan) -> Option<String> {
    let bad = plan.bad_objects.iter().filter(|bad| bad.failure.kind.is_of_one_day());
    let days: BTreeSet<UsageDay> = bad.flat_map(|bad| bad.days.iter().copied()).collect();
    let named: Vec<String> = days.iter().map(ToString::to_string).collect();
    (!days.is_empty())
        .then(|| format!("node roles are derived without {}, of which an object cannot be used", named.join(", ")))
}

/// Plans the same footers once more, where objects that are still listed alike are not taken as replaced ones.
pub(super) fn plan_anew(
    context: &Context<'_>,
    prepared: &mut PreparedWindow,
    is_listed_alike: impl Fn(&ObjectInfo) -> bool,
) {
    for (object, footer) in &mut prepared.footers {
        if is_listed_alike(object) {
            let known = std::mem::replace(footer, Err(FooterError::DecoderFailed { key: object.key.clone() }));
            *footer = known.map_err(FooterError::of_same_listing);
        }
    }
    let objects: Vec<Arc<ObjectInfo>> = prepared.footers.iter().map(|(object, _)| Arc::clone(object)).collect();
    prepared.plan = plan(prepared.plan.window, &prepared.scans, &prepared.footers);
    // Its warnings were noted with the first plan.
    two_deliveries(context, &objects, &mut prepared.plan);
}

fn has_raw(listing: &Listing, report: ReportType, month: BillingMonth) -> bool {
    listing.of(SourceTable { report, variant: Variant::Raw }, month).next().is_some()
}

/// What to say if no window of the period has any object.
pub async fn no_objects(context: &Context<'_>, windows: &[Window]) -> Failure {
    let config = context.config;
    let (table, source) = (tables_of(config.semantics)[0], config.source.uuid);
    let first = windows.first().map(|window| discover::prefix(&config.org_id, source, table, window.month()));
    let period: Vec<String> = windows.iter().map(ToString::to_string).collect();
    let there = discover::what_is_there(context.store, &config.org_id, source, table).await;
    let there = if there.is_empty() { there } else { format!("; {there}") };
    let message = format!(
        "period {}: no objects in {}, looked under `{}` and its like{there}",
        period.join(", "),
        context.store.place(),
        first.unwrap_or_default()
    );
    context.named(Failure::new(ErrorKind::NoObjects, message))
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

/// Builds and writes every day of a window, or only some of them.
/// Errors: what concerns the window as a whole; a failure of single days is part of the outcome.
pub async fn run_window(
    context: &Context<'_>,
    window: Window,
    only: Option<&BTreeSet<UsageDay>>,
    sink: impl AsyncFnOnce(&ReferenceData) -> Result<Arc<dyn Sink>, Failure>,
) -> Result<WindowOutcome, Failure> {
    context.progress.stage("list and read footers");
    let (prepared, seconds) = context.options.stopping.unless_asked(replan::prepare_settled(context, window)).await?;
    compute_window(context, prepared, seconds, only, sink).await
}

/// The same for a window that is prepared; `seconds` are those that it took.
pub async fn compute_window(
    context: &Context<'_>,
    mut prepared: PreparedWindow,
    [discover_seconds, footers_seconds]: [f64; 2],
    only: Option<&BTreeSet<UsageDay>>,
    sink: impl AsyncFnOnce(&ReferenceData) -> Result<Arc<dyn Sink>, Failure>,
) -> Result<WindowOutcome, Failure> {
    let mut stage_seconds = Vec::new();
    let mut note_stage = |stage, seconds| {
        metrics::stage_seconds(stage, seconds);
        stage_seconds.push((stage, seconds));
    };
    note_stage("discover", discover_seconds);
    note_stage("footers and plan", footers_seconds);
    let is_empty = prepared.footers.is_empty();
    let opened = open_window(context, &mut prepared, Purpose::Begin, sink, &mut note_stage).await?;
    let OpenedWindow { mut reference, sink, decisions } = opened;
    if is_empty {
        return Ok(left_as_it_was(context.config, prepared, decisions.states, stage_seconds));
    }
    let (mut outcome, mut decisions) =
        write_decided_days(context, &mut prepared, decisions, &mut reference, &sink, only).await?;
    decisions.roles_seconds.into_iter().for_each(|seconds| note_stage("derive node roles", seconds));
    if let Some(days) = only {
        outcome.end.failed_days.retain(|day, _| days.contains(day));
    }
    replan::write_changed_days(context, &mut prepared, &mut decisions, reference, &sink, &mut outcome).await;
    if let Some(claims) = context.sharing.claims() {
        // Those of days that failed: another pod may have more luck.
        claims.release(context.config.source.uuid).await;
    }
    let left = left_days(&mut outcome.end, &decisions);
    stage_seconds.push(("fetch", outcome.fetch_seconds));
    stage_seconds.push(("decode and aggregate", outcome.compute_seconds));
    let sum = |seconds: fn(&ClosedDay) -> f64| outcome.days.values().map(seconds).sum();
    stage_seconds.push(("merge and finish", sum(|day| day.finish_seconds)));
    stage_seconds.push(("write", sum(|day| day.write_seconds)));
    let (PreparedWindow { plan, mut warnings, .. }, Decisions { states, .. }) = (prepared, decisions);
    warnings.extend(outcome.of_other_periods.sentence());
    Ok(WindowOutcome { outcome, plan, states, left, warnings, stage_seconds })
}

/// A window none of whose rows was read yet, and everything that has to be known before.
pub struct OpenedWindow {
    /// The small tables, the report period among them.
    reference: ReferenceData,
    /// The target for its days.
    sink: Arc<dyn Sink>,
    /// What becomes of each day.
    pub decisions: Decisions,
}

/// Goes every step up to the first row of a prepared window. For a window without any object the small tables are not needed.
/// Errors: what concerns the window as a whole.
pub async fn open_window(
    context: &Context<'_>,
    prepared: &mut PreparedWindow,
    purpose: Purpose,
    sink: impl AsyncFnOnce(&ReferenceData) -> Result<Arc<dyn Sink>, Failure>,
    mut note_stage: impl FnMut(&'static str, f64),
) -> Result<OpenedWindow, Failure> {
    let window = prepared.plan.window;
    if prepared.footers.is_empty() {
        // Whether this is a failure depends on the other windows; either way nothing is taken away.
        let reference = ReferenceData::default();
        let sink = sink(&reference).await?;
        let decisions = decide_empty(context, window, &*sink).await?;
        return Ok(OpenedWindow { reference, sink, decisions });
    }
    // A storage in trouble is no fault of any day: a retry, or other rights, may give the same objects.
    let of_objects = [ErrorKind::ObjectChanged, ErrorKind::ObjectInconsistent];
    let concerns_all = |kind: ErrorKind| !kind.is_of_one_day() && !of_objects.contains(&kind);
    if let Some(bad) = prepared.plan.bad_objects.iter().find(|bad| concerns_all(bad.failure.kind)) {
        return Err(Failure::new(bad.failure.kind, bad.failure.message_with_causes()));
    }
    footers_fit(context, prepared)?;
    context.progress.stage("reference data");
    let started = Instant::now();
    let load = async { Ok(reference::load(context.config, window, context.run_id).await?) };
    let mut reference = context.options.stopping.unless_asked(load).await?;
    note_stage("reference data", started.elapsed().as_secs_f64());
    let sink = sink(&reference).await?;
    let started = Instant::now();
    let decisions = replan::decide_settled(context, prepared, &mut reference, &sink, purpose).await?;
    let seconds = started.elapsed().as_secs_f64();
    note_stage("compare with the ledger", seconds - decisions.roles_seconds.unwrap_or(0.0));
    Ok(OpenedWindow { reference, sink, decisions })
}

/// A day that was left to others and then failed is a failure.
fn left_days(end: &mut End, decisions: &Decisions) -> LeftDays {
    let fingerprint = |day: UsageDay| {
        let ingredients = decisions.ingredients.get(&day);
        ingredients.map(|ingredients| ingredients.fingerprint).unwrap_or_default()
    };
    let left = std::mem::take(&mut end.left_days).into_iter().filter(|day| !end.failed_days.contains_key(day));
    left.map(|day| (day, fingerprint(day))).collect()
}

/// Errors: what lives as long as the window does is more than all state may be.
fn footers_fit(context: &Context<'_>, prepared: &PreparedWindow) -> Result<(), Failure> {
    let (bytes, limit) = (prepared.held.bytes(), context.book.limit());
    if bytes <= limit {
        return Ok(());
    }
    let message = format!(
        "window {}: the footers of {} objects with {} row groups take {bytes}; the limit of state is {limit}, its \
         share of performance.memory_budget; fewer and larger objects take less",
        prepared.plan.window,
        prepared.plan.object_count,
        prepared.plan.chunks.len(),
    );
    Err(Failure::new(ErrorKind::MemoryBudget, message))
}

/// Writes the days that were decided to be written, all of them or only some. Roles that are still to come are derived meanwhile:
/// a large day, or small ones, are read, and wait for them before they are closed.
async fn write_decided_days(
    context: &Context<'_>,
    prepared: &mut PreparedWindow,
    mut decisions: Decisions,
    reference: &mut ReferenceData,
    sink: &Arc<dyn Sink>,
    only: Option<&BTreeSet<UsageDay>>,
) -> Result<(Outcome<ClosedDay>, Decisions), Failure> {
    narrow(context.config, &mut prepared.plan, &decisions, only);
    if let Some(role_plan) = decisions.roles_to_come.take() {
        context.progress.stage("derive node roles, decode and aggregate");
        let facts = SetOnce::new();
        let derive = async {
            let started = Instant::now();
            let derive = roles::derive(context, prepared, &role_plan);
            let derived = context.options.stopping.unless_asked(derive).await?;
            let ingredients = ingredients_with(context, &prepared.plan, reference, &derived);
            let reference = Arc::new(ReferenceData { node_roles: derived.roles, ..reference.clone() });
            // Only set here.
            let _set = facts.set(DayFacts { reference, ingredients });
            Ok(started.elapsed().as_secs_f64())
        };
        let write = write_days_with(context, &prepared.plan, &prepared.scans, reference, sink, &decisions, &facts);
        match tokio::try_join!(derive, write) {
            Ok((seconds, outcome)) => {
                decisions.roles_seconds = Some(seconds);
                if let Some(facts) = facts.into_inner() {
                    *reference = ReferenceData::clone(&facts.reference);
                    decisions.ingredients = facts.ingredients;
                }
                return Ok((outcome, decisions));
            }
            // No day can have been written: one thing after the other now, on a new plan.
            Err(failure) if failure.kind == ErrorKind::ObjectChanged => {}
            Err(failure) => return Err(failure),
        }
        decisions = replan::decide_settled(context, prepared, reference, sink, Purpose::Compute).await?;
        narrow(context.config, &mut prepared.plan, &decisions, only);
    }
    context.progress.stage("decode and aggregate");
    let outcome = write_days(context, &prepared.plan, &prepared.scans, reference, sink, &decisions).await?;
    Ok((outcome, decisions))
}

/// Leaves days in the plan that are to be written.
fn narrow(config: &Config, plan: &mut Plan, decisions: &Decisions, only: Option<&BTreeSet<UsageDay>>) {
    decisions.apply(plan, config);
    if let Some(days) = only {
        *plan = replan::only(plan, days);
    }
}

/// Decodes, aggregates and writes the days of a plan.
pub(super) async fn write_days(
    context: &Context<'_>,
    plan: &Plan,
    scans: &[Scan],
    reference: &ReferenceData,
    sink: &Arc<dyn Sink>,
    decisions: &Decisions,
) -> Result<Outcome<ClosedDay>, Failure> {
    let ingredients = decisions.ingredients.clone();
    let facts = SetOnce::new_with(Some(DayFacts { reference: Arc::new(reference.clone()), ingredients }));
    write_days_with(context, plan, scans, reference, sink, decisions, &facts).await
}

/// The same; closing a day waits for `facts`. Of `reference` only the enabled keys are looked at before.
async fn write_days_with(
    context: &Context<'_>,
    plan: &Plan,
    scans: &[Scan],
    reference: &ReferenceData,
    sink: &Arc<dyn Sink>,
    decisions: &Decisions,
    facts: &SetOnce<DayFacts>,
) -> Result<Outcome<ClosedDay>, Failure> {
    context.progress.expect(plan.row_count(), plan.days.len() as u64);
    let close = |day: CompleteDay| close_day(context, decisions, facts, sink, day);
    let open_days = sink.parallel_days() + sink.days_ahead(context.pool.worker_count());
    let mut pipeline = pipeline(context, reference, open_days);
    pipeline.enough_days = sink.enough_days();
    let source = context.config.source.uuid;
    pipeline.rules.share = context.sharing.share(source);
    if facts.get().is_none() {
        (pipeline.rules.closing_waits, pipeline.facts) = (true, Some(facts));
    }
    let Some(claims) = context.sharing.claims() else { return Ok(pipeline.run(plan, compile(scans), close).await) };
    let days = plan.days.iter().map(|day| day.day).collect();
    context.options.stopping.unless_asked(claims.expect(source, days)).await?;
    pipeline.rules.gate = Gate::Claims { empty_days: context.options.delete_empty_days };
    let claim = |day: UsageDay| claims.claim(source, day, decisions.last_runs.get(&day).copied()).boxed();
    pipeline.claim = Some(&claim);
    Ok(pipeline.run(plan, compile(scans), close).await)
}

/// A window without any object: no day is touched. Days that are missed fail.
fn left_as_it_was(
    config: &Config,
    prepared: PreparedWindow,
    states: BTreeMap<UsageDay, DayState>,
    stage_seconds: Vec<(&'static str, f64)>,
) -> WindowOutcome {
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
    let mut end = End::default();
    for (day, state) in &states {
        if let Some(failure) = state.refusal(*day, config) {
            end.failed_days.insert(*day, failure);
        }
    }
    let untouched = states.keys().copied().filter(|day| !end.failed_days.contains_key(day));
    let days = untouched.map(day).collect();
    let of_other_periods = OtherPeriods::default();
    let outcome = Outcome { days, end, of_other_periods, fetch_seconds: 0.0, compute_seconds: 0.0 };
    let left = LeftDays::new();
    WindowOutcome { outcome, plan: prepared.plan, states, left, warnings: prepared.warnings, stage_seconds }
}

/// Scans as the engine runs them.
pub(super) fn compile(scans: &[Scan]) -> Arc<Vec<CompiledScan>> {
    Arc::new(scans.iter().map(CompiledScan::new).collect())
}

/// Most bytes of remembered texts of all open days together. What is forgotten is read again; nothing larger was measured.
const MOST_CACHE_BYTES: u64 = 128 << 20;

/// A pipeline for days of a window.
pub(super) fn pipeline<'a>(context: &'a Context<'_>, reference: &ReferenceData, open_days: usize) -> Pipeline<'a> {
    let config = context.config;
    let malformed_as_empty = config.on_malformed_label == crate::config::OnMalformedLabel::Empty;
    let keys = EnabledKeys::new(config.semantics.kept_keys(&reference.enabled_tag_keys));
    // All open days together remember texts in at most a quarter of what their state may take.
    let cache_bytes = (context.book.limit().0 / 4).min(MOST_CACHE_BYTES) / (open_days as u64).max(1);
    let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
    let rules = config.semantics.label_rules(malformed_as_empty);
    Pipeline {
        pass: "days",
        store: context.store,
        pool: context.pool,
        budget: context.budget,
        rules: DayRules {
            open_days,
            book: context.book.clone(),
            on_bad_day: config.on_bad_day,
            worker_count: context.pool.worker_count(),
            labels: LabelSettings { keys: Arc::new(keys), rules, cache_bytes },
            share: None,
            gate: Gate::Open,
            closing_waits: false,
        },
        enough_days: open_days,
        batch_rows: context.options.batch_rows.unwrap_or(BATCH_ROWS),
        progress: context.progress,
        stopping: &context.options.stopping,
        is_counted: true,
        claim: None,
        facts: None,
    }
}
