//! The CPU pool, the memory budget, the limits of the container, bounds of repetition, and signals that stop.

pub mod cpu_pool;
pub mod limits;
pub mod memory_budget;
pub mod retry;
pub mod stopping;
