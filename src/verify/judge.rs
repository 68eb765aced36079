//! What was seen of both sides → findings, in the order in which one explains the next. After the first class that explains
//! the rest nothing further is said.

use std::collections::BTreeSet;

use super::findings::{Class, Finding, Verdict, VerifyReport};
use super::source::Coverage;
use super::tally::{Listed, Names, SHOWN, Tally};
use super::values::double;
use super::{Terms, rows_outside};
use crate::rollups::ocp_daily_summary::{COLUMNS, ColumnValue};
use crate::schema::identity::{DATA_SOURCE, DATABASE_LOCAL, NAMESPACE, NODE};
use crate::schema::target::OCP_DAILY_SUMMARY;
use crate::time::UsageDay;

/// How the sides are called.
const SIDES: [&str; 2] = ["the target", "the other side"];

/// Collects findings.
pub struct Judge<'a> {
    terms: &'a Terms,
    places: [String; 2],
    findings: Vec<Finding>,
    notes: Vec<String>,
}

impl<'a> Judge<'a> {
    /// Nothing found yet.
    pub fn new(terms: &'a Terms, places: [String; 2]) -> Self {
        let mut notes = Vec::new();
        if !terms.same_database {
            let columns = DATABASE_LOCAL.join(" and ");
            notes.push(format!("{columns} are numbers of one database: compared is only whether they are null"));
        }
        if terms.ledger.is_none() {
            notes.push("the target has no ledger: which inputs its rows were made from is not known".to_owned());
        }
        Self { terms, places, findings: Vec::new(), notes }
    }

    /// Whether anything was found.
    pub fn has_findings(&self) -> bool {
        !self.findings.is_empty()
    }

    /// Whether a class was found.
    pub fn has_class(&self, class: Class) -> bool {
        self.findings.iter().any(|finding| finding.class == class)
    }

    /// Stage 1: were the rows made from what lies there now?
    pub fn inputs(&mut self) {
        let Some(ledger) = &self.terms.ledger else { return };
        let outdated = ledger.outdated(&self.terms.expected);
        self.find(Class::StaleData, "days were not written from what lies there now", outdated);
    }

    /// Stage 2: columns and types.
    pub fn columns(&mut self, problems: Vec<String>) {
        self.find(Class::SchemaMismatch, "columns are not those of the contract", problems);
    }

    /// Stage 3: cluster and source. Rows of another cluster also explain why they were not made from these inputs.
    pub fn owners(&mut self, coverages: &[Coverage; 2]) {
        let mut lines = Vec::new();
        for (side, coverage) in SIDES.into_iter().zip(coverages) {
            if let Some(occupied) = coverage {
                lines.extend(self.wrong_owners(side, &occupied.clusters, &occupied.sources));
            }
        }
        if !lines.is_empty() {
            self.findings.clear();
        }
        self.find(Class::WrongCluster, "rows name another cluster or source than the configuration", lines);
    }

    fn wrong_owners(
        &self,
        side: &str,
        clusters: &BTreeSet<Option<String>>,
        sources: &BTreeSet<Option<String>>,
    ) -> Vec<String> {
        let source = self.terms.source_uuid.to_string();
        let named = [("cluster", clusters, &self.terms.cluster_id), ("source", sources, &source)];
        let mut lines = Vec::new();
        for (what, found, configured) in named {
            let others: Vec<&str> = found
                .iter()
                .map(|name| name.as_deref().unwrap_or("null"))
                .filter(|name| name != configured)
                .take(SHOWN)
                .collect();
            if !others.is_empty() {
                lines.push(format!("{side}: {what} {}; the configuration says {configured}", others.join(", ")));
            }
        }
        lines
    }

