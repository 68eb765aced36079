//! The outside world's names, types and units: the report columns that are read and the table that is written.

pub mod operator;
pub mod source;
pub mod target;
