//! Rows → nothing: counts and drops, to measure the pipeline without a target.

use futures::future::{BoxFuture, FutureExt, ready};

use super::{DayRows, Sink, Written};
use crate::error::Failure;

/// The `none` target.
#[derive(Debug, Default)]
pub struct NullSink;

impl Sink for NullSink {
    fn replace(&self, rows: DayRows) -> BoxFuture<'_, Result<Written, Failure>> {
        ready(Ok(Written::Dropped { row_count: rows.row_count() })).boxed()
    }

    fn parallel_days(&self) -> usize {
        2
    }

    fn reads_rows(&self) -> bool {
        false
    }
}