    /// Stages 3 to 7: everything that needs the rows. Stops at the first stage that finds something.
    pub fn rows(&mut self, tally: &Tally, coverages: &[Coverage; 2]) {
        let stages: [&dyn Fn(&mut Self); 8] = [
            &|judge| judge.owners_of_rows(tally),
            &|judge| judge.nothing(tally, coverages),
            &|judge| judge.run_identity(tally),
            &|judge| judge.period(tally, coverages),
            &|judge| judge.keys(tally),
            &|judge| judge.duplicates(tally),
            &|judge| {
                let [of_other, of_target] = &tally.renamed;
                judge.missing_and_extra(tally, &tally.missing.with(of_other), &tally.extra.with(of_target));
            },
            &|judge| judge.values(tally),
        ];
        for stage in stages {
            stage(self);
            if self.has_findings() {
                if let Some(ledger) = &self.terms.ledger {
                    self.notes.extend(ledger.changed_afterwards(&tally.days).into_iter().take(SHOWN));
                }
                return;
            }
        }
        self.conservation(tally);
    }

    /// For sides that cannot tell before they are read.
    fn owners_of_rows(&mut self, tally: &Tally) {
        let mut lines = Vec::new();
        for (number, side) in SIDES.into_iter().enumerate() {
            lines.extend(self.wrong_owners(side, &tally.clusters[number], &tally.sources[number]));
        }
        self.find(Class::WrongCluster, "rows name another cluster or source than the configuration", lines);
    }

    fn nothing(&mut self, tally: &Tally, coverages: &[Coverage; 2]) {
        let counts = tally.row_counts();
        let lies_elsewhere = |side: usize| !rows_outside(&coverages[side], &self.terms.windows).is_empty();
        let is_empty: Vec<&str> = (0..2).filter(|side| counts[*side] == 0).map(|side| SIDES[side]).collect();
        let other_has_rows = counts != [0, 0];
        let is_shifted = other_has_rows && (0..2).any(|side| counts[side] == 0 && lies_elsewhere(side));
        if is_empty.is_empty() || is_shifted {
            return;
        }
        let summary = format!("no rows of the source in the period: {}", is_empty.join(" and "));
        self.findings.push(Finding { class: Class::NothingToCompare, summary, details: Vec::new() });
    }

    /// Stage 1, as far as it needs the rows: does the target hold what the ledger counted?
    fn run_identity(&mut self, tally: &Tally) {
        let Some(ledger) = &self.terms.ledger else { return };
        let mut lines = ledger.contradicted(&tally.days);
        if tally.left_over.count > 0 {
            let count = tally.left_over.count;
            lines.push(format!("{count} rows lie beside those that the ledger counted, with the same keys:"));
            lines.extend(tally.left_over.shown.iter().map(|row| format!("  {row}")));
        }
        self.find(Class::StaleData, "the target is not what the ledger's run wrote", lines);
    }

    fn period(&mut self, tally: &Tally, coverages: &[Coverage; 2]) {
        let mut lines = Vec::new();
        for (day, [in_target, on_other]) in &tally.days {
            if (*in_target == 0) != (*on_other == 0) {
                lines.push(format!("{day}: {in_target} rows in the target, {on_other} on the other side"));
            }
        }
        if lines.is_empty() {
            return;
        }
        for (side, coverage) in SIDES.into_iter().zip(coverages) {
            let outside = rows_outside(coverage, &self.terms.windows);
            lines.extend(outside.iter().take(SHOWN).map(|line| format!("outside of the period, {side}: {line}")));
        }
        self.find(Class::WrongPeriod, "the sides have rows on different days", lines);
    }

