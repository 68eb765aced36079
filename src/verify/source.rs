//! Where rows come from: one side of a comparison, asked day by day.

use futures::future::BoxFuture;

use super::error::VerifyError;
use super::rows::{BadCell, BadValue, Rows, Texts};
use crate::postgres::reading::Occupied;
use crate::postgres::shape::sql_type;
use crate::time::UsageDay;

/// Days around the period that are looked at as well: far enough to notice rows of another month.
pub const DAYS_AROUND: i32 = 31;

/// Puts the rows of one day into columns. It computes, and perhaps reads a local file, so it runs where that may take time.
pub type Fill = Box<dyn FnOnce(&mut Rows, &mut Texts) -> Result<(), VerifyError> + Send>;

/// What lies on which day, and whose it is, as far as a side can tell without giving its rows.
pub type Coverage = Option<Occupied>;

/// One side of a comparison.
pub trait RowSource: Send {
    /// How output names it.
    fn place(&self) -> String;

    /// What its rows are read from, by names that two sides share only if they read the same: tables, files. Empty if
    /// they are computed.
    fn origins(&self) -> Vec<String>;

    /// What is wrong with its columns, by the contract; empty if nothing is.
    fn column_problems(&mut self) -> BoxFuture<'_, Result<Vec<String>, VerifyError>>;

    /// The days with rows from [`DAYS_AROUND`] days before the period to as many after it. `None` if only reading can tell.
    fn coverage(&mut self) -> BoxFuture<'_, Result<Coverage, VerifyError>>;

    /// Fetches the rows of a day. Days of the period are asked for in order, each once.
    fn day(&mut self, day: UsageDay) -> BoxFuture<'_, Result<Fill, VerifyError>>;
}

/// A cell that cannot be taken as an error that names its place.
pub fn bad_value(place: &str, day: UsageDay, bad: BadValue) -> VerifyError {
    let (place, day) = (place.to_owned(), day.to_string());
    match bad.reason {
        BadCell::OtherType => VerifyError::ValueType {
            place,
            column: bad.column.name,
            row: bad.row,
            day,
            expected: sql_type(bad.column.target_type),
        },
        BadCell::TooMany => VerifyError::TooMany { place, day, limit: u32::MAX },
    }
}
