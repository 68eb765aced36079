//! The CPU pool, memory (budget of chunks, books of the rest, brake), the limits of the container, bounds of repetition, and
//! signals that stop.

pub mod certificate;
pub mod cpu_pool;
pub mod limits;
pub mod memory_book;
pub mod memory_brake;
pub mod memory_budget;
pub mod retry;
pub mod stopping;
