//! A day's finished rows → columns in the target's schema, decimals rounded.

pub mod batches;
mod constants;
pub mod decimal;
mod sums;
mod texts;

pub use batches::{DayColumns, EnrichError, NumberForm, Stamp};
pub use sums::{BatchSums, Sums};
