//! A day's finished rows and those in the target table → what would change; nothing is written.
//!
//! Rows are only counted and summed, so a day's rows never exist as a whole. What is kept per day is one figure per total.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::change::{Change, changes, too_large};
use super::postgres::PostgresSink;
use super::{DayRows, RecordedDays, Sink, Written};
use crate::error::Failure;
use crate::time::{UsageDay, Window};

/// What would change on a day.
#[derive(Debug, Clone, PartialEq)]
pub struct DayDiff {
    /// Every figure: rows first, then the totals.
    pub changes: Vec<Change>,
    /// The figure for which the guard would refuse the day.
    pub refused_for: Option<Change>,
}

/// Days that were computed so far.
pub type Diffs = Arc<Mutex<BTreeMap<UsageDay, DayDiff>>>;

/// A PostgreSQL target that is only looked at.
pub struct DiffSink {
    target: PostgresSink,
    found: Diffs,
}

impl DiffSink {
    /// Adds what it finds to `found`.
    pub fn new(target: PostgresSink, found: Diffs) -> Self {
        Self { target, found }
    }

    async fn compare(&self, rows: DayRows) -> Result<Written, Failure> {
        let row_count = rows.row_count();
        if self.target.leaves_as_it_is(&rows) {
            return Ok(Written::LeftAsItWas);
        }
        let sums = [&rows.sums[..], &rows.pod_sums];
        let old = self.target.totals(rows.day, sums).await?;
        let changes = changes(&old, row_count, sums);
        let refused_for = too_large(&old, &changes, self.target.max_change_percent());
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(rows.day, DayDiff { changes, refused_for });
        Ok(Written::Dropped { row_count })
    }
}

impl Sink for DiffSink {
    fn replace(&self, rows: DayRows) -> BoxFuture<'_, Result<Written, Failure>> {
        self.compare(rows).boxed()
    }

    fn parallel_days(&self) -> usize {
        self.target.parallel_days()
    }

    fn reads_rows(&self) -> bool {
        false
    }

    fn recorded(&self, window: Window) -> BoxFuture<'_, Result<Option<RecordedDays>, Failure>> {
        self.target.recorded(window)
    }

    fn row_counts<'a>(&'a self, days: &'a [UsageDay]) -> BoxFuture<'a, Result<BTreeMap<UsageDay, u64>, Failure>> {
        self.target.row_counts(days)
    }
}
