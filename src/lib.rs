//! Gristmill grinds raw cost and usage Parquet into exact daily rollups.
//!
//! Modules in the order in which data flows through them:
//! [`config`] → [`store`] → [`discover`] → [`footers`] → [`plan`] → [`fetch`] → [`decode`] → [`aggregate`] → [`merge`] →
//! [`enrich`] → [`sink`]. What is computed is declared in [`rollups`] over the names in [`schema`]; [`labels`],
//! [`mod@reference`], [`postgres`], [`ledger`], [`runtime`] and [`telemetry`] help. `sql` computes the same rows a second
//! time, to compare. `docs/architecture.md` draws the picture.

#![warn(clippy::unwrap_used, clippy::panic)]

pub mod aggregate;
pub mod cli;
pub mod config;
pub mod convert;
pub mod decode;
pub mod discover;
pub mod enrich;
pub mod error;
pub mod fetch;
pub mod footers;
pub mod generate;
pub mod init_db;
pub mod labels;
pub mod ledger;
pub mod merge;
pub mod objects;
pub mod plan;
pub mod postgres;
pub mod reference;
pub mod rollups;
pub mod run;
pub mod runtime;
pub mod schema;
pub mod sink;
#[cfg(feature = "sql")]
pub mod sql;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod units;
pub mod verify;
