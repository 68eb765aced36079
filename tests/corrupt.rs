//! Bytes of valid objects and characters of valid labels changed at random, many thousand times: rows, label sets or an
//! error that names its place; no crash, no hang, no memory reserved because a corrupt length asks for it.
//!
//! `SOAK_OBJECTS` and `SOAK_LABELS` say how many, `SOAK_SEED` where the random numbers begin (scripts/soak.sh).
// Clippy knows test functions but not the helpers beside them; a helper that panics fails its test, as it should.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, clippy::print_stdout)]

#[path = "corrupt/corpus.rs"]
mod corpus;
#[path = "support/fuzzing.rs"]
mod fuzzing;
#[path = "corrupt/labels.rs"]
mod labels;
#[path = "corrupt/objects.rs"]
mod objects;
#[path = "support/usage.rs"]
mod usage;

/// So that the tests can ask how much memory a thread was given.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Bytes that this thread has ever been given.
fn allocated_bytes() -> u64 {
    tikv_jemalloc_ctl::thread::allocatedp::read().unwrap().get()
}
