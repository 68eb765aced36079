//! Storages that answer badly and now and then, run against whole; the same for credentials and certificates.
//!
//! `SOAK_SEEDS` is the number of runs with random faults (3 if it is not set), `SOAK_DELAY_MILLIS` how long a delayed request
//! waits (100 if it is not set).

mod credentials;
mod replaced;
mod storage;

/// A number from the environment.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}
