//! What is computed: declarations of rollups and the typed code that turns a day's merged tables into rows.

pub mod arithmetic;
pub mod declaration;
pub mod facts;
pub mod like;
pub mod node_roles;
pub mod ocp_daily_summary;
pub mod reference_sql;
pub mod semantics;
pub mod sum;
pub mod tables;
