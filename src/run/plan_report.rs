//! What is known about the days of a plan → a table for people and the same as JSON for machines.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Serialize, Serializer};

use super::unchanged::DayState;
use crate::error::{ErrorKind, Failure};
use crate::sink::change::Change;
use crate::sink::diff::DayDiff;
use crate::time::UsageDay;

/// The plan of a period.
#[derive(Debug, Default, Serialize)]
pub struct PlanReport {
    /// One entry per source and month, source by source.
    pub windows: Vec<PlanWindow>,
    /// What is wrong with single sources where there are several.
    pub errors: Vec<String>,
    /// Exit code of the process: not 0 if a comparison was asked for and a day could not be computed, or if a source failed.
    pub exit_code: u8,
}

/// The plan of a window.
#[derive(Debug, Serialize)]
pub struct PlanWindow {
    /// Uuid of the source.
    pub source: String,
    /// First and last day.
    pub window: String,
    /// One entry per day, in order.
    pub days: Vec<PlanDay>,
    /// What a run would read, where it is known which days it would leave out.
    pub to_read: Option<String>,
    /// What the reader should know.
    pub warnings: Vec<String>,
    /// Lines above the days.
    #[serde(skip)]
    pub head: String,
    /// Lines below them.
    #[serde(skip)]
    pub tail: String,
}

/// The plan of a day.
#[derive(Debug, Serialize)]
pub struct PlanDay {
    /// Uuid of the source.
    pub source: String,
    /// The day.
    #[serde(serialize_with = "as_text")]
    pub day: UsageDay,
    /// Objects that may hold rows of it.
    pub objects: usize,
    /// Their row groups that may.
    pub row_groups: usize,
    /// Rows of those, an upper bound.
    pub rows: u64,
    /// Bytes of the needed columns as stored.
    pub bytes: u64,
    /// `new`, `changed`, `rows differ`, `unchanged`, `no input`, `disappeared`, `far fewer objects` or `unusable`; null without a PostgreSQL target.
    pub state: Option<&'static str>,
    /// Why, where the state alone does not say.
    pub reasons: Vec<String>,
    /// What a run would change; null if the day was not compared.
    pub difference: Option<DayDifference>,
    /// Why it could not be computed.
    pub error: Option<String>,
    /// What the footers say, as text.
    #[serde(skip)]
    pub line: String,
}

/// What would change on a day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DayDifference {
    /// Number of rows.
    pub rows: Figure,
    /// Column → its sum over all rows; `column of pods` → over the rows that are no unallocated capacity.
    pub totals: BTreeMap<String, Figure>,
    /// The figure for which target.guard.max_change_percent would refuse the day; null if it would not.
    pub refused_for: Option<String>,
}

/// One figure, before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Over the rows that are there; decimal text in the column's unit and scale.
    pub old: String,
    /// Over the rows that a run would write.
    pub new: String,
    /// Difference relative to the old figure; null if that is 0 and the new one is not.
    pub percent: Option<f64>,
    /// The difference as people read it.
    #[serde(skip)]
    percent_text: String,
}

impl PlanReport {
    /// Notes what is wrong with one of several sources; the first decides the exit code.
    pub fn fail(&mut self, failure: &Failure) {
        if self.errors.is_empty() {
            self.exit_code = failure.kind.exit_code();
        }
        self.errors.push(failure.full_text());
    }

    /// Decides the exit code.
    pub fn end(&mut self) {
        let failed = self.windows.iter().flat_map(|window| &window.days).any(|day| day.error.is_some());
        if failed && self.exit_code == 0 {
            self.exit_code = ErrorKind::SomeDaysFailed.exit_code();
        }
    }

    /// The tables for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let names_source = self.windows.iter().any(|window| window.source != self.windows[0].source);
        for window in &self.windows {
            if names_source {
                out.push_str(&format!("source {}\n", window.source));
            }
            // Writing to a string cannot fail.
            let _infallible = window.render(&mut out);
        }
        for error in &self.errors {
            out.push_str(&format!("failed: {error}\n"));
        }
        out
    }
}

impl PlanWindow {
    /// Notes what becomes of each day.
    pub fn add_states(&mut self, states: &BTreeMap<UsageDay, DayState>) {
        for day in &mut self.days {
            if let Some(state) = states.get(&day.day) {
                day.state = Some(state.name());
                day.reasons = state.reasons();
            }
        }
    }

    /// Notes what would change.
    pub fn add_differences(&mut self, mut differences: BTreeMap<UsageDay, DayDifference>) {
        for day in &mut self.days {
            day.difference = differences.remove(&day.day);
        }
    }

    /// Notes days that could not be computed.
    pub fn add_failures(&mut self, failures: &BTreeMap<UsageDay, Failure>) {
        for day in &mut self.days {
            day.error = failures.get(&day.day).map(Failure::full_text);
        }
    }

    fn render(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{}", self.head)?;
        for day in &self.days {
            let state = day.state.map(|state| format!("  {state}")).unwrap_or_default();
            let reasons = if day.reasons.is_empty() { String::new() } else { format!(": {}", day.reasons.join("; ")) };
            writeln!(out, "{}{state}{reasons}", day.line)?;
        }
        out.push_str(&self.tail);
        if let Some(to_read) = &self.to_read {
            writeln!(out, "{to_read}")?;
        }
        for day in &self.days {
            if let Some(difference) = &day.difference {
                difference.render(day.day, out)?;
            }
            if let Some(error) = &day.error {
                writeln!(out, "{} cannot be computed: {error}", day.day)?;
            }
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        writeln!(out)
    }
}

impl DayDifference {
    /// From what the comparison found: rows first, then the totals.
    pub fn new(diff: &DayDiff) -> Self {
        let figure = |change: &Change| Figure {
            old: change.old.clone(),
            new: change.new.clone(),
            percent: change.percent,
            percent_text: change.percent_text(),
        };
        let (rows, totals) = diff.changes.split_first().expect("the number of rows is always compared");
        Self {
            rows: figure(rows),
            totals: totals.iter().map(|change| (change.total.clone(), figure(change))).collect(),
            refused_for: diff.refused_for.as_ref().map(|change| change.total.clone()),
        }
    }

    fn render(&self, day: UsageDay, out: &mut String) -> std::fmt::Result {
        let moved: Vec<_> = self.totals.iter().filter(|(_, figure)| figure.old != figure.new).collect();
        let same = if moved.is_empty() { "; the totals stay as they are" } else { "" };
        writeln!(out, "{day} would change: rows {}{same}", self.rows.text())?;
        for (column, figure) in moved {
            writeln!(out, "    {column} {}", figure.text())?;
        }
        match &self.refused_for {
            Some(total) => writeln!(out, "    target.guard.max_change_percent refuses the day for its {total}"),
            None => Ok(()),
        }
    }
}

impl Figure {
    fn text(&self) -> String {
        format!("{} -> {} ({})", self.old, self.new, self.percent_text)
    }
}

fn as_text<S: Serializer>(day: &UsageDay, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(day)
}
