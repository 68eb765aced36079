//! What is computed: declarations of rollups and the typed code that turns a day's merged tables into rows.

pub mod facts;
pub mod semantics;
