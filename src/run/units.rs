//! Sources × windows → units, each run from listing to written days; what a unit gave becomes part of the report. A failure
//! that belongs to one source leaves the others alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::{Instrument, info};

use super::sinks::Sinks;
use super::waiting::wait_for_others;
use super::window::{self, LeftDays, run_window};
use super::{Context, report};
use crate::config::Config;
use crate::error::Failure;
use crate::sink::Sink;
use crate::telemetry::report::RunReport;
use crate::time::{UsageDay, Window};

/// One month of one source.
pub struct Unit<'a> {
    /// What its stages may use; the configuration is that of its source.
    pub context: &'a Context<'a>,
    /// The target of its source.
    pub sinks: &'a Sinks,
    /// The month.
    pub window: Window,
}

/// How a unit ended.
pub struct UnitEnd {
    /// Whether its source has objects for it.
    pub has_objects: bool,
    /// Whether no further unit shall begin.
    pub stops_run: bool,
    /// Days that others hold or have written.
    pub left: LeftDays,
}

/// Runs every window of every source, source by source. `config` is the whole configuration, each context has a view of it.
pub async fn run_units(
    config: &Config,
    contexts: &[Context<'_>],
    windows: &[Window],
    target: Option<Arc<dyn Sink>>,
    report: &mut RunReport,
) {
    let Some(first) = contexts.first() else { return };
    let prepared = match &target {
        Some(target) => Ok(Sinks::Same(Arc::clone(target))),
        None => first.options.stopping.unless_asked(Sinks::prepared(config, first, windows)).await,
    };
    let mut prepared = match prepared {
        Ok(sinks) => Some(sinks),
        Err(failure) => return report::stop(report, &failure),
    };
    first.progress.health().ready();
    let (mut empty, mut left) = (Vec::new(), Vec::new());
    for context in contexts {
        let sinks = match (prepared.take(), &target) {
            (Some(sinks), _) => Ok(sinks),
            (None, Some(target)) => Ok(Sinks::Same(Arc::clone(target))),
            (None, None) => Sinks::unprepared(context),
        };
        let sinks = match sinks {
            Ok(sinks) => sinks,
            Err(failure) => return report::stop(report, &context.named(failure)),
        };
        let (mut has_objects, mut left_here) = (false, Vec::new());
        for window in windows {
            let unit = Unit { context, sinks: &sinks, window: *window };
            let end = unit.run(None, report).instrument(context.span()).await;
            has_objects |= end.has_objects;
            if end.stops_run {
                return;
            }
            if !end.left.is_empty() {
                left_here.push((*window, end.left));
            }
        }
        if !left_here.is_empty() {
            left.push((context, sinks, left_here));
        }
        if !has_objects && !context.options.allow_empty {
            empty.push(window::no_objects(context, windows).await);
        }
    }
    if let Some(failure) = together(empty) {
        report::fail(report, &failure);
    }
    let units = left.iter().flat_map(|(context, sinks, days)| {
        days.iter().map(|(window, days)| (Unit { context, sinks, window: *window }, days.clone()))
    });
    wait_for_others(units.collect(), report).await;
}

impl Unit<'_> {
    /// Builds and writes every day of the unit, or only some of them.
    pub async fn run(&self, only: Option<&BTreeSet<UsageDay>>, report: &mut RunReport) -> UnitEnd {
        let Self { context, sinks, window } = self;
        info!(%window, semantics = %context.config.semantics, "window begins");
        match run_window(context, *window, only, async |reference| Ok(sinks.of(reference))).await {
            Ok(outcome) => {
                let has_objects = outcome.plan.object_count > 0;
                let left = outcome.left.clone();
                UnitEnd { has_objects, stops_run: report::add_window(report, context, outcome, only), left }
            }
            // What is wrong with one window or source says nothing about the others.
            Err(failure) if failure.kind.is_of_one_day() || context.is_of_source(failure.kind) => {
                let days = window.days().filter(|day| only.is_none_or(|days| days.contains(day)));
                let stops_run = report::fail_days(report, context, days, &failure);
                UnitEnd { has_objects: true, stops_run, left: LeftDays::new() }
            }
            Err(failure) => {
                report::stop(report, &context.named(failure));
                UnitEnd { has_objects: true, stops_run: true, left: LeftDays::new() }
            }
        }
    }
}

/// Failures of the same kind as one.
pub fn together(failures: Vec<Failure>) -> Option<Failure> {
    failures.into_iter().reduce(|all, next| {
        let message = format!("{}; {}", all.message_with_causes(), next.message_with_causes());
        Failure::new(all.kind, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn failures_of_several_sources_are_told_as_one() {
        assert!(together(Vec::new()).is_none());
        let of = |source: &str| Failure::new(ErrorKind::NoObjects, "no objects").named(source);
        let all = together(vec![of("source a"), of("source b")]).unwrap();
        assert_eq!(
            (all.kind, all.message.as_str()),
            (ErrorKind::NoObjects, "source a: no objects; source b: no objects")
        );
    }
}
