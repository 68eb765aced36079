//! Outcomes of windows → the report of the run and its exit code.

use std::collections::{BTreeMap, BTreeSet};

use super::closing::ClosedDay;
use super::unchanged::DayState;
use super::window::WindowOutcome;
use super::{Context, Resources};
use crate::config::{Config, OnBadDay, Source};
use crate::enrich::decimal::decimal_text;
use crate::error::{ErrorKind, Failure};
use crate::runtime::limits::peak_memory;
use crate::runtime::memory_budget::MemoryBudget;
use crate::sink::Written;
use crate::store::Store;
use crate::telemetry::metrics::{self, DayOutcome};
use crate::telemetry::report::{DayReport, RunReport};
use crate::time::{UsageDay, Window};

/// Status of a day that other pods hold, or that is theirs.
const LEFT: &str = "left to others";
/// Why a day is unchanged that was not when it was decided about.
const MEANWHILE: &str = "written by another run meanwhile";

/// A report before anything happened: every day of every source is skipped.
pub fn begin(views: &[Config], windows: &[Window]) -> RunReport {
    let day = |view: &Config, day: UsageDay| DayReport {
        source: view.source.uuid.to_string(),
        day: day.to_string(),
        status: "skipped".to_owned(),
        reason: String::new(),
        is_complete: day < view.period.today,
        rows_in: 0,
        rows_out: 0,
        rows_deleted: 0,
        sums: BTreeMap::new(),
        error: None,
    };
    let days = |view| windows.iter().flat_map(|window| window.days()).map(move |number| day(view, number));
    RunReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        semantics: views.first().map_or_else(String::new, |view| view.semantics.name().to_owned()),
        windows: windows.iter().map(ToString::to_string).collect(),
        days: views.iter().flat_map(days).collect(),
        ..RunReport::default()
    }
}

/// Notes why the run ended early.
pub fn stop(report: &mut RunReport, failure: &Failure) {
    if report.error.is_none() {
        report.exit_code = failure.kind.exit_code();
        report.error = Some(failure.full_text());
    }
}

/// Notes what is wrong with a run that went on to its end. Days that a retry may give keep their exit code.
pub fn fail(report: &mut RunReport, failure: &Failure) {
    let of_days = report.exit_code;
    stop(report, failure);
    if of_days != 0 {
        report.exit_code = of_days;
    }
}

/// Adds a window, or another look at some of its days; true if no further one shall begin.
pub fn add_window(
    report: &mut RunReport,
    context: &Context<'_>,
    mut window: WindowOutcome,
    only: Option<&BTreeSet<UsageDay>>,
) -> bool {
    let source = &context.config.source;
    if let Some(days) = only {
        window.states.retain(|day, _| days.contains(day));
        // Told by the first look.
        window.plan.absent_columns.clear();
        window.warnings.clear();
    }
    for (stage, seconds) in window.stage_seconds {
        report.add_seconds(stage, seconds);
    }
    for (column, objects) in window.plan.absent_columns {
        *report.absent_columns.entry(column.to_owned()).or_default() += objects;
    }
    let mut warnings = window.warnings;
    if window.plan.object_count == 0 {
        warnings.push(format!("window {} has no objects; its days stay as they were", window.plan.window));
    }
    report.warnings.extend(warnings.into_iter().map(|warning| context.named_text(warning)));
    for (day, state) in &window.states {
        if let Some(entry) = entry(report, source, *day) {
            let reasons = state.reasons().join("; ");
            entry.reason =
                if reasons.is_empty() { state.name().to_owned() } else { format!("{}: {reasons}", state.name()) };
            match state {
                DayState::Unchanged => {
                    metrics::days(DayOutcome::Unchanged, 1);
                    entry.status = "unchanged".to_owned();
                }
                DayState::OfAnotherShard => entry.status = LEFT.to_owned(),
                _ => {}
            }
        }
    }
    for day in window.left.keys() {
        if let Some(entry) = entry(report, source, *day) {
            entry.status = LEFT.to_owned();
        }
    }
    let end = window.outcome.end;
    report.peak_state_bytes = report.peak_state_bytes.max(end.peak_state_bytes.0);
    for (day, closed) in &window.outcome.days {
        add_day(report, source, *day, closed);
    }
    let any_failed = end.failed_days.values().any(|failure| failure.kind.is_of_one_day());
    if let Some(failure) = end.failed_days.values().find(|failure| failure.kind.is_transient()) {
        // A retry may give these days, whatever the others say.
        report.exit_code = failure.kind.exit_code();
    } else if let Some(failure) = end.failed_days.values().find(|failure| !failure.kind.is_of_one_day()) {
        // Nor is it the fault of these days that they failed.
        report.exit_code = if report.exit_code == 0 { failure.kind.exit_code() } else { report.exit_code };
    }
    metrics::days(DayOutcome::Failed, end.failed_days.len() as u64);
    for (day, failure) in end.failed_days {
        if let Some(entry) = entry(report, source, day) {
            entry.status = "failed".to_owned();
            entry.error = Some(failure.full_text());
        }
    }
    let is_stopped = end.stopped_by.is_some();
    if let Some(failure) = end.stopped_by {
        stop(report, &context.named(failure));
    }
    is_stopped || (any_failed && context.config.on_bad_day == OnBadDay::Stop)
}

