//! Starts of intervals → how many hours of a day a report covers, for deliveries that do not say so themselves.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;

use super::block::{Parsed, Part};
use super::header::{ColumnSource, Shape};
use super::input::ReportFile;
use super::objects::Slice;
use crate::time::UsageDay;

/// Different starts that are counted per report and day: one a minute. More would be no hours any more.
const MOST_INTERVALS: usize = 1_440;

/// The hours of each report and day, as far as reports were looked at.
#[derive(Debug, Default)]
pub(super) struct CoveredHours {
    /// By the report's name.
    ended: BTreeMap<String, BTreeMap<UsageDay, u64>>,
    /// Days of the report that comes now.
    open: BTreeMap<UsageDay, Starts>,
}

impl CoveredHours {
    /// Takes the next block of a report.
    pub(super) fn add(&mut self, file: &ReportFile, parsed: &Parsed) {
        for (day, part) in &parsed.parts {
            self.open.entry(*day).or_default().add(starts(&file.shape, part));
        }
    }

    /// The report has ended.
    pub(super) fn end_file(&mut self, file: &ReportFile) {
        let days = std::mem::take(&mut self.open).into_iter().map(|(day, starts)| (day, starts.count()));
        self.ended.insert(file.name.clone(), days.collect());
    }

    /// Hours of a day in a report; `None` if it was not looked at.
    pub(super) fn of(&self, file: &ReportFile, day: UsageDay) -> Option<u64> {
        self.ended.get(&file.name)?.get(&day).copied()
    }
}

/// How many different hours some rows have.
pub(super) fn hours_of_rows(shape: &Shape, slices: &[Slice]) -> u64 {
    let mut known = Starts::default();
    for slice in slices {
        known.add(&starts(shape, &slice.part)[slice.rows.clone()]);
    }
    known.count()
}

/// Different starts of intervals.
#[derive(Debug, Default)]
struct Starts(BTreeSet<i64>);

impl Starts {
    fn add(&mut self, starts: &[i64]) {
        let mut last = None;
        for start in starts {
            if last != Some(*start) && self.0.len() < MOST_INTERVALS {
                self.0.insert(*start);
            }
            last = Some(*start);
        }
    }

    fn count(&self) -> u64 {
        self.0.len() as u64
    }
}

fn starts<'p>(shape: &Shape, part: &'p Part) -> &'p [i64] {
    let column = shape.columns.iter().position(|column| column.source == ColumnSource::Time(shape.interval_start));
    let column = column.expect("each report has the start of the interval");
    part.columns[column].as_primitive::<TimestampMillisecondType>().values()
}
