//! The finished rows of a day → the place where they stay. Each target replaces a day as a whole or not at all.

pub mod change;
pub mod diff;
pub mod file;
pub mod null;
pub mod postgres;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use crate::enrich::{DayColumns, EnrichError};
use crate::error::Failure;
use crate::ledger::{Basis, MadeFrom, Recorded};
use crate::time::{UsageDay, Window};

/// What a target's ledger says about days that were written.
pub type RecordedDays = BTreeMap<UsageDay, Recorded>;

/// Everything a target needs to replace one day.
#[derive(Debug, Clone)]
pub struct DayRows {
    /// The day that is replaced.
    pub day: UsageDay,
    /// The rows, sorted.
    pub rows: Rows,
    /// Rows that were read for this day; 0 means that no object holds any.
    pub input_row_count: u64,
    /// SHA-256 over everything that reaches the rows: objects, settings, reference data, engine version.
    pub fingerprint: [u8; 32],
    /// The same by name, for a target that notes it.
    pub made_from: MadeFrom,
    /// Name → sum of each summed pod measure over the rows, in the target's units and scale (numeric(33,15) as integer).
    pub sums: Vec<(&'static str, i128)>,
    /// The same over the rows of pods alone, for a target that compares days. In the sums above unallocated capacity makes up for
    /// every change of usage.
    pub pod_sums: Vec<(&'static str, i128)>,
    /// What the target's ledger said when it was decided to write the day; `None` if nobody asked, and then the day is written
    /// whatever it says now.
    pub basis: Option<Basis>,
}

impl DayRows {
    /// Number of rows over all batches.
    pub fn row_count(&self) -> u64 {
        self.rows.row_count()
    }
}

/// Rows in the target's order of columns (`TargetTable::rollup_columns`), batch by batch. Arrow types: Integer → Int32; Varchar,
/// Text and Json → Utf8 or Dictionary(Int32, Utf8); Date → Date32; Decimal → Decimal128(33, 15); Uuid → FixedSizeBinary(16).
#[derive(Debug, Clone)]
pub enum Rows {
    /// Batches that are there.
    Batches(Vec<RecordBatch>),
    /// Batches that are made when they are asked for, each time anew: computation, to be done where computing belongs.
    Columns(Arc<DayColumns>),
}

impl Rows {
    /// Number of rows over all batches.
    pub fn row_count(&self) -> u64 {
        match self {
            Self::Batches(batches) => batches.iter().map(|batch| batch.num_rows() as u64).sum(),
            Self::Columns(columns) => columns.row_count(),
        }
    }

    /// Number of batches.
    pub fn batch_count(&self) -> usize {
        match self {
            Self::Batches(batches) => batches.len(),
            Self::Columns(columns) => columns.batch_count(),
        }
    }

    /// A batch, and the position of its first row in the day.
    pub fn batch(&self, index: usize) -> Result<(RecordBatch, usize), EnrichError> {
        match self {
            Self::Batches(batches) => {
                let first_row_index = batches[..index].iter().map(RecordBatch::num_rows).sum();
                Ok((batches[index].clone(), first_row_index))
            }
            Self::Columns(columns) => Ok((columns.batch(index)?, columns.first_row_index(index))),
        }
    }
}

/// What happened to the day at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Old rows are gone, new rows are visible.
    Replaced {
        /// Rows that were deleted; 0 where the target cannot tell.
        deleted_row_count: u64,
        /// Rows that are there now.
        row_count: u64,
    },
    /// Another run has written the same rows since it was decided to write the day.
    AlreadyThere,
    /// The day had no input rows and stays as it was.
    LeftAsItWas,
    /// Counted and dropped.
    Dropped {
        /// Rows that would have been written.
        row_count: u64,
    },
}

/// A place where days of rows stay.
pub trait Sink: Send + Sync {
    /// Replaces one day. Either all of its rows become visible at once, or the old ones stay.
    fn replace(&self, rows: DayRows) -> BoxFuture<'_, Result<Written, Failure>>;

    /// What the target's ledger says about the days of a window; `None` for a target without a ledger.
    fn recorded(&self, _window: Window) -> BoxFuture<'_, Result<Option<RecordedDays>, Failure>> {
        ready(Ok(None)).boxed()
    }

    /// Rows that are there, of days that its ledger has; a day without any may be absent.
    fn row_counts<'a>(&'a self, _days: &'a [UsageDay]) -> BoxFuture<'a, Result<BTreeMap<UsageDay, u64>, Failure>> {
        ready(Ok(BTreeMap::new())).boxed()
    }

    /// How many days may be written at the same time.
    fn parallel_days(&self) -> usize;

    /// How many more may be read meanwhile: one for each worker, unless the target is so much slower than reading that one is
    /// enough for it never to wait. Each is held until it is written.
    fn days_ahead(&self, worker_count: usize) -> usize {
        worker_count
    }

    /// From so many complete days on, those being written included, the run waits for the target: then reading has time, and the
    /// rows of those days need the memory.
    fn enough_days(&self) -> usize {
        self.parallel_days() + 1
    }

    /// Whether rows are looked at. A target that only counts them says no, and gets rows whose batches were all made once.
    fn reads_rows(&self) -> bool {
        true
    }
}