/// Notes a day that another pod has written.
pub fn written_by_others(report: &mut RunReport, source: &Source, day: UsageDay) {
    metrics::days(DayOutcome::Unchanged, 1);
    if let Some(entry) = entry(report, source, day) {
        entry.status = "unchanged".to_owned();
        entry.reason = MEANWHILE.to_owned();
    }
}

/// Notes a failure that concerns several days of a window at once; true if no further window shall begin.
pub fn fail_days(
    report: &mut RunReport,
    context: &Context<'_>,
    days: impl Iterator<Item = UsageDay>,
    failure: &Failure,
) -> bool {
    let source = &context.config.source;
    if !failure.kind.is_of_one_day() && report.exit_code == 0 {
        // What a retry cannot mend is told as such, unless one may give other days.
        report.exit_code = failure.kind.exit_code();
    }
    for day in days {
        metrics::days(DayOutcome::Failed, 1);
        if let Some(entry) = entry(report, source, day) {
            entry.status = "failed".to_owned();
            entry.error = Some(failure.full_text());
        }
    }
    context.config.on_bad_day == OnBadDay::Stop
}

fn add_day(report: &mut RunReport, source: &Source, day: UsageDay, closed: &ClosedDay) {
    for (column, stats) in &closed.label_stats {
        let total = report.label_columns.entry((*column).to_owned()).or_default();
        total.map_rows += stats.map_rows;
        total.struct_rows += stats.struct_rows;
        total.text_rows += stats.text_rows;
        total.null_rows += stats.null_rows;
        total.malformed_rows += stats.malformed_rows;
        total.json_texts += stats.json_texts;
        total.operator_texts += stats.operator_texts;
    }
    for (scan, before, after) in &closed.label_rows {
        let total = report.label_rows.entry((*scan).to_owned()).or_default();
        total.before += before;
        total.after += after;
    }
    report.operator_pairs_dropped += closed.operator_pairs_dropped;
    report.rows_in += closed.input_row_count;
    let Some(entry) = entry(report, source, day) else { return };
    entry.rows_in = closed.input_row_count;
    entry.sums = closed.sums.iter().map(|(name, sum)| ((*name).to_owned(), decimal(*sum))).collect();
    match closed.written {
        Written::Replaced { deleted_row_count, row_count } => {
            entry.status = "written".to_owned();
            (entry.rows_out, entry.rows_deleted) = (row_count, deleted_row_count);
        }
        Written::AlreadyThere => {
            entry.status = "unchanged".to_owned();
            entry.reason = MEANWHILE.to_owned();
        }
        Written::LeftAsItWas => entry.status = "no input rows, left as it was".to_owned(),
        Written::Dropped { row_count } => {
            entry.status = "dropped".to_owned();
            entry.rows_out = row_count;
        }
    }
    let rows_out = entry.rows_out;
    report.rows_out += rows_out;
}

/// A sum as the target would print it.
fn decimal(sum: i128) -> String {
    let mut text = String::new();
    decimal_text(sum, &mut text);
    text
}

fn entry<'a>(report: &'a mut RunReport, source: &Source, day: UsageDay) -> Option<&'a mut DayReport> {
    let (source, day) = (source.uuid.to_string(), day.to_string());
    report.days.iter_mut().find(|entry| entry.source == source && entry.day == day)
}

/// Adds what the run may use, and who says so.
pub fn add_limits(report: &mut RunReport, resources: &Resources) {
    let limits = &resources.limits;
    report.run_id = resources.run_id.to_string();
    report.cpus = f64::from(u32::try_from(limits.cpus.0).unwrap_or(u32::MAX)) / 1_000.0;
    report.cpu_source = limits.cpu_source.of_cpus().to_owned();
    report.workers = resources.pool.worker_count();
    report.memory_limit_bytes = limits.memory.0;
    report.memory_source = limits.memory_source.to_string();
    report.memory_budget_bytes = resources.shares.budget.0;
}

/// Adds what storage and memory counted.
pub fn add_resources(report: &mut RunReport, store: &Store, budget: &MemoryBudget) {
    let counters = store.counters();
    report.bytes_read = counters.bytes_read.0;
    report.requests = counters.requests;
    report.peak_chunk_bytes = budget.peak().0;
}

/// Decides the exit code and reads the peak memory.
pub fn end(report: &mut RunReport) {
    report.peak_memory_bytes = peak_memory().map_or(0, |bytes| bytes.0);
    let failed = report.days.iter().filter(|day| day.error.is_some()).count();
    if report.error.is_none() && failed > 0 {
        if report.exit_code == 0 {
            report.exit_code = ErrorKind::SomeDaysFailed.exit_code();
        }
        report.error =
            Some(format!("{failed} of {} days failed; {}", report.days.len(), ErrorKind::SomeDaysFailed.fix()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_at_the_end_leaves_the_exit_code_of_days_that_a_retry_may_give() {
        let missing = Failure::new(ErrorKind::NoObjects, "no objects");
        for (of_days, expected) in [(0, 65), (75, 75), (78, 78)] {
            let mut report = RunReport { exit_code: of_days, ..RunReport::default() };
            fail(&mut report, &missing);
            end(&mut report);
            assert_eq!(report.exit_code, expected);
            assert_eq!(report.error, Some(missing.full_text()));
        }
    }
}
