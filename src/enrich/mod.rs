//! A day's finished rows → columns in the target's schema, decimals rounded.

pub mod batches;
mod constants;
pub mod decimal;
mod error;
mod refusal;
mod sums;
mod texts;

pub use batches::{DayColumns, NumberForm, Stamp};
pub use error::EnrichError;
pub use sums::{BatchSums, Sums};
