//! The finished rows of a day → the place where they stay. Each target replaces a day as a whole or not at all.

pub mod file;
pub mod null;
pub mod postgres;

use arrow_array::RecordBatch;
use futures::future::BoxFuture;

use crate::error::Failure;
use crate::time::UsageDay;

/// Everything a target needs to replace one day.
#[derive(Debug, Clone)]
pub struct DayRows {
    /// The day that is replaced.
    pub day: UsageDay,
    /// Rows in the target's order of columns (`TargetTable::rollup_columns`), sorted; Arrow types: Integer → Int32,
    /// Varchar, Text and Json → Utf8, Date → Date32, Decimal → Decimal128(33, 15), Uuid → FixedSizeBinary(16).
    pub batches: Vec<RecordBatch>,
    /// Rows that were read for this day; 0 means that no object holds any.
    pub input_row_count: u64,
    /// SHA-256 over everything that reaches the rows: objects, settings, reference data, engine version.
    pub fingerprint: [u8; 32],
    /// Name → sum of each summed pod measure over the rows, in the target's units and scale (numeric(33,15) as integer).
    pub sums: Vec<(&'static str, i128)>,
}

impl DayRows {
    /// Number of rows over all batches.
    pub fn row_count(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
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

    /// How many days may be written at the same time.
    fn parallel_days(&self) -> usize;
}