    /// Rows that nothing but a key tells apart, if they are most of those that have no partner; what is left then is missing or extra.
    fn keys(&mut self, tally: &Tally) {
        let mut lines = Vec::new();
        let rest = tally.missing.count.max(tally.extra.count);
        let explains = tally.renamed[0].count > 0 && tally.renamed[0].count >= rest;
        if explains {
            let mut changes: Vec<_> = tally.changed_keys.iter().collect();
            changes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            for ((column, expected, found), count) in changes {
                let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "null".to_owned());
                let (expected, found) = (name(expected), name(found));
                lines.push(format!(
                    "{column}: {found} in the target is {expected} on the other side ({count} rows, else equal)"
                ));
            }
        }
        let names = [DATA_SOURCE, NAMESPACE, NODE].into_iter().zip(&tally.names);
        lines.extend(names.filter_map(|(column, names)| disjoint(column, names)));
        self.find(Class::KeyMismatch, "rows are there under other keys", lines);
        if explains {
            self.missing_and_extra(tally, &tally.missing, &tally.extra);
        }
    }

    fn duplicates(&mut self, tally: &Tally) {
        let places = [SIDES[0], SIDES[1], "both sides"];
        let mut lines = Vec::new();
        for (place, listed) in places.into_iter().zip(&tally.repeated) {
            if listed.count > 0 {
                lines.push(format!("{} in {place}:", listed.count));
                lines.extend(listed.shown.iter().map(|row| format!("  {row}")));
            }
        }
        self.find(Class::Duplicates, "rows are there more often than they may be", lines);
    }

    fn missing_and_extra(&mut self, tally: &Tally, missing: &Listed, extra: &Listed) {
        let sets = names_of_one_side(tally);
        self.find_listed(Class::Missing, "rows of the other side are not in the target", missing, &sets[1]);
        self.find_listed(Class::Extra, "rows of the target are not on the other side", extra, &sets[0]);
    }

    fn values(&mut self, tally: &Tally) {
        let columns = OCP_DAILY_SUMMARY.rollup_columns().zip(&tally.drift);
        let lines: Vec<String> =
            columns.filter(|(_, drift)| drift.differing > 0).map(|(column, drift)| drift.text(column.name)).collect();
        let summary = format!("{} of {} rows have other values", tally.unequal, tally.unequal + tally.equal);
        self.find(Class::ValueDrift, &summary, lines);
    }

    /// Do the target's totals add up, by themselves and with what the run noted?
    fn conservation(&mut self, tally: &Tally) {
        let mut lines = Vec::new();
        if tally.unbalanced.count > 0 {
            lines.push(format!("{} sums of a node's usage and rest are not its capacity:", tally.unbalanced.count));
            lines.extend(tally.unbalanced.shown.iter().map(|line| format!("  {line}")));
        }
        lines.extend(shown(self.totals(tally)));
        self.find(Class::NotConserved, "totals do not add up", lines);
        if !self.terms.conserves {
            self.notes.push("books of nodes not checked: under these semantics they need not close".to_owned());
        }
        if self.terms.ledger.is_none() {
            let days = days_where(tally, |[in_target, _]| in_target > 0).join(", ");
            self.notes.push(format!("totals not compared with those of a run, for want of a ledger: {days}"));
        }
    }

    /// Totals of a day against those in the ledger, which the run compared with its input.
    fn totals(&self, tally: &Tally) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(ledger) = &self.terms.ledger else { return lines };
        for (day, sums) in &tally.sums {
            let row_count = tally.days.get(day).map_or(0, |[in_target, _]| *in_target);
            // A day with rows that the ledger does not have is stale, and was found before.
            let Some(recorded) = ledger.days.get(day).filter(|_| row_count > 0) else { continue };
            let mut unknown = Vec::new();
            for (column, sum) in OCP_DAILY_SUMMARY.rollup_columns().zip(sums) {
                let name = column.name;
                match (recorded.sums.get(name), sum) {
                    (None, _) if is_summed(name) => unknown.push(name),
                    (None, _) => {}
                    (Some(_), None) => lines.push(format!("{day} {name}: the rows have no sum that can be compared")),
                    (Some(noted), Some((found, size))) if !self.is_close(*noted, *found, *size, row_count) => {
                        let [found, noted] = [*found, *noted].map(double);
                        lines.push(format!("{day} {name}: the rows sum to {found}, the run noted {noted}"));
                    }
                    (Some(_), Some(_)) => {}
                }
            }
            if !unknown.is_empty() {
                let names = unknown.join(", ");
                lines.push(format!("{day}: the ledger's sums are missing or unreadable, so not compared: {names}"));
            }
        }
        lines
    }

    /// Each row may be off by what a value may be off.
    fn is_close(&self, noted: i128, found: i128, size: i128, row_count: u64) -> bool {
        let tolerance = self.terms.tolerance;
        let units = double(tolerance.units.saturating_mul(i128::from(row_count)));
        double(noted.saturating_sub(found)).abs() <= units + tolerance.relative * double(size)
    }

    fn find_listed(&mut self, class: Class, what: &str, listed: &Listed, sets: &[String]) {
        if listed.count == 0 {
            return;
        }
        let mut details = listed.shown.clone();
        if listed.count > details.len() as u64 {
            details.push(format!("… {} more", listed.count - details.len() as u64));
        }
        details.extend_from_slice(sets);
        self.findings.push(Finding { class, summary: format!("{} {what}", listed.count), details });
    }

    fn find(&mut self, class: Class, summary: &str, mut details: Vec<String>) {
        if details.is_empty() {
            return;
        }
        if let Some(known) = self.findings.iter_mut().find(|finding| finding.class == class) {
            known.details.append(&mut details);
            return;
        }
        self.findings.push(Finding { class, summary: summary.to_owned(), details });
    }

    /// The end.
    pub fn report(self, tally: Option<&Tally>) -> VerifyReport {
        let [rows_in_target, rows_on_other_side] = match tally {
            Some(tally) => tally.row_counts().map(Some),
            None => [None, None],
        };
        let [target, against] = self.places;
        let day = |day: Option<UsageDay>| day.map_or_else(String::new, |day| day.to_string());
        let windows = &self.terms.windows;
        VerifyReport {
            verdict: Verdict::NothingCompared,
            exit_code: 2,
            target,
            against,
            period: [day(windows.first().map(|window| window.start)), day(windows.last().map(|window| window.end))],
            relative_tolerance: self.terms.tolerance.relative,
            absolute_tolerance: double(self.terms.tolerance.units),
            rows_in_target,
            rows_on_other_side,
            equal_rows: tally.map_or(0, |tally| tally.equal),
            days_without_rows: tally.map_or_else(Vec::new, |tally| days_where(tally, |counts| counts == [0, 0])),
            findings: self.findings,
            notes: self.notes,
        }
        .decided()
    }
}

