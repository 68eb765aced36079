//! A day's finished rows → columns in the target's schema, decimals rounded.

pub mod batches;
pub mod decimal;
pub mod unrounded;

pub use batches::{DayColumns, EnrichError, Stamp, day_columns};
