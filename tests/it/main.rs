//! Tests against real counterparts: an S3 server over HTTP, local folders, a PostgreSQL server, and the program itself.
// Clippy knows test functions but not the helpers beside them; a helper that panics fails its test, as it should.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, clippy::cast_possible_wrap)]

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/bucket.rs"]
mod bucket;
#[path = "../support/case.rs"]
mod case;
#[path = "../support/case_postgres.rs"]
mod case_postgres;
#[path = "../support/compare.rs"]
mod compare;
#[path = "../support/csv.rs"]
mod csv;
#[path = "../support/postgres.rs"]
mod database;
#[path = "../support/day_rows.rs"]
mod day_rows;
#[path = "../support/delivery.rs"]
mod delivery;
#[path = "../support/footer_change.rs"]
mod footer_change;
#[path = "../support/s3_server.rs"]
mod s3_server;
#[path = "../support/usage.rs"]
mod usage;

mod bad_database;
mod bad_input;
mod bad_storage;
mod cases;
mod check_agrees;
mod claims;
mod convert;
mod corrupt_pages;
mod database_settings;
mod demo;
mod explain;
mod faults;
mod generate;
mod incremental;
mod memory;
mod observed;
mod odd_names;
mod odd_numbers;
mod odd_secrets;
mod odd_writers;
mod overlap;
mod postgres;
mod privileges;
mod rerun;
mod row_security;
mod s3;
mod secrets;
mod sources;
mod standby;
mod stopped_commands;
mod stopping;
mod storage;
mod storage_answers;
mod verify;
#[cfg(feature = "sql")]
mod verify_golden;