/// Whether a run notes the sum of a column.
fn is_summed(name: &str) -> bool {
    COLUMNS.iter().any(|(column, value)| *column == name && matches!(value, ColumnValue::Measure(_)))
}

/// The days of which target and other side have such numbers of rows.
fn days_where(tally: &Tally, is_wanted: impl Fn([u64; 2]) -> bool) -> Vec<String> {
    tally.days.iter().filter(|(_, counts)| is_wanted(**counts)).map(|(day, _)| day.to_string()).collect()
}

/// The first lines, and how many there are beyond.
fn shown(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(SHOWN);
    lines.truncate(SHOWN);
    lines.extend((more > 0).then(|| format!("… {more} more")));
    lines
}

/// A line if the two sides have no name in common although both have some.
fn disjoint(column: &str, names: &Names) -> Option<String> {
    let named = |side: usize| names.iter().filter(move |(name, counts)| name.is_some() && counts[side] > 0);
    let is_shared = |counts: &[u64; 2]| counts[0] > 0 && counts[1] > 0;
    let has_both = named(0).next().is_some() && named(1).next().is_some();
    if !has_both || names.iter().any(|(name, counts)| name.is_some() && is_shared(counts)) {
        return None;
    }
    let list =
        |side: usize| named(side).take(SHOWN).filter_map(|(name, _)| name.as_deref()).collect::<Vec<_>>().join(", ");
    Some(format!("{column}: no value in common; in the target {}; on the other side {}", list(0), list(1)))
}

/// Names that only one side has, as lines: of the target, of the other side.
fn names_of_one_side(tally: &Tally) -> [Vec<String>; 2] {
    [0, 1].map(|side: usize| {
        let mut lines = Vec::new();
        for (column, names) in [DATA_SOURCE, NAMESPACE, NODE].into_iter().zip(&tally.names) {
            let only_here: Vec<&str> = names
                .iter()
                .filter(|(_, counts)| counts[side] > 0 && counts[1 - side] == 0)
                .filter_map(|(name, _)| name.as_deref())
                .take(SHOWN)
                .collect();
            if !only_here.is_empty() {
                lines.push(format!("{column} only in {}: {}", SIDES[side], only_here.join(", ")));
            }
        }
        lines
    })
}
