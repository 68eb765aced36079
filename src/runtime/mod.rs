//! The CPU pool, the memory budget, limits of the container, shutdown.

pub mod memory_budget;
