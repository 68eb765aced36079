//! The outside world's names, types and units: the report columns that are read, the table that is written and what
//! identifies its rows.

pub mod identity;
pub mod operator;
pub mod source;
pub mod target;
