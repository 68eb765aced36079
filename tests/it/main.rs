//! Tests against real counterparts: an S3 server over HTTP, local folders.
// Clippy knows test functions but not the helpers beside them; a helper that panics fails its test, as it should.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, clippy::cast_possible_wrap)]

#[path = "../support/s3_server.rs"]
mod s3_server;
mod storage;
